# run.sh - `./quickstart test` in its three tiers. quickstart reads this file; it is not run alone.
#
# What counts: each test of ctest, and of a Criterion program each of its cases. A test that exits
# with 77 was skipped; one that could not be run at all has failed.

passed=0 failed=0 skipped=0 device_ran=0 device_skipped=0
summaries=

# Adds up one run of ctest: its JUnit file, and what the Criterion programs left in results/.
count() { # count NAME JUNIT RESULTS
    local line
    line=$(awk -v results="$3" '
        function value(text, key,    at) {
            at = match(text, key "=\"[^\"]*\"")
            return at ? substr(text, RSTART + length(key) + 2, RLENGTH - length(key) - 3) : ""
        }
        function device(name, ran) {
            if (tolower(name) !~ /cuda|gpu/) return
            if (ran) device_ran++; else device_skipped++
        }
        function finish(    file, line, got, bad, suite, n) {
            if (name == "") return
            file = results "/" name ".xml"
            while ((getline line < file) > 0) {
                if (line ~ /<testsuite /) suite = value(line, "name")
                if (line !~ /<testcase /) continue
                n++
                got = value(line, "status")
                if (got == "PASSED") passed++
                else if (got == "SKIPPED") {
                    skipped++
                    print "  skipped: " name ": " suite "::" value(line, "name") > "/dev/stderr"
                } else { failed++; bad++ }
                device(suite "::" value(line, "name"), got != "SKIPPED")
            }
            close(file)
            if (n && status == "run") return
            if (n && status == "fail") { if (!bad) failed++; return }
            if (status == "run") passed++
            else if (status == "notrun" && skip ~ /SKIP_RETURN_CODE/) {
                skipped++
                print "  skipped: " name ": " why > "/dev/stderr"
            } else failed++
            device(name, status == "run" || status == "fail")
        }
        /<testcase / {
            finish()
            name = value($0, " name")
            status = value($0, "status")
            skip = why = ""
            tests++
        }
        /<skipped / { skip = value($0, "message") }
        /skipped: / && why == "" { why = $0; sub(/.*skipped: /, "", why) }
        END {
            finish()
            print passed + 0, failed + 0, skipped + 0, device_ran + 0, device_skipped + 0, tests + 0
        }' "$2")
    # shellcheck disable=SC2086 # six numbers
    set -- "$1" $line
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    device_ran=$((device_ran + $5)) device_skipped=$((device_skipped + $6))
    if [ "$7" = 0 ]; then
        say "error: $1: ctest ran nothing"
        failed=$((failed + 1))
    fi
}

# phase NAME FOLDER CTEST OPTION...
phase() {
    local name=$1 folder=$2 junit=$PWD/build/report/$1.xml status start=$SECONDS
    shift 2
    mkdir -p build/report
    rm -f "$junit" "$folder"/tests/results/*.xml
    say ''
    say "== $name: ctest in $folder"
    # One kind of test at a time uses both cores; Criterion runs its cases side by side by itself.
    ctest --test-dir "$folder" --output-on-failure --output-junit "$junit" \
        --test-output-size-passed 65536 -j "$jobs" "$@" 2>&1 | tee "build/report/$name.log"
    status=${PIPESTATUS[0]}
    if [ ! -e "$junit" ]; then
        say "error: $name: ctest left no report"
        failed=$((failed + 1))
        return
    fi
    local before=$failed
    count "$name" "$junit" "$folder/tests/results"
    if [ "$status" != 0 ] && [ "$failed" = "$before" ]; then failed=$((failed + 1)); fi
    summaries+="$name: $(grep -E 'tests passed,|No tests were found' "build/report/$name.log")"
    summaries+=" ($((SECONDS - start)) s)"$'\n'
}

# try_build PRESET...: a build that fails is a failed test.
try_build() {
    build "$@" && return 0
    failed=$((failed + 1))
    summaries+="${name:-$1}: does not build"$'\n'
    return 1
}

skip_loudly() {
    say "SKIPPED: $*"
    skipped=$((skipped + 1))
}

# ---- the ledger of full checks: tests/full/*.sh, results in tests/full.json, one line each
ledger=tests/full.json

field() { # field CHECK KEY
    sed -n "s/.*\"check\": \"$1\".*\"$2\": \"\{0,1\}\([^\",}]*\).*/\1/p" "$ledger" 2> /dev/null
}

# What a check looks at: `# depends: ...` in its head, else the sources of the library and command.
depends() {
    local list
    list=$(sed -n 's/^# depends: //p' "tests/full/$1.sh")
    echo "${list:-host include CMakeLists.txt} tests/full/$1.sh"
}

# The content of what a check looks at, as git stores it: the same wherever the tree is.
content() { # content CHECK
    # shellcheck disable=SC2046 # paths are words
    git ls-files -s -- $(depends "$1") 2> /dev/null | sha256sum | cut -c 1-16
}

state() { # state CHECK: fresh, or why not
    local commit result
    commit=$(field "$1" commit) result=$(field "$1" result)
    if [ -z "$result" ]; then
        echo 'never run'
    elif [ "$result" != pass ]; then
        echo "stale: last result was $result"
    elif ! have git; then
        echo "stale: passed at $commit; without git nobody knows what changed since"
    elif [ "$(field "$1" content)" = "$(content "$1")" ]; then
        echo "fresh: passed in $(field "$1" seconds) s at $commit"
    else
        echo "stale: passed at $commit, what it looks at has changed since"
    fi
}

print_ledger() {
    local file check
    say ''
    say '== full checks (./quickstart test --full). A pass is fresh while no file that the check'
    say '   depends on has changed since: host include CMakeLists.txt and the check itself'
    for file in tests/full/*.sh; do
        [ -e "$file" ] || continue
        check=$(basename "$file" .sh)
        printf '  %-16s %s\n' "$check" "$(state "$check")" >&2
    done
}

record() { # record CHECK SECONDS RESULT
    local commit line content
    commit=$(git rev-parse --short=12 HEAD 2> /dev/null || echo unknown)
    # shellcheck disable=SC2046
    if [ -n "$(git status --porcelain -- $(depends "$1") 2> /dev/null)" ]; then
        commit=$commit-dirty content=none # never counts as fresh: nobody has this tree
    else
        content=$(content "$1")
    fi
    line="{\"check\": \"$1\", \"command\": \"bash tests/full/$1.sh\", \"commit\": \"$commit\","
    line+=" \"content\": \"$content\", \"seconds\": $2, \"result\": \"$3\"}"
    {
        grep -s '"check": ' "$ledger" | grep -v "\"check\": \"$1\"" | sed 's/^ *//; s/,$//'
        echo "$line"
    } | sort | sed '$!s/$/,/; s/^/  /' > "$ledger.new"
    { echo '['; cat "$ledger.new"; echo ']'; } > "$ledger.whole"
    rm -f "$ledger.new"
    mv "$ledger.whole" "$ledger"
}

