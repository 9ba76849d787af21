#!/usr/bin/env bash
# Memory that goes bad by a real kernel's hand: boots Debian's own kernel in QEMU with the programs of build/release, lets a
# program poison pages that it has mapped (madvise MADV_HWPOISON), and checks what everybody sees. The machine that tests run
# on usually has no CONFIG_MEMORY_FAILURE; this one has. Takes about a minute, most of it emulation.
#
#   tools/real-poison/run.sh            after `make build`
#   REFAULT_KERNEL=linux-image-6.1.0-18-amd64 tools/real-poison/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/../../build/release/bin

for needed in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio; do
    if ! command -v "${needed%%:*}" >/dev/null; then
        echo "real-poison: install ${needed##*:} first (apt-get install qemu-system-x86 busybox-static cpio)" >&2
        exit 2
    fi
done
if [[ ! -x $bin/refault-mapper ]]; then
    echo "real-poison: build first: make build" >&2
    exit 2
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/refault-real-poison-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

kernel=${REFAULT_KERNEL:-$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')}
echo "== kernel $kernel"
apt-get -o APT::Sandbox::User=root download -q "$kernel" >/dev/null
dpkg -x "$kernel"_*.deb kernel

echo "== initramfs"
mkdir -p root/{bin,proc,sys,dev/shm,run,tmp}
cp "$(command -v busybox)" root/bin/busybox
cp "$bin"/{refaultd,refault,refault-mapper} root/bin/
cp "$here/guest.sh" root/init
chmod +x root/init
ldd root/bin/{refaultd,refault,refault-mapper} | grep -o '/[^ )]*' | grep -v : | sort -u | while read -r library; do
    mkdir -p "root$(dirname "$library")"
    cp -L "$library" "root$library"
done
(cd root && find . | cpio -o -H newc --quiet | gzip -1) > initrd.gz

echo "== boot"
timeout "${REFAULT_BOOT_TIMEOUT:-300}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m 2G \
    -nodefaults -display none -no-reboot -serial stdio -kernel kernel/boot/vmlinuz-* -initrd initrd.gz \
    -append "console=ttyS0 panic=-1 loglevel=3 random.trust_cpu=on" < /dev/null | tr -d '\r' | tee serial.log | grep --line-buffered '^@ ' || true
grep -q '^@ passed' serial.log || {
    tail -30 serial.log >&2
    echo "real-poison: not passed" >&2
    exit 1
}
