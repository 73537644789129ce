#!/usr/bin/env bash
# format.sh - .clang-format holds everywhere. Only version 14 is asked: others lay out differently.
# usage: format.sh FOLDER
set -u
cd "$1" || exit 1
for tool in clang-format-14 clang-format; do
    "$tool" --version 2> /dev/null | grep -q 'version 14\.' && break
    tool=
done
if [ -z "$tool" ]; then
    echo "skipped: FORMAT NOT CHECKED, there is no clang-format 14"
    exit 77
fi
find host include cuda bench tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2> /dev/null |
    xargs "$tool" --dry-run -Werror
