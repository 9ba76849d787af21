#!/usr/bin/env bash
# Runs packaged programs on a mount while memory goes away under them: for each, a pool of its own with two copies of every
# file, a device that is pulled, pages that go bad, and a device whose segment files are cut and removed, all while the
# program works; then the program's own check. Prints a line for each with its time; ends with 1 if any fails. As root.
#
#   tools/mount-programs.sh                 all of them
#   tools/mount-programs.sh sqlite-wal git  these
#   tools/mount-programs.sh --list
#
# On two cores, with SECONDS_EACH=3: sqlite, lmdb and redis 6 to 7 s each, git 9, fio and stress-ng 11, postgres 13, rocksdb 14;
# on busy ones up to 20, fio-mmap 39, rocksdb 70.
#
# Needs, of Debian: sqlite3 git fio stress-ng redis-server postgresql lmdb-utils rocksdb-tools. What is missing is skipped.
set -uo pipefail

bin=${REFAULT_BIN:-$(dirname "$0")/../build/release/bin}
bin=$(realpath "$bin")
seconds=${SECONDS_EACH:-8}  # how long a program works before the harm, and after it
all=(sqlite-delete sqlite-wal sqlite-mmap git lmdb rocksdb redis postgres fio-verify fio-mmap stress-ng)

if [[ ${1-} == --list ]]; then
    printf '%s\n' "${all[@]}"
    exit 0
