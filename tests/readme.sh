#!/usr/bin/env bash
# readme.sh - what README.md shows is true: its C blocks are the examples that the tests build and
# run, and its sh blocks run, in a fresh copy of the tree.
# usage: readme.sh c|sh
#
# A C block follows the line `<!-- host/examples/NAME.c -->`. A block after the line
# `<!-- not run here: REASON -->` is only named.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Writes block number i to scratch/i.LANGUAGE and the comment above it to scratch/i.note.
split() {
    awk -v language="$1" -v out="$scratch" '
        /^```/ && !inside && $0 == "```" language {
            inside = 1
            file = sprintf("%s/%02d", out, ++n)
            print note > (file ".note")
            printf "" > (file "." language)
            next
        }
        /^```/ { if (inside == 1) close(file "." language); inside = inside ? 0 : 2; next }
        inside == 1 { print > (file "." language); next }
        { note = $0 }' "$root/README.md"
}

split "$1"
failed=0 n=0
case $1 in
c)
    for block in "$scratch"/*.c; do
        [ -e "$block" ] || break
        n=$((n + 1))
        from=$(sed -n 's/^<!-- \(host\/examples\/[a-z0-9_]*\.c\) -->$/\1/p' "${block%.c}.note")
        if [ -z "$from" ]; then
            echo "C block $n of README.md does not name its file in host/examples"
            failed=1
        elif ! diff "$root/$from" "$block"; then
            echo "README.md (>) and $from (<) differ"
            failed=1
        fi
    done
    examples=$(find "$root/host/examples" -name '*.c' 2> /dev/null | wc -l)
    if [ "$n" = 0 ] && [ "$examples" != 0 ]; then
        echo "there are examples, but README.md shows none"
        failed=1
    fi
    ;;
sh)
    copy=$scratch/tern
    mkdir -p "$copy" "$scratch/home"
    cd "$root" || exit 1
    if ! git ls-files -z > "$scratch/files" 2> /dev/null; then
        find . \( -name .git -o -path ./build -o -path ./data -o -path ./runs \) -prune -o \
            -type f -print0 > "$scratch/files"
    fi
    tar -c --null -T "$scratch/files" --ignore-failed-read | tar -x -C "$copy"
    # The user's data stay where they are; what a block installs goes into a home of its own.
    export XDG_DATA_HOME=${XDG_DATA_HOME:-${HOME:-/nonexistent}/.local/share}
    export HOME=$scratch/home
    cd "$copy" || exit 1
    for block in "$scratch"/*.sh; do
        [ -e "$block" ] || break
        n=$((n + 1))
        if grep -q 'not run here:' "${block%.sh}.note"; then
            echo "-- $(tr '\n' ' ' < "$block")($(sed 's/<!-- //; s/ -->//' "${block%.sh}.note"))"
            continue
        fi
        echo "-- $(cat "$block")"
        start=$SECONDS
        bash -eu -o pipefail "$block" < /dev/null || {
            echo "block $n of README.md ended with $?"
            failed=1
        }
        echo "   $((SECONDS - start)) s"
    done
    [ "$n" -gt 0 ] || {
        echo 'README.md has no sh block'
        failed=1
    }
    ;;
*)
    echo "usage: readme.sh c|sh"
    exit 2
    ;;
esac
echo "$n blocks"
exit $failed
