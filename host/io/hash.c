/* hash.c - XXH128, and the checksum of archives (CRC-32 in builds without xxHash). */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "io/archive.h"

#ifdef TI_WITH_XXHASH
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

struct tern_hash {
    ti_object object;
    char text[33];
#ifdef TI_WITH_XXHASH
    XXH3_state_t *state; /* in `room`, at the 64-byte boundary that it wants */
    char room[sizeof(XXH3_state_t) + 64];
#endif
};

tern_hash *tern_hash_open(tern_ctx *ctx)
{
    tern_hash *h;

    if (!ti_ready(ctx, true, "hash_open")) return NULL;
    h = ti_object_new(ctx, sizeof *h, NULL);
#ifdef TI_WITH_XXHASH
    if (h) {
        h->state = (void *)(((uintptr_t)h->room + 63) / 64 * 64);
        XXH3_128bits_reset(h->state);
    }
#endif
    return h;
}

void tern_hash_add(tern_hash *h, const void *data, size_t bytes)
{
#ifdef TI_WITH_XXHASH
    if (h && bytes) XXH3_128bits_update(h->state, data, bytes);
#else
    (void)h, (void)data, (void)bytes;
#endif
}

const char *tern_hash_text(tern_hash *h)
{
#ifdef TI_WITH_XXHASH
    if (!h) return NULL;
    const XXH128_hash_t x = XXH3_128bits_digest(h->state);

    snprintf(h->text, sizeof h->text, "%016llx%016llx", (unsigned long long)x.high64,
             (unsigned long long)x.low64);
    return h->text;
#else
    (void)h;
    return NULL;
#endif
}

void tern_hash_close(tern_ctx *ctx, tern_hash *h) { ti_object_close(ctx, h); }

/* ---- checksums ------------------------------------------------------------------------------- */

tern_status ti_checksum_begin(tern_ctx *ctx, ti_checksum *sum, const char *kind, const char *path)
{
#ifdef TI_WITH_XXHASH
    const bool can = true;
#else
    const bool can = false;
#endif
    *sum = (ti_checksum){.crc = crc32_z(0, NULL, 0)};
    if (kind ? strncmp(kind, "crc32:", 6) == 0 : !can) return TERN_OK;
    if (kind && strncmp(kind, "xxh128:", 7) != 0)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: tern.checksum: %.40s is of no known kind", path,
                       kind);
    if (!can)
        return ti_fail(ctx, TERN_E_UNSUPPORTED,
                       "%.300s: its checksum is XXH128, and this build has no xxHash", path);
    sum->xxh = tern_hash_open(ctx);
    return tern_error(ctx);
}

void ti_checksum_add(ti_checksum *sum, const void *data, size_t bytes)
{
    if (sum->xxh) tern_hash_add(sum->xxh, data, bytes);
    else if (bytes) sum->crc = crc32_z(sum->crc, data, bytes);
}

void ti_checksum_end(tern_ctx *ctx, ti_checksum *sum, char text[TI_CHECKSUM_TEXT])
{
    if (sum->xxh) snprintf(text, TI_CHECKSUM_TEXT, "xxh128:%s", tern_hash_text(sum->xxh));
    else snprintf(text, TI_CHECKSUM_TEXT, "crc32:%08lx", sum->crc);
    tern_hash_close(ctx, sum->xxh);
    sum->xxh = NULL;
}
