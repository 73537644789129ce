/* compare_print.c - what `compare` prints: a table of tensors and the first one outside its bound,
 * or one document. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/table.h"

static const char *const passes[] = {"fwd", "bwd", "upd"}, *const words[] = {"forward", "backward",
                                                                             "update"};
static const char *const verdicts[] = {"equal", "ok", "no kernel", "FAIL"};

static const char *letter(int s) { return s ? "B" : "A"; }

/* ---- The table ------------------------------------------------------------------------------- */

static const char *size_cell(double x)
{
    return x == 0 ? "0" : isfinite(x) ? cell("%.1e", x) : "not finite";
}

static const char *steps_text(double x)
{
    return !isfinite(x) ? "not finite" : x < 1e6 ? cell("%.0f", x) : cell("%.0e", x);
}

static const char *steps_cell(const tern_distance *d)
{
    return cell("%s / %s", steps_text(d->ulp_p99), steps_text(d->ulp_max));
}

static const char *share_cell(double share)
{
    if (!isfinite(share)) return "no bound";
    return share > 0 && share < 0.005 ? "<1%" : cell("%.0f%%", 100 * share);
}

static const char *verdict_cell(const comparison *k, int i)
{
    const says what = tensor_says(k, i);
    char sides[8] = "";

    for (int s = 0; s < k->n_side; s++) {
        const tern_distance *d = &k->tensor[i].side[s].d;
        if (what == SAYS_OUTSIDE ? d->n_beyond > 0 : what == SAYS_MISSING && d->missing)
            snprintf(sides + strlen(sides), sizeof sides - strlen(sides), " %s", letter(s));
    }
    return cell("%s%s", verdicts[what], sides);
}

/* Exact calls of the machinery (copies, flags, counters) that are equal tell nothing. */
static bool is_dull(const comparison *k, int i)
{
    const tern_compare_tensor *t = &k->tensor[i].t;

    for (int s = 0; s < k->n_side; s++)
        if (!k->tensor[i].side[s].d.exact) return false;
    return !out.verbose && i != k->i_fault && tensor_says(k, i) == SAYS_EQUAL &&
           strcmp(t->name, "out") != 0 && strcmp(t->name, "dX") != 0;
}

static void put_row(const comparison *k, table *t, int i)
{
    const tensor_result *r = &k->tensor[i];
    const char *cells[COLUMNS] = {passes[r->t.pass], r->t.layer, r->t.name};
    int n = 3;

    for (int s = 0; s < k->n_side; s++) {
        const tern_distance *d = &r->side[s].d;

        cells[n++] = d->missing ? "–" : size_cell(d->max_abs);
        cells[n++] = d->missing ? "–" : size_cell(d->max_rel);
        cells[n++] = d->missing ? "–" : steps_cell(d);
        cells[n++] = d->missing ? "–" : share_cell(d->share);
    }
    cells[n] = verdict_cell(k, i);
    table_put(t, cells);
}

static void print_table(const comparison *k)
{
    table t = {.head = {"pass", "layer", "tensor"}, .n = 3};
    int dull = 0;

    for (int s = 0; s < k->n_side; s++) {
        static const char *const heads[SIDES][4] = {
            {"A max abs", "A max rel", "A ulp p99/max", "A bound"},
            {"B max abs", "B max rel", "B ulp p99/max", "B bound"}};
        for (int j = 0; j < 4; j++) {
            t.right[t.n] = true;
            t.head[t.n++] = heads[s][j];
        }
    }
    t.head[t.n++] = "verdict";
    for (int i = 0; i < k->n; i++) {
        if (is_dull(k, i)) dull++;
        else put_row(k, &t, i);
    }
    table_print(&t, NULL);
    if (dull) result("and %d of copies, flags and counters, all equal (-v shows them)\n", dull);
}

/* ---- Around it ------------------------------------------------------------------------------- */

