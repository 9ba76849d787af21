#!/usr/bin/env bash
# Looks for inputs that break what reads untrusted bytes: tools/fuzz.sh [SECONDS_EACH] [TARGET...]. Builds the fuzz preset
# (clang, libFuzzer) and runs each target of fuzz/, or those named, for so many seconds (60), one after the other. What is
# learned stays in build/fuzz/corpus. One line a target; exit status 1 when one crashed, with how to see it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
if [[ ${1-} =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    for source in fuzz/*_fuzz.cc; do
        target=${source#fuzz/}
        targets+=("${target%_fuzz.cc}")
    done
fi
for target in "${targets[@]}"; do
    if [[ ! -e fuzz/${target}_fuzz.cc ]]; then
        echo "there is no fuzz/${target}_fuzz.cc; usage: tools/fuzz.sh [SECONDS_EACH] [TARGET...]" >&2
        exit 2
    fi
done
if ! command -v clang++ >/dev/null; then
    echo "clang++ is missing; install it by: tools/install-deps.sh --fuzz" >&2
    exit 2
fi

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${targets[@]/%/_fuzz}"

build=$PWD/build/fuzz
export ASAN_OPTIONS=detect_leaks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan_suppressions.txt:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}
mkdir -p "$build/crashes"
status=0
for target in "${targets[@]}"; do
    program=$build/bin/${target}_fuzz
    corpus=$build/corpus/$target
    log=$build/crashes/$target.log
    mkdir -p "$corpus"
    "$program" --seeds "$corpus"
    if "$program" "$corpus" -max_total_time="$seconds" -max_len=4096 -timeout=25 -rss_limit_mb=2048 \
        -artifact_prefix="$build/crashes/$target-" -print_final_stats=1 >"$log" 2>&1; then
        runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
        rate=$(awk '/^stat::average_exec_per_sec/ { print $2 }' "$log")
        covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
        printf '%-12s ok      %10s runs  %7s a second  %s  corpus %s\n' "$target" "$runs" "$rate" "$covered" \
            "$(find "$corpus" -type f | wc -l)"
    else
        status=1
        artifact=$(grep -oE "$build/crashes/$target-[a-z]+-[0-9a-f]+" "$log" | tail -1 || true)
        printf '%-12s CRASHED %s\n' "$target" "$(grep -m1 -E 'CHECK|ERROR: |runtime error' "$log" || true)"
        echo "             see:       $log"
        echo "             again by:  $program ${artifact:-$corpus}"
    fi
done
exit $status
