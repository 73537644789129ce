/* table.c - tables of text as Markdown, columns fitted. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"

/* Columns that a terminal shows for UTF-8 text. */
static int width(const char *text)
{
    int n = 0;

    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

const char *cell(const char *format, ...)
{
    static char texts[32][160];
    static int next;
    char *text = texts[next++ % 32];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof texts[0], format, args);
    va_end(args);
    return text;
}

void table_put(table *t, const char *const *cells)
{
    t->cell = cli_realloc(t->cell, (size_t)((t->n_row + 1) * t->n) * sizeof *t->cell);
    for (int k = 0; k < t->n; k++)
        t->cell[t->n_row * t->n + k] = cli_copy(cells[k] ? cells[k] : "");
    t->n_row++;
}

static void line(FILE *to, const table *t, const char *const *text, const int *columns)
{
    for (int k = 0; k < t->n; k++) {
        const int fill = columns[k] - width(text[k]);

        if (t->right[k]) fprintf(to, "| %*s%s ", fill, "", text[k]);
        else fprintf(to, "| %s%*s ", text[k], fill, "");
    }
    fputs("|\n", to);
}

static void print(FILE *to, const table *t)
{
    int columns[COLUMNS];

    for (int k = 0; k < t->n; k++) {
        columns[k] = width(t->head[k]);
        for (int i = 0; i < t->n_row; i++) {
            const int w = width(t->cell[i * t->n + k]);
            if (w > columns[k]) columns[k] = w;
        }
    }
    line(to, t, t->head, columns);
    for (int k = 0; k < t->n; k++) {
        fputs(t->right[k] ? "|-" : "|:", to);
        for (int w = 0; w < columns[k]; w++) fputc('-', to);
        fputc(t->right[k] ? ':' : '-', to);
    }
    fputs("|\n", to);
    for (int i = 0; i < t->n_row; i++)
        line(to, t, (const char *const *)&t->cell[i * t->n], columns);
}

void table_print(table *t, char **to)
{
    char *text = NULL, *more;
    size_t size;
    FILE *memory = open_memstream(&text, &size);

    if (memory) print(memory, t);
    if (memory) fclose(memory);
    if (text && !to) result("%s", text);
    if (text && to) {
        more = cli_format("%s%s", *to, text);
        free(*to);
        *to = more;
    }
    free(text);
    for (int i = 0; i < t->n_row * t->n; i++) free(t->cell[i]);
    free(t->cell);
    t->cell = NULL;
    t->n_row = 0;
}
