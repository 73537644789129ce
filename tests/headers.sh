#!/usr/bin/env bash
# headers.sh - every public header compiles alone, without a warning.
# usage: headers.sh c11|c++17 COMPILER
set -u
standard=$1 compiler=${2:-}
if ! command -v "$compiler" > /dev/null; then
    echo "skipped: no compiler for $standard"
    exit 77
fi
language=c
strict="-Wstrict-prototypes"
if [ "$standard" = c++17 ]; then language=c++ strict=""; fi

cd "$(dirname "$0")/../include" || exit 1
failed=0 n=0
for header in tern/*.h; do
    n=$((n + 1))
    # Twice, so that a missing include guard shows.
    printf '#include "%s"\n#include "%s"\nextern int alone;\n' "$header" "$header" |
        "$compiler" -x $language -std="$standard" -pedantic -Wall -Wextra -Wshadow -Wundef $strict \
            -Werror -I. -fsyntax-only - || {
        echo "$header does not compile alone as $standard"
        failed=1
    }
done
echo "$n headers as $standard"
[ "$n" -gt 0 ] && exit $failed
exit 1
