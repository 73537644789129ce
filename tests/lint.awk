# lint.awk - the rules of the house that can be read off the text. lint.sh says which files.
# Prints `rule file:line: what`. Plain awk: no extensions, so that mawk will do.

BEGIN {
    # Who may include what, besides its own folder. `tern/*` are the public headers.
    allow["public"] = "tern/*"
    allow["base"] = "tern/base"
    allow["core"] = "tern/* base"
    allow["ops"] = "tern/* base core"
    allow["cpu"] = allow["null"] = allow["cuda"] = "tern/base tern/tensor tern/ops base core"
    allow["nn"] = allow["optim"] = allow["models"] = allow["train"] = allow["examples"] = "tern/*"
    allow["data"] = "tern/* base core"
    allow["io"] = "tern/* base core data"
    allow["cli"] = allow["bench"] = allow["tests"] = "*"
    n_library = split("base core ops cpu null nn optim data io models train cuda", names, " ")
    for (i = 1; i <= n_library; i++) library[names[i]] = 1

    cuda_headers = "^(cuda|cudnn|cublas|nccl|nvml|nvToolsExt|nvtx|nvrtc|curand|cufft|cusparse" \
        "|cusolver|driver_types|vector_types|vector_functions|device_launch" \
        "|cooperative_groups|mma[.]h)"
    before = "(^|[^A-Za-z0-9_.>])"
    printing = before "(v?printf|puts|putchar|perror)[ \t]*[(]|" before "stdout([^A-Za-z0-9_]|$)"
    ending = before "(abort|_?exit|_Exit|quick_exit|atexit)[ \t]*[(]"
    guest = before "(setlocale|signal|sigaction)[ \t]*[(]"
    environment = before "(secure_)?getenv[ \t]*[(]|" before "environ([^A-Za-z0-9_]|$)"
    raw_memory = before "(malloc|calloc|realloc|reallocarray|strn?dup|v?asprintf|aligned_alloc" \
        "|posix_memalign)[ \t]*[(]"
    # Spelled so that this file does not match itself.
    words = "TO[D]O|FIX[M]E|(^|[^X])XX[X]([^X]|$)|HAC[K]|[Pp]lacehold[e]r|[^a-z]for no[w]([^a-z]|$)"
    paths = "(^|[^A-Za-z0-9_.])/(wor[k]|roo[t]|hom[e])/"
}

function bad(rule, text) {
    printf "%s %s:%d: %s\n", rule, file, FNR, text
}

function exists(path,    line, got) {
    got = (getline line < path) >= 0
    close(path)
    return got
}

