/*
 * check.h - what the tests share: contexts, inputs drawn from samples, comparisons.
 */
#ifndef TC_CHECK_H
#define TC_CHECK_H

#include "core/core.h"

/* Devices that a conformance test loops over; NULL ends. */
extern const char *const tc_devices[];

/* Whether a device can be opened. If not the test is skipped, which is said, with the reason; with
 * TERN_REQUIRE_GPU=1 a missing "cuda" fails it. */
bool tc_has(const char *device);
/* "cpu", or what TC_DEVICE names: loops over failures run on other devices, too. */
const char *tc_device(void);
/* A context that opened, or the test fails. */
tern_ctx *tc_open(const char *device);
/* Closes it; the test fails if anything was still held. */
void tc_close(tern_ctx *ctx);

/* Repeatable numbers for tests: uniform in 0 … 1, standard normal. */
double tc_uniform(uint64_t *state);
double tc_normal(uint64_t *state);

/* Element values of a sample's input, exact in f32. x has room for tern_count(in->shape). */
void tc_values(const ti_sample_in *in, uint64_t seed, double *x);
/* The type that an input of this kind has when the float type under test is `type`. */
tern_type tc_type_of(const ti_sample_in *in, tern_type type);
/* All inputs of a sample (absent ones NULL), of the float type under test. */
void tc_inputs(tern_ctx *ctx, const ti_op *op, const ti_sample *s, tern_type type, uint64_t seed,
               tern_tensor **in);
/* The same values as x, on a larger storage: permuted strides, an offset, gaps. */
tern_tensor *tc_strided(tern_ctx *ctx, tern_tensor *x);

/* t as doubles, to be freed; NULL and a failed test if there are none. */
double *tc_doubles(tern_ctx *ctx, tern_tensor *t);

/* Calls fn for each op and sample. */
typedef void (*tc_sample_fn)(const ti_op *op, const ti_sample *s, void *user);
void tc_each_sample(tc_sample_fn fn, void *user);
/* Samples of an op, empty lists for those without. */
const ti_sample *tc_samples(const ti_op *op);

/* A text for messages: "conv2d (strided): ". */
const char *tc_name(char text[120], const ti_op *op, const ti_sample *s);

#endif