full() { # full K N
    local file check i=0 start status
    build release && build test || exit 1
    for file in tests/full/*.sh; do
        [ -e "$file" ] || continue
        i=$((i + 1))
        [ $(((i - 1) % $2 + 1)) = "$1" ] || continue
        check=$(basename "$file" .sh)
        say "== $check: $(sed -n '2s/^# //p' "$file")"
        start=$SECONDS
        TERN=$PWD/build/release/tern BUILD=$PWD/build/test bash "$file"
        status=$?
        case $status in
        0) passed=$((passed + 1)) result=pass ;;
        77) skipped=$((skipped + 1)) result=skipped ;;
        *) failed=$((failed + 1)) result=fail ;;
        esac
        record "$check" $((SECONDS - start)) $result
        say "   $check: $result, $((SECONDS - start)) s"
    done
    print_ledger
}

# ---- tiers
# ThreadSanitizer of older compilers dies where the kernel scatters addresses widely.
tsan_runner() {
    local probe=build/tsan-probe
    echo 'int main(void) { return 0; }' |
        "$(compiler)" -x c -fsanitize=thread - -o $probe || return 1
    if $probe 2> /dev/null; then
        echo env
    elif setarch -R $probe 2> /dev/null; then
        echo 'setarch -R'
    else
        return 1
    fi
}

# The CUDA plug-in for two GPUs and as PTX; its warnings are errors.
nvcc_build() {
    if ! have nvcc && [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
        skip_loudly 'no nvcc: the CUDA kernels were compiled for no GPU'
        return
    fi
    name=nvcc try_build cuda '-DTERN_CUDA_ARCHS=80;90' || return
    if [ -e build/nvcc/libtern_cuda.so ]; then
        passed=$((passed + 1))
        summaries+='nvcc: sm_80, sm_90 and PTX compile without warnings'$'\n'
    else
        skip_loudly "$(grep -o -m 1 'left out: the CUDA plug-in.*' build/nvcc.log)"
    fi
}

ci() {
    local runner
    # Long, and of no use twice: what looks at the tree, not at the code's behaviour.
    local code='lint|headers|readme|package|ci|slow'
    if try_build test; then phase test build/test; fi
    if try_build dev; then phase asan-ubsan build/dev -LE "$code"; fi
    if runner=$(tsan_runner); then
        if try_build tsan; then
            ctest() { $runner ctest "$@"; }
            phase tsan build/tsan -L threads -LE "$code"
            unset -f ctest
        fi
    else
        skip_loudly 'ThreadSanitizer does not run on this kernel'
    fi
    if have clang; then
        # That a loop is left as it was asked not to be costs time, and is no mistake.
        name=clang try_build test -DCMAKE_C_COMPILER=clang -DTERN_WERROR=ON \
            -DCMAKE_C_FLAGS=-Wno-pass-failed &&
            phase clang build/clang -LE "$code"
    else
        skip_loudly 'no clang: built with one compiler only'
    fi
    nvcc_build
}

run_tests() {
    local tier=user shard=1 shards=1
    while [ $# -gt 0 ]; do
        case $1 in
        --ci) tier=ci ;;
        --full) tier=full ;;
        --shard)
            shift
            if ! [[ ${1:-} =~ ^([1-9][0-9]*)/([1-9][0-9]*)$ ]] ||
                [ "${BASH_REMATCH[1]}" -gt "${BASH_REMATCH[2]}" ]; then
                say "error: --shard wants K/N with 1 <= K <= N"
                exit 2
            fi
            shard=${BASH_REMATCH[1]} shards=${BASH_REMATCH[2]}
            ;;
        *)
            usage >&2
            exit 2
            ;;
        esac
        shift
    done

    local needs=$needs_build$needs_test
    [ $tier = user ] || needs+=$needs_ci
    install_missing "$needs"
    insist
    say_cuda
    if [ $tier = ci ] && ! find_data; then get_data || say 'Fashion-MNIST: not to be had'; fi

    case $tier in
    user) if try_build test; then phase test build/test -LE 'ci|slow'; fi ;;
    ci)
        ci
        print_ledger
        ;;
    full) full "$shard" "$shards" ;;
    esac

    say ''
    if ! is_there header criterion/criterion.h; then
        say 'SKIPPED: all tests written in C, for want of Criterion'
        if [ $tier = user ]; then skipped=$((skipped + 1)); else failed=$((failed + 1)); fi
    fi
    if [ $device_skipped -gt 0 ]; then
        say "SKIPPED: $device_skipped device tests, no usable GPU here"
    elif [ $device_ran = 0 ]; then
        say 'no device test ran: this build has no CUDA plug-in'
    fi
    if [ "${TERN_REQUIRE_GPU:-}" = 1 ] && [ $((device_skipped > 0 || device_ran == 0)) = 1 ]; then
        say 'error: TERN_REQUIRE_GPU=1, but device tests did not run'
        failed=$((failed + 1))
    fi
    printf '%s' "$summaries"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}
