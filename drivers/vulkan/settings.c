#include "drivers/vulkan/settings.h"

#include "base/words.h"
#include "drivers/vulkan/instance.h"
#include "drivers/vulkan/kernels.h"
#include "formats/formats.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

#define TYPE(type) QUERN_TUNABLE_##type
#define SPEED      QUERN_TUNABLE_SPEED

/* Features, settings, choices: in this order. */
static const struct quern_tunable tunables[] = {
#define FEATURE(id, name, help) \
    {"features." name, QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on where the device has it", help},
#include "drivers/vulkan/features.inc"
#define SETTING(id, name, type, flags, min, max, choices, preset, help) \
    {name, TYPE(type), flags, min, max, choices, preset, help},
#define CHOICE(id, name, type, min, max, choices, preset, help)
#include "drivers/vulkan/settings.inc"
#define SETTING(id, name, type, flags, min, max, choices, preset, help)
#define CHOICE(id, name, type, min, max, choices, preset, help) \
    {name, TYPE(type), QUERN_TUNABLE_FORMATS | QUERN_TUNABLE_SPEED, min, max, choices, preset, help},
#include "drivers/vulkan/settings.inc"
};

enum { FIRST_SETTING = QN_VK_FEATURE_END, FIRST_CHOICE = FIRST_SETTING + QN_VK_SETTINGS };

void qn_vk_tunables(struct quern_tunables *table)
{
    table->n = QN_LEN(tunables);
    table->stride = sizeof tunables[0];
    table->items = tunables;
}

static size_t find(const char *name)
{
    size_t i = 0;
    while (i < QN_LEN(tunables) && strcmp(tunables[i].name, name) != 0)
        i++;
    return i;
}

/* ---- values ---- */

static bool read_value(const struct quern_tunable *tunable, const char *text, uint64_t *value)
{
    size_t n = strlen(text);
    size_t place = tunable->choices ? qn_word_place(tunable->choices, text, n) : 0;
    *value = place;
    if (place == SIZE_MAX || tunable->type == QUERN_TUNABLE_WORD)
        return place != SIZE_MAX;
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return false;
    *value = strtoull(text, NULL, 10);
    return tunable->choices || (*value >= tunable->min && *value <= tunable->max);
}

static enum quern_status wrong(const struct quern_setting *setting, const struct quern_tunable *tunable,
                               struct quern_error *err)
{
    if (tunable->choices)
        return qn_fail(err, QUERN_ERR_PARAM, "setting %s is \"%.40s\", expected one of: %s", setting->name,
                       setting->value, tunable->choices);
    return qn_fail(err, QUERN_ERR_PARAM, "setting %s is \"%.40s\", expected a number from %llu to %llu",
                   setting->name, setting->value, (unsigned long long)tunable->min,
                   (unsigned long long)tunable->max);
}

/* One that a profile may give; others are left alone. */
static enum quern_status take(struct qn_vk_settings *settings, const struct quern_setting *setting,
                              const char *origin, struct quern_error *err)
{
    char name[QN_SETTING_NAME];
    enum quern_format format = QUERN_FORMAT_END;
    size_t i = find(setting->name);
    uint64_t value;
    if (i == QN_LEN(tunables) && qn_setting_split(setting->name, name, &format))
        i = find(name);
    if (i == QN_LEN(tunables))
        return QUERN_OK;
    if (!read_value(&tunables[i], setting->value, &value))
        return wrong(setting, &tunables[i], err);
    if (i >= FIRST_CHOICE)
        settings->chosen[i - FIRST_CHOICE][format] = (uint32_t)value;
    else if (i >= FIRST_SETTING) {
        settings->of[i - FIRST_SETTING] = value;
        settings->origin[i - FIRST_SETTING] = origin;
    } else
        settings->without = (settings->without & ~(1u << i)) | (value ? 0 : 1u << i);
    return QUERN_OK;
}

/* What is for developers, and what the environment says in other words. */
static enum quern_status take_other(struct qn_vk_settings *settings, const struct quern_setting *setting,
                                    struct quern_error *err)
{
    const char *value = setting->value;
    bool on = strcmp(value, "0") != 0;
    uint32_t without;
    enum quern_status status = QUERN_OK;
    if (strcmp(setting->name, "vk-validate") == 0)
        settings->validate = on;
    else if (strcmp(setting->name, "vk-shaders") == 0)
        settings->shaders = value;
    else if (strcmp(setting->name, "identity") == 0 && value[0])
        settings->identity = value;
    else if (strcmp(setting->name, "vk-dot8") == 0)
        settings->dot8 = on;
    else if (strcmp(setting->name, "vk-import") == 0)
        settings->of[QN_VK_SET_MEMORY_IMPORT] = on ? QN_VK_IMPORT_ON : QN_VK_IMPORT_OFF;
    else if (strcmp(setting->name, "vk-disable") == 0) {
        status = qn_vk_features_parse(value, &without, err);
        settings->without |= status ? 0 : without;
    }
    return status;
}

enum quern_status qn_vk_settings_read(const struct quern_profile_view *profile,
                                      struct qn_vk_settings *settings, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    *settings = (struct qn_vk_settings){0};
    for (size_t i = 0; i < QN_VK_SETTINGS; i++)
        settings->of[i] = QN_VK_UNSET;
    memset(settings->chosen, 0xff, sizeof settings->chosen);
    bool placed = profile && profile->struct_size >=
                                 offsetof(struct quern_profile_view, origins) + sizeof profile->origins;
    for (uint32_t i = 0; profile && i < profile->n_settings && !status; i++) {
        const char *origin = placed && i < profile->n_origins ? profile->origins[i] : NULL;
        status = take(settings, &profile->settings[i], origin, err);
        if (!status)
            status = take_other(settings, &profile->settings[i], err);
    }
    return status;
}

/* ---- rules ---- */

uint64_t qn_vk_tile_bytes(uint64_t rows, uint64_t columns, uint64_t depth, bool in_8_bits)
{
    uint64_t quads = (rows + columns) * (depth / 4 + 1);
    uint64_t scales = in_8_bits ? depth / 16 * rows * 8 + depth / 32 * columns * 16 : 0;
    return quads * (in_8_bits ? 4 : 16) + scales + columns * 8;
}

uint64_t qn_vk_coopmat_bytes(uint64_t rows, uint64_t columns, uint64_t depth, uint64_t strips, uint64_t n)
{
    return (rows + columns) * (depth + 8) * 2 + strips * n * rows * 4 + columns * 8;
}

struct rules {
    const struct qn_vk_settings *settings;
    uint32_t format; /* QUERN_FORMAT_END: what holds for those without values of their own */
    void (*fault)(void *user, const char *setting, const char *why);
    void *user;
};

/* choice: one of the kernel whose setting is at fault. */
static void broken(const struct rules *rules, enum qn_vk_choice choice, const char *fmt, ...)
    QUERN_PRINTF(3, 4);
static void broken(const struct rules *rules, enum qn_vk_choice choice, const char *fmt, ...)
{
    char name[QN_SETTING_NAME], why[256];
    const char *format =
        rules->format < QUERN_FORMAT_END ? quern_format_name((enum quern_format)rules->format) : NULL;
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    const char *all = tunables[FIRST_CHOICE + choice].name, *last = strrchr(all, '.');
    snprintf(name, sizeof name, "%.*s%s%s%s", (int)(last - all), all, format ? "." : "", format ? format : "",
             last);
    rules->fault(rules->user, name, why);
}

static uint64_t shared_memory(const struct rules *rules)
{
    uint64_t said = qn_vk_set(rules->settings, QN_VK_SET_SHARED_MEMORY);
    return said != QN_VK_UNSET ? said : 32768;
}

/* Subgroups side by side are a workgroup. */
static void check_strips(const struct rules *rules, enum qn_vk_choice choice, uint32_t strips)
{
    uint64_t subgroup = qn_vk_set(rules->settings, QN_VK_SET_SUBGROUP);
    uint64_t invocations = qn_vk_set(rules->settings, QN_VK_SET_INVOCATIONS);
    if (subgroup != QN_VK_UNSET && invocations != QN_VK_UNSET && strips * subgroup > invocations)
        broken(rules, choice,
               "so many subgroups of %llu are %llu invocations, expected at most %llu (limits.workgroup)",
               (unsigned long long)subgroup, (unsigned long long)(strips * subgroup),
               (unsigned long long)invocations);
}

static void check_bytes(const struct rules *rules, enum qn_vk_choice choice, uint32_t rows, uint32_t columns,
                        uint32_t depth, uint64_t bytes)
{
    bool said = qn_vk_set(rules->settings, QN_VK_SET_SHARED_MEMORY) != QN_VK_UNSET;
    if (bytes > shared_memory(rules))
        broken(rules, choice,
               "a tile of %u rows, %u columns and depth %u takes %llu bytes of shared memory, expected at "
               "most %llu%s",
               rows, columns, depth, (unsigned long long)bytes, (unsigned long long)shared_memory(rules),
               said ? " (limits.shared-memory)"
                    : ", or more where limits.shared-memory says that there is more");
}

/* In cooperative matrices, whose shape a profile does not know: of 16 columns, as most are. */
static void check_coopmat(const struct rules *rules)
{
    enum { MATRIX = 16 };
    const struct qn_vk_settings *settings = rules->settings;
    uint32_t f = rules->format;
    uint32_t strips = qn_vk_chosen(settings, QN_VK_CHOOSE_COOPMAT_STRIPS, f, 4);
    uint32_t rows = qn_vk_chosen(settings, QN_VK_CHOOSE_COOPMAT_ROWS, f, 64);
    uint32_t columns = qn_vk_chosen(settings, QN_VK_CHOOSE_COOPMAT_COLUMNS, f, MATRIX * strips);
    uint32_t depth = qn_vk_chosen(settings, QN_VK_CHOOSE_COOPMAT_DEPTH, f, 32);
    check_strips(rules, QN_VK_CHOOSE_COOPMAT_STRIPS, strips);
    if (columns < MATRIX * strips)
        broken(rules, QN_VK_CHOOSE_COOPMAT_STRIPS,
               "each strip has at least %d of the %u columns: expected at most %u", MATRIX, columns,
               columns / MATRIX);
    check_bytes(rules, QN_VK_CHOOSE_COOPMAT_ROWS, rows, columns, depth,
                qn_vk_coopmat_bytes(rows, columns, depth, strips, MATRIX));
}

static void check_tile(const struct rules *rules)
{
    const struct qn_vk_settings *settings = rules->settings;
    uint32_t f = rules->format;
    bool in_8_bits =
        qn_vk_chosen(settings, QN_VK_CHOOSE_MATMUL_VARIANT, f, QN_VK_TILE_FLOATS) == QN_VK_TILE_8_BITS;
    uint32_t rows = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_ROWS, f, 64);
    uint32_t columns = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_COLUMNS, f, 64);
    uint32_t strips = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_STRIPS, f, 4);
    uint32_t depth = qn_vk_chosen(settings, QN_VK_CHOOSE_TILE_DEPTH, f, in_8_bits ? 64 : 16);
    uint64_t subgroup = qn_vk_set(settings, QN_VK_SET_SUBGROUP);
    if (subgroup != QN_VK_UNSET && rows < subgroup)
        broken(rules, QN_VK_CHOOSE_TILE_ROWS,
               "each of a subgroup's %llu invocations (kernels.subgroup) has at least a row",
               (unsigned long long)subgroup);
    check_strips(rules, QN_VK_CHOOSE_TILE_STRIPS, strips);
    if (columns < 4 * strips)
        broken(rules, QN_VK_CHOOSE_TILE_STRIPS,
               "each strip has at least 4 of the %u columns: expected at most %u", columns, columns / 4);
    if (in_8_bits && depth < 32)
        broken(rules, QN_VK_CHOOSE_TILE_DEPTH, "in 8 bits, expected at least 32, which share a scale");
    check_bytes(rules, QN_VK_CHOOSE_TILE_ROWS, rows, columns, depth,
                qn_vk_tile_bytes(rows, columns, depth, in_8_bits));
}

