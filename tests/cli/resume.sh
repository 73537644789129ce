#!/usr/bin/env bash
# resume.sh - stopped, killed and resumed runs end in the bytes of one that was left alone.
. "$(dirname "$0")/lib.sh"

# The same run, longer, so that there is time to end it.
long=(train --data shapes --samples 600 --val-split 100 --model net.cfg --batch 10 --epochs 20
    --augment shift=2,rotate=5 --save-every 7)
status 0 "$tern" "${long[@]}" --name whole
equal() {
    same runs/whole/last.ckpt "runs/$1/last.ckpt"
    same runs/whole/best.safetensors "runs/$1/best.safetensors"
    [ "$(cut -d, -f1-7 runs/whole/metrics.csv)" = "$(cut -d, -f1-7 "runs/$1/metrics.csv")" ] ||
        bad "$1: metrics.csv differs"
    sed 's/,"img_per_s.*//' runs/whole/steps.jsonl > mine
    sed 's/,"img_per_s.*//' "runs/$1/steps.jsonl" > theirs
    same mine theirs
}

status 0 "$tern" "${long[@]}" --name threads --threads 3
equal threads
status 0 env TERN_DISABLE=program "$tern" "${long[@]}" --name eager
equal eager

# --steps ends it earlier; the resume goes on to the end. A step that is no multiple of anything.
status 0 "$tern" "${long[@]}" --name steps --steps 333
[ "$(tail -1 runs/steps/metrics.csv | cut -d, -f2)" = 333 ] || bad "--steps 333"
status 0 "$tern" train --resume runs/steps --steps 1000 --json
[ "$(value out resumed_at)" = 333 ] || bad "resumed at $(value out resumed_at)"
hash=$(value runs/whole/result.json weights_xxh128)
[ "$(value out weights_xxh128)" = "$hash" ] || bad "--steps, resumed"

# f16: the scale of the loss goes on, too; the header says the mode.
half=(train --data shapes --samples 600 --val-split 100 --model net.cfg --batch 10 --epochs 3
    --math f16 --conv direct)
status 0 "$tern" "${half[@]}" --name half
has err "math=f16 conv=direct"
status 0 "$tern" "${half[@]}" --name half-cut --steps 77
status 0 "$tern" train --resume runs/half-cut --steps 1000
same runs/half/last.ckpt runs/half-cut/last.ckpt
grep -q '"math": "f16"' runs/half/env.json || bad "env.json has no math mode"

# Defaults that follow the data are the same ones in a resume, and in a run of its config.
status 0 "$tern" train --data shapes --samples 600 --model net.cfg --epochs 2 --name plain
status 0 "$tern" train --data shapes --samples 600 --model net.cfg --epochs 2 --steps 5 --name cut
status 0 "$tern" train --resume runs/cut --steps 100
status 0 "$tern" train --config runs/plain/config.cfg --name repeated
cmp -s runs/plain/last.ckpt runs/repeated/last.ckpt || bad "config.cfg does not repeat the run"
[ "$(value runs/cut/result.json weights_xxh128)" = \
    "$(value runs/plain/result.json weights_xxh128)" ] || bad "a resume with defaults differs"
status 0 "$tern" eval runs/plain --split val --json
[ "$(value out accuracy)" = "$(value runs/plain/result.json val_acc)" ] ||
    bad "another validation part"

# A finished run: nothing is trained, the result is told again.
cp -r runs/whole before
status 0 "$tern" train --resume runs/whole
has out "runs/whole test_acc="
same before/last.ckpt runs/whole/last.ckpt
same before/metrics.csv runs/whole/metrics.csv

# Signals: the step is finished, the state saved, the way back told.
wait_for() { # FILE: until it is there
    for _ in $(seq 200); do
        [ -s "$1" ] && return
        sleep 0.02
    done
    bad "$1 did not come"
}
for signal in INT TERM; do
    name=on-$signal
    want=130
    [ $signal = TERM ] && want=143
    "$tern" "${long[@]}" --name $name > out 2> err &
    pid=$!
    wait_for runs/$name/last.ckpt
    kill -$signal $pid
    wait $pid
    got=$?
    [ $got = $want ] || bad "SIG$signal: status $got"
    has err "resume  tern train --resume runs/$name"
    [ -s out ] && bad "an interrupted run has a result: $(cat out)"
    [ -e runs/$name/result.json ] && bad "an interrupted run has a result.json"
    [ -s runs/$name/best.safetensors ] || bad "an interrupted run has no weights"
    status 0 "$tern" train --resume runs/$name
    has err "resumed step="
    equal $name
done

# SIGUSR1 saves and goes on.
"$tern" "${long[@]}" --name usr --save-every 0 > out 2> err &
pid=$!
wait_for runs/usr/config.cfg
sleep 0.1
kill -USR1 $pid
wait $pid || bad "SIGUSR1 ended the run"
has out "ended=done"
same runs/whole/best.safetensors runs/usr/best.safetensors

# kill -9, again and again, until a run comes through.
name=killed
"$tern" "${long[@]}" --name $name > out 2> err &
pid=$!
wait_for runs/$name/config.cfg
kills=0
while kill -0 $pid 2> /dev/null; do
    sleep 0.$((RANDOM % 4))$((RANDOM % 10))
    kill -9 $pid 2> /dev/null && kills=$((kills + 1))
    wait $pid 2> /dev/null
    got=$?
    [ $got = 0 ] && break
    [ $got = 137 ] || bad "status $got between kills: $(cat err)"
    [ $kills -lt 12 ] || break
    "$tern" train --resume runs/$name > out 2> err &
    pid=$!
done
status 0 "$tern" train --resume runs/$name
equal $name
ls runs/$name/*tern-tmp > found 2>&1 && bad "left behind: $(cat found)"
echo "killed $kills times"

# What does not fit is refused, and the run stays as it was.
cp -r runs/whole changed
for words in "--batch 20" "--seed 7" "--samples 700" "--optimizer sgd"; do
    # shellcheck disable=SC2086
    status 1 "$tern" train --resume changed --epochs 30 $words
    has err "changed/last.ckpt"
    same changed/last.ckpt runs/whole/last.ckpt
done
head -c 1000 runs/whole/last.ckpt > changed/last.ckpt
status 1 "$tern" train --resume changed
has err "changed/last.ckpt"
rm changed/last.ckpt changed/metrics.csv changed/steps.jsonl changed/best.safetensors
status 0 "$tern" train --resume changed
same changed/last.ckpt runs/whole/last.ckpt
finish
