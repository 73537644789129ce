# parts.sh - the parts of gpu-check, and its report. gpu-check reads this file; it is not run alone.
#
# A part prints its section of the report in Markdown, sets `verdict` by bad or skip, a short
# `note`, and `data`, a JSON value.

part_title() {
    case $1 in
    device) echo 'Device' ;;
    conformance) echo 'Every operation against the reference' ;;
    train) echo 'Training: same seed, same bits' ;;
    sanitizer) echo 'compute-sanitizer' ;;
    compare) echo 'Whole nets against double precision' ;;
    ceilings) echo 'What the device can do' ;;
    ops) echo 'Operations' ;;
    runtime) echo 'Pool and launches' ;;
    models) echo 'Training steps' ;;
    peers) echo 'Beside PyTorch' ;;
    esac
}

# ---- what is here

# The driver counts as CUDA_VISIBLE_DEVICES says, nvidia-smi as the bus does. A slice of a GPU
# (MIG-...) it does not describe.
smi() {
    local at
    at=$(cut -d, -f1 <<< "${CUDA_VISIBLE_DEVICES:-0}")
    nvidia-smi -i "$at" "--query-gpu=$1" --format=csv,noheader 2> /dev/null | head -n 1
}

row() { [ -z "$2" ] || printf '| %s | %s |\n' "$1" "$2"; }

part_device() {
    printf '| | |\n|:--|:--|\n'
    row device "$name"
    if [ "$kind" = cuda ]; then
        row 'compute capability' \
            "$(property COMPUTE_CAPABILITY_MAJOR).$(property COMPUTE_CAPABILITY_MINOR)"
        row multiprocessors "$(property MULTIPROCESSOR_COUNT)"
        row memory "$(awk -v b="$(property memory_bytes)" 'BEGIN {printf "%.1f GiB", b / 2^30}')"
        row 'driver' "$(smi driver_version)"
        row 'clocks now (SM, memory)' "$(smi clocks.sm,clocks.mem)"
        row 'highest clocks' "$(smi clocks.max.sm,clocks.max.mem)"
        row 'power limit' "$(smi power.limit)"
        row 'ECC' "$(smi ecc.mode.current)"
        while read -r what path so; do
            if [ "$path" = - ]; then
                path="$so was not found"
                if [ "$what" != NVRTC ]; then path+=': own kernels run'; fi
            fi
            row "$what" "$path"
        done <<< "${vendor%$'\n'}"
    fi
    row Tern "$("$tern" --version 2> /dev/null), $commit"
    row processor "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    if try 60 "$tern" info --device "$device"; then
        printf '\n```\n%s\n```\n' "$(cat "$scratch/stdout")"
    else
        printf '\n'
        gave_up $? "tern info --device $device"
    fi
    cp "$scratch/device.json" "$results/device.json"
    data=$(one_line "$results/device.json")
    note=$name
}

# ---- right

# passed failed skipped, from the last line of the cases
counts() {
    awk '/passed, .* failed, .* skipped$/ {print $1, $3, $5}' "$scratch/stderr" | tail -n 1
}

part_conformance() {
    local filter="conformance/${kind}_*,tables/what_${kind}_lacks" status all
    if [ $tiny = yes ]; then filter=${filter/_\*,/_f32,}; fi
    if [ "$kind" = simt ]; then filter+=',graph/*,ahead/*'; else filter+=',graph_cuda/*'; fi
    if [ "$kind" = cuda ]; then export TERN_REQUIRE_GPU=1; fi
    try 240 "$cases" "--filter=$filter"
    status=$?
    unset TERN_REQUIRE_GPU
    all=$(counts)
    if [ -z "$all" ]; then
        gave_up $status 'conformance'
        return
    fi
    # shellcheck disable=SC2086 # three numbers
    set -- $all
    note="$1 passed, $2 failed, $3 skipped"
    data=$(printf '{"passed": %d, "failed": %d, "skipped": %d}' "$1" "$2" "$3")
    if [ $status != 0 ] || [ "$2" != 0 ] || [ "$3" != 0 ] || [ "$1" = 0 ]; then bad; fi
    printf '%d groups of cases passed, %d failed, %d were skipped (which is a failure).\n' "$@"
    printf 'Each case is one operation with its inputs, compared with the reference in double.\n\n'
    awk '/^[a-z]+ f[0-9]+: [0-9]+ values, worst / {
        what = $2 " " $3 " values; the worst error is " $6 " of its bound"
        sub(/.* bound: /, "")
        print "- " what " (" $0 ")"
    }' "$scratch/stderr"
    sed -n 's/^SKIPPED on [a-z]*: /- not compared: /p; s/^MISSING: /- missing: /p' \
        "$scratch/stderr" | sort -u
    if [ $verdict = failed ]; then
        printf '\nWhat failed:\n\n```\n%s\n```\n' \
            "$(grep -E '^\[|: .*: ' "$scratch/stderr" | head -n 40)"
    fi
}

