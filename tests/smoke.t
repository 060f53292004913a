#!/bin/sh
# As a user meets echod: the command line, and the netcats that people have. Prints TAP.
set -u

ECHOD=${ECHOD:-src/echod}
dir=$(mktemp -d) || exit 1
pid=
number=0
failed=0

# shellcheck disable=SC2317 # the trap calls it
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# result STATUS TITLE: one TAP line; a failure shows what was written to $dir/err.
result() {
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $number - $2"
    else
        echo "not ok $number - $2"
        sed 's/^/# /' "$dir/err"
        failed=1
    fi
}

skip() {
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2"
}

# start OPTION-OR-ENDPOINT...: a daemon in the background, its log in $dir/log; waits until ready.
start() {
    : >"$dir/log"
    "$ECHOD" "$@" >/dev/null 2>>"$dir/log" </dev/null &
    pid=$!
    tries=1000
    until grep -q ' ready ' "$dir/log"; do
        tries=$((tries - 1))
        if [ $tries -eq 0 ] || ! kill -0 "$pid" 2>/dev/null; then
            cp "$dir/log" "$dir/err"
            return 1
        fi
        sleep 0.02
    done
}

# stop: ends it as a user would; gives its exit status.
stop() {
    kill -TERM "$pid"
    wait "$pid"
    status=$?
    pid=
    [ $status -eq 0 ] || { echo "exit status $status" && cat "$dir/log"; } >"$dir/err"
    return $status
}

# port PATTERN: the port of the first `listening` line that matches.
port() {
    sed -n "/ listening .*$1/{s/.*:\([0-9]*\)\$/\1/p;q;}" "$dir/log"
}

# client NAME HOST PORT: sends what it reads, half-closes, and prints what comes back.
client() {
    case $1 in
    nc) timeout 20 nc -N "$2" "$3" ;;
    ncat) timeout 20 ncat "$2" "$3" ;;
    socat) timeout 20 socat -t 20 - "TCP:$(case $2 in *:*) echo "[$2]" ;; *) echo "$2" ;; esac):$3" ;;
    esac
}

# comes_back NAME HOST PORT FILE: does a client get the same back?
comes_back() {
    client "$1" "$2" "$3" <"$4" >"$dir/back" 2>"$dir/err" && cmp "$4" "$dir/back" >>"$dir/err" 2>&1
}

# one_line STATUS TEXT COMMAND...: it exits with STATUS and prints one line, with TEXT in it.
one_line() {
    expected=$1 text=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    [ $? -eq "$expected" ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" -eq 1 ] &&
        grep -q '^echod: ' "$dir/err" && grep -qF -e "$text" "$dir/err"
}

# answers OPTION: exits with 0, and prints something to stdout only.
answers() {
    "$ECHOD" "$1" >"$dir/out" 2>"$dir/err" && [ -s "$dir/out" ] && [ ! -s "$dir/err" ]
}

echo 'hello, echo' >"$dir/line"
head -c 1048576 /dev/urandom >"$dir/megabyte"

for option in --help --version --list-backends; do
    answers $option
    result $? "$option answers"
done
one_line 2 --no-such-option "$ECHOD" --no-such-option
result $? 'an unknown option is a usage error of one line'
one_line 2 tcp://localhost:99999 "$ECHOD" tcp://localhost:99999
result $? 'a malformed endpoint is a usage error of one line'

ipv6='tcp://[::1]:0'
grep -q '^0*1 ' /proc/net/if_inet6 2>"$dir/err" || ipv6=
# shellcheck disable=SC2086 # nothing, where the machine has no IPv6
start tcp://127.0.0.1:0 $ipv6
result $? 'starts'
for name in nc ncat socat; do
    for host in 127.0.0.1 ::1; do
        for file in line megabyte; do
            title="$name gets a $file back from $host"
            if ! command -v $name >"$dir/out"; then
                skip "$title" "no $name here"
            elif [ $host = ::1 ] && [ -z "$ipv6" ]; then
                skip "$title" 'no IPv6 here'
            else
                comes_back $name $host "$(port "$host")" "$dir/$file"
                result $? "$title"
            fi
        done
    done
done
taken=tcp://127.0.0.1:$(port 127.0.0.1)
one_line 1 "$taken" "$ECHOD" "$taken"
result $? 'an address that another echod has is an error of one line'
one_line 1 "$taken" "$ECHOD" --workers=2 "$taken"
result $? '... also for several workers'
comes_back nc 127.0.0.1 "$(port 127.0.0.1)" "$dir/line"
result $? '... and the other one goes on'
stop
result $? '... until it is told to end'

for backend in $("$ECHOD" --list-backends); do
    start --backend="$backend" tcp://127.0.0.1:0 && grep -q " backend=$backend " "$dir/log" &&
        comes_back nc 127.0.0.1 "$(port 127.0.0.1)" "$dir/megabyte"
    result $? "echoes with $backend"
    stop
    result $? "... and ends with 0"
done

echo "1..$number"
exit $failed