static void print_head(const comparison *k)
{
    tern_ctx *ctx = k->run.ctx;

    result("reference  ref in f64, plain loops, rounded once");
    for (int s = 0; s < k->n_side; s++)
        result("      %s  %s (%s), math %s", letter(s), tern_device(k->side[s]),
               tern_isa(k->side[s]), tern_math_name(tern_math(k->side[s])));
    result("\ninput      batch of %lld, %s, seed %llu      mode  isolated (each call is fed by the "
           "reference)%s\n",
           (long long)k->batch, k->input, (unsigned long long)tern_seed(ctx),
           cli_flag(k->c, "fused") ? ", fused" : "");
    result("step       %s, %s, lr %g, fresh state      %lld step%s%s\n\n", k->subject,
           tern_optim_kind(k->opt), tern_optim_lr(k->opt), (long long)k->steps,
           k->steps > 1 ? "s" : "", k->steps > 1 ? ", each tensor where it was farthest off" : "");
    if (k->i_fault >= 0)
        result("planted    %s.%s of %s: its largest element times %.9g\n\n",
               k->tensor[k->i_fault].t.layer, k->tensor[k->i_fault].t.name, letter(k->n_side - 1),
               1 + k->rel);
}

static void print_first(const comparison *k, int i)
{
    const tensor_result *r = &k->tensor[i];
    char place[200];

    result("%sfirst failure%s  %s, %s.%s (%s), step %lld\n", style_out("red"), style_out("off"),
           words[r->t.pass], r->t.layer, r->t.name, r->t.op, (long long)r->failed_at);
    for (int s = 0; s < k->n_side; s++) {
        const tern_distance *d = &r->side[s].d;

        if (!d->n_beyond) continue;
        result("  worst    %s  reference %.9g, %s %s %.9g (kernel %s)\n",
               tern_compare_place(place, k->compare, i, d->worst), d->want, letter(s),
               tern_device(k->side[s]), d->got, d->kernel);
        result("  outside  %s of %s on %s %s", thousands(d->n_beyond), thousands(d->n), letter(s),
               tern_device(k->side[s]));
        if (isfinite(d->share)) result(", up to %.3g times the bound\n", d->share);
        else if (!d->exact) result(", not finite where the reference is\n");
        else result("; this operation is exact: equal bits are wanted\n");
    }
}

/* Each operation that a side lacks, once, with the reason. */
static void print_missing(const comparison *k)
{
    for (int s = 0; s < k->n_side; s++)
        for (int i = 0; i < k->n; i++) {
            const char *why = k->tensor[i].side[s].d.missing;
            int n = 0, first = i;

            for (int j = 0; why && j < k->n; j++) {
                const char *other = k->tensor[j].side[s].d.missing;
                if (!other || strcmp(k->tensor[j].t.op, k->tensor[i].t.op) != 0) continue;
                n++;
                if (j < first) first = j;
            }
            if (why && first == i)
                result("not compared  %s on %s: %s (%d tensor%s)\n", k->tensor[i].t.op,
                       tern_device(k->side[s]), why, n, n > 1 ? "s" : "");
        }
}

void compare_text(const comparison *k)
{
    const int first = first_outside(k), bad = count_says(k, SAYS_OUTSIDE);
    const int missing = count_says(k, SAYS_MISSING);

    print_head(k);
    print_table(k);
    if (first >= 0) print_first(k, first);
    print_missing(k);
    result("%d tensors: %d inside their bounds, %d equal to the rounded reference", k->n,
           count_says(k, SAYS_OK), count_says(k, SAYS_EQUAL));
    if (bad) result(", %d outside", bad);
    if (missing) result(", %d not compared", missing);
    result("\n");
}

/* ---- The document ---------------------------------------------------------------------------- */