# Two runs of one seed, and a run call by call, leave the same weights.
part_train() {
    local steps=200 batch=64 hash='' first='' way how status
    if [ $tiny = yes ]; then steps=4 batch=2; fi
    if [ "$kind" = cuda ] && [ $tiny = no ]; then steps=400; fi
    rm -rf "$scratch/train" && mkdir "$scratch/train"
    printf '`tern train --data shapes --model lenet5 --steps %d --batch %d`:\n\n' $steps $batch
    printf '| run | weights (XXH128) | seconds |\n|:--|:--|--:|\n'
    for how in captured 'captured again:' 'call by call:TERN_DISABLE=graph'; do
        local from=$SECONDS
        way=${how#*:}
        if [ "$way" = "$how" ]; then way=''; fi
        (cd "$scratch/train" && try 90 env ${way:+"$way"} "$tern" train --data shapes \
            --model lenet5 --steps $steps --batch $batch --samples 256 --val-split 16 --seed 3 \
            --device "$device" --progress never --json --name "${how%%:*}")
        status=$?
        hash=$(sed -n 's/.*"weights_xxh128": *"\([0-9a-f]*\)".*/\1/p' "$scratch/stdout")
        printf '| %s | `%s` | %d |\n' "${how%%:*}" "${hash:-none}" $((SECONDS - from))
        if [ $status != 0 ] || [ -z "$hash" ]; then
            printf '\n'
            gave_up $status "training, ${how%%:*}"
            return
        fi
        first=${first:-$hash}
        if [ "$hash" != "$first" ]; then bad "${how%%:*}: other bits than the first run"; fi
    done
    data="{\"steps\": $steps, \"batch\": $batch, \"hash\": \"$first\"}"
    if [ $verdict = ok ]; then note="three runs, one result"; fi
    printf '\n'
}

# Of each family of kernels one: what shares memory between threads, or adds up across blocks.
sanitized_ops=matmul,conv2d,conv2d_dx,conv2d_dw,linear_act_d,batch_norm,batch_norm_d,layer_norm,
sanitized_ops+=layer_norm_d,softmax,sum,max,cross_entropy,max_pool2d,max_pool2d_d,lstm,lstm_d,gru,
sanitized_ops+=gru_d,dropout,adam_update,take

part_sanitizer() {
    local program='' tool status what ops most
    if [ "$kind" = simt ]; then
        skip 'not for the emulated device: the tests run its own checker'
        printf '%s.\n' "$note"
        return
    fi
    for program in "$(command -v compute-sanitizer)" "$cuda_home/bin/compute-sanitizer" \
        "$cuda_home/compute-sanitizer/compute-sanitizer" ''; do
        if [ -n "$program" ] && [ -x "$program" ]; then break; fi
    done
    if [ -z "$program" ]; then
        skip 'compute-sanitizer is not on this machine'
        printf '%s.\n' "$note"
        return
    fi
    printf '| tool | operations | verdict |\n|:--|:--|:--|\n'
    for tool in memcheck racecheck initcheck synccheck; do
        what=all ops='' most=45
        if [ $tool != memcheck ]; then what='one of each family' ops=$sanitized_ops most=25; fi
        try $most env "TC_OPS=$ops" "$program" --tool $tool --target-processes all \
            --error-exitcode 9 "$cases" '--filter=conformance/cuda_f32'
        status=$?
        printf '| %s | %s | ' $tool "$what"
        case $status in
        0) printf 'clean |\n' ;;
        9)
            bad "$tool reports errors"
            printf '**errors**: %s |\n' \
                "$(grep -m 1 -E '(ERROR|RACECHECK) SUMMARY' "$scratch/stdout" | tr -d '=|')"
            ;;
        124 | 137)
            printf 'no verdict: not done in %s s |\n' $most
            note=${note:-"$tool: not done in $most s"}
            ;;
        *)
            bad "$tool: status $status, see log.txt"
            printf '**did not end well**: status %s, %s |\n' $status \
                "$(grep -m 1 '^=' "$scratch/stdout" | tr -d '=|')"
            ;;
        esac
        data+="${data:+, }\"$tool\": $status"
    done
    data="{$data}"
}

