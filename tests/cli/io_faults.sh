#!/usr/bin/env bash
# io_faults.sh - every call that changes a run's folder fails once: the run says so, and the resumed
# run ends in the bytes of one that was left alone. usage: io_faults.sh TERN IOFAULT.so
. "$(dirname "$0")/lib.sh"
preload=$2

tiny=(train --data shapes --samples 120 --val-split 20 --model net.cfg --batch 25 --epochs 2
    --save-every 3 --log-every 2 --name x)
"$tern" "${tiny[@]}" --runs whole > out 2> err || bad "$(cat err)"

failing() { # N ERRNO COMMAND...
    local n=$1 code=$2
    shift 2
    LD_PRELOAD=$preload TC_FAIL_AT=$n TC_FAIL_ERRNO=$code TC_FAIL_ON=broken/x "$@" > out 2> err
}

TC_COUNT=count failing 1000000 5 "$tern" "${tiny[@]}" --runs broken || bad "$(cat err)"
total=$(cat count)
[ "$total" -gt 50 ] || bad "only $total calls"
n=1
while [ $n -le "$total" ]; do
    rm -rf broken
    code=$((n % 2 ? 28 : 5)) # no space left, input/output error
    failing $n $code "$tern" "${tiny[@]}" --runs broken
    got=$?
    case $got in
    0) ;;
    1) grep -q '^error: .' err || bad "call $n: no message" ;;
    *) bad "call $n: status $got: $(cat err)" ;;
    esac
    if [ $got = 1 ]; then
        if [ -e broken/x/config.cfg ]; then
            status 0 "$tern" train --resume broken/x
        else
            rm -rf broken/x
            status 0 "$tern" "${tiny[@]}" --runs broken
        fi
    elif ! cmp -s whole/x/last.ckpt broken/x/last.ckpt; then
        bad "call $n: status 0, but the checkpoint is another"
    fi
    same whole/x/last.ckpt broken/x/last.ckpt
    same whole/x/best.safetensors broken/x/best.safetensors
    ls broken/x/*tern-tmp > found 2>&1 && bad "call $n: left behind $(cat found)"
    n=$((n + 1))
done
echo "$total calls"
finish
