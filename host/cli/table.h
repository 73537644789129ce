/* table.h - tables of text as Markdown, columns fitted. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>

enum { COLUMNS = 12 };
typedef struct {
    const char *head[COLUMNS];
    bool right[COLUMNS];
    int n, n_row;
    char **cell; /* n of each row */
} table;

/* A row; cells are copied, NULL is empty. */
void table_put(table *t, const char *const *cell);
/* Prints the table as a result, or appends it to *to (from cli_copy), and empties it. */
void table_print(table *t, char **to);
/* Text that lives until 32 others were made. */
const char *cell(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