part_compare() {
    local model batch=16 models='lenet5 resnet20' status
    if ! "$tern" help compare > /dev/null 2>&1; then
        skip 'this build has no `tern compare`'
        printf 'This build has no `tern compare`; operations one by one are compared above.\n'
        return
    fi
    if [ $tiny = yes ]; then models=lenet5 batch=2; fi
    for model in $models; do
        try 90 "$tern" compare --model "$model" --devices "cpu,$device" --batch $batch
        status=$?
        printf '`tern compare --model %s --devices cpu,%s --batch %d`: ' "$model" "$device" $batch
        case $status in
        0)
            note+="${note:+, }$model: all within their bounds"
            printf 'all tensors are within their bounds.\n\n'
            ;;
        3)
            bad "$model leaves its bound"
            printf '**outside the bound.**\n\n'
            ;;
        *) printf '\n\n' && gave_up $status "compare $model" && continue ;;
        esac
        # The whole table of a small net; of a large one what is not right.
        awk '/^\|/ {row[++n] = $0; next} n {after[++m] = $0}
            END {
                few = n <= 42
                for (i = 1; i <= n; i++) if (few || row[i] !~ / (ok|equal) *\|$/) bad[++k] = row[i]
                for (i = 1; i <= k && (few || k > 2); i++) print bad[i]
                print ""
                for (i = 1; i <= m; i++) print after[i]
                print ""
            }' "$scratch/stdout"
        data+="${data:+, }\"$model\": $status"
    done
    data="{$data}"
}

# ---- fast

tiny_note() {
    [ "$kind" != simt ] ||
        printf 'These are times of an emulator: they say nothing about any GPU.\n\n'
}

# bench SECONDS WHAT ARGUMENT...: the table of `tern bench` without its comment
bench() {
    local most=$1 status quick=()
    shift
    if [ $tiny = yes ]; then
        quick=(--seconds 0.05 --rounds 2 --repeat 3 --warm-up 1 --timeout 0.2)
    fi
    rm -f "$scratch/bench.json"
    try "$most" "$tern" bench "$@" --device "$device" --format md --save "$scratch/bench.json" \
        ${quick[@]+"${quick[@]}"}
    status=$?
    if [ $status != 0 ]; then
        gave_up $status "tern bench $*"
        return
    fi
    sed '/^<!--/,/-->$/d' "$scratch/stdout"
    printf '\n'
    if [ -e "$scratch/bench.json" ]; then data+="${data:+, }$(one_line "$scratch/bench.json")"; fi
}

closed() { data="[$data]"; }

# The modes in which products are rounded to what tensor cores take.
math_modes() {
    if [ $tiny = yes ]; then echo bf16; else echo tf32 bf16 f16; fi
}

# A file of problems for this size of check.
problems_of() { echo "$problems/$([ $tiny = yes ] && echo tiny-)$1.txt"; }

