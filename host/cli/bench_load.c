/* bench_load.c - what `tern bench --save` wrote, read back for --baseline. */
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"
#ifdef TI_WITH_JANSSON
#include <jansson.h>
#endif

#ifdef TI_WITH_JANSSON
static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static bool load_row(bench *to, const json_t *o)
{
    const json_t *x = json_object_get(o, "samples_ns"), *r = json_object_get(o, "rounds");
    bench_row *row;

    if (!json_is_object(o) || !*text_of(o, "name")) return false;
    row = bench_add(to, "loaded", text_of(o, "name"));
    row->problem = cli_copy(text_of(o, "problem"));
    row->batch = json_integer_value(json_object_get(o, "batch"));
    row->threads = (int)json_integer_value(json_object_get(o, "threads"));
    for (size_t i = 0; i < json_array_size(x); i++) {
        const double ns = json_number_value(json_array_get(x, i));

        if (!(ns > 0)) return false;
        samples_put(&row->time, ns, (int)json_integer_value(json_array_get(r, i)));
    }
    samples_sum(&row->time);
    return true;
}

bool bench_load(const char *path, bench *to, char **hardware)
{
    json_error_t why;
    json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    const json_t *rows = json_object_get(o, "rows");
    bool fine = o != NULL;

    if (!o && why.line < 0) error("%s: %s", path, why.text);
    else if (!o) error("%s:%d: %s", path, why.line, why.text);
    if (fine && (strcmp(text_of(o, "schema"), "tern.bench/1") != 0 || !json_is_array(rows))) {
        error("%s: this is no result of tern bench --save", path);
        fine = false;
    }
    for (size_t i = 0; fine && i < json_array_size(rows); i++)
        if (!load_row(to, json_array_get(rows, i))) {
            error("%s: row %zu has no name, or times that are none", path, i + 1);
            fine = false;
        }
    *hardware = cli_copy(fine ? text_of(o, "hardware") : "");
    json_decref(o);
    return fine;
}
#else
bool bench_load(const char *path, bench *to, char **hardware)
{
    (void)to;
    *hardware = NULL;
    error("--baseline %s: this command was built without jansson", path);
    return false;
}
#endif
