/* index.c - reading and adding by index: values by hand, equal indices, ranges. */
#include "expect.h"

#define N TI_SHAPE
#define FAULTS(call, part)                                                                         \
    do {                                                                                           \
        tern_tensor *y_ = call;                                                                    \
        double v_[64];                                                                             \
        if (y_) (void)!tern_to_doubles(ctx, v_, y_);                                               \
        cr_expect(tern_error(ctx) == TERN_E_VALUE, "%s: %s", #call, tern_error_text(ctx));         \
        cr_expect(strstr(tern_error_text(ctx), part) != NULL, "%s", tern_error_text(ctx));         \
        tern_error_clear(ctx);                                                                     \
    } while (0)

TC_BOTH(index_ops, gather_and_scatter_add)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6));
    tern_tensor *i = TC(ctx, I64, N(2, 2), 2, 0, 1, 1), *j = TC(ctx, I32, N(1, 3), 1, 0, 1);
    tern_tensor *y = tern_gather(ctx, x, i, &(tern_axis_opts){1});
    tern_tensor *g = TC(ctx, F32, N(2, 2), 1, 10, 100, 1000);

    TC_EXPECT(y, N(2, 2), 0, 3, 1, 5, 5);
    TC_EXPECT(tern_gather(ctx, x, j, NULL), N(1, 3), 0, 4, 2, 6);
    TC_EXPECT(tc_grad(ctx, y, g, x), N(2, 3), 0, 10, 0, 1, 0, 1100, 0);
    TC_EXPECT(tern_scatter_add(ctx, g, i, &(tern_scatter_opts){-1, 4}), N(2, 4), 0, 10, 0, 1, 0, 0,
              1100, 0, 0);
    /* Transposed: strides do not matter. */
    tern_tensor *xt = tern_transpose(ctx, x, 0, 1), *it = tern_transpose(ctx, i, 0, 1);
    TC_EXPECT(tern_gather(ctx, xt, it, NULL), N(2, 2), 0, 3, 5, 1, 5);

    FAULTS(tern_gather(ctx, x, TC(ctx, I64, N(2, 1), 0, 3), &(tern_axis_opts){1}), "3");
    FAULTS(tern_gather(ctx, x, TC(ctx, I64, N(2, 1), 0, -1), &(tern_axis_opts){1}), "-1");
    FAULTS(tern_scatter_add(ctx, g, i, &(tern_scatter_opts){1, 2}), "2");
    TC_REFUSES(tern_gather(ctx, x, g, NULL), TERN_E_TYPE, "gather");
    TC_REFUSES(tern_gather(ctx, x, TC(ctx, I64, N(2), 0, 0), NULL), TERN_E_SHAPE, "[2,3]");
    TC_REFUSES(tern_gather(ctx, x, i, NULL), TERN_E_SHAPE, "[2,2]");
    TC_REFUSES(tern_gather(ctx, x, i, &(tern_axis_opts){2}), TERN_E_ARGUMENT, "2");
    TC_REFUSES(tern_scatter_add(ctx, g, i, &(tern_scatter_opts){1, -1}), TERN_E_ARGUMENT, "-1");
    TC_REFUSES(tern_scatter_add(ctx, g, i, &(tern_scatter_opts){1, INT64_MAX / 2}), TERN_E_SHAPE,
               "scatter_add");
}

TC_BOTH(index_ops, take_and_take_add)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, N(3, 2), 1, 2, 3, 4, 5, 6));
    tern_tensor *i = TC(ctx, I32, N(2, 2), 2, 0, 2, 1);
    tern_tensor *y = tern_take(ctx, x, i), *g = TC(ctx, F32, N(2, 2, 2), 1, 2, 3, 4, 5, 6, 7, 8);

    TC_EXPECT(y, N(2, 2, 2), 0, 5, 6, 1, 2, 5, 6, 3, 4);
    TC_EXPECT(tc_grad(ctx, y, g, x), N(3, 2), 0, 3, 4, 7, 8, 6, 8);
    TC_EXPECT(tern_take(ctx, x, TC(ctx, I64, TI_SCALAR, 1)), N(2), 0, 3, 4);
    TC_EXPECT(tern_take_add(ctx, g, i, 4), N(4, 2), 0, 3, 4, 7, 8, 6, 8, 0, 0);
    TC_EXPECT(tern_take_add(ctx, TC(ctx, F32, N(2), 7, 8), TC(ctx, I64, TI_SCALAR, 1), 2), N(2, 2),
              0, 0, 0, 7, 8);

    FAULTS(tern_take(ctx, x, TC(ctx, I64, N(1), 3)), "3");
    FAULTS(tern_take(ctx, x, TC(ctx, I64, N(1), -9e18)), "-9");
    FAULTS(tern_take_add(ctx, g, i, 2), "2");
    TC_REFUSES(tern_take(ctx, TC(ctx, F32, TI_SCALAR, 1), i), TERN_E_SHAPE, "take");
    TC_REFUSES(tern_take_add(ctx, x, i, 3), TERN_E_SHAPE, "[3,2]");
    TC_REFUSES(tern_take_add(ctx, g, i, -3), TERN_E_ARGUMENT, "-3");
}

