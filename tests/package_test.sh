#!/usr/bin/env bash
# Makes the Debian package of a build, and installs, starts, uses, removes and purges it in a copy of the machine's files that
# is seen here alone (an overlay in a mount namespace), so that nothing of the machine is changed. Ends with 77 where that
# cannot be done. Arguments: the build directory, the source directory.
set -euo pipefail
build=$1
source=$2

skip() {
    echo "skipped: $1"
    exit 77
}
command -v dpkg-deb > /dev/null && command -v dpkg-shlibdeps > /dev/null || skip "no dpkg-dev on this machine"
[[ $(id -u) -eq 0 ]] || skip "installing a package takes root"
if [[ ${3-} != inside ]]; then
    unshare --mount true 2> /dev/null || skip "no right to a mount namespace"
    exec unshare --mount --propagation private "$0" "$build" "$source" inside
fi

scratch=$(mktemp -d)
daemon=
listener=
finish() {
    local status=$?
    if [[ -n $daemon ]]; then
        kill "$daemon" 2> /dev/null || true
        wait "$daemon" 2> /dev/null || true
    fi
    if [[ -n $listener ]]; then kill "$listener" || true; fi
    if [[ $status -ne 0 && -e $scratch/root/tmp/daemon.log ]]; then
        cat "$scratch/root/tmp/daemon.log"
    fi
    umount --lazy --recursive "$scratch" 2> /dev/null || true
    rmdir "$scratch"
}
trap finish EXIT
fail() {
    echo "$1" >&2
    exit 1
}

mount -t tmpfs -o mode=755 package-test "$scratch"
mkdir "$scratch"/{upper,work,root,packages}
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root" ||
    skip "no right to mount an overlay"
root=$scratch/root
for directory in proc dev sys; do mount --rbind "/$directory" "$root/$directory"; done
for directory in run tmp; do mount -t tmpfs -o mode=1777 package-test "$root/$directory"; done
# The rest of the test speaks of the files as who is inside sees them.
inside=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8)
in_root() { "${inside[@]}" "$@"; }

package=$("$source/tools/package.sh" "$build" "$scratch/packages")
cp "$package" "$root/tmp/refault.deb"
if command -v lintian > /dev/null; then
    lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$package" 2> /dev/null ||
        fail "lintian finds errors"
fi
if in_root dpkg-query --status refault > /dev/null 2>&1; then
    in_root dpkg --purge refault > /dev/null
fi
in_root dpkg --install /tmp/refault.deb > "$scratch/install.log" 2>&1 || { cat "$scratch/install.log"; exit 1; }

# The unit is one that systemd takes, and starts by its own words: with the configuration, the group and the capabilities it
# gives, and no way to more.
unit=$root/usr/lib/systemd/system/refaultd.service
if command -v systemd-analyze > /dev/null; then
    in_root systemd-analyze verify --man=no /usr/lib/systemd/system/refaultd.service || fail "systemd refuses the unit"
    # What the daemon's own filter allows, the unit's allows as well.
    python3 - "$unit" "$source/src/daemon/syscall_filter.cc" << 'PYTHON' || fail "the unit's filter is too narrow"
import re, subprocess, sys
listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
sets = {}
for line in listed.splitlines():
    if line.startswith("@"):
        members = sets.setdefault(line.strip(), [])
    elif line.startswith("    ") and not line.strip().startswith("#"):
        members.append(line.strip())
def expanded(name):
    return set().union(*map(expanded, sets[name])) if name in sets else {name}
allowed = set()
for words in re.findall(r"^SystemCallFilter=(.*)$", open(sys.argv[1]).read(), re.M):
    named = set().union(*map(expanded, words.lstrip("~").split()))
    allowed = allowed - named if words.startswith("~") else allowed | named
filter = re.search(r"kAllowed = (.*?)\}\);", open(sys.argv[2]).read(), re.S).group(1)
missing = set(re.findall(r'"(\w+)"', filter)) - allowed
# Not known to every version of systemd.
missing -= {"fchmodat2", "riscv_flush_icache"}
if missing:
    sys.exit("SystemCallFilter= lacks: " + " ".join(sorted(missing)))
PYTHON
fi
capabilities=$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | tr ' ' '\n' | sed 's/^CAP_/+/' | tr 'A-Z\n' 'a-z,')
read -ra command <<< "$(sed -n 's/^ExecStart=//p' "$unit")"
group=$(sed -n 's/^SupplementaryGroups=//p' "$unit")
# Who takes messages for journald and for the service manager: each goes to a file.
mkdir -p "$root/run/systemd/journal"
python3 - "$root/run/systemd/journal/socket" "$root/run/notify" > "$scratch/messages" << 'PYTHON' &
import os, select, socket, sys
sockets = []
for path in sys.argv[1:]:
    sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sockets[-1].bind(path)