part_ceilings() {
    local math
    tiny_note
    printf 'Copies, and a product in strict f32:\n\n'
    bench 60 ops --problems "$(problems_of ceilings)" --no-check
    for math in $(math_modes); do
        printf 'The product with `--math %s`:\n\n' "$math"
        bench 30 ops --problems "$(problems_of ceilings)" --op matmul --math "$math" --no-check
    done
    closed
}

checked_ops() { # checked_ops SECONDS FILE MATH
    bench "$1" ops --problems "$(problems_of "$2")" --math "$3" --seconds 0.1
    if grep -q '"check": "failed"' "$scratch/bench.json" 2> /dev/null; then
        bad "a row is wrong in $3"
    fi
}

part_ops() {
    local math
    tiny_note
    printf 'A row whose result is not within its bound of the reference prints no time. '
    printf 'Strict f32:\n\n'
    checked_ops 100 ops f32
    for math in $(math_modes); do
        printf 'Products with `--math %s`:\n\n' "$math"
        checked_ops 40 products "$math"
    done
    closed
}

part_runtime() {
    tiny_note
    printf 'The memory pool:\n\n'
    if [ $tiny = yes ]; then printf '(left out: tiny)\n\n'; else bench 60 pool; fi
    printf 'Launches; "asking for" is the time of the host alone, which does not wait:\n\n'
    bench 60 launch
    closed
}

# model batch what-else
model_list() {
    if [ $tiny = yes ]; then
        echo 'lenet5 2'
        return
    fi
    echo 'lenet5 128,512,1024,4096'
    echo 'resnet20 128,512'
    echo 'resnet18 512'
    echo 'vgg-small 256'
    echo 'lstm 64'
    echo 'gru 64'
}

part_models() {
    local model batch how math
    tiny_note
    printf 'Whole training steps on data that lies on the device: forward, backward, guard, Adam. '
    printf 'The input pipeline is not in it.\n\n'
    printf 'Strict f32:\n\n'
    while read -r model batch; do
        bench 60 model "$model" --batch "$batch" --no-check
    done <<< "$(model_list)"
    # Recurrent products are f32 in every mode. The emulator takes a minute for such a step.
    for math in $([ $tiny = yes ] || math_modes); do
        printf 'With `--math %s`:\n\n' "$math"
        for model in lenet5:512 resnet20:512 resnet18:512; do
            bench 30 model "${model%:*}" --batch "${model#*:}" --math "$math" --no-check
        done
    done
    batch=$([ $tiny = yes ] && echo 2 || echo 128)
    printf 'LeNet-5, batch %d, three ways:\n\n' "$batch"
    printf '| way | median ms | min ms | noise | img/s |\n|:--|--:|--:|--:|--:|\n'
    for how in 'one graph:none' 'call by call:graph' 'eager:program'; do
        export TERN_DISABLE=${how#*:}
        bench 40 model lenet5 --batch "$batch" --no-check > "$scratch/table"
        awk -F'|' -v way="${how%:*}" '/^\| lenet5/ {
            printf "| %s |%s|%s|%s|%s|\n", way, $5, $6, $7, $8; exit}' "$scratch/table"
        if [ $verdict = failed ]; then cat "$scratch/table"; fi
    done
    unset TERN_DISABLE
    closed
}

# Python with the libraries that are its own, not the bundle's.
python() { LD_LIBRARY_PATH=$own_path python3 "$@"; }

torch_step() { # torch_step MODEL BATCH OPTION...: milliseconds, or nothing
    printf '1\n1\n1\n' > "$scratch/seconds"
    try 60 env "LD_LIBRARY_PATH=$own_path" python3 "$root/bench/peers/torch_steps.py" \
        "$1" "$2" 1 cuda "${@:3}" < "$scratch/seconds" || return 1
    sed -n 's/^{"ms": \([0-9.e-]*\),.*/\1/p' "$scratch/stdout" | sort -g | sed -n 2p |
        awk '{printf "%.4g\n", $1}' # the median of three
}

