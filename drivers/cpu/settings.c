#include "drivers/cpu/settings.h"

#include "base/cores.h"
#include "base/words.h"
#include "drivers/cpu/device.h"
#include "formats/formats.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_THREADS = 512,
    MAX_AHEAD_BYTES = 64 * 1024,
    MAX_COLUMNS = 2048,
    MIN_CACHE = 64 * 1024,
    USUAL_CACHE = 512 * 1024,
    MAX_CACHE = 256 * 1024 * 1024
};

#define ISA(name, help)                                                                            \
    {                                                                                              \
        "features." name, QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on where the processor has it", help \
    }

/* Instruction sets of every architecture: a profile for one can be checked on another. */
static const struct quern_tunable tunables[] = {
    ISA("avx2", "x86-64: 256-bit vectors, with FMA and half floats"),
    ISA("avx512", "x86-64: 512-bit vectors"),
    ISA("avx512-vnni", "x86-64: 8-bit dot products of 512-bit vectors"),
    ISA("amx-int8", "x86-64: 8-bit matrix products in tile registers, where the system gives leave"),
    ISA("neon", "64-bit Arm: 128-bit vectors"),
    ISA("dotprod", "64-bit Arm: 8-bit dot products"),
    ISA("i8mm", "64-bit Arm: 8-bit matrix products"),
    {"limits.cache", QUERN_TUNABLE_BYTES, 0, MIN_CACHE, MAX_CACHE, NULL,
     "the second level as the system says, else 512 KiB",
     "what a core has to itself, for what is read again and again"},
    {"threads.bind", QUERN_TUNABLE_FLAG, QUERN_TUNABLE_SPEED, 0, 1, NULL, "on",
     "where cores are of several classes and the fast ones compute, the threads that are made for it stay on "
     "them (on Linux)"},
    {"threads.cores", QUERN_TUNABLE_WORD, QUERN_TUNABLE_SPEED, 0, 0, "fast all processors", "fast",
     "what gets a thread: each core of the fast class, each core, or each processor, also those that share a "
     "core"},
    {"threads.count", QUERN_TUNABLE_COUNT, QUERN_TUNABLE_SPEED, 1, MAX_THREADS, NULL,
     "one for each fast core, within a container's quota", "threads that compute"},
    /* of each number format, as enum choice */
    {"weights.layout", QUERN_TUNABLE_WORD, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 0, 0, "file rows16",
     "rows16 where there is a kernel for it",
     "order in which weights are read: as the file has them, or 16 rows side by side, copied behind the "
     "first steps"},
    {"weights.isa", QUERN_TUNABLE_WORD, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 0, 0, QN_ISA_WORDS,
     "the strongest that the processor has",
     "strongest instruction set that kernels of products use; those of other processors say nothing"},
    {"kernels.matvec.streams", QUERN_TUNABLE_COUNT, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 1,
     QN_MAX_STREAMS, "1 2 4", "4", "places of a weight that a thread reads by turns, in rows16"},
    {"kernels.matvec.ahead", QUERN_TUNABLE_BYTES, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 0,
     MAX_AHEAD_BYTES, NULL, "4 KiB",
     "how far before they are computed with weights are asked for, in rows16"},
    {"kernels.matmul.columns", QUERN_TUNABLE_COUNT, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 16,
     MAX_COLUMNS, "16 32 64 128 256 512 1024 2048", "as many as limits.cache holds",
     "tokens for which a weight is decoded once, at most"},
};

/* The settings that each format may have a value of its own for: the last of the table. */
enum choice { LAYOUT, WEIGHTS_ISA, STREAMS, AHEAD, COLUMNS, CHOICES };
enum { FIRST_CHOICE = QN_LEN(tunables) - CHOICES };
static const char FEATURES[] = "features.";

void qn_cpu_tunables(struct quern_tunables *table)
{
    table->n = QN_LEN(tunables);
    table->stride = sizeof tunables[0];
    table->items = tunables;
}

static enum quern_status read_number(const struct quern_setting *setting, long long min, long long max,
                                     long long *value, struct quern_error *err)
{
    char *end;
    *value = strtoll(setting->value, &end, 10);
    if (end == setting->value || *end || *value < min || *value > max)
        return qn_fail(err, QUERN_ERR_PARAM, "setting %s: \"%s\" is not a number from %lld to %lld",
                       setting->name, setting->value, min, max);
    return QUERN_OK;
}

static enum quern_status read_cores(const struct quern_setting *setting, enum qn_core_class *cores,
                                    struct quern_error *err)
{
    static const char *const words[] = {
        [QN_CORES_FAST] = "fast", [QN_CORES_ALL] = "all", [QN_CORES_CPUS] = "processors"};
    size_t i = 0;
    while (i < QN_LEN(words) && strcmp(words[i], setting->value) != 0)
        i++;
    if (i == QN_LEN(words))
        return qn_fail(err, QUERN_ERR_PARAM, "setting %s: \"%.40s\" is not one of fast, all, processors",
                       setting->name, setting->value);
    *cores = (enum qn_core_class)i;
    return QUERN_OK;
}

/* What was said last of all formats, and of each: that counts more. */
struct chosen {
    const char *of_all, *of[QUERN_FORMAT_END];
};

static const char *chosen_for(const struct chosen *chosen, uint32_t format)
{
    return chosen->of[format] ? chosen->of[format] : chosen->of_all;
}

static bool good_value(const struct quern_tunable *tunable, const char *text)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (tunable->choices)
        return qn_word_place(tunable->choices, text, strlen(text)) != SIZE_MAX;
    return end != text && !*end && text[0] != '-' && number >= tunable->min && number <= tunable->max;
}

