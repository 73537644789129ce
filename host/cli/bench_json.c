/* bench_json.c - runs of `tern bench` as JSON. */
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"

static void put_check(json *j, const bench_row *r)
{
    if (!r->check) return;
    json_open(j, "check", '{');
    json_text(j, "verdict", r->check);
    if (strcmp(r->check, "unchecked") != 0) {
        json_real(j, "share_of_bound", r->share);
        json_int(j, "batch", r->check_batch);
    }
    if (r->why) json_text(j, "why", r->why);
    json_close(j, '}');
}

static void put_samples(json *j, const samples *s)
{
    json_open(j, "samples_ns", '[');
    for (int i = 0; i < s->n; i++) json_real(j, NULL, s->x[i]);
    json_close(j, ']');
    json_open(j, "rounds", '[');
    for (int i = 0; i < s->n; i++) json_int(j, NULL, s->round[i]);
    json_close(j, ']');
}

void bench_json_row(json *j, const bench_row *r)
{
    json_open(j, NULL, '{');
    json_text(j, "kind", r->kind);
    json_text(j, "name", r->name);
    if (r->what) json_text(j, "what", r->what);
    if (r->direction) json_text(j, "direction", r->direction);
    if (r->problem) json_text(j, "problem", r->problem);
    if (r->repro) json_text(j, "repro", r->repro);
    json_int(j, "batch", r->batch);
    json_int(j, "threads", r->threads);
    if (r->kernel) json_text(j, "kernel", r->kernel);
    if (r->numbers) json_text(j, "numbers", r->numbers);
    if (r->flops > 0) json_real(j, "flops", r->flops);
    if (r->bytes > 0) json_real(j, "bytes", r->bytes);
    put_check(j, r);
    if (r->time.n) {
        json_real(j, "median_ns", r->time.median);
        json_real(j, "min_ns", r->time.least);
        json_real(j, "q25_ns", r->time.q25);
        json_real(j, "q75_ns", r->time.q75);
        json_real(j, "noise", r->time.noise);
        json_int(j, "disturbed", r->time.disturbed);
        if (r->flops > 0) json_real(j, "gflops", r->flops / r->time.median);
        if (r->bytes > 0) json_real(j, "gb_per_s", r->bytes / r->time.median);
        if (r->bound) {
            json_text(j, "bound", r->bound);
            json_real(j, "limit_gflops", r->limit_gflops);
            json_real(j, "limit_gb_per_s", r->limit_gb_per_s);
            json_real(j, "roof", r->roof);
        }
        put_samples(j, &r->time);
    }
    if (r->extra) json_raw(j, "details", r->extra);
    json_close(j, '}');
}

static void put_roofs(json *j, const bench *b)
{
    json_open(j, "roofs", '[');
    for (int i = 0; i < b->n_roof; i++) {
        const roof *r = &b->roofs[i];

        json_open(j, NULL, '{');
        json_int(j, "threads", r->threads);
        json_real(j, "gflops", r->gflops);
        json_open(j, "copy", '[');
        for (int k = 0; k < r->n_copy; k++) {
            json_open(j, NULL, '{');
            json_real(j, "bytes", r->bytes[k]);
            json_real(j, "gb_per_s", r->gb_per_s[k]);
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}

void bench_json_head(json *j, const bench *b)
{
    char *hardware = bench_hardware(b), *governor = bench_governor();

    json_text(j, "what", b->what);
    json_text(j, "command", bench_command(b));
    json_text(j, "hardware", hardware);
    json_text(j, "governor", governor);
    json_text(j, "compiler", build_compiler());
    json_text(j, "math", tern_math_name((int)tern_math(b->ctx)));
    json_text(j, "choices", session_choices(b->ctx));
    free(hardware);
    free(governor);
    put_roofs(j, b);
}

void bench_json_run(json *j, const bench *b)
{
    json_open(j, NULL, '{');
    json_text(j, "schema", "tern.bench/1");
    if (strcmp(b->what, "model") == 0 && b->n_row == 1 && b->row[0].extra) {
        json_members(j, b->row[0].extra);
    } else {
        json_text(j, "version", tern_version());
        json_text(j, "build", build_type());
        json_text(j, "device", tern_device(b->ctx));
        json_text(j, "isa", tern_isa(b->ctx));
    }
    bench_json_head(j, b);
    json_open(j, "rows", '[');
    for (int i = 0; i < b->n_row; i++) bench_json_row(j, &b->row[i]);
    json_close(j, ']');
    json_close(j, '}');
}
