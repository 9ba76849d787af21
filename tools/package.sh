#!/usr/bin/env bash
# Makes the Debian package of a build: tools/package.sh BUILD OUTPUT-DIRECTORY. Prints the path of the package. The programs
# must be built; nothing of the machine is changed, and no root is needed.
set -euo pipefail
build=$(realpath "${1:?usage: tools/package.sh BUILD OUTPUT-DIRECTORY}")
mkdir -p "${2:?usage: tools/package.sh BUILD OUTPUT-DIRECTORY}"
output=$(realpath "$2")
cd "$(dirname "$0")/.."
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
architecture=$(dpkg --print-architecture)
maintainer="Refault maintainers <maintainers@refault.invalid>"

DESTDIR=$root cmake --install "$build" --prefix /usr > "$work/install.log"
rm "$root/usr/bin/refault-bench"  # measures the build; not for machines in use
install -D -m 644 packaging/refaultd.service "$root/usr/lib/systemd/system/refaultd.service"
install -D -m 644 packaging/refault.sysusers "$root/usr/lib/sysusers.d/refault.conf"
install -D -m 644 packaging/refaultd.conf "$root/etc/refault/refaultd.conf"
install -D -m 644 packaging/debian/copyright "$root/usr/share/doc/refault/copyright"
install -m 644 README.md docs/*.md "$root/usr/share/doc/refault"
gzip -9n "$root"/usr/share/man/man*/*
# From the last commit, so that the same sources make the same package.
date=$(git log -1 --format=%cD 2>/dev/null || true)
printf 'refault (%s) unstable; urgency=medium\n\n  * Built from the sources.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "${date:-$(date -R)}" | gzip -9n > "$root/usr/share/doc/refault/changelog.gz"

strip --remove-section=.comment "$root"/usr/bin/*
strip --strip-unneeded "$root"/usr/lib/librefault.so.*.*
strip --strip-debug --enable-deterministic-archives "$root"/usr/lib/librefault.a

# dpkg-shlibdeps wants a source package around it.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: refault\n\nPackage: refault\nArchitecture: any\n' > "$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/refault root/usr/bin/refaultd root/usr/lib/librefault.so.*.* \
    2> "$work/shlibdeps.log") || { cat "$work/shlibdeps.log" >&2; exit 1; }
kib=$(du --summarize --apparent-size --block-size=1K "$root" | cut -f 1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@INSTALLED_KIB@/$kib/" \
    -e "s/@DEPENDS@/${depends#shlibs:Depends=}/; s/@MAINTAINER@/$maintainer/" \
    packaging/debian/control.in > "$root/DEBIAN/control"
install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/refault/refaultd.conf > "$root/DEBIAN/conffiles"
echo "activate-noawait ldconfig" > "$root/DEBIAN/triggers"
echo "librefault 0 refault (>= $version)" > "$root/DEBIAN/shlibs"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"

package=$output/refault_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$package" > /dev/null
echo "$package"
