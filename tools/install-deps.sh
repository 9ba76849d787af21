#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, if any is missing. Does nothing, quietly, when all are there,
# so an ordinary user can run it without sudo on a prepared machine. --fuzz also installs what tools/fuzz.sh needs. --list
# prints the packages and installs nothing.
set -euo pipefail

packages=(
    g++ cmake ninja-build make pkg-config git python3 clang-format
    libisal-dev libnuma-dev                         # checksums; memory placement
    libssl-dev                                      # signatures of tickets
    libcpp-httplib-dev nlohmann-json3-dev libcli11-dev  # control interface and command line
    libcap-ng-dev libseccomp-dev                    # rights that the daemon drops
    libsystemd-dev                                  # the journal; telling the manager that the daemon is ready
    libtomlplusplus-dev                             # the daemon's configuration file
    libfuse3-dev fuse3                              # the mount, also for ordinary users
    libgtest-dev libgmock-dev curl                  # tests
    sqlite3 attr rsync                              # programs that the tests, and the demo, run on a mount
    libpmemobj-dev                                  # refault-bench persist compares with it
)

if [[ ${1-} == --fuzz ]]; then
    packages+=(clang libclang-rt-14-dev)            # libFuzzer
    shift
fi
if [[ ${1-} == --list ]]; then
    printf '%s\n' "${packages[@]}"
    exit 0
elif [[ $# -gt 0 ]]; then
    echo "usage: tools/install-deps.sh [--fuzz] [--list]" >&2
    exit 2
fi

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]
}

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null || { [[ ${#as_root[@]} -gt 0 ]] && ! command -v sudo >/dev/null; }; then
    echo "cannot install packages here; as root, install: ${missing[*]}" >&2
    exit 1
fi

echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