# The line without comments, with empty strings.
function strip(s,    out, mark) {
    out = ""
    while (s != "") {
        if (in_comment) {
            if (!index(s, "*/")) return out
            s = substr(s, index(s, "*/") + 2)
            in_comment = 0
        } else if (match(s, /\/\*|\/\/|"|'/)) {
            mark = substr(s, RSTART, RLENGTH)
            out = out substr(s, 1, RSTART - 1)
            s = substr(s, RSTART + RLENGTH)
            if (mark == "//") return out
            if (mark == "/*") { in_comment = 1; continue }
            if (mark == "\"") { if (!match(s, /^([^"\\]|\\.)*"/)) return out }
            else if (!match(s, /^([^'\\]|\\.)*'/)) return out
            s = substr(s, RLENGTH + 1)
            out = out mark mark
        } else return out s
    }
    return out
}

function included(name, angle,    first, target, n, list, i) {
    if (name ~ cuda_headers) {
        if (layer != "cuda" && file !~ /^tests\/simt\//) bad("cuda", name " outside cuda/")
        return
    }
    if (name ~ /[.][.]\//) { bad("layers", name ": no way up by ../"); return }
    if (name !~ /\//) return                     # the system's, or of the own folder
    first = name
    sub(/\/.*/, "", first)
    if (first == layer) return
    if (!(first in allow) && first != "tern") {
        if (!angle && !exists(root "/" folder "/" name)) bad("layers", name ": of no known folder")
        return
    }
    target = first
    if (first == "tern") { target = name; sub(/[.]h$/, "", target) }
    n = split(allow[layer], list, " ")
    for (i = 1; i <= n; i++)
        if (list[i] == target || list[i] == "*" || (list[i] == "tern/*" && first == "tern")) return
    bad("layers", layer " must not include " name)
}

# host/ops/x.c defines ti_ops_x, public functions, and what core/op.h or a header of host/ops says
# that it shares (known at the end only); a kernel file defines its row list and nothing else.
function one_list(code,    name) {
    if (code ~ /^template <[^>]*> static/) return # of .cu files
    if (code !~ /^[A-Za-z_]/ || code ~ /^(static|typedef|struct|enum|union|extern|_Static_assert)/)
        if (code !~ /^(struct|enum|union) [a-z_0-9]+ [*a-z]/) return
    if (index(code, list_name) && code ~ /[[(]/ && code ~ /=/) {
        n_lists++
        return
    }
    if (code ~ /^[A-Z][A-Z_0-9]*[(]/) return     # a macro
    if (code ~ /^[a-z_]+:$/) return              # a label
    if (code ~ /^[^=]*[(]/) {
        if (code ~ /;[ \t]*$/) return
        name = code
        sub(/[(].*/, "", name)
        sub(/.*[ *]/, "", name)
        if (kind == "ops" && name ~ /^tern_/) return
        if (kind == "ops") pending[name] = file ":" FNR ": " name " is global beside " list_name
        else bad("one-list", name " is global beside " list_name)
    } else if (code ~ /[=;]/) bad("one-list", "a global object beside " list_name)
}

function closing() {
    if (file == "") return
    if (list_name != "" && n_lists != 1)
        printf "one-list %s:1: defines %s %d times, not once\n", file, list_name, n_lists
    if (is_code && n_lines > (file ~ /[.](h|cuh)$/ ? 300 : 600))
        printf "size %s:%d: too long (headers 300 lines, others 600)\n", file, n_lines
}

FNR == 1 {
    closing()
    file = substr(FILENAME, length(root) + 2)
    folder = file
    if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
    layer = file
    if (sub(/^host\//, "", layer)) sub(/\/.*/, "", layer)
    else if (layer ~ /^include\/tern\//) layer = "public"
    else sub(/\/.*/, "", layer)
    is_c = file ~ /[.](c|h|cu|cuh)$/
    is_code = is_c || file ~ /[.](sh|awk|cmake)$/ || file ~ /(^|\/)(CMakeLists[.]txt|quickstart)$/
    in_comment = n_lists = 0
    list_name = kind = ""
    base = file
    sub(/.*\//, "", base)
    if (file ~ /^host\/ops\/[^\/]*[.]c$/) kind = "ops"
    else if (file ~ /^host\/cpu\/ref\/[^\/]*[.]c$/) kind = "ref"
    else if (file ~ /^host\/cpu\/[^\/]*[.]c$/ && base != "backend.c") kind = "cpu"
    else if (file ~ /^cuda\/[^\/]*[.]cu$/) kind = "cuda"
    if (kind != "") {
        list_name = base
        sub(/[.].*/, "", list_name)
        list_name = "ti_" kind "_" list_name
    }
}

{
    n_lines = FNR
    if ($0 ~ words) bad("words", $0)
    if ($0 ~ paths) bad("paths", $0)
}

is_code {
    columns = $0
    gsub(/[\200-\277]/, "", columns)             # UTF-8: bytes that continue a character
    if (length(columns) > 100) bad("columns", length(columns) " columns")
    if ($0 ~ /[ \t]$/) bad("columns", "white space at the end")
}

is_c {
    if (!in_comment && match($0, /^[ \t]*#[ \t]*include[ \t]*["<]/)) {
        name = substr($0, RLENGTH + 1)
        angle = substr($0, RLENGTH, 1) == "<"
        sub(/[">].*/, "", name)
        included(name, angle)
    }
    code = strip($0)
    if (layer == "cli" && code ~ environment && file != "host/cli/env.c")
        bad("environment", "the command reads the environment in host/cli/env.c")
    if (layer in library) {
        if (code ~ environment && file != "host/base/env.c")
            bad("environment", "the environment is read in host/base/env.c")
        if (code ~ printing || (code ~ /(^|[^A-Za-z0-9_])stderr/ && file != "host/core/context.c"))
            bad("prints", "the library prints nothing: " $0)
        if (code ~ ending) bad("ends", "the library ends nothing: " $0)
        if (code ~ guest) bad("guest", "the process is the caller's: " $0)
        if (code ~ raw_memory && layer != "base" && file !~ /^cuda\/|\/(backend|pool|context)[.]c$/)
            bad("memory", "by ti_alloc, where faults are injected: " $0)
    }
    if (kind != "" && code !~ /^#/) one_list(code)
    if (file == "host/core/op.h" || file ~ /^host\/ops\/.*[.]h$/)
        while (match(code, /ti_[a-z0-9_]+[(]/)) {
            shared[substr(code, RSTART, RLENGTH - 1)] = 1
            code = substr(code, RSTART + RLENGTH)
        }
}

END {
    closing()
    for (name in pending)
        if (!(name in shared)) print "one-list " pending[name]
}
