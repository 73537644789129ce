/* view.c - views and copies: shapes, strides, exact bytes, derivatives, absurd arguments. */
#include "expect.h"

#define N TI_SHAPE
#define BIG INT64_C(0x4000000000000000)

static tern_tensor *counted(tern_ctx *ctx, tern_shape s)
{
    double v[256];

    for (int i = 0; i < 256; i++) v[i] = i;
    return tern_from_doubles(ctx, TERN_F32, v, s);
}

/* By its name, too, it copies where the strides demand it: t is [3,2] with strides 1, 3. */
TC_BOTH(view, reshape_by_name)
{
    tern_tensor *t = tern_transpose(ctx, counted(ctx, N(2, 3)), 0, 1), *y = NULL;

    cr_assert(tern_apply(ctx, "reshape", "rank=1 dim=6", 1, &t, &y) == TERN_OK, "%s",
              tern_error_text(ctx));
    TC_EXPECT(y, N(6), 0, 0, 3, 1, 4, 2, 5);
    cr_expect(tern_apply(ctx, "reshape", "rank=9 dim=6", 1, &t, &y) != TERN_OK);
    tern_error_clear(ctx);
    cr_expect(tern_apply(ctx, "reshape", "rank=1 dim=5", 1, &t, &y) == TERN_E_SHAPE);
    tern_error_clear(ctx);
}

TC_BOTH(view, reshape)
{
    tern_tensor *x = counted(ctx, N(2, 3)), *t = tern_transpose(ctx, x, 0, 1);

    TC_EXPECT(tern_reshape(ctx, x, N(3, 2)), N(3, 2), 0, 0, 1, 2, 3, 4, 5);
    TC_EXPECT(tern_reshape(ctx, x, N(-1)), N(6), 0, 0, 1, 2, 3, 4, 5);
    TC_EXPECT(tern_reshape(ctx, t, N(6)), N(6), 0, 0, 3, 1, 4, 2, 5);
    TC_EXPECT(tern_reshape(ctx, t, N(3, 1, 2)), N(3, 1, 2), 0, 0, 3, 1, 4, 2, 5);
    TC_EXPECT(tern_flatten(ctx, counted(ctx, N(2, 1, 3))), N(2, 3), 0, 0, 1, 2, 3, 4, 5);
    TC_EXPECT(tern_flatten(ctx, counted(ctx, N(3))), N(3, 1), 0, 0, 1, 2);
    TC_EXPECT(tern_flatten(ctx, tern_channels_last(ctx, counted(ctx, N(1, 2, 1, 3)))), N(1, 6), 0,
              0, 1, 2, 3, 4, 5);
    TC_EXPECT(tern_reshape(ctx, counted(ctx, N(1, 1)), TI_SCALAR), TI_SCALAR, 0, 0);

    TC_REFUSES(tern_reshape(ctx, x, N(4)), TERN_E_SHAPE, "[2,3]");
    TC_REFUSES(tern_reshape(ctx, x, N(-1, -1)), TERN_E_SHAPE, "[-1,-1]");
    TC_REFUSES(tern_reshape(ctx, x, N(-1, 4)), TERN_E_SHAPE, "reshape");
    TC_REFUSES(tern_reshape(ctx, x, N(-2, -3)), TERN_E_SHAPE, "reshape");
    TC_REFUSES(tern_reshape(ctx, x, N(BIG, BIG, 6)), TERN_E_SHAPE, "reshape");
    TC_REFUSES(tern_reshape(ctx, counted(ctx, N(0)), N(-1, 0)), TERN_E_SHAPE, "reshape");
    TC_REFUSES(tern_reshape(ctx, x, ((tern_shape){.rank = 9})), TERN_E_SHAPE, "rank 9");
    TC_REFUSES(tern_reshape(ctx, x, ((tern_shape){.rank = -1})), TERN_E_SHAPE, "rank -1");
}

