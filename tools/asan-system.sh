#!/bin/sh
# asan-system.sh [pytest args]: the Python tests on a sanitized wheel.
# Python itself is not sanitized: the runtime is preloaded, and its own leaks
# are not ours to report (the C unit tests look for leaks in our code).
set -eu
venv=${VENV:-.venv}
asan=build/asan-venv
python=$(pwd)/$asan/bin/python

[ -x "$python" ] || "$venv/bin/python" -m venv --system-site-packages "$asan"
# The sanitized venv sees the tools of .venv, and its own roundhouse first.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
asan_site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$(cd "$site" && pwd)" >"$asan_site/tools.pth"
"$venv/bin/python" -m pip --python "$python" install -q \
    --disable-pip-version-check --no-build-isolation --no-deps \
    --force-reinstall . -C build-dir=build/asan-wheel \
    -C cmake.build-type=Debug \
    -C cmake.define.RH_SANITIZE=address,undefined

preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
unset DEBUGINFOD_URLS || true
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export PYTHONMALLOC=malloc ROUNDHOUSE_SANITIZED=1
PATH="$(pwd)/$asan/bin:$PATH" LD_PRELOAD="$preload" \
    exec "$python" -m pytest "$@"
