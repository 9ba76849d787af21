#!/usr/bin/env bash
# Runs the random loss test with ever new seeds for so many seconds: tools/soak-loss.sh SECONDS [BUILD_FOLDER]. Stops at the
# first run that fails, with its seed and what it said. REFAULT_LOSS_STEPS sets the length of a run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: tools/soak-loss.sh SECONDS [BUILD_FOLDER]}
build=${2:-build/release}
program=$build/bin/integration_test
[[ -x $program ]] || program=$build/tests/integration_test
export REFAULT_LOSS_STEPS=${REFAULT_LOSS_STEPS:-300}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
runs=0
end=$((SECONDS + seconds))
while ((SECONDS < end)); do
    seed=$((RANDOM << 30 | RANDOM << 15 | RANDOM))
    if ! REFAULT_SEED=$seed "$program" --gtest_filter='LossChaos.*' >"$output" 2>&1; then
        cat "$output"
        echo "failed after $runs good runs: REFAULT_SEED=$seed REFAULT_LOSS_STEPS=$REFAULT_LOSS_STEPS"
        exit 1
    fi
    runs=$((runs + 1))
done
echo "$runs runs of $REFAULT_LOSS_STEPS steps: every promise kept"
