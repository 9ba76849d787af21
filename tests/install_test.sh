#!/usr/bin/env bash
# Installs a build into a temporary directory and builds the examples against it, by the CMake package and by pkg-config.
# Arguments: the build directory, the source directory.
set -euo pipefail
build=$1
source=$2
prefix=$(mktemp -d)
daemon=
finish() {
    if [[ -n $daemon ]]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$prefix"
}
trap finish EXIT

cmake --install "$build" --prefix "$prefix/root" > "$prefix/install.log"
cmake -S "$source/examples" -B "$prefix/examples" -G Ninja -DCMAKE_PREFIX_PATH="$prefix/root" > "$prefix/configure.log"
cmake --build "$prefix/examples"

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix/root" -name refault.pc)")
# shellcheck disable=SC2046  # flags are words
cc -o "$prefix/note" "$source/examples/note.c" $(pkg-config --cflags --libs refault)

# The header asks for nothing that strict C does not have.
# shellcheck disable=SC2046
printf '#include <refault/refault.h>\nint main(void) { return rf_try(0, 0, 0) == 0; }\n' > "$prefix/strict.c"
cc -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only "$prefix/strict.c" $(pkg-config --cflags refault)

# A program that uses the library takes in nothing else of ours, nor of what the daemon stands on.
readelf -d "$(find "$prefix/root" -name 'librefault.so' | head -n 1)" | grep NEEDED | grep -vE 'libstdc\+\+|libgcc_s|libc\.so|libm\.so|ld-linux' && {
    echo "librefault.so needs more than the C and C++ run time" >&2
    exit 1
}
# What is installed runs: a program of the examples loses a page and goes on.
export REFAULT_RUN_DIR=$prefix/run
find_installed() { find "$prefix/root/bin" -name "$1" -type f | head -n 1; }
"$(find_installed refaultd)" --create scratch --device a=ram:64M > "$prefix/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
    grep -q ready "$prefix/daemon.log" && break
    sleep 0.1
done
expect() {
    local said
    said=$("$prefix/examples/survive")
    if [[ $said != "$1" ]]; then
        echo "survive said '$said', expected '$1'" >&2
        exit 1
    fi
}
expect "round 1: 0 whole, 256 fresh, 0 were lost, 0 older, 0 broken"
refault=$(find_installed refault)
at=$("$refault" locate a 0 64M | awk '/survive/ { split($2, range, "-"); print range[1]; exit }')
"$refault" fail a "$at" 8192 --yes > /dev/null
expect "round 2: 254 whole, 2 fresh, 2 were lost, 0 older, 0 broken"
expect "round 3: 256 whole, 0 fresh, 0 were lost, 0 older, 0 broken"

echo "installed, found by CMake and by pkg-config"
