#!/usr/bin/env bash
# Holds every file of src/ to what base/mutex.h says about it, by clang's thread-safety analysis: what is GUARDED_BY a mutex is
# reached with it held, what REQUIRES one is called so. Nothing is built. Needs clang: tools/install-deps.sh --fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v clang++ >/dev/null; then
    echo "clang++ is missing; install it by: tools/install-deps.sh --fuzz" >&2
    exit 2
fi
# REFAULT_DEBUG_LOCKS compiles what only builds with it have.
flags=(-std=c++20 -fsyntax-only -Iinclude -iquote src -Wthread-safety -Wthread-safety-beta -Werror
    -DREFAULT_DEBUG_LOCKS)
read -ra libraries < <(pkg-config --cflags libisal libcrypto fuse3 cpp-httplib)
# Tests are left out: they lock by hand, which the analysis does not follow.
git ls-files -z --cached --others --exclude-standard -- 'src/*.cc' ':!src/*_test.cc' |
    xargs -0 -n 1 -P "$(nproc)" clang++ "${flags[@]}" "${libraries[@]}"
echo "thread safety: every file keeps to its annotations"
