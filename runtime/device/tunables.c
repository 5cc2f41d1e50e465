#include "device/tunables.h"

#include "base/words.h"
#include "formats/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the runtime's own ---- */

#define PHASE_HELP                                                                                          \
    "whether --device auto takes the device for this: measure takes it where that is faster, avoid never, " \
    "prefer without measuring"

static const struct quern_tunable own[] = {
    {"placement.decode", QUERN_TUNABLE_WORD, 0, 0, 0, "measure avoid prefer", "measure", PHASE_HELP},
    {"placement.prefill", QUERN_TUNABLE_WORD, 0, 0, 0, "measure avoid prefer", "measure", PHASE_HELP},
    {QN_COSTS_DECODE, QUERN_TUNABLE_RATE, 0, 1000000, 100000000000000, NULL, "is measured",
     "bytes of weights that products with one token read in a second, for --device auto, which need not "
     "measure what profiles give"},
    {QN_COSTS_PREFILL, QUERN_TUNABLE_OPS, 0, 1000000, 9000000000000000, NULL, "is measured",
     "operations a second of products with many tokens, two for each weight and token"},
};

/* ---- tables ---- */

bool qn_tunables_add(struct qn_tunable_set *set, const struct quern_driver *driver)
{
    struct quern_tunables table = {.struct_size = sizeof table};
    if (set->n == 0) {
        set->of[0].driver = NULL;
        set->of[0].table = (struct quern_tunables){sizeof table, QN_LEN(own), sizeof own[0], own};
        set->n = 1;
    }
    if (QUERN_DRIVER_HAS(driver, tunables))
        driver->tunables(&table);
    if (set->n == QN_MAX_DRIVERS)
        return false;
    set->of[set->n].driver = driver;
    set->of[set->n++].table = table;
    return true;
}

void qn_tunables_each(const struct qn_tunable_set *set, const char *driver,
                      void (*each)(void *user, const struct quern_tunable *tunable), void *user)
{
    for (uint32_t d = 0; d < set->n; d++)
        if (!set->of[d].driver || !driver || strcmp(set->of[d].driver->name, driver) == 0)
            for (uint32_t i = 0; i < set->of[d].table.n; i++)
                each(user, quern_tunable_at(&set->of[d].table, i));
}

struct search {
    const char *name;
    bool of_format;
    const struct quern_tunable *found;
};

static void match(void *user, const struct quern_tunable *tunable)
{
    struct search *search = user;
    if (!search->found && strcmp(tunable->name, search->name) == 0 &&
        (!search->of_format || tunable->flags & QUERN_TUNABLE_FORMATS))
        search->found = tunable;
}

const struct quern_tunable *qn_tunable_find(const struct qn_tunable_set *set, const char *driver,
                                            const char *setting)
{
    struct search search = {.name = setting};
    qn_tunables_each(set, driver, match, &search);
    char name[QN_SETTING_NAME];
    enum quern_format format;
    if (!search.found && qn_setting_split(setting, name, &format)) {
        search = (struct search){.name = name, .of_format = true};
        qn_tunables_each(set, driver, match, &search);
    }
    return search.found;
}

/* ---- units ---- */

struct unit {
    const char *name;
    uint32_t type;
    double size;
};

/* From large to small; of a type, the first in which a value is a whole number prints it. */
static const struct unit units[] = {
    {"TiB", QUERN_TUNABLE_BYTES, 0x1p40}, {"GiB", QUERN_TUNABLE_BYTES, 0x1p30},
    {"MiB", QUERN_TUNABLE_BYTES, 0x1p20}, {"KiB", QUERN_TUNABLE_BYTES, 0x1p10},
    {"GB", QUERN_TUNABLE_BYTES, 1e9},     {"MB", QUERN_TUNABLE_BYTES, 1e6},
    {"kB", QUERN_TUNABLE_BYTES, 1e3},     {"KB", QUERN_TUNABLE_BYTES, 1e3},
    {"B", QUERN_TUNABLE_BYTES, 1},        {"s", QUERN_TUNABLE_TIME, 1e6},
    {"ms", QUERN_TUNABLE_TIME, 1e3},      {"us", QUERN_TUNABLE_TIME, 1},
    {"TB/s", QUERN_TUNABLE_RATE, 1e12},   {"GB/s", QUERN_TUNABLE_RATE, 1e9},
    {"MB/s", QUERN_TUNABLE_RATE, 1e6},    {"GiB/s", QUERN_TUNABLE_RATE, 0x1p30},
    {"TOP/s", QUERN_TUNABLE_OPS, 1e12},   {"GOP/s", QUERN_TUNABLE_OPS, 1e9},
    {"TFLOP/s", QUERN_TUNABLE_OPS, 1e12}, {"GFLOP/s", QUERN_TUNABLE_OPS, 1e9},
    {"MOP/s", QUERN_TUNABLE_OPS, 1e6},    {"MFLOP/s", QUERN_TUNABLE_OPS, 1e6},
};