/* What can be seen without a copy is seen without a copy. */
TC_BOTH(view, reshape_of_strided_input_shares_storage_where_it_can)
{
    tern_tensor *x = counted(ctx, N(4, 6)), *y;
    tern_tensor *half = tern_slice(ctx, x, &(tern_slice_opts){0, 1, 2, 2}); /* rows 1 and 3 */
    tern_tensor *out[TI_OUTS];

    y = tern_reshape(ctx, half, N(2, 3, 2));
    cr_expect(y->store == x->store);
    TC_EXPECT(y, N(2, 3, 2), 0, 6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23);
    y = tern_reshape(ctx, half, N(12));
    cr_expect(y->store != x->store);
    TC_EXPECT(y, N(12), 0, 6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23);
    y = tern_reshape(ctx, tern_transpose(ctx, x, 0, 1), N(2, 3, 1, 4));
    cr_expect(y->store == x->store);
    y = tern_reshape(ctx, tern_expand(ctx, counted(ctx, N(2)), N(3, 2)), N(3, 2, 1));
    TC_EXPECT(y, N(3, 2, 1), 0, 0, 1, 0, 1, 0, 1);
    y = tern_reshape(ctx, tern_expand(ctx, counted(ctx, N(2)), N(3, 2)), N(6));
    TC_EXPECT(y, N(6), 0, 0, 1, 0, 1, 0, 1);
    cr_expect(ti_apply(ctx, ti_op_named("reshape"), &(tern_shape_opts){1, {12}}, 1, &half, 1,
                       out) == TERN_E_STATE);
    tern_error_clear(ctx);
}

TC_BOTH(view, expand_permute_transpose)
{
    tern_tensor *x = counted(ctx, N(2, 1, 3));

    TC_EXPECT(tern_expand(ctx, x, N(2, 2, 3)), N(2, 2, 3), 0, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5);
    TC_EXPECT(tern_expand(ctx, counted(ctx, N(2)), N(2, 2)), N(2, 2), 0, 0, 1, 0, 1);
    TC_EXPECT(tern_permute(ctx, counted(ctx, N(1, 2, 3)), &(tern_permute_opts){{-1, 0, 1}}),
              N(3, 1, 2), 0, 0, 3, 1, 4, 2, 5);
    TC_EXPECT(tern_transpose(ctx, counted(ctx, N(2, 3)), -1, 0), N(3, 2), 0, 0, 3, 1, 4, 2, 5);

    TC_REFUSES(tern_expand(ctx, x, N(2, 2, 4)), TERN_E_SHAPE, "[2,2,4]");
    TC_REFUSES(tern_expand(ctx, x, N(3)), TERN_E_SHAPE, "expand");
    TC_REFUSES(tern_expand(ctx, x, N(-1, 2, 3)), TERN_E_SHAPE, "expand");
    TC_REFUSES(tern_expand(ctx, x, N(2, BIG, 3)), TERN_E_SHAPE, "expand");
    TC_REFUSES(tern_permute(ctx, x, &(tern_permute_opts){{0, 1, 1}}), TERN_E_ARGUMENT, "twice");
    TC_REFUSES(tern_permute(ctx, x, &(tern_permute_opts){{0, 1, 3}}), TERN_E_ARGUMENT, "3");
    TC_REFUSES(tern_permute(ctx, x, &(tern_permute_opts){{0, 1, 2, 3}}), TERN_E_ARGUMENT, "3 axes");
    TC_REFUSES(tern_transpose(ctx, x, 0, 3), TERN_E_ARGUMENT, "3");
    TC_REFUSES(tern_transpose(ctx, x, -4, 0), TERN_E_ARGUMENT, "-4");
    TC_REFUSES(tern_transpose(ctx, NULL, 0, 1), TERN_E_ARGUMENT, "permute");
}