TC_BOTH(index_ops, moves_bytes_of_every_type)
{
    const int64_t big[] = {9007199254740993, INT64_MIN, -1};
    tern_tensor *x = tern_from_host(ctx, TERN_I64, big, N(3)), *i = TC(ctx, I64, N(2), 1, 0);
    const uint16_t odd[] = {0x7e01, 0xfc00, 0x0001}; /* a NaN with a payload among them */
    uint16_t h[2];
    int64_t y[2];

    cr_assert(tern_to_host(ctx, y, tern_take(ctx, x, i)) == TERN_OK);
    cr_expect(y[0] == INT64_MIN && y[1] == 9007199254740993);
    cr_assert(tern_to_host(ctx, y, tern_gather(ctx, x, i, NULL)) == TERN_OK);
    cr_expect(y[0] == INT64_MIN && y[1] == 9007199254740993);
    x = tern_from_host(ctx, TERN_F16, odd, N(3));
    cr_assert(tern_to_host(ctx, h, tern_take(ctx, x, i)) == TERN_OK);
    cr_expect(h[0] == 0xfc00 && h[1] == 0x7e01);
}

TC_BOTH(index_ops, one_hot)
{
    tern_tensor *i = TC(ctx, I64, N(3), 2, 0, -1);
    const tern_one_hot_opts skip = {.classes = 3, .has_ignore = 1, .ignore = -1};
    const tern_one_hot_opts none = {.classes = 0}, bad = {.classes = 3, .type = TERN_I64};

    TC_EXPECT(tern_one_hot(ctx, i, &skip), N(3, 3), 0, 0, 0, 1, 1, 0, 0, 0, 0, 0);
    TC_EXPECT(tern_one_hot(ctx, TC(ctx, I32, TI_SCALAR, 1),
                           &(tern_one_hot_opts){.classes = 2, .type = TERN_F64}),
              N(2), 0, 0, 1);
    FAULTS(tern_one_hot(ctx, i, &(tern_one_hot_opts){.classes = 3}), "-1");
    FAULTS(tern_one_hot(ctx, i, &(tern_one_hot_opts){.classes = 2, .has_ignore = 1, .ignore = -1}),
           "2");
    TC_REFUSES(tern_one_hot(ctx, i, &none), TERN_E_ARGUMENT, "0 classes");
    TC_REFUSES(tern_one_hot(ctx, i, NULL), TERN_E_ARGUMENT, "classes");
    TC_REFUSES(tern_one_hot(ctx, i, &bad), TERN_E_TYPE, "one_hot");
    TC_REFUSES(tern_one_hot(ctx, TC(ctx, F32, N(1), 0), &skip), TERN_E_TYPE, "f32");
    TC_REFUSES(tern_one_hot(ctx, i, &(tern_one_hot_opts){.classes = INT64_MAX}), TERN_E_SHAPE,
               "one_hot");
}

TC_BOTH(index_ops, nothing_to_index)
{
    tern_tensor *x = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6);
    tern_tensor *none = tern_from_doubles(ctx, TERN_I64, NULL, N(0));
    tern_tensor *empty = tern_from_doubles(ctx, TERN_F32, NULL, N(0, 3));

    TC_EXPECT(tern_take(ctx, x, none), N(0, 3), 0, 0);
    TC_EXPECT(tern_take_add(ctx, empty, none, 2), N(2, 3), 0, 0, 0, 0, 0, 0, 0);
    FAULTS(tern_take(ctx, empty, TC(ctx, I64, N(1), 0)), "0");
    x = tern_track(ctx, x);
    TC_EXPECT(tc_grad(ctx, tern_take(ctx, x, none), NULL, x), N(2, 3), 0, 0, 0, 0, 0, 0, 0);
}