print("listening", flush=True)
while True:
    for ready in select.select(sockets, [], [])[0]:
        os.write(1, ready.recv(65536) + b"\n")
PYTHON
listener=$!
heard() {
    for _ in $(seq 100); do
        grep -q "$1" "$scratch/messages" && return
        sleep 0.1
    done
    fail "journald and the manager have not heard: $1"
}
heard listening
: > "$root/tmp/daemon.log"
stream=$(stat --format %d:%i "$root/tmp/daemon.log")
"${inside[@]}" JOURNAL_STREAM="$stream" NOTIFY_SOCKET=/run/notify setpriv --no-new-privs --bounding-set "-all,${capabilities%,}" --inh-caps -all \
    --groups "$group" "${command[@]}" > "$root/tmp/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
    grep -q ready "$root/tmp/daemon.log" && break
    kill -0 "$daemon" 2> /dev/null || fail "the daemon did not start"
    sleep 0.1
done
grep -q "ready at /run/refault" "$root/tmp/daemon.log" || fail "the daemon is not ready"

# A pool in memory and on a disk, a file, a pull, the mount.
mkdir -p "$root/srv/pool/d"
in_root refault pool create p --device a=ram:64M --device b=ram:64M --device "d=dir:/srv/pool/d,size=64M" > /dev/null
head -c 3000000 /dev/urandom > "$root/tmp/bytes"
in_root refault cp /tmp/bytes pool:/bytes > /dev/null
in_root refault device pull a > /dev/null
heard "^READY=1"
heard "^REFAULT_EVENT=device-safe"
heard "^REFAULT_DEVICE=a"
in_root refault cat /bytes | cmp - "$root/tmp/bytes"
if [[ -c /dev/fuse ]]; then
    in_root mount -t fuse.refault p /mnt
    cmp "$root/mnt/bytes" "$root/tmp/bytes"
    in_root umount /mnt
fi
# Members of the group may use it, others may not.
as_user() { in_root setpriv --reuid 65534 --regid 65534 "$@" refault --run-dir /run/refault status; }
as_user --groups refault > /dev/null || fail "a member of the group may not use the control socket"
! as_user --clear-groups > /dev/null 2>&1 || fail "everybody may use the control socket"

# Manual pages and completions name every command and every option.
page=$(in_root man --no-hyphenation --no-justification refault | cat)
for word in $(in_root refault --help | sed -n '/^Subcommands:/,$ s/^  \([a-z]\+\) .*/\1/p'); do
    [[ $page == *"refault $word"* ]] || fail "refault(1) does not name: $word"
    for option in $(in_root refault "$word" --help | grep -oE -- '^ +(-.,)?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
        [[ $page == *"$option"* ]] || fail "refault(1) does not name: $word $option"
    done
done
page=$(in_root man --no-hyphenation --no-justification refaultd | cat)
for option in $(in_root refaultd --help | grep -oE -- '^ +(-.,)?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
    [[ $page == *"$option"* ]] || fail "refaultd(8) does not name: $option"
done
for name in refaultd.conf mount.fuse.refault; do
    in_root man "$name" > /dev/null || fail "no manual page: $name"
done
completed=$(in_root bash -c '. /usr/share/bash-completion/completions/refault
    COMP_WORDS=(refault device --json p) COMP_CWORD=3 && _refault && echo "${COMPREPLY[*]}"')
[[ $completed == "prove pull" ]] || fail "bash completes 'refault device p' to '$completed'"
if command -v zsh > /dev/null; then
    in_root zsh -n /usr/share/zsh/vendor-completions/_refault || fail "zsh refuses the completions"
fi

# Removed while it runs (there is no systemd here to stop it), stopped by the signal that systemd sends, purged.
kill "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
daemon=
heard "^STOPPING=1"
heard "^MESSAGE=ending"
in_root dpkg --remove refault > /dev/null
[[ -e $root/etc/refault/refaultd.conf && ! -e $root/usr/bin/refaultd ]] || fail "removed is not what it should be"
in_root dpkg --purge refault > /dev/null 2>&1
left=$(cd "$scratch/upper" && find . ! -type d | while read -r file; do
    case $file in
        ./srv/pool/d/*) ;;                                                   # what the pool holds
        ./var/lib/dpkg/* | ./var/log/* | ./var/cache/* | ./etc/ld.so.cache) ;;  # what dpkg and its triggers keep
        ./etc/group- | ./etc/gshadow- | ./etc/passwd- | ./etc/shadow-) ;;      # groupdel's copies
        *) cmp -s "$file" "/$file" || echo "$file" ;;
    esac
done)
left+=$(find "$root/run" -mindepth 1 -name "refault*")
[[ -z $left ]] || fail "left behind: $left"
[[ -e $scratch/upper/srv/pool/d/label ]] || ls "$scratch/upper/srv/pool/d" | grep -q . || fail "the pool's data is gone"

echo "packaged, installed, started, used, removed and purged"
