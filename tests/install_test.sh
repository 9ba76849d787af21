#!/usr/bin/env bash
# Installs a build into a temporary directory and builds the examples against it, by the CMake package and by pkg-config.
# Arguments: the build directory, the source directory.
set -euo pipefail
build=$1
source=$2
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

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
echo "installed, found by CMake and by pkg-config"
