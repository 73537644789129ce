/*
 * tern/config.h - a config file as it was read: sections in order, each a list of key=value.
 */
#ifndef TERN_CONFIG_H
#define TERN_CONFIG_H

#include "tern/base.h"

TERN_BEGIN_DECLS

typedef struct tern_config_entry {
    const char *key, *value;
    int line; /* from 1 */
} tern_config_entry;
typedef struct tern_config_section {
    const char *name; /* without brackets */
    int line;
    int n;
    tern_config_entry *entry;
} tern_config_section;
/* Repeated sections stay apart: a list of layers needs order. */
typedef struct tern_config {
    const char *file; /* for messages, file:line */
    int n;
    tern_config_section *section;
} tern_config;

TERN_END_DECLS

#endif
