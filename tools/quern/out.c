/* Tables, JSON and faults. */
#include "out.h"
#include "term.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 character at the start of n bytes, 0 where there is none. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : 4;
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool outside = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || outside ? 0 : length;
}

size_t text_valid(const char *text, size_t n)
{
    size_t i = 0, step;
    while (i < n && text[i] != '\0' && (step = utf8_length((const unsigned char *)text + i, n - i)) > 0)
        i += step;
    return i;
}

/* A copy that is valid UTF-8; `visible` also writes control characters as \n, \t, \xNN. */
static char *clean_copy(const char *text, size_t length, bool visible)
{
    char *copy = need_memory(NULL, length * 4 + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        const unsigned char *s = (const unsigned char *)text + i;
        size_t step = utf8_length(s, length - i);
        if (step == 0 || (!visible && *s == 0)) {
            memcpy(copy + n, "\xEF\xBF\xBD", 3);
            n += 3;
        } else if (visible && (*s < 0x20 || *s == 0x7F)) {
            if (*s == '\n' || *s == '\t' || *s == '\r') {
                copy[n++] = '\\';
                copy[n++] = *s == '\n' ? 'n' : *s == '\t' ? 't' : 'r';
            } else {
                n += (size_t)snprintf(copy + n, 5, "\\x%02x", *s);
            }
        } else {
            memcpy(copy + n, s, step);
            n += step;
        }
        i += step > 0 ? step : 1;
    }
    copy[n] = '\0';
    return copy;
}

/* ---- tables ---- */

void table_start(struct table *table, const char *align, const char *const *heads)
{
    *table = (struct table){.align = align, .n_columns = strlen(align)};
    for (size_t i = 0; i < table->n_columns; i++)
        table_cell(table, "%s", heads[i]);
}

void table_cell(struct table *table, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t length = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    if ((table->n_cells & (table->n_cells - 1)) == 0)
        table->cells =
            need_memory(table->cells, table->n_cells > 0 ? table->n_cells * 2 : 1, sizeof *table->cells);
    table->cells[table->n_cells++] = clean_copy(text, length, true);
}

/* Characters, not bytes. */
static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

void table_end(struct table *table, FILE *out)
{
    size_t n_rows = table->n_cells / table->n_columns;
    size_t *width = need_memory(NULL, table->n_columns, sizeof *width);
    memset(width, 0, table->n_columns * sizeof *width);
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t w = text_width(table->cells[i]);
        size_t *column = &width[i % table->n_columns];
        *column = w > *column ? w : *column;
    }
    for (size_t row = 0; row < n_rows && out; row++)
        for (size_t col = 0; col < table->n_columns; col++) {
            const char *cell = table->cells[row * table->n_columns + col];
            bool last = col + 1 == table->n_columns;
            int pad = (int)(width[col] - text_width(cell));
            if (table->align[col] == 'r')
                fprintf(out, "%*s%s", pad, "", cell);
            else
                fprintf(out, "%s%*s", cell, last ? 0 : pad, "");
            fputs(last ? "\n" : "  ", out);
        }
    for (size_t i = 0; i < table->n_cells; i++)
        free(table->cells[i]);
    free(table->cells);
    free(width);
}

/* ---- numbers ---- */

const char *human_bytes(uint64_t bytes, char text[32])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t u = 0;
    while (value >= 1024 && u + 1 < ARG_N(unit)) {
        value /= 1024;
        u++;
    }
    snprintf(text, 32, u == 0 ? "%.0f %s" : "%.2f %s", value, unit[u]);
    return text;
}

const char *human_count(uint64_t count, char text[32])
{
    static const char *const unit[] = {"", " K", " M", " B", " T"};
    double value = (double)count;
    size_t u = 0;
    while (value >= 1000 && u + 1 < ARG_N(unit)) {
        value /= 1000;
        u++;
    }
    snprintf(text, 32, u == 0 ? "%.0f%s" : "%.2f%s", value, unit[u]);
    return text;
}

/* ---- JSON ---- */

static cJSON *need_json(cJSON *value)
{
    if (!value) {
        fputs("quern: out of memory\n", stderr);
        exit(EXIT_FAULT);
    }
    return value;
}

cJSON *json_object(void)
{
    return need_json(cJSON_CreateObject());
}

cJSON *json_array(void)
{
    return need_json(cJSON_CreateArray());
}

void json_put(cJSON *object, const char *key, cJSON *value)
{
    need_json(cJSON_AddItemToObject(object, key, value) ? value : NULL);
}

void json_add(cJSON *array, cJSON *value)
{
    need_json(cJSON_AddItemToArray(array, value) ? value : NULL);
}

cJSON *json_text(const char *text, size_t length)
{
    char *copy = clean_copy(text, length, false);
    cJSON *value = need_json(cJSON_CreateString(copy));
    free(copy);
    return value;
}

cJSON *json_int(int64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, number);
    return need_json(cJSON_CreateRaw(text));
}

cJSON *json_real(double number)
{
    return need_json(isfinite(number) ? cJSON_CreateNumber(number) : cJSON_CreateNull());
}

void json_put_text(cJSON *object, const char *key, const char *text)
{
    json_put(object, key, json_text(text, strlen(text)));
}

void json_put_bytes(cJSON *object, const char *key, const char *text, size_t length)
{
    json_put(object, key, json_text(text, length));
}

void json_put_real(cJSON *object, const char *key, double value)
{
    json_put(object, key, json_real(value));
}

void json_put_int(cJSON *object, const char *key, int64_t value)
{
    json_put(object, key, json_int(value));
}

void json_put_bool(cJSON *object, const char *key, bool value)
{
    json_put(object, key, need_json(cJSON_CreateBool(value)));
}

char *json_print(const cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);
    if (!text)
        need_json(NULL);
    return text;
}

void json_end(cJSON *value, bool pretty, FILE *out)
{
    char *text = pretty ? cJSON_Print(value) : json_print(value);
    if (!text)
        need_json(NULL);
    fputs(text, out);
    fputc('\n', out);
    cJSON_free(text);
    cJSON_Delete(value);
}

/* ---- faults ---- */

int fault_text(const char *file, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    term_status_end();
    fflush(stdout);
    bool prefix = file && !strstr(text, file);
    char *clean_file = clean_copy(prefix ? file : "", prefix ? strlen(file) : 0, true);
    char *clean_text = clean_copy(text, strlen(text), true);
    fprintf(stderr, "quern: %s%s%s\n", clean_file, prefix ? ": " : "", clean_text);
    free(clean_file);
    free(clean_text);
    return EXIT_FAULT;
}

int fault(const char *file, const struct quern_error *err)
{
    if (err->status == QUERN_ERR_CANCELLED && term_interrupted()) {
        term_status_end();
        return EXIT_INTERRUPTED;
    }
    return fault_text(file, "%s", err->text);
}

int finish_output(int code)
{
    if (fflush(stdout) != 0 || term_broken())
        return fault_text("standard output", "%s", strerror(errno));
    return code;
}