static enum quern_status read_choice(const struct quern_setting *setting, struct chosen chosen[CHOICES],
                                     struct quern_error *err)
{
    char name[QN_SETTING_NAME];
    enum quern_format format;
    bool alone = qn_setting_split(setting->name, name, &format);
    for (size_t c = 0; c < CHOICES; c++) {
        const struct quern_tunable *tunable = &tunables[FIRST_CHOICE + c];
        if (strcmp(tunable->name, alone ? name : setting->name) != 0)
            continue;
        if (!good_value(tunable, setting->value))
            return qn_fail(err, QUERN_ERR_PARAM, "setting %s: \"%.40s\", expected %s", setting->name,
                           setting->value, tunable->choices ? tunable->choices : "a number of bytes");
        *(alone ? &chosen[c].of[format] : &chosen[c].of_all) = setting->value;
    }
    return QUERN_OK;
}

static uint32_t number_for(const struct chosen *chosen, uint32_t format)
{
    const char *text = chosen_for(chosen, format);
    return text ? (uint32_t)strtoul(text, NULL, 10) : UINT32_MAX;
}

static void take_choices(struct qn_cpu_settings *settings, const struct chosen chosen[CHOICES])
{
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++) {
        const char *layout = chosen_for(&chosen[LAYOUT], f), *isa = chosen_for(&chosen[WEIGHTS_ISA], f);
        if (layout && strcmp(layout, "file") == 0)
            settings->in_file_layout |= (uint64_t)1 << f;
        settings->isa_of[f] = isa ? qn_isa_up_to(isa) : UINT32_MAX;
        settings->reading[f] = (struct qn_reading){.columns = number_for(&chosen[COLUMNS], f),
                                                   .streams = number_for(&chosen[STREAMS], f),
                                                   .ahead_bytes = number_for(&chosen[AHEAD], f)};
    }
}

enum quern_status qn_cpu_settings_read(const struct quern_profile_view *profile,
                                       struct qn_cpu_settings *settings, struct quern_error *err)
{
    uint32_t have = qn_isa_detect(), off = 0, bit;
    enum qn_core_class class = QN_CORES_FAST;
    long long threads = 0, cache = 0;
    bool bind = true;
    enum quern_status status = QUERN_OK;
    struct chosen chosen[CHOICES] = {{0}};
    *settings = (struct qn_cpu_settings){.isa = have};
    for (uint32_t i = 0; profile && i < profile->n_settings && !status; i++) {
        const struct quern_setting *setting = &profile->settings[i];
        if (strcmp(setting->name, "threads") == 0 || strcmp(setting->name, "threads.count") == 0)
            status = read_number(setting, 1, MAX_THREADS, &threads, err);
        else if (strcmp(setting->name, "limits.cache") == 0)
            status = read_number(setting, MIN_CACHE, MAX_CACHE, &cache, err);
        else if (strcmp(setting->name, "threads.cores") == 0)
            status = read_cores(setting, &class, err);
        else if (strcmp(setting->name, "threads.bind") == 0)
            bind = strcmp(setting->value, "0") != 0;
        else if (strcmp(setting->name, "isa") == 0)
            status = qn_isa_parse(setting->value, have, &settings->isa, err);
        else if (strncmp(setting->name, FEATURES, sizeof FEATURES - 1) == 0 &&
                 !qn_isa_parse(setting->name + sizeof FEATURES - 1, have, &bit, NULL))
            off = strcmp(setting->value, "0") == 0 ? off | bit : off & ~bit;
        else
            status = read_choice(setting, chosen, err);
    }
    struct qn_cores here;
    qn_cores_here(&here);
    if (threads == 0) /* nobody said how many */
        threads = qn_cores_threads(&here, class);
    settings->threads = threads < MAX_THREADS ? (uint32_t)threads : MAX_THREADS;
    settings->bind = bind && class == QN_CORES_FAST && here.n_fast < here.n_cores && threads <= here.n_fast;
    settings->cpus = here.fast;
    settings->cache_bytes = cache > 0 ? (uint64_t)cache : here.cache > 0 ? here.cache : USUAL_CACHE;
    settings->isa &= ~off;
    take_choices(settings, chosen);
    return status;
}