fi
[[ $(id -u) -eq 0 ]] || { echo "mount-programs: needs root, for the proof" >&2; exit 1; }
chosen=("$@")
[[ $# -gt 0 ]] || chosen=("${all[@]}")

scratch=
daemon=
workers=()

start_pool() {
    scratch=$(mktemp -d /dev/shm/refault-programs-XXXXXX)
    chmod 755 "$scratch"
    mkdir "$scratch/run" "$scratch/mnt"
    "$bin/refaultd" --run-dir "$scratch/run" --create programs \
        --device a=ram:512M --device b=ram:512M --device c=ram:512M --device d=ram:512M --device e=ram:512M \
        >"$scratch/daemon.log" 2>&1 &
    daemon=$!
    until grep -q ready "$scratch/daemon.log"; do
        kill -0 "$daemon" 2>/dev/null || { cat "$scratch/daemon.log" >&2; return 1; }
        sleep 0.05
    done
    rf mkdir /w && rf set /w replicas=2 on-loss=rollback >/dev/null && rf mount "$scratch/mnt" >/dev/null
    chmod 777 "$scratch/mnt/w"
    cd "$scratch/mnt/w" || return 1
}

rf() {
    "$bin/refault" --run-dir "$scratch/run" "$@"
}

stop_pool() {
    cd /
    # Of a program that was wrong they are still there.
    [[ ! -e $scratch/pids ]] || xargs kill <"$scratch/pids" 2>/dev/null
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null
    daemon=
    [[ -z $scratch ]] || ! mountpoint -q "$scratch/mnt" || umount -l "$scratch/mnt"
    [[ -z $scratch ]] || rm -rf "$scratch"
    scratch=
}
trap stop_pool EXIT

# One device is pulled, two pages of every other go bad, and the fullest device that is left is torn out.
do_harm() {
    sleep "$seconds"
    rf device pull a >/dev/null || { echo "pull failed"; return 1; }
    for device in b c d e; do
        rf fail "$device" 0 4096 >/dev/null 2>&1
        rf fail "$device" 4M 4096 >/dev/null 2>&1
    done
    until [[ $(rf resync --json | grep -o '"is_running": *[a-z]*' | grep -c true) -eq 0 ]]; do sleep 0.1; done
    local fullest directory
    fullest=$(rf device list --json | python3 -c 'import json,sys
devices=[d for d in json.load(sys.stdin)["devices"] if d["state"]=="in-service"]
print(*[max(devices,key=lambda d:d["data_bytes"])[k] for k in ("name","directory")])')
    read -r fullest directory <<<"$fullest"
    for segment in "$directory"/seg-*; do : >"$segment"; done
    rm -f "$directory"/seg-*
    sleep "$seconds"
    [[ $(rf lost --json | tr -d ' \n') == '{"lost":[]}' ]] || { echo "bytes were lost"; rf lost | head -n 3; return 1; }
    local check
    check=$(rf pool check 2>&1) || { echo "the pool is not sound: $check"; return 1; }
}

in_background() {
    "$@" >>"$scratch/worker.log" 2>&1 &
    workers+=($!)
    echo $! >>"$scratch/pids"
}

sqlite_work() {
    sqlite3 db "$1 create table t(id integer primary key, amount int, pad text);
        with recursive n(i) as (select 1 union all select i+1 from n where i<5000) insert into t select i,100,hex(randomblob(200)) from n;" || return
    while [[ ! -e stop ]]; do
        sqlite3 db ".timeout 20000" "$1 begin immediate; update t set amount=amount-1, pad=hex(randomblob(200)) where id%2=0;
            update t set amount=amount+1 where id%2=1; commit;" >/dev/null || { touch failed; return; }
    done
}

run_sqlite() {
    in_background sqlite_work "$1"
    in_background sqlite_work_reader
    do_harm || return 1
    touch stop
    wait "${workers[@]}"
    [[ ! -e failed && $(sqlite3 db 'pragma integrity_check; select count(*), sum(amount) from t') == $'ok\n5000|500000' ]]
}

sqlite_work_reader() {
    while [[ ! -e stop ]]; do
        sleep 0.2
        [[ ! -e db ]] || sqlite3 db '.timeout 20000' 'select sum(amount) from t' 2>/dev/null | grep -vx -e 500000 -e '' && touch failed
    done
    true
}

run_git() {
    export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
    git init -q origin && cd origin && git config user.email t@example.org && git config user.name t
    for i in $(seq 300); do mkdir -p "s$((i % 20))"; head -c 40000 /dev/urandom >"s$((i % 20))/f$i"; done
    git add -A && git commit -qm one && cd ..
    in_background bash -c 'i=0; while [ ! -e stop ]; do git clone -q --no-hardlinks origin c$((i%3)) || exit 1; git -C c$((i%3)) fsck --full || exit 1; i=$((i+1)); rm -rf c$((i%3)); done; touch good'
    do_harm || return 1
    touch stop
    wait "${workers[@]}"
    [[ -e good ]] && git -C origin fsck --full 2>&1
}

run_lmdb() {
    mkdir env
    lmdb_dump() { echo VERSION=3; echo format=print; echo mapsize=200000000; echo HEADER=END
        for i in $(seq 20000); do printf ' key%06d\n value%s%06d\n' "$i" "$1" "$i"; done; echo DATA=END; }
    lmdb_dump 0 >"$scratch/dump"
    in_background bash -c "i=0; while [ ! -e stop ]; do sed s/value0/value\$((i%9))/ $scratch/dump | mdb_load env || exit 1; i=\$((i+1)); done; touch good"
    do_harm || return 1
    touch stop
    wait "${workers[@]}"
    [[ -e good && $(mdb_dump -p env | grep -c '^ key') -eq 20000 ]] && mdb_stat -e env >/dev/null
}

run_rocksdb() {
    in_background bash -c 'db_bench --db=rocks --benchmarks=fillrandom,overwrite,overwrite --num=60000 --value_size=400 --sync=0 --verify_checksum=1 >/dev/null 2>&1 && touch good'
    do_harm || return 1
    wait "${workers[@]}"
    [[ -e good ]] && db_bench --db=rocks --use_existing_db=1 --benchmarks=readseq --num=60000 --verify_checksum=1 >/dev/null 2>&1 && ldb --db=rocks checkconsistency | grep -q OK
}

run_redis() {
    in_background redis-server --port 0 --unixsocket "$scratch/redis.sock" --dir "$PWD" --appendonly yes --appendfsync always --save '' --daemonize no
    until redis-cli -s "$scratch/redis.sock" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
    in_background bash -c "i=0; while [ ! -e stop ]; do i=\$((i+1)); echo SET k\$((i%10000)) v\$i; echo INCR n; done | redis-cli -s $scratch/redis.sock >/dev/null"
    do_harm || return 1
    touch stop
    wait "${workers[1]}"
    local before after
    before=$(redis-cli -s "$scratch/redis.sock" get n)
    redis-cli -s "$scratch/redis.sock" shutdown nosave 2>/dev/null
    wait "${workers[0]}"
    in_background redis-server --port 0 --unixsocket "$scratch/redis.sock" --dir "$PWD" --appendonly yes --save '' --daemonize no
    until redis-cli -s "$scratch/redis.sock" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
    after=$(redis-cli -s "$scratch/redis.sock" get n)
    [[ -n $before && $before -gt 0 && $before == "$after" ]]
}

run_postgres() {
    local tools user=(setpriv --reuid postgres --regid postgres --clear-groups)
    tools=$(echo /usr/lib/postgresql/*/bin)
    mkdir pg && chown postgres pg && chmod 700 pg
    "${user[@]}" "$tools/initdb" -D "$PWD/pg" -A trust >/dev/null || return 1
    in_background "${user[@]}" "$tools/postgres" -D "$PWD/pg" -k "$PWD/pg" -c listen_addresses= -c shared_buffers=32MB
    until "$tools/pg_isready" -q -h "$PWD/pg"; do sleep 0.2; done
    "${user[@]}" createdb -h "$PWD/pg" bench && "${user[@]}" pgbench -h "$PWD/pg" -i -s 3 -q bench 2>/dev/null >/dev/null || return 1
    in_background "${user[@]}" pgbench -h "$PWD/pg" -c 4 -T $((3 * seconds)) bench
    do_harm || return 1
    wait "${workers[1]}" || return 1
    # Each transaction adds the same amount to an account, a teller, a branch and the history.
    [[ $("${user[@]}" psql -h "$PWD/pg" -Atc 'select (select sum(abalance) from pgbench_accounts)=(select sum(delta) from pgbench_history)
        and (select sum(bbalance) from pgbench_branches)=(select sum(delta) from pgbench_history)' bench) == t ]] || return 1
    "${user[@]}" psql -h "$PWD/pg" -Atc 'create extension amcheck; select bt_index_check(oid) from pg_class where relname like $$pgbench%pkey$$' bench >/dev/null
}

run_fio() {
    in_background bash -c "fio --name=v --filename=$PWD/fio --size=128M --bs=4k --rw=randwrite --ioengine=$1 --verify=crc32c --verify_backlog=1024 --time_based --runtime=$((2 * seconds + 4)) --output=$scratch/fio.log && touch good"
    do_harm || return 1
    wait "${workers[@]}"
    [[ -e good ]] && ! grep -q "verify: bad" "$scratch/fio.log"
}

run_stress() {
    in_background bash -c "stress-ng --temp-path $PWD --verify --timeout $((2 * seconds + 4)) --dentry 1 --dir 1 --filename 1 --rename 1 --link 1 --symlink 1 --seek 1 --hdd 1 --hdd-bytes 64M --fallocate 1 --fallocate-bytes 64M --mmap 1 --mmap-file --mmap-bytes 32M --lockf 1 --flock 1 --xattr 1 --utime 1 --chmod 1 --copy-file 1 && touch good"
    do_harm || return 1
    wait "${workers[@]}"
    [[ -e good ]]
}

run_one() {
    case $1 in
        sqlite-delete) run_sqlite 'pragma journal_mode=delete;' ;;
        sqlite-wal) run_sqlite 'pragma journal_mode=wal;' ;;
        sqlite-mmap) run_sqlite 'pragma mmap_size=67108864;' ;;
        git) run_git ;;
        lmdb) run_lmdb ;;
        rocksdb) run_rocksdb ;;
        redis) run_redis ;;
        postgres) run_postgres ;;
        fio-verify) run_fio psync ;;
        fio-mmap) run_fio mmap ;;
        stress-ng) run_stress ;;
        *) echo "no such program; see --list"; return 1 ;;
    esac
}

command_of() {
    case $1 in
        sqlite-*) echo sqlite3 ;;
        lmdb) echo mdb_load ;;
        rocksdb) echo db_bench ;;
        redis) echo redis-server ;;
        postgres) echo pgbench ;;
        fio-*) echo fio ;;
        *) echo "$1" ;;
    esac
}

failures=0
for name in "${chosen[@]}"; do
    if ! command -v "$(command_of "$name")" >/dev/null; then
        printf '%-14s skipped: %s is not installed\n' "$name" "$(command_of "$name")"
        continue
    fi
    began=$(date +%s.%N)
    start_pool || exit 1
    if reason=$(run_one "$name" 2>&1 | tail -n 5; exit "${PIPESTATUS[0]}"); then
        outcome=right
    else
        outcome="WRONG: $reason $(tail -n 5 "$scratch/worker.log" 2>/dev/null)"
        failures=$((failures + 1))
    fi
    stop_pool
    printf '%-14s %6.1f s  %s\n' "$name" "$(echo "$(date +%s.%N) - $began" | bc)" "$outcome"
done
[[ $failures -eq 0 ]]