/* A number and a unit, exactly or to the next whole below. UINT64_MAX: it is none. */
static uint64_t measure(const char *text, uint32_t type)
{
    double value = 0, part = 1;
    const char *at = text;
    size_t digits = 0;
    for (; *at >= '0' && *at <= '9'; at++, digits++)
        value = value * 10 + (*at - '0');
    if (*at == '.' && digits > 0)
        for (at++; *at >= '0' && *at <= '9'; at++, digits++)
            value += (*at - '0') * (part /= 10);
    if (digits == 0 || digits > 15)
        return UINT64_MAX;
    while (*at == ' ')
        at++;
    bool plain = *at == '\0' && (type == QUERN_TUNABLE_BYTES || value == 0);
    double size = plain ? 1 : 0;
    for (size_t i = 0; i < QN_LEN(units); i++)
        if (units[i].type == type && strcmp(units[i].name, at) == 0)
            size = units[i].size;
    return size > 0 && value * size < 0x1p53 ? (uint64_t)(value * size + 1e-6) : UINT64_MAX;
}

static bool whole_number(const char *text, uint64_t *value)
{
    size_t n = strlen(text);
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return false;
    *value = strtoull(text, NULL, 10);
    return true;
}

/* ---- values ---- */

static void print_measure(uint32_t type, uint64_t value, char *text, size_t size)
{
    for (size_t i = 0; i < QN_LEN(units) && value > 0; i++) {
        double n = (double)value / units[i].size;
        if (units[i].type == type && n == (double)(uint64_t)n) {
            snprintf(text, size, "%llu %s", (unsigned long long)n, units[i].name);
            return;
        }
    }
    snprintf(text, size, "%llu", (unsigned long long)value);
}

void qn_tunable_range(const struct quern_tunable *tunable, char *text, size_t size)
{
    static const char *const kinds[] = {"on or off", "a whole number", "bytes", "a time",
                                        "one of",    "a rate",         "a rate"};
    static const char *const as_in[] = {[QUERN_TUNABLE_BYTES] = "64 KiB",
                                        [QUERN_TUNABLE_TIME] = "100 ms",
                                        [QUERN_TUNABLE_RATE] = "68 GB/s",
                                        [QUERN_TUNABLE_OPS] = "4 TOP/s"};
    char min[40], max[40];
    if (tunable->type >= QN_LEN(kinds))
        snprintf(text, size, "what a newer version of Quern knows");
    else if (tunable->type == QUERN_TUNABLE_FLAG)
        snprintf(text, size, "%s", kinds[tunable->type]);
    else if (tunable->choices) {
        size_t n = (size_t)snprintf(text, size, "one of ");
        for (const char *at = tunable->choices; *at && n < size; at++)
            n += (size_t)snprintf(text + n, size - n, *at == ' ' ? ", " : "%c", *at);
    } else if (tunable->type == QUERN_TUNABLE_COUNT) {
        snprintf(text, size, "a whole number from %llu to %llu", (unsigned long long)tunable->min,
                 (unsigned long long)tunable->max);
    } else {
        print_measure(tunable->type, tunable->min, min, sizeof min);
        print_measure(tunable->type, tunable->max, max, sizeof max);
        snprintf(text, size, "%s from %s to %s, as in %s", kinds[tunable->type], min, max,
                 as_in[tunable->type]);
    }
}

bool qn_tunable_parse(const struct quern_tunable *tunable, const char *text, char *value, size_t size)
{
    static const char *const on[] = {"on", "true", "yes", "1"}, *const off[] = {"off", "false", "no", "0"};
    uint64_t number = UINT64_MAX;
    bool good = false;
    switch (tunable->type) {
    case QUERN_TUNABLE_FLAG:
        for (size_t i = 0; i < QN_LEN(on); i++)
            number = strcmp(text, on[i]) == 0 ? 1 : strcmp(text, off[i]) == 0 ? 0 : number;
        good = number <= 1;
        break;
    case QUERN_TUNABLE_COUNT:
        good = whole_number(text, &number) &&
               (tunable->choices ? qn_word_place(tunable->choices, text, strlen(text)) != SIZE_MAX
                                 : number >= tunable->min && number <= tunable->max);
        break;
    case QUERN_TUNABLE_WORD:
        good = qn_word_place(tunable->choices, text, strlen(text)) != SIZE_MAX;
        break;
    default:
        number = measure(text, tunable->type);
        good = number != UINT64_MAX && number >= tunable->min && number <= tunable->max;
    }
    if (!good)
        qn_tunable_range(tunable, value, size);
    else if (tunable->type == QUERN_TUNABLE_WORD)
        snprintf(value, size, "%s", text);
    else
        snprintf(value, size, "%llu", (unsigned long long)number);
    return good;
}

void qn_tunable_print(const struct quern_tunable *tunable, const char *value, char *text, size_t size)
{
    uint64_t number;
    if (tunable->type == QUERN_TUNABLE_FLAG)
        snprintf(text, size, "%s", strcmp(value, "0") == 0 ? "off" : "on");
    else if (tunable->type == QUERN_TUNABLE_WORD || tunable->type == QUERN_TUNABLE_COUNT ||
             !whole_number(value, &number))
        snprintf(text, size, "%s", value);
    else
        print_measure(tunable->type, number, text, size);
}