TC_BOTH(view, slice)
{
    tern_tensor *x = counted(ctx, N(2, 5)), *t = tern_track(ctx, x);
    const tern_slice_opts odd = {.axis = -1, .from = 1, .count = 2, .step = 2};
    tern_tensor *y = tern_slice(ctx, t, &odd);

    TC_EXPECT(y, N(2, 2), 0, 1, 3, 6, 8);
    TC_EXPECT(tc_grad(ctx, y, TC(ctx, F32, N(2, 2), 1, 2, 3, 4), t), N(2, 5), 0, 0, 1, 0, 2, 0, 0,
              3, 0, 4, 0);
    TC_EXPECT(tern_slice(ctx, x, &(tern_slice_opts){1, 5, 0, 1}), N(2, 0), 0, 0);
    TC_EXPECT(tern_slice(ctx, x, &(tern_slice_opts){1, 4, 1, INT64_MAX}), N(2, 1), 0, 4, 9);
    y = tern_slice(ctx, t, &(tern_slice_opts){0, 1, 1, 1});
    TC_EXPECT(tc_grad(ctx, y, NULL, t), N(2, 5), 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1);
    y = tern_slice(ctx, t, &(tern_slice_opts){1, 0, 2, 4});
    TC_EXPECT(tc_grad(ctx, y, NULL, t), N(2, 5), 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1);

    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, 0, 6, 1}), TERN_E_SHAPE, "[2,5]");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, 1, 3, 2}), TERN_E_SHAPE, "step 2");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, -1, 1, 1}), TERN_E_SHAPE, "from -1");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, 0, -1, 1}), TERN_E_SHAPE, "-1 elements");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, 0, 1, -1}), TERN_E_ARGUMENT, "step -1");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){2, 0, 1, 1}), TERN_E_ARGUMENT, "2");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, INT64_MAX, INT64_MAX, INT64_MAX}),
               TERN_E_SHAPE, "slice");
    TC_REFUSES(tern_slice(ctx, x, &(tern_slice_opts){1, 0, INT64_MAX, 1}), TERN_E_SHAPE, "slice");
}

/* Every element size, transposed and channels-last, keeps its bytes: whatever they are. */
TC_BOTH(view, copies_keep_bytes_of_every_type)
{
    for (int type = 0; type < TERN_N_TYPES; type++) {
        const int64_t size = (int64_t)tern_type_size((tern_type)type);
        enum { A = 3, B = 37, C = 41 };
        uint8_t x[A * B * C * 8], y[A * B * C * 8];
        uint64_t state = 11;

        for (size_t i = 0; i < sizeof x; i++) x[i] = (uint8_t)(tc_uniform(&state) * 256);
        for (size_t i = 0; type == TERN_BOOL && i < sizeof x; i++) x[i] &= 1;
        tern_tensor *t = tern_from_host(ctx, (tern_type)type, x, N(A, B, C));
        const tern_permute_opts p = {{0, 2, 1}};
        tern_tensor *back = tern_permute(ctx, tern_copy(ctx, tern_permute(ctx, t, &p)), &p);
        cr_assert(tern_to_host(ctx, y, tern_copy(ctx, back)) == TERN_OK);
        cr_expect(memcmp(x, y, (size_t)(A * B * C * size)) == 0, "%s", tern_type_name(type));
        cr_assert(tern_to_host(ctx, y, tern_copy(ctx, tern_channels_last(ctx, t))) == TERN_OK);
        cr_expect(memcmp(x, y, (size_t)(A * B * C * size)) == 0, "%s", tern_type_name(type));

        const tern_slice_opts first = {1, 0, 20, 1}, second = {1, 20, 17, 1};
        tern_tensor *parts[2] = {tern_slice(ctx, t, &first), tern_slice(ctx, t, &second)};
        cr_assert(tern_to_host(ctx, y, tern_concat(ctx, 2, parts, -2)) == TERN_OK);
        cr_expect(memcmp(x, y, (size_t)(A * B * C * size)) == 0, "%s", tern_type_name(type));
        const tern_pad_opts one = {.before = {0, 1, 2}, .after = {1, 0, 3}};
        tern_tensor *z =
            tern_pad(ctx, tern_permute(ctx, back, &(tern_permute_opts){{0, 1, 2}}), &one);
        z = tern_slice(ctx, tern_slice(ctx, z, &(tern_slice_opts){0, 0, A, 1}),
                       &(tern_slice_opts){1, 1, B, 1});
        z = tern_slice(ctx, z, &(tern_slice_opts){2, 2, C, 1});
        cr_assert(tern_to_host(ctx, y, z) == TERN_OK);
        cr_expect(memcmp(x, y, (size_t)(A * B * C * size)) == 0, "%s", tern_type_name(type));
    }
}

