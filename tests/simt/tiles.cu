/*
 * tiles.cu - each function of mma.cuh beside its twin. `out` gets what the function made, `twin`
 * what the twin made, 32 lanes of n words each.
 */
#include "mma.cuh"
#include "samples.h"

template <class F>
static __global__ void multiply_kernel(uint32_t *out, uint32_t *twin, const uint32_t *in)
{
    const int lane = (int)threadIdx.x;
    const uint32_t *w = in + lane * 10;
    const uint32_t a[4] = {w[0], w[1], w[2], w[3]}, b[2] = {w[4], w[5]};
    float d[4], e[4];

    for (int i = 0; i < 4; i++) d[i] = e[i] = __uint_as_float(w[6 + i]);
    ti_multiply<F>(d, a, b);
    ti_multiply_twin<F>(e, a, b);
    for (int i = 0; i < 4; i++) {
        out[lane * 4 + i] = __float_as_uint(d[i]);
        twin[lane * 4 + i] = __float_as_uint(e[i]);
    }
}

/* 32 rows of 16 bytes, brought by ti_copy_16, the last 16 of them as 5 bytes and zeros. */
template <bool turned>
static __global__ void load_kernel(uint32_t *out, uint32_t *twin, const uint32_t *in)
{
    TI_SHARED(uint4, rows, [32]);
    const int lane = (int)threadIdx.x;
    uint32_t r[4], s[4];

    ti_copy_16(&rows[lane], in + lane * 4, lane < 16 ? 16 : 5);
    ti_end_group();
    ti_wait_copies<0>();
    __syncthreads();
    ti_load_words<turned>(r, &rows[lane]);
    ti_load_words_twin<turned>(s, &rows[lane]);
    for (int i = 0; i < 4; i++) {
        out[lane * 4 + i] = r[i];
        twin[lane * 4 + i] = s[i];
    }
}

/* Each lane's 16 bytes, read by another lane: waited for, or all but the latest group, which is all
 * there is. */
template <int but> static __global__ void wait_kernel(uint32_t *out, const uint32_t *in)
{
    TI_SHARED(uint4, rows, [32]);
    const int lane = (int)threadIdx.x;

    ti_copy_16(&rows[lane], in + lane * 4, 16);
    ti_end_group();
    ti_wait_copies<but>();
    __syncthreads();
    for (int i = 0; i < 4; i++) out[lane * 4 + i] = ((const uint32_t *)&rows[31 - lane])[i];
}

template <class F> static __global__ void word_kernel(uint32_t *out, const float *in)
{
    out[threadIdx.x] = F::word(in + threadIdx.x);
}

void sample_multiply(int format, uint32_t *out, uint32_t *twin, const uint32_t *in, cudaStream_t st)
{
    if (format == 0) TI_LAUNCH(multiply_kernel<ti_tf32>, 1, 32, 0, st, out, twin, in);
    if (format == 1) TI_LAUNCH(multiply_kernel<ti_bf16>, 1, 32, 0, st, out, twin, in);
    if (format == 2) TI_LAUNCH(multiply_kernel<ti_f16>, 1, 32, 0, st, out, twin, in);
}

void sample_load_words(int turned, uint32_t *out, uint32_t *twin, const uint32_t *in,
                       cudaStream_t st)
{
    if (turned) TI_LAUNCH(load_kernel<true>, 1, 32, 0, st, out, twin, in);
    else TI_LAUNCH(load_kernel<false>, 1, 32, 0, st, out, twin, in);
}

void sample_word(int format, uint32_t *out, const float *in, int n, cudaStream_t st)
{
    const unsigned threads = (unsigned)n;

    if (format == 0) TI_LAUNCH(word_kernel<ti_tf32>, 1, threads, 0, st, out, in);
    if (format == 1) TI_LAUNCH(word_kernel<ti_bf16>, 1, threads, 0, st, out, in);
    if (format == 2) TI_LAUNCH(word_kernel<ti_f16>, 1, threads, 0, st, out, in);
}

void sample_wait(int waits, uint32_t *out, const uint32_t *in, cudaStream_t st)
{
    if (waits) TI_LAUNCH(wait_kernel<0>, 1, 32, 0, st, out, in);
    else TI_LAUNCH(wait_kernel<1>, 1, 32, 0, st, out, in);
}