static void side_json(json *j, const comparison *k, int i, int s)
{
    const side_result *r = &k->tensor[i].side[s];
    const tern_distance *d = &r->d;
    char place[200];

    json_open(j, NULL, '{');
    json_text(j, "device", tern_device(k->side[s]));
    json_text(j, "missing", d->missing);
    if (!d->missing) {
        json_text(j, "kernel", d->kernel);
        json_bool(j, "exact", d->exact);
        json_int(j, "step", r->step);
        json_int(j, "elements", d->n);
        json_int(j, "unequal", d->n_unequal);
        json_int(j, "outside", d->n_beyond);
        json_real(j, "max_abs", d->max_abs);
        json_real(j, "max_rel", d->max_rel);
        json_real(j, "ulp_p99", d->ulp_p99);
        json_real(j, "ulp_max", d->ulp_max);
        json_real(j, "bound_share", d->share);
    }
    if (!d->missing && d->worst >= 0) {
        json_open(j, "worst", '{');
        json_text(j, "at", tern_compare_place(place, k->compare, i, d->worst));
        json_real(j, "ref", d->want);
        json_real(j, "got", d->got);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void tensor_json(json *j, const comparison *k, int i)
{
    const tern_compare_tensor *t = &k->tensor[i].t;

    json_open(j, NULL, '{');
    json_text(j, "pass", words[t->pass]);
    json_text(j, "layer", t->layer);
    json_text(j, "tensor", t->name);
    json_text(j, "op", t->op);
    json_text(j, "param", *t->param ? t->param : NULL);
    json_int(j, "call", t->call);
    json_text(j, "type", tern_type_name(t->type));
    json_open(j, "shape", '[');
    for (int a = 0; a < t->shape.rank; a++) json_int(j, NULL, t->shape.dim[a]);
    json_close(j, ']');
    json_text(j, "verdict", verdicts[tensor_says(k, i)]);
    json_open(j, "sides", '[');
    for (int s = 0; s < k->n_side; s++) side_json(j, k, i, s);
    json_close(j, ']');
    json_close(j, '}');
}

static void head_json(json *j, const comparison *k)
{
    json_text(j, "schema", "tern.compare/1");
    json_text(j, "version", tern_version());
    json_text(j, "build", build_type());
    json_text(j, k->c->n_arg ? "run" : "model", k->subject);
    json_text(j, "mode", "isolated");
    json_bool(j, "fused", cli_flag(k->c, "fused"));
    json_text(j, "reference", "ref");
    json_text(j, "math", tern_math_name(tern_math(k->run.ctx)));
    json_text(j, "input", k->input);
    json_int(j, "batch", k->batch);
    json_int(j, "steps", k->steps);
    json_int(j, "seed", (int64_t)tern_seed(k->run.ctx));
    json_text(j, "optimizer", tern_optim_kind(k->opt));
    json_real(j, "lr", tern_optim_lr(k->opt));
    json_open(j, "devices", '[');
    for (int s = 0; s < k->n_side; s++) {
        json_open(j, NULL, '{');
        json_text(j, "name", tern_device(k->side[s]));
        json_text(j, "isa", tern_isa(k->side[s]));
        json_close(j, '}');
    }
    json_close(j, ']');
    json_text(j, "inject", cli_text(k->c, "inject"));
}

void compare_document(const comparison *k)
{
    const int first = first_outside(k), status = compare_status(k);
    json j = {0};
    char *text;

    json_open(&j, NULL, '{');
    head_json(&j, k);
    json_int(&j, "equal", count_says(k, SAYS_EQUAL));
    json_int(&j, "ok", count_says(k, SAYS_OK));
    json_int(&j, "outside", count_says(k, SAYS_OUTSIDE));
    json_int(&j, "not_compared", count_says(k, SAYS_MISSING));
    json_text(&j, "verdict",
              status == EXIT_BOUND  ? "outside"
              : status == EXIT_DONE ? "inside"
                                    : "incomplete");
    if (first < 0) {
        json_null(&j, "first_failure");
    } else {
        json_open(&j, "first_failure", '{');
        json_text(&j, "pass", words[k->tensor[first].t.pass]);
        json_text(&j, "layer", k->tensor[first].t.layer);
        json_text(&j, "tensor", k->tensor[first].t.name);
        json_text(&j, "op", k->tensor[first].t.op);
        json_int(&j, "step", k->tensor[first].failed_at);
        json_close(&j, '}');
    }
    json_open(&j, "tensors", '[');
    for (int i = 0; i < k->n; i++) tensor_json(&j, k, i);
    json_close(&j, ']');
    json_close(&j, '}');
    text = json_take(&j);
    result("%s", text);
    free(text);
}
