#!/bin/busybox sh
# The guest's init: a pool, two programs, bad memory. Lines that begin with "@ " are shown by run.sh.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ip link set lo up
export REFAULT_RUN_DIR=/run/refault
failures=0

# check WHAT EXPECTED GOT
check() {
    if [ "$2" = "$3" ]; then
        echo "@ ok      $1: $3"
    else
        echo "@ FAILED  $1: expected '$2', got '$3'"
        failures=$((failures + 1))
    fi
}

# A program that maps a file; say NUMBER LINE writes to it and reads its answer.
start() {
    mkfifo /tmp/to$1 /tmp/from$1
    refault-mapper /run/refault/session.sock $2 $3 < /tmp/to$1 > /tmp/from$1 &
    case $1 in
        1) exec 11> /tmp/to1 21< /tmp/from1; read -r ready <&21 ;;
        2) exec 12> /tmp/to2 22< /tmp/from2; read -r ready <&22 ;;
        3) exec 13> /tmp/to3 23< /tmp/from3; read -r ready <&23 ;;
    esac
    check "program $1 maps $2" ready "$ready"
}
say() {
    program=$1
    shift
    case $program in
        1) echo "$*" >&11; read -r answer <&21 ;;
        2) echo "$*" >&12; read -r answer <&22 ;;
        3) echo "$*" >&13; read -r answer <&23 ;;
    esac
}

echo "@ Linux $(uname -r)"
refaultd --run-dir /run/refault --create lab --device a=ram:64M --device b=ram:64M > /tmp/daemon.log 2>&1 &
for i in $(seq 100); do
    grep -q ready /tmp/daemon.log && break
    sleep 0.2
done
refault set / replicas=2
head -c 1048576 /dev/zero | tr '\0' '\7' > /tmp/sevens
refault cp /tmp/sevens pool:/two
refault set / replicas=1
refault cp /tmp/sevens pool:/one

start 1 /two write
start 2 /two read
start 3 /one write
sleep 1
say 2 load 0 1048576
check "the reader sees the file" "ok 7" "$answer"

say 1 bad 20480
check "with a copy: the program whose page goes bad sees no signal" "ok" "$answer"
say 1 load 0 1048576
check "with a copy: what it sees afterwards" "ok 7" "$answer"
say 2 load 0 1048576
check "with a copy: what another program sees" "ok 7" "$answer"
say 1 store 20480 9 4096
say 1 persist 20480 4096
check "with a copy: it is stored into and persisted" "ok" "$answer"
say 2 load 20480 4096
check "with a copy: the other program sees that" "ok 9" "$answer"

# Whether the call itself gives a signal, or only the next touch, differs from kernel to kernel.
say 3 bad 36864
say 3 load 36864 1
check "without one: SIGBUS with BUS_MCEERR_AR, address, size" "sigbus 4 36864 12" "$answer"
say 3 store 40000 1 1
check "without one: and so a store" "sigbus 4 40000 12" "$answer"
say 3 load 0 36864
check "without one: the pages before" "ok 7" "$answer"
say 3 load 40960 4096
check "without one: the page behind" "ok 7" "$answer"
check "without one: the report" "/one 36864 40960" "$(refault lost --json | tr -d ' \n' |
    sed 's/.*"file_begin":\([0-9]*\),"file_end":\([0-9]*\).*"paths":\["\([^"]*\)"\].*/\3 \1 \2/')"
say 3 punch 36864 4096
check "without one: punching gives fresh memory" "ok" "$answer"
say 3 store 36864 5 4096
check "without one: which can be used" "ok" "$answer"
say 3 load 36864 4096
check "without one: and shows what is stored" "ok 5" "$answer"
check "nothing is lost any more" "0" "$(refault lost --json | grep -c file_begin)"
check "the kernel has seen bad memory" "yes" \
    "$(awk '/HardwareCorrupted/ { print ($2 > 0 ? "yes" : "no") }' /proc/meminfo)"
refault failures
cat /tmp/daemon.log

[ $failures -eq 0 ] && echo "@ passed"
sync
poweroff -f
