/*
 * layer_d.c - the derivative of a layer with an activation out of parts: a library's products
 * around our own rows for h, what arrives behind the activation, and for db, its sums.
 */
#include "vendor.h"

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

void ti_layer_d_room(ti_layer_d *l, size_t bytes)
{
    if (rounded(bytes) > l->room) l->room = rounded(bytes);
}

const char *ti_layer_d_prepare(ti_layer_d *l, const ti_work *w, const ti_work *db, const ti_work *h)
{
    l->own = ti_own_row(w);
    l->sum = ti_own_row(db);
    l->mask = h ? ti_own_row(h) : NULL;
    if (!l->own || !l->sum || (h && !l->mask)) return "there are no rows of our own beside it";
    ti_layer_d_room(l, ti_own_scratch(l->sum, db));
    return NULL;
}

size_t ti_layer_d_scratch(const ti_layer_d *l, const ti_work *w)
{
    const size_t own = ti_own_scratch(l->own, w);
    const size_t mine = l->room + (l->mask ? ti_bytes(&w->in[3].m) : 0);

    return mine > own ? mine : own;
}

double ti_layer_d_chain(const ti_layer_d *l, const ti_work *w, double K, ti_math math)
{
    const double own = l->own->chain ? l->own->chain(w) : 1, mine = ti_vendor_chain(K, math);

    return mine > own ? mine : own;
}

void ti_layer_d_db(const ti_layer_d *l, const ti_work *w, const ti_work *db)
{
    if (w->out[2].count <= 0) return;
    if (w->in[2].count >= 0) l->sum->run(db);
    else
        ti_cuda_check(w->device,
                      cudaMemsetAsync(w->out[2].data, 0, ti_bytes(&w->out[2].m), w->device->stream),
                      w->op->name);
}
