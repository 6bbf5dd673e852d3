#!/bin/sh
# lint.sh BUILD VENV: everything that can be said about the code without
# running it.  Reports all findings before it fails.
set -u
build=$1
venv=$2
failed=0

say() { printf 'lint: %s\n' "$1"; }
check() {
    say "$1"
    shift
    "$@" || failed=1
}

c_files=$(git ls-files -co --exclude-standard -- 'src/*.[ch]' 'include/*.h' \
    'tests/*.[ch]' 'bench/*.c' 'examples/*.c')
c_sources=$(git ls-files -co --exclude-standard -- 'src/*.c' | grep -v '^src/pyext/')

# shellcheck disable=SC2086 # lists on purpose
{
    check "clang-format" clang-format --dry-run -Werror -style=file $c_files
    check "house rules" "$venv/bin/python" tools/check_rules.py
    check "cppcheck" cppcheck --quiet --error-exitcode=1 --inline-suppr \
        --enable=warning,portability --suppress=missingIncludeSystem \
        --suppress=unusedFunction --suppress=normalCheckLevelMaxBranches \
        --std=c11 -D_GNU_SOURCE -D__linux__ -I src -I include \
        -j "$(nproc)" $c_sources
    say "clang-tidy"
    printf '%s\n' $c_sources |
        xargs -P "$(nproc)" -n 4 clang-tidy -quiet -p "$build" 2>/dev/null || failed=1
    check "ruff" "$venv/bin/ruff" check -q python tests bench examples tools
    check "ruff format" "$venv/bin/ruff" format -q --check python tests bench examples tools
    check "mypy" "$venv/bin/mypy" --no-error-summary python/roundhouse
    check "shell syntax" sh -n tools/*.sh
}
exit $failed
