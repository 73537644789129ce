/* pool_text.c - what a pool says when it has no memory. */
#include <stdio.h>

#include "core/pool.h"

enum { HOLDERS = 24, NAMED = 4 };

static double mib(size_t bytes) { return (double)bytes / (1 << 20); }

void ti_pool_explain(ti_pool *p, size_t bytes, char *text, size_t room)
{
    tern_holder h[HOLDERS];
    tern_memory st;
    char cap[48] = "no cap";
    size_t at = 0;

    if (!room) return;
    ti_pool_stats(p, &st);
    const int n = ti_pool_holders(p, h, HOLDERS);
    if (st.cap) snprintf(cap, sizeof cap, "cap %.2f MiB", mib(st.cap));
    at += (size_t)snprintf(text, room,
                           "no memory for %.2f MiB: %.2f MiB in use, %.2f MiB reserved, %s, "
                           "largest free block %.2f MiB, fragmentation %.0f %%",
                           mib(bytes), mib(st.live), mib(st.reserved), cap, mib(st.largest_free),
                           100 * st.fragmentation);
    for (int k = 0; k < NAMED && k < n && at < room; k++)
        at += (size_t)snprintf(text + at, room - at, "%s%s %.2f MiB (%lld)",
                               k ? ", " : "; largest holders: ", h[k].name, mib(h[k].bytes),
                               (long long)h[k].n_block);
}
