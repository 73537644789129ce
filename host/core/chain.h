/*
 * chain.h - the steps of a chain, by their kinds: for its kernels and for the pass that makes it.
 */
#ifndef TI_CHAIN_H
#define TI_CHAIN_H

#include <stdbool.h>

#include "tern/ops_net.h"

static inline int ti_chain_steps(const tern_chain_opts *o)
{
    int n = 0;

    while (n < TERN_CHAIN && o->kind[n] != TERN_CHAIN_END) n++;
    return n;
}

const char *ti_chain_name(int kind); /* of the operation that a kind stands for */
/* Whether it takes two operands. */
static inline bool ti_chain_is_two(int kind) { return kind < TERN_CHAIN_SCALE; }

#endif
