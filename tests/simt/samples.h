/* samples.h - the sample kernels and the deliberate bugs, as the self-test calls them. */
#ifndef SIMT_SAMPLES_H
#define SIMT_SAMPLES_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void sample_axpy(float *y, const float *x, float a, int64_t n, unsigned grid, cudaStream_t st);
void sample_scale4(float *y, const float *x, float a, int64_t n, cudaStream_t st);
void sample_gemm(float *c, const float *a, const float *b, int m, int n, int k, cudaStream_t st);
void sample_softmax(float *y, const float *x, int rows, int cols, cudaStream_t st);
void sample_histogram(int *h, const int *x, int bins, int n, cudaStream_t st);
void sample_to_float(float *y, const void *x, int bf16, int64_t n, cudaStream_t st);
void sample_sum(float *out, float *parts, unsigned *ticket, const float *x, int64_t n, int blocks,
                cudaStream_t st);
void sample_mask(unsigned *mask, const int *x, int n, cudaStream_t st);
void sample_warps(int *out, cudaStream_t st);
void sample_transpose3(float *y, const float *x, int d, int h, int w, cudaStream_t st);
cudaError_t sample_dynamic(float *y, size_t bytes, int opt_in, cudaStream_t st);

/* tiles.cu. format: 0 tf32, 1 bf16, 2 f16. */
void sample_multiply(int format, uint32_t *out, uint32_t *twin, const uint32_t *in,
                     cudaStream_t st);
void sample_load_words(int turned, uint32_t *out, uint32_t *twin, const uint32_t *in,
                       cudaStream_t st);
void sample_wait(int waits, uint32_t *out, const uint32_t *in, cudaStream_t st);
void sample_word(int format, uint32_t *out, const float *in, int n, cudaStream_t st);

/* Bug number `which`, at work on g of n floats. */
void bug_run(int which, float *g, int n, int blocks, int threads, size_t dynamic, cudaStream_t st);

#ifdef __cplusplus
}
#endif

#endif /* SIMT_SAMPLES_H */
