#!/usr/bin/env bash
# Runs every test of a preset that is built: tools/run-tests.sh PRESET. Unit tests run side by side; integration tests start
# daemons and programs that use two processors by themselves, and are run one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:?usage: tools/run-tests.sh PRESET}
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan_suppressions.txt:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}
# A lane that finds no tests must not pass as if it had run them.
ctest --preset "$preset" --label-regex '^unit$' -j2 --no-tests=error
if [[ -e tests/CMakeLists.txt ]]; then
    # ThreadSanitizer does not survive a jump out of a handler of SIGBUS: programs under test that lose memory are left out.
    only=()
    if [[ $preset == tsan ]]; then
        only=(--tests-regex '^(Pull|Rogue|PoolTest|Mount/MountRandom)|DaemonDeath[.](Programs|AtAny)')
    fi
    ctest --preset "$preset" --label-exclude '^unit$' -j1 --no-tests=error "${only[@]}"
fi
