#!/usr/bin/env bash
# lint.sh - the rules of the house on the files of a tree: layers, one list per file, sizes, words,
# who prints, who reads the environment, what may lie at the root. lint_selftest.sh tests each.
# usage: lint.sh FOLDER
set -u
export LC_ALL=C
root=$(cd "$1" && pwd) || exit 1
here=$(cd "$(dirname "$0")" && pwd)

# What git knows or would take; in a tree without git, all but what the build and runs leave.
list_files() {
    if [ -e "$root/.git" ] && git -C "$root" rev-parse > /dev/null 2>&1; then
        git -C "$root" ls-files -co --exclude-standard
    else
        (cd "$root" && find . \( -name .git -o -path ./build -o -path ./data -o -path ./runs \) \
            -prune -o -type f -print | sed 's|^\./||')
    fi | sort -u | while IFS= read -r file; do
        if [ -f "$root/$file" ]; then echo "$file"; fi
    done
}

allowed='^(cuda|host|include|bench|tests|CMakeLists\.txt|CMakePresets\.json|README\.md|LICENSE'
allowed="$allowed"'|quickstart|CHANGELOG\.md|\.ci|\.clang-format|\.clang-tidy|\.gitignore'
allowed="$allowed"'|\.gitattributes|\.editorconfig)(/|$)'

files=$(list_files)
[ -n "$files" ] || {
    echo "lint: no files in $root"
    exit 1
}
found=$(
    echo "$files" | grep -Ev "$allowed" | sed 's|^|root |; s|$|:1: does not belong at the root|'
    echo "$files" | grep -Ev '\.(gz|npy|npz|png|jpe?g|safetensors|zip|bin)$' |
        sed "s|^|$root/|" | tr '\n' '\0' | xargs -0 awk -v root="$root" -f "$here/lint.awk"
)
n=$(echo "$files" | wc -l)
if [ -n "$found" ]; then
    echo "$found"
    echo "lint: $(echo "$found" | wc -l) violations in $n files"
    exit 1
fi
echo "lint: $n files, nothing to complain about"
