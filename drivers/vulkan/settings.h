/* What a device is told by profile, command line and environment. */
#ifndef QN_VK_SETTINGS_H
#define QN_VK_SETTINGS_H

#include "base/host.h"
#include <quern/driver.h>

enum qn_vk_setting {
#define SETTING(id, name, type, flags, min, max, choices, preset, help) QN_VK_SET_##id,
#define CHOICE(id, name, type, min, max, choices, preset, help)
#include "drivers/vulkan/settings.inc"
    QN_VK_SETTINGS,
};

enum qn_vk_choice {
#define SETTING(id, name, type, flags, min, max, choices, preset, help)
#define CHOICE(id, name, type, min, max, choices, preset, help) QN_VK_CHOOSE_##id,
#include "drivers/vulkan/settings.inc"
    QN_VK_CHOICES,
};

/* Values of MEMORY_IMPORT and MATMUL_VARIANT, in the order of their words; those of MATVEC_ACTIVATION are of
 * enum qn_vk_form. */
enum qn_vk_import { QN_VK_IMPORT_MEASURE, QN_VK_IMPORT_ON, QN_VK_IMPORT_OFF };
enum qn_vk_variant { QN_VK_TILE_FLOATS, QN_VK_TILE_8_BITS, QN_VK_TILE_COOPMAT, QN_VK_TILE_COOPMAT2 };

#define QN_VK_UNSET UINT64_MAX

struct qn_vk_settings {
    uint64_t of[QN_VK_SETTINGS];
    const char *origin[QN_VK_SETTINGS]; /* where a profile says it, while the device is opened; else NULL */
    /* of each format, behind them what holds for the others */
    uint32_t chosen[QN_VK_CHOICES][QUERN_FORMAT_END + 1];
    uint32_t without;     /* bit per enum qn_vk_feature that is off */
    bool validate;        /* turns the validation layer on */
    bool dot8;            /* products of many tokens in 8 bits also where dot products are not accelerated */
    const char *shaders;  /* folder of GLSL; NULL: none */
    const char *identity; /* NULL: any */
};

/* QUERN_ERR_PARAM names the setting whose value is wrong, and what was expected. */
enum quern_status qn_vk_settings_read(const struct quern_profile_view *profile,
                                      struct qn_vk_settings *settings, struct quern_error *err);

/* QN_VK_UNSET: nobody said. */
static inline uint64_t qn_vk_set(const struct qn_vk_settings *settings, enum qn_vk_setting id)
{
    return settings->of[id];
}

/* `preset` where nobody said. What is said of a format counts more than what is said of all. */
static inline uint32_t qn_vk_chosen(const struct qn_vk_settings *settings, enum qn_vk_choice id,
                                    uint32_t format, uint32_t preset)
{
    const uint32_t *chosen = settings->chosen[id];
    uint32_t value = chosen[format] != QUERN_NONE ? chosen[format] : chosen[QUERN_FORMAT_END];
    return value != QUERN_NONE ? value : preset;
}

/* Shared memory, in bytes, of a workgroup of matmul.comp that has a tile of rows by columns and takes `depth`
 * weights of each row at once. */
uint64_t qn_vk_tile_bytes(uint64_t rows, uint64_t columns, uint64_t depth, bool in_8_bits);
/* The same with cooperative matrices of n columns, side by side in some strips. */
uint64_t qn_vk_coopmat_bytes(uint64_t rows, uint64_t columns, uint64_t depth, uint64_t strips, uint64_t n);

/* See struct quern_driver. */
void qn_vk_tunables(struct quern_tunables *tunables);
void qn_vk_check(const struct quern_profile_view *profile,
                 void (*fault)(void *user, const char *setting, const char *why), void *user);

#endif