part_peers() {
    local model batch own eager compiled
    if [ "$kind" = simt ]; then
        skip 'PyTorch is looked at on a GPU only'
    elif ! have python3 || ! python -c 'import torch; assert torch.cuda.is_available()' \
        2> /dev/null; then
        skip 'python3 has no PyTorch that finds this GPU'
    fi
    if [ $verdict = skipped ]; then
        printf '%s.\n' "$note"
        return
    fi
    printf 'Milliseconds a step, strict f32 on both sides; PyTorch channels-last, Adam fused; the '
    printf 'medians of one run each, one after the other.\n\n'
    printf '| model | batch | Tern | PyTorch eager | PyTorch compiled | eager / Tern |\n'
    printf '|:--|--:|--:|--:|--:|--:|\n'
    for model in lenet5:128 lenet5:1024 resnet18:512 lstm:64; do
        if [ "$(left)" -lt 30 ]; then
            note="no time for $model and what follows; gpu-check --parts peers has more"
            break
        fi
        batch=${model#*:} model=${model%:*}
        try 60 "$tern" bench model "$model" --batch "$batch" --device "$device" --no-check --json ||
            { bad "tern bench model $model" && continue; }
        own=$(tr -d ' \n' < "$scratch/stdout" | sed -n 's/.*"step_ms":{"median":\([0-9.]*\).*/\1/p')
        eager=$(torch_step "$model" "$batch" channels-last)
        compiled=$(torch_step "$model" "$batch" channels-last compile)
        printf '| %s | %s | %s | %s | %s | %s |\n' "$model" "$batch" "${own:-–}" "${eager:-–}" \
            "${compiled:-–}" "$(awk -v a="${own:-0}" -v b="${eager:-0}" \
                'BEGIN {if (a > 0 && b > 0) printf "%.2f", b / a; else printf "–"}')"
        data+="${data:+, }{\"model\": \"$model\", \"batch\": $batch, \"tern_ms\": ${own:-null}, "
        data+="\"torch_ms\": ${eager:-null}, \"compiled_ms\": ${compiled:-null}}"
    done
    closed
}

# ---- the report: a head, a table of verdicts, the sections in the order of the parts

value() { # value PART KEY: a text or a number of its line in results.jsonl
    sed -n "s/.*\"part\": \"$1\",.*\"$2\": \"\{0,1\}\([^\",}]*\).*/\1/p" "$results/heads"
}

write_report() { # write_report PART: its section is $scratch/section
    local report=$results/report.md part line
    # Lines without their data, which is long and may hold the same keys.
    sed 's/, "data": .*/}/' "$results/results.jsonl" > "$scratch/heads"
    for part in $all_parts; do
        grep -q "\"part\": \"$part\"," "$scratch/heads" || continue
        printf '\n<!-- part %s -->\n## %s\n\n' "$part" "$(part_title "$part")"
        if [ "$part" = "$1" ]; then
            cat "$scratch/section"
        elif [ -e "$report" ]; then
            awk -v want="<!-- part $part -->" '
                /^<!-- part / {on = $0 == want; n = 0}
                on && ++n > 3 {print}' "$report"
        fi
    done | cat -s > "$scratch/sections"
    {
        printf '# Tern on %s\n\n' "$name"
        printf 'Made by `bench/gpu-check%s`, %s, version %s.\n' \
            "$([ $tiny = yes ] && echo ' --tiny')" "$(date -u +%F)" "$commit"
        if [ "$kind" = simt ]; then
            printf 'The device is an emulator: verdicts count, times do not.\n'
        fi
        printf '\n| part | verdict | seconds | |\n|:--|:--|--:|:--|\n'
        for part in $all_parts; do
            line=$(grep "\"part\": \"$part\"," "$scratch/heads") || continue
            sed -e 's/.*"verdict": "\([^"]*\)", "note": "\(.*\)/\1 | \2/' \
                -e 's/ | \(.*\)", "seconds": \([0-9]*\),.*/ | \2 | \1/' \
                -e "s/^failed/**&**/; s/.*/| $part | & |/" <<< "$line"
        done
        cat "$scratch/sections"
    } > "$results/.report.md" && mv "$results/.report.md" "$report"
}
