#!/usr/bin/env bash
# Everything at once, at random, against the models (tests/soak_test.cc): programs that map, write, verify, resize and end;
# a mount; devices pulled, torn out, poisoned, brought back; kill -9 of programs and of the daemon; rogue programs.
#
#   tools/soak.sh [--steps N] [--seconds N] [--life N] [--seed N] [--json FILE] [--build FOLDER]
#
# Ends after so many steps (100000) or seconds, at the first violation, with its seed and the steps before it, or when the
# daemon's memory or descriptors grow. --life: steps that a daemon lives (20000). The report is printed; --json also writes it.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
build=build/release
export REFAULT_SOAK_STEPS=100000 REFAULT_SOAK_LIFE=20000
while [[ $# -gt 0 ]]; do
    [[ $# -ge 2 ]] || usage
    case $1 in
        --steps) REFAULT_SOAK_STEPS=$2 ;;
        --seconds) export REFAULT_SOAK_SECONDS=$2 ;;
        --life) REFAULT_SOAK_LIFE=$2 ;;
        --seed) export REFAULT_SEED=$2 ;;
        --json) REFAULT_SOAK_REPORT=$(realpath -m -- "$2") && export REFAULT_SOAK_REPORT ;;
        --build) build=$2 ;;
        *) usage ;;
    esac
    shift 2
done
program=$build/bin/integration_test
if [[ ! -x $program ]]; then
    echo "$program is missing; build it by: make build" >&2
    exit 2
fi
exec "$program" --gtest_filter='Soak.*'
