#!/usr/bin/env bash
# streams.sh - stdout and stderr, pipes and terminals, colours, documents.
. "$(dirname "$0")/lib.sh"

# Pipes: results on stdout, whole lines on stderr, no control characters.
status 0 "$tern" "${small[@]}" --name a
[ "$(wc -l < out)" = 1 ] || bad "stdout has $(wc -l < out) lines"
grep -qE '^runs/a test_acc=0\.[0-9]+ best_epoch=[0-9]+ ended=done$' out || bad "stdout: $(cat out)"
LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f]' err && bad "control characters in a pipe"
[ "$(grep -c '^epoch=' err)" = 4 ] || bad "not one line an epoch"
has err "epoch=1/4 step=12 train_loss="
has err "made here"
head -1 err | grep -q '^tern .*device=.*seed=42.*run=runs/a$' || bad "head: $(head -1 err)"
lacks err nan
for file in config.cfg env.json metrics.csv steps.jsonl last.ckpt best.safetensors result.json; do
    [ -s runs/a/$file ] || { [ $file = steps.jsonl ] || bad "no $file"; }
done
grep -q "$(uname -n)" runs/a/env.json runs/a/config.cfg && bad "the host's name in the run"
rows=$(cut -d, -f1 runs/a/metrics.csv | tail -n +2 | tr '\n' ' ')
[ "$rows" = "1 2 3 4 " ] || bad "epochs of metrics.csv: $rows"

# A second run of that name; an explicit one.
status 0 "$tern" "${small[@]}" -q
[ -s err ] && grep -qv '^warning:' err && bad "-q: $(cat err)"
status 0 "$tern" "${small[@]}"
has err "runs/shapes-net-2"
status 1 "$tern" "${small[@]}" --name a
has err "--resume runs/a"
has err "another --name"

# The run's own config repeats it.
status 0 "$tern" train --config runs/a/config.cfg --name repeat
same runs/a/best.safetensors runs/repeat/best.safetensors
same runs/a/last.ckpt runs/repeat/last.ckpt

# Documents.
status 0 "$tern" "${small[@]}" --name j --json
parses out
[ "$(value out schema)" = tern.train/1 ] || bad "schema"
for key in test_acc train_loss train_seconds epochs steps peak_rss_bytes weights_xxh128 device isa \
    seed; do
    [ -n "$(value out $key)" ] || bad "no $key"
done
[ "$(value out synthetic)" = true ] || bad "shapes are synthetic"
[ "$(value out steps)" = 48 ] || bad "steps: $(value out steps)"
same out runs/j/result.json
parses runs/j/env.json
status 0 "$tern" eval runs/a --json
parses out
[ "$(value out accuracy)" = "$(value runs/j/result.json test_acc)" ] || bad "eval and train differ"
status 0 "$tern" eval runs/a --split val
has out "accuracy "
has out "worst pairs"
for verb in "devices" "info" "summary net.cfg" "summary lenet5 --batch 4" "op --list" \
    "bench model mlp --batch 1 --repeat 2 --seconds 0 --warm-up 1"; do
    # shellcheck disable=SC2086
    status 0 "$tern" $verb --json
    parses out
    [ "$(value out schema)" = "tern.${verb%% *}/1" ] || bad "$verb: schema $(value out schema)"
done
has out '"batch": 1,'

# Logs have what stderr has; colours only where they are wanted.
status 0 "$tern" "${small[@]}" --name l --log log -q
has log "epoch=4/4"
status 0 "$tern" help --color always
grep -q $'\033' out || bad "--color always into a pipe"
status 0 env CLICOLOR_FORCE=1 "$tern" help
grep -q $'\033' out || bad "CLICOLOR_FORCE"
status 0 env CLICOLOR_FORCE=1 NO_COLOR=1 "$tern" help
grep -q $'\033' out && bad "NO_COLOR wins"

# Terminals.
if command -v script > /dev/null; then
    on_terminal() { TERM=$1 script -qec "$2" /dev/null < /dev/null > tty; }
    on_terminal xterm "$tern ${small[*]} --name t"
    grep -q $'\r\033\\[K' tty || bad "no redrawn line on a terminal"
    grep -q 'train loss' tty || bad "no table on a terminal"
    grep -q 'looked at once' tty || bad "no closing lines on a terminal"
    on_terminal xterm "NO_COLOR=1 $tern help"
    grep -q $'\033\\[1m' tty && bad "NO_COLOR on a terminal"
    on_terminal xterm "$tern help"
    grep -q $'\033\\[1m' tty || bad "no colours on a terminal"
    on_terminal dumb "$tern ${small[*]} --name d"
    grep -q $'\033' tty && bad "escapes on a dumb terminal"
    on_terminal xterm "$tern ${small[*]} --name n --progress never"
    grep -q $'\033\\[K' tty && bad "--progress never"
else
    echo "there is no script(1): terminals were not tested"
fi

# A stdout that cannot be written.
"$tern" help > /dev/full 2> err
[ $? = 1 ] || bad "/dev/full: status"
has err "standard output could not be written"
"$tern" op --list 2> err | true
[ "${PIPESTATUS[0]}" = 0 ] || [ "${PIPESTATUS[0]}" = 1 ] || bad "closed pipe"
"$tern" summary resnet20 --batch 2 --program 2> err | head -n 1 > out # more than a pipe holds
[ -s err ] && bad "a reader that left: $(cat err)"
(exec >&- && "$tern" help 2> err)
[ $? = 1 ] || bad "closed stdout: status"
finish