TC_BOTH(view, casts)
{
    tern_tensor *x = TC(ctx, F64, N(8), 1.9, -1.9, NAN, 1e300, -1e300, 300, 0, 0.1);
    tern_tensor *t = tern_track(ctx, TC(ctx, F32, N(2), 1.5, 2.5));

    TC_EXPECT(tern_cast(ctx, x, TERN_I32), N(8), 0, 1, -1, 0, INT32_MAX, INT32_MIN, 300, 0, 0);
    TC_EXPECT(tern_cast(ctx, x, TERN_U8), N(8), 0, 1, 0, 0, 255, 0, 255, 0, 0);
    TC_EXPECT(tern_cast(ctx, x, TERN_BOOL), N(8), 0, 1, 1, 1, 1, 1, 1, 0, 1);
    TC_EXPECT(tern_cast(ctx, x, TERN_F32), N(8), 0, (double)1.9f, (double)-1.9f, NAN, INFINITY,
              -INFINITY, 300, 0, (double)0.1f);
    TC_EXPECT(tern_cast(ctx, TC(ctx, F64, N(3), 65520, 65519, 0x1p-25), TERN_F16), N(3), 0,
              INFINITY, 65504, 0);
    TC_EXPECT(tern_cast(ctx, TC(ctx, U8, N(2), 3, 255), TERN_F32), N(2), 0, 3, 255);

    const int64_t big[] = {INT64_MAX, INT64_MIN, 16777217};
    tern_tensor *i = tern_from_host(ctx, TERN_I64, big, N(3));
    int64_t back[8];
    cr_assert(tern_to_host(ctx, back, tern_cast(ctx, x, TERN_I64)) == TERN_OK);
    cr_expect(back[0] == 1 && back[1] == -1 && back[2] == 0 && back[3] == INT64_MAX);
    cr_expect(back[4] == INT64_MIN && back[5] == 300 && back[6] == 0 && back[7] == 0);
    TC_EXPECT(tern_cast(ctx, i, TERN_I32), N(3), 0, INT32_MAX, INT32_MIN, 16777217);
    TC_EXPECT(tern_cast(ctx, i, TERN_F32), N(3), 0, 0x1p63, -0x1p63, 16777216);

    TC_EXPECT(tc_grad(ctx, tern_cast(ctx, t, TERN_F64), NULL, t), N(2), 0, 1, 1);
    TC_EXPECT(tc_grad(ctx, tern_cast(ctx, tern_cast(ctx, t, TERN_BF16), TERN_F32), NULL, t), N(2),
              0, 1, 1);
    TC_REFUSES(tern_cast(ctx, x, (tern_type)99), TERN_E_ARGUMENT, "99");
}

