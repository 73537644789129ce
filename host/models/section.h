/*
 * section.h - reading the values of a config's section, with file and line in every complaint.
 */
#ifndef TI_MODELS_SECTION_H
#define TI_MODELS_SECTION_H

#include "tern/io.h"

typedef struct {
    tern_ctx *ctx;
    const char *file;
    const tern_config_section *at;
} ti_section;

/* "FILE:LINE: [name]: …"; entry NULL: the section's own line. Returns the context's status. */
__attribute__((format(printf, 3, 4))) tern_status
ti_section_fail(const ti_section *s, const tern_config_entry *entry, const char *text, ...);
/* Refuses keys that are not in the list (words separated by spaces). */
tern_status ti_section_keys(const ti_section *s, const char *known);
/* The value of a key, or `otherwise` where it is absent; a failure if it is out of its range. */
int64_t ti_section_int(const ti_section *s, const char *key, int64_t otherwise, int64_t least,
                       int64_t most);
/* "3" or "3,5" into to[2]: one number stands for both. Whether the key was there. */
bool ti_section_pair(const ti_section *s, const char *key, int to[2], int least);
double ti_section_real(const ti_section *s, const char *key, double otherwise, double least,
                       double most);
/* NULL where it is absent. */
const char *ti_section_text(const ti_section *s, const char *key);
/* 0 or 1; also no, yes, false, true. */
bool ti_section_flag(const ti_section *s, const char *key, bool otherwise);

#endif