/* A format for which a kernel is chosen has one. */
static void check_kernels(const struct rules *rules)
{
    static const enum qn_vk_kernel matvec[] = {QN_VK_MATVEC, QN_VK_MATVEC8},
                                   matmul[] = {QN_VK_MATMUL, QN_VK_MATMUL8, QN_VK_MATMUL_COOPMAT,
                                               QN_VK_MATMUL_COOPMAT2};
    static const struct {
        enum qn_vk_choice choice;
        const enum qn_vk_kernel *kernels;
    } chosen[] = {{QN_VK_CHOOSE_MATVEC_ACTIVATION, matvec}, {QN_VK_CHOOSE_MATMUL_VARIANT, matmul}};
    for (size_t i = 0; i < QN_LEN(chosen) && rules->format < QUERN_FORMAT_END; i++) {
        uint32_t value = rules->settings->chosen[chosen[i].choice][rules->format];
        if (value == QUERN_NONE)
            continue;
        const struct qn_vk_kernel_info info =
            qn_vk_kernel_info((enum qn_vk_kernel)(chosen[i].kernels[value] + rules->format));
        if (!info.for_format)
            broken(rules, chosen[i].choice, "there is no kernel %s", info.name);
    }
}

static bool has_own(const struct qn_vk_settings *settings, uint32_t format, int first, int last)
{
    bool own = false;
    for (int c = first; c <= last; c++)
        own |= settings->chosen[c][format] != QUERN_NONE;
    return own;
}

void qn_vk_check(const struct quern_profile_view *profile,
                 void (*fault)(void *user, const char *setting, const char *why), void *user)
{
    struct qn_vk_settings settings;
    struct quern_error err;
    if (qn_vk_settings_read(profile, &settings, &err))
        return; /* what is out of its range has been told */
    for (uint32_t f = 0; f <= QUERN_FORMAT_END; f++) {
        const struct rules rules = {&settings, f, fault, user};
        check_kernels(&rules);
        if (has_own(&settings, f, QN_VK_CHOOSE_MATMUL_VARIANT, QN_VK_CHOOSE_TILE_DEPTH))
            check_tile(&rules);
        if (has_own(&settings, f, QN_VK_CHOOSE_COOPMAT_ROWS, QN_VK_CHOOSE_COOPMAT_DEPTH))
            check_coopmat(&rules);
    }
}
