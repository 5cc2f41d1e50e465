/* What the command writes: aligned tables, JSON, faults. */
#ifndef TOOL_OUT_H
#define TOOL_OUT_H

#include "args.h"

#include <cjson/cJSON.h>
#include <quern/quern.h>

/* ---- tables: all cells are kept, then written in columns ---- */

struct table {
    char **cells;
    size_t n_cells, n_columns;
    const char *align; /* 'l' or 'r' for each column */
};

/* `heads`: the first row, one for each letter of `align`. */
void table_start(struct table *table, const char *align, const char *const *heads);
/* Next cell, row by row. Control characters become visible. */
void table_cell(struct table *table, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* Writes the table and frees it; without `out`, only frees it. */
void table_end(struct table *table, FILE *out);

/* ---- text ---- */

/* Length of the longest beginning that is UTF-8 without NUL. */
size_t text_valid(const char *text, size_t n);

/* ---- numbers for people ---- */

/* "1.95 GiB" */
const char *human_bytes(uint64_t bytes, char text[32]);
/* "1.24 B", "260.03 K" */
const char *human_count(uint64_t count, char text[32]);

/* ---- JSON: the functions below never return NULL ---- */

cJSON *json_object(void);
cJSON *json_array(void);
void json_put(cJSON *object, const char *key, cJSON *value);
void json_add(cJSON *array, cJSON *value);
void json_put_text(cJSON *object, const char *key, const char *text);
void json_put_bytes(cJSON *object, const char *key, const char *text, size_t length);
void json_put_real(cJSON *object, const char *key, double value); /* not finite: null */
void json_put_int(cJSON *object, const char *key, int64_t value);
void json_put_bool(cJSON *object, const char *key, bool value);
/* A string; bytes that are not UTF-8 become U+FFFD. */
cJSON *json_text(const char *text, size_t length);
/* An exact integer, also beyond 2^53. */
cJSON *json_int(int64_t value);
cJSON *json_real(double value);
/* The value in one line; the caller frees it. */
char *json_print(const cJSON *value);
/* Writes a line (or, `pretty`, lines) and frees the value. */
void json_end(cJSON *value, bool pretty, FILE *out);

/* ---- faults ---- */

/* "quern: FILE: what is wrong" on one line of stderr (FILE may be NULL); returns the exit code. */
int fault(const char *file, const struct quern_error *err);
int fault_text(const char *file, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* Flushes stdout: `code`, or EXIT_FAULT where something could not be written. */
int finish_output(int code);

#endif
