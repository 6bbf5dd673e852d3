#!/bin/sh
# Install what the build and the tests need and what is not there yet.
#   setup.sh system     Debian packages (needs root or sudo only if any is missing)
#   setup.sh venv DIR   a virtual environment with the build and test tools
set -eu

packages="build-essential clang clang-format clang-tidy cppcheck cmake
ninja-build pkg-config git libzmq3-dev libssl-dev libjansson-dev
libsqlite3-dev libcmocka-dev python3 python3-dev python3-venv
libclang-rt-14-dev"

system() {
    missing=
    for p in $packages; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null |
            grep -q 'ok installed' || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "setup: not root and no sudo; please install:$missing" >&2
            exit 1
        }
        as_root=sudo
    fi
    echo "setup: installing$missing"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list on purpose
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq \
        --no-install-recommends $missing >/dev/null
}

venv() {
    dir=$1
    [ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
    "$dir/bin/python" -m pip install -q --disable-pip-version-check \
        --retries 10 --timeout 60 -r tools/requirements.txt
}

case "${1-}" in
system) system ;;
venv) venv "$2" ;;
*)
    echo "usage: setup.sh system | venv DIR" >&2
    exit 2
    ;;
esac