TC_BOTH(view, concat_and_pad)
{
    tern_tensor *a = tern_track(ctx, TC(ctx, F32, N(2, 1), 1, 2));
    tern_tensor *b = tern_track(ctx, TC(ctx, F32, N(2, 2), 3, 4, 5, 6));
    tern_tensor *y = tern_concat(ctx, 2, TI_IN(a, b), 1);
    tern_tensor *g = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6);
    tern_tensor *twice = tern_concat(ctx, 2, TI_IN(a, a), 0);

    TC_EXPECT(y, N(2, 3), 0, 1, 3, 4, 2, 5, 6);
    TC_EXPECT(tc_grad(ctx, y, g, b), N(2, 2), 0, 2, 3, 5, 6);
    TC_EXPECT(tc_grad(ctx, twice, TC(ctx, F32, N(4, 1), 1, 2, 3, 4), a), N(2, 1), 0, 4, 6);
    y = tern_pad(ctx, a, &(tern_pad_opts){{0, 1}, {1, 0}, 9});
    TC_EXPECT(y, N(3, 2), 0, 9, 1, 9, 2, 9, 9);
    TC_EXPECT(tc_grad(ctx, y, TC(ctx, F32, N(3, 2), 1, 2, 3, 4, 5, 6), a), N(2, 1), 0, 2, 4);
    TC_EXPECT(tern_fill(ctx, TERN_I64, N(2), -3.7), N(2), 0, -3, -3);
    TC_EXPECT(tern_fill(ctx, TERN_BOOL, TI_SCALAR, 2), TI_SCALAR, 0, 1);

    TC_REFUSES(tern_concat(ctx, 2, TI_IN(a, b), 0), TERN_E_SHAPE, "[2,2]");
    TC_REFUSES(tern_concat(ctx, 2, TI_IN(a, tern_cast(ctx, b, TERN_F64)), 1), TERN_E_TYPE, "f64");
    TC_REFUSES(tern_concat(ctx, 2, TI_IN(a, b), 2), TERN_E_ARGUMENT, "2");
    TC_REFUSES(tern_concat(ctx, 0, NULL, 0), TERN_E_ARGUMENT, "concat");
    TC_REFUSES(tern_concat(ctx, -3, NULL, 0), TERN_E_ARGUMENT, "concat");
    TC_REFUSES(tern_concat(ctx, 2, TI_IN(a, NULL), 0), TERN_E_ARGUMENT, "concat");
    TC_REFUSES(tern_concat(ctx, 1, TI_IN(tern_fill(ctx, TERN_F32, TI_SCALAR, 0)), 0),
               TERN_E_ARGUMENT, "concat");
    TC_REFUSES(tern_pad(ctx, a, &(tern_pad_opts){{-1}, {0}, 0}), TERN_E_ARGUMENT, "-1");
    TC_REFUSES(tern_pad(ctx, a, &(tern_pad_opts){{0, 0, 1}, {0}, 0}), TERN_E_ARGUMENT, "axis 2");
    TC_REFUSES(tern_pad(ctx, a, &(tern_pad_opts){{INT64_MAX}, {0}, 0}), TERN_E_SHAPE, "pad");
    TC_REFUSES(tern_pad(ctx, a, &(tern_pad_opts){{BIG}, {0}, 0}), TERN_E_SHAPE, "pad");
    TC_REFUSES(tern_fill(ctx, TERN_F32, N(-2), 0), TERN_E_SHAPE, "fill");
    TC_REFUSES(tern_fill(ctx, TERN_F32, N(BIG, BIG), 0), TERN_E_SHAPE, "fill");
    TC_REFUSES(tern_fill(ctx, (tern_type)-1, N(2), 0), TERN_E_ARGUMENT, "-1");
    TC_REFUSES(tern_fill(ctx, TERN_F32, ((tern_shape){.rank = 100}), 0), TERN_E_SHAPE, "100");
}

/* By name, with options as text. */
TC_BOTH(view, by_name)
{
    tern_tensor *x = counted(ctx, N(2, 3)), *y[TI_OUTS];

    cr_assert(tern_apply(ctx, "reshape", "dim=3,2", 1, &x, y) == TERN_OK);
    TC_EXPECT(y[0], N(3, 2), 0, 0, 1, 2, 3, 4, 5);
    cr_assert(tern_apply(ctx, "reshape", "rank=2 dim=0,6", 1, TI_IN(counted(ctx, N(0))), y) == 0);
    cr_expect(tern_same_shape(tern_shape_of(y[0]), N(0, 6)));
    cr_assert(tern_apply(ctx, "slice", "axis=1 count=2", 1, &x, y) == TERN_OK);
    TC_EXPECT(y[0], N(2, 2), 0, 0, 1, 3, 4);
    cr_assert(tern_apply(ctx, "permute", "axes=1,0", 1, &x, y) == TERN_OK);
    TC_EXPECT(y[0], N(3, 2), 0, 0, 3, 1, 4, 2, 5);
    cr_assert(tern_apply(ctx, "fill", "value=2.5 dim=2 type=f64", 0, NULL, y) == TERN_OK);
    TC_EXPECT(y[0], N(2), 0, 2.5, 2.5);
    cr_assert(tern_apply(ctx, "cast", "type=i32", 1, &x, y) == TERN_OK);
    cr_expect(tern_type_of(y[0]) == TERN_I32);
    cr_expect(tern_apply(ctx, "slice", "axis=1 step=0 count=1", 1, &x, y) == TERN_OK);
    cr_expect(tern_apply(ctx, "expand", "dim=-5,3", 1, &x, y) == TERN_E_SHAPE);
    tern_error_clear(ctx);
}
