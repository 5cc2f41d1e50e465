#include "drivers/cpu/settings.h"

#include "base/cores.h"
#include "drivers/cpu/device.h"
#include "formats/formats.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 512 };

#define ISA(name, help)                                                                            \
    {                                                                                              \
        "features." name, QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on where the processor has it", help \
    }

/* Instruction sets of every architecture: a profile for one can be checked on another. */
static const struct quern_tunable tunables[] = {
    ISA("avx2", "x86-64: 256-bit vectors, with FMA and half floats"),
    ISA("avx512", "x86-64: 512-bit vectors"),
    ISA("avx512-vnni", "x86-64: 8-bit dot products of 512-bit vectors"),
    ISA("neon", "64-bit Arm: 128-bit vectors"),
    ISA("dotprod", "64-bit Arm: 8-bit dot products"),
    ISA("i8mm", "64-bit Arm: 8-bit matrix products"),
    {"threads.cores", QUERN_TUNABLE_WORD, QUERN_TUNABLE_SPEED, 0, 0, "fast all processors", "fast",
     "what gets a thread: each core of the fast class, each core, or each processor, also those that share a "
     "core"},
    {"threads.count", QUERN_TUNABLE_COUNT, QUERN_TUNABLE_SPEED, 1, MAX_THREADS, NULL,
     "one for each fast core, within a container's quota", "threads that compute"},
    {"weights.layout", QUERN_TUNABLE_WORD, QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, 0, 0, "file rows16",
     "rows16 where there is a kernel for it",
     "order in which weights are read: as the file has them, or 16 rows side by side, copied behind the "
     "first steps"},
};
static const char LAYOUT[] = "weights.layout", FEATURES[] = "features.";

void qn_cpu_tunables(struct quern_tunables *table)
{
    table->n = QN_LEN(tunables);
    table->stride = sizeof tunables[0];
    table->items = tunables;
}

static enum quern_status read_threads(const struct quern_setting *setting, struct qn_cpu_settings *settings,
                                      struct quern_error *err)
{
    char *end;
    long threads = strtol(setting->value, &end, 10);
    if (end == setting->value || *end || threads < 1 || threads > MAX_THREADS)
        return qn_fail(err, QUERN_ERR_PARAM, "setting %s: \"%s\" is not a number from 1 to %d", setting->name,
                       setting->value, MAX_THREADS);
    settings->threads = (uint32_t)threads;
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

/* Each format has what was said of it last, or of all formats last. */
struct layouts {
    uint64_t of_format, file; /* bits: said of it alone, and what */
    bool all_file;
};

static enum quern_status read_layout(const struct quern_setting *setting, struct layouts *layouts,
                                     struct quern_error *err)
{
    char name[QN_SETTING_NAME];
    enum quern_format format;
    bool file = strcmp(setting->value, "file") == 0;
    bool alone = qn_setting_split(setting->name, name, &format) && strcmp(name, LAYOUT) == 0;
    if (!alone && strcmp(setting->name, LAYOUT) != 0)
        return QUERN_OK;
    if (!file && strcmp(setting->value, "rows16") != 0)
        return qn_fail(err, QUERN_ERR_PARAM, "setting %s: \"%.40s\" is neither file nor rows16",
                       setting->name, setting->value);
    if (!alone)
        layouts->all_file = file;
    uint64_t bit = alone ? (uint64_t)1 << format : 0;
    layouts->of_format |= bit;
    layouts->file = file ? layouts->file | bit : layouts->file & ~bit;
    return QUERN_OK;
}

enum quern_status qn_cpu_settings_read(const struct quern_profile_view *profile,
                                       struct qn_cpu_settings *settings, struct quern_error *err)
{
    uint32_t have = qn_isa_detect(), off = 0, bit;
    enum qn_core_class cores = QN_CORES_FAST;
    enum quern_status status = QUERN_OK;
    struct layouts layouts = {0};
    *settings = (struct qn_cpu_settings){.isa = have};
    for (uint32_t i = 0; profile && i < profile->n_settings && !status; i++) {
        const struct quern_setting *setting = &profile->settings[i];
        if (strcmp(setting->name, "threads") == 0 || strcmp(setting->name, "threads.count") == 0)
            status = read_threads(setting, settings, err);
        else if (strcmp(setting->name, "threads.cores") == 0)
            status = read_cores(setting, &cores, err);
        else if (strcmp(setting->name, "isa") == 0)
            status = qn_isa_parse(setting->value, have, &settings->isa, err);
        else if (strncmp(setting->name, FEATURES, sizeof FEATURES - 1) == 0 &&
                 !qn_isa_parse(setting->name + sizeof FEATURES - 1, have, &bit, NULL))
            off = strcmp(setting->value, "0") == 0 ? off | bit : off & ~bit;
        else
            status = read_layout(setting, &layouts, err);
    }
    if (settings->threads == 0) { /* nobody said how many */
        uint32_t threads = qn_default_threads(cores);
        settings->threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    }
    settings->isa &= ~off;
    settings->in_file_layout =
        (layouts.all_file ? ~layouts.of_format : 0) | (layouts.file & layouts.of_format);
    return status;
}
