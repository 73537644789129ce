/*
 * operands.cuh - where the elements of a product's operands lie (gemm.cuh, tensor.cuh): in a matrix
 * of any strides, or in patches of an image, gathered while they are loaded.
 */
#ifndef TI_CUDA_OPERANDS_CUH
#define TI_CUDA_OPERANDS_CUH

#include "launch.cuh"

/* Where an element lies, one half from its outer index, the other from k; both are int64_t, or
 * uint32_t where they fit, which divides faster. */
typedef struct {
    int64_t at;
    int r, c;
} ti_spot;

/* A matrix: outer * outer_step + k * k_step; with n_low, k's low part (k % n_low) has that step and
 * its high part a step of its own. */
template <class T> struct ti_matrix {
    const T *x;
    int64_t outer_step, k_step, high_step, n_low;
};
template <class T, class I> static inline __device__ ti_spot ti_outer(const ti_matrix<T> &m, I i)
{
    return ti_spot{i * m.outer_step, 0, 0};
}
template <class T, class I> static inline __device__ ti_spot ti_inner(const ti_matrix<T> &m, I k)
{
    if (!m.n_low) return ti_spot{k * m.k_step, 0, 0};
    return ti_spot{k / m.n_low * m.high_step + k % m.n_low * m.k_step, 0, 0};
}
template <class T>
static inline __device__ const T *ti_where(const ti_matrix<T> &m, const ti_spot &o,
                                           const ti_spot &k)
{
    return m.x + o.at + k.at;
}

/*
 * Patches of channels-last images x [N,H,W,C]: place (n, a, b) of [N,A,B] and tap (r, s, c) of
 * [R,S,channels] meet at row a mul + off + r tap, column likewise, divided by div where that leaves
 * no rest; elsewhere there are zeros.
 */
template <class T> struct ti_patches {
    const T *x;
    int64_t image; /* elements of one */
    int H, W, A, B, S, channels, C;
    int mul[2], off[2], tap[2], div[2];
    bool by_tap; /* outer is the tap, k the place */
};
template <class T, class I>
static inline __device__ ti_spot ti_of_place(const ti_patches<T> &p, I i)
{
    const I line = i / (I)p.B, n = line / (I)p.A;
    const int b = (int)(i - line * (I)p.B), a = (int)(line - n * (I)p.A);

    return ti_spot{(int64_t)n * p.image, a * p.mul[0] + p.off[0], b * p.mul[1] + p.off[1]};
}
template <class T, class I> static inline __device__ ti_spot ti_of_tap(const ti_patches<T> &p, I i)
{
    const I rs = i / (I)p.channels, r = rs / (I)p.S;

    return ti_spot{(int64_t)(i - rs * (I)p.channels), (int)r * p.tap[0],
                   (int)(rs - r * (I)p.S) * p.tap[1]};
}
template <class T, class I> static inline __device__ ti_spot ti_outer(const ti_patches<T> &p, I i)
{
    return p.by_tap ? ti_of_tap(p, i) : ti_of_place(p, i);
}
template <class T, class I> static inline __device__ ti_spot ti_inner(const ti_patches<T> &p, I k)
{
    return p.by_tap ? ti_of_place(p, k) : ti_of_tap(p, k);
}
/* NULL: in the zeros around the image, or between places. */
template <class T>
static inline __device__ const T *ti_where(const ti_patches<T> &p, const ti_spot &o,
                                           const ti_spot &k)
{
    int row = o.r + k.r, col = o.c + k.c;

    if (p.div[0] != 1 || p.div[1] != 1) {
        if (row < 0 || col < 0 || row % p.div[0] || col % p.div[1]) return NULL;
        row /= p.div[0];
        col /= p.div[1];
    }
    if (row < 0 || row >= p.H || col < 0 || col >= p.W) return NULL;
    return p.x + o.at + k.at + ((int64_t)row * p.W + col) * p.C;
}

template <class T>
static inline __device__ T ti_fetch(const ti_matrix<T> &m, const ti_spot &o, const ti_spot &k)
{
    return *ti_where(m, o, k);
}
template <class T>
static inline __device__ T ti_fetch(const ti_patches<T> &p, const ti_spot &o, const ti_spot &k)
{
    const T *x = ti_where(p, o, k);

    return x ? *x : T(0);
}

#endif
