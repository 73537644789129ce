/* shuffle.c - orders and shares that depend on a seed only. */
#include <string.h>

#include "base/philox.h"
#include "data/source.h"

/* x * n / 2^64, rounded down: a number below n from 64 random bits. */
static uint64_t below(uint64_t x, uint64_t n)
{
    const uint64_t lo = (x & 0xffffffffu) * (n & 0xffffffffu);
    const uint64_t a = (x >> 32) * (n & 0xffffffffu) + (lo >> 32);
    const uint64_t b = (x & 0xffffffffu) * (n >> 32) + (a & 0xffffffffu);

    return (x >> 32) * (n >> 32) + (a >> 32) + (b >> 32);
}

/* Fisher-Yates; the number for place i is a function of i. */
void ti_shuffle(int64_t *x, int64_t n, uint64_t seed, uint32_t purpose, uint32_t call)
{
    for (int64_t i = n - 1; i > 0; i--) {
        const ti_philox4 r = ti_philox_at(seed, purpose, call, (uint64_t)i);
        const uint64_t bits = (uint64_t)r.x[1] << 32 | r.x[0];
        const int64_t j = (int64_t)below(bits, (uint64_t)i + 1), t = x[i];

        x[i] = x[j];
        x[j] = t;
    }
}

/* How many of each class: its share rounded down, the rest to the largest remainders, ties to the
 * lower class. has: how many there are, want: into. */
static void shares(const int64_t *has, int64_t *want, int64_t *remainder, int n_classes, int64_t n,
                   int64_t count)
{
    int64_t left = n;

    for (int c = 0; c < n_classes; c++) {
        want[c] = (int64_t)((double)has[c] * (double)n / (double)count);
        /* The quotient above may be one off; integers decide. */
        while (want[c] > 0 && want[c] * count > has[c] * n) want[c]--;
        while ((want[c] + 1) * count <= has[c] * n) want[c]++;
        remainder[c] = has[c] * n - want[c] * count;
        left -= want[c];
    }
    for (; left > 0; left--) {
        int best = 0;

        for (int c = 1; c < n_classes; c++)
            if (remainder[c] > remainder[best]) best = c;
        want[best]++;
        remainder[best] = -1;
    }
}

tern_status ti_stratify(tern_ctx *ctx, bool *taken, const int64_t *labels, int64_t count,
                        int n_classes, int64_t n, uint64_t seed)
{
    const size_t list = (size_t)n_classes * sizeof(int64_t);
    int64_t *order, *has;

    if (count >= (int64_t)1 << 31)
        return ti_fail(ctx, TERN_E_ARGUMENT, "split: %lld samples are too many", (long long)count);
    order = ti_alloc(ctx, (size_t)count * sizeof *order);
    has = order ? ti_alloc(ctx, 3 * list) : NULL;
    if (has) {
        int64_t *want = has + n_classes, *remainder = want + n_classes;

        for (int64_t i = 0; i < count; i++) {
            order[i] = i;
            has[labels ? labels[i] : 0]++;
        }
        shares(has, want, remainder, n_classes, n, count);
        ti_shuffle(order, count, seed, TI_FOR_SPLIT, 0);
        for (int64_t k = 0; k < count; k++) {
            const int64_t i = order[k], c = labels ? labels[i] : 0;

            if (want[c] > 0) {
                want[c]--;
                taken[i] = true;
            }
        }
    }
    ti_free(ctx, order);
    ti_free(ctx, has);
    return tern_error(ctx);
}
