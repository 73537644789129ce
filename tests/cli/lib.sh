# lib.sh - what the tests of the command share. A test is called with the command's path and runs
# in an empty folder of its own; it ends with `finish`.
set -u
export LC_ALL=C.UTF-8
unset TERN_DEVICE TERN_DISABLE TERN_LOG TERN_TRACE TERN_CHECK TERN_THREADS TERN_SEED TERN_POOL_BYTES
unset NO_COLOR CLICOLOR_FORCE
export XDG_CONFIG_HOME=/nonexistent
tern=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
export LSAN_OPTIONS=suppressions=$here/leaks.txt:print_suppressions=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0

bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# status N COMMAND...: runs it, output in `out` and `err`, and looks at the exit status.
status() {
    local want=$1 got
    shift
    "$@" > out 2> err
    got=$?
    [ $got = "$want" ] || bad "status $got instead of $want: $* ($(head -c 300 err))"
}

# has FILE TEXT, lacks FILE TEXT: fixed strings.
has() { grep -qF -- "$2" "$1" || bad "no \"$2\" in $1: $(head -c 400 "$1")"; }
lacks() { ! grep -qF -- "$2" "$1" || bad "\"$2\" in $1: $(head -c 400 "$1")"; }
same() { cmp -s "$1" "$2" || bad "$1 and $2 differ"; }

# A document: python3 or jq reads it, or the test is skipped.
parses() {
    if command -v python3 > /dev/null && python3 -c 'import json' 2> /dev/null; then
        python3 -c 'import json, sys
def refuse(word): raise ValueError(word)
json.load(open(sys.argv[1]), parse_constant=refuse)' "$1" || bad "$1 is no JSON"
    elif command -v jq > /dev/null; then
        jq -e . "$1" > parsed || bad "$1 is no JSON"
    else
        echo "neither python3 nor jq is there: skipped"
        exit 77
    fi
}

# value FILE KEY: of a top-level line of a document.
value() { sed -n "s/^  \"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$1"; }

# A net with all kinds of state, and a run of it that takes a second or two.
cat > net.cfg << 'END'
[net]
channels=1
height=28
width=28
classes=10
[maxpool]
size=4
[flatten]
[dense]
units=24
[batchnorm]
[activation]
activation=relu
[dropout]
p=0.25
[dense]
units=10
END
small=(train --data shapes --samples 300 --val-split 60 --model net.cfg --batch 20 --epochs 4
    --augment shift=2)

finish() {
    [ $failures = 0 ] && echo "all fine"
    exit $((failures > 0))
}
