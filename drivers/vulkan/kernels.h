/* The kernels of shaders/kernels.inc and their SPIR-V. */
#ifndef QN_VK_KERNELS_H
#define QN_VK_KERNELS_H

#include <quern/format.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One for each row; those for weights have one for each number format, from its first on. */
enum qn_vk_kernel {
#define KERNEL(id, name, source, define, n_buffers, n_words)       QN_VK_##id,
#define KERNEL_POOLS(id, name, source, define, n_buffers, n_words) QN_VK_##id,
#define KERNEL_FORMATS(id, name, source, define, n_buffers, n_words, formats) \
    QN_VK_##id, QN_VK_##id##_LAST = QN_VK_##id + QUERN_FORMAT_END - 1,
#include "shaders/kernels.inc"
    QN_VK_KERNEL_END,
};

enum {
    QN_VK_MAX_BUFFERS = 11,
    QN_VK_MAX_WORDS = 32,
    QN_VK_POOLS = 16,
    QN_VK_SET_BUFFERS = 8 + QN_VK_POOLS, /* most that are bound to a kernel: to one that has the pools */
    QN_VK_MAX_CONSTANTS = 10,
    QN_VK_MAX_NAME = 48
};

/* What kernels need of GLSL that not every compiler has. */
enum qn_vk_extension {
    QN_VK_PLAIN_GLSL,
    QN_VK_GLSL_COOPMAT,  /* define COOPMAT: GL_KHR_cooperative_matrix */
    QN_VK_GLSL_COOPMAT2, /* define COOPMAT2: GL_NV_cooperative_matrix2 */
    QN_VK_EXTENSION_END,
};

struct qn_vk_kernel_info {
    char name[QN_VK_MAX_NAME]; /* of its module */
    const char *source;        /* file in shaders/ */
    char defines[128];         /* names, separated by spaces */
    uint32_t n_buffers;
    uint32_t n_words; /* of push constants */
    bool pools;       /* the last buffer is an array of QN_VK_POOLS */
    enum qn_vk_extension extension;
    bool optional;   /* another kernel can do the same, in floats */
    bool for_format; /* its row asks for it with this number format, or it has none */
};

struct qn_vk_kernel_info qn_vk_kernel_info(enum qn_vk_kernel kernel);

/* Made by shaders/compile.py, sorted by name. */
struct qn_vk_module {
    const char *name;
    const uint32_t *code;
    size_t bytes;
};
extern const struct qn_vk_module qn_vk_modules[];
extern const size_t qn_vk_n_modules;
/* Changes when any of them does. */
extern const char qn_vk_modules_hash[];

/* Whether the build's compiler had all that kernels need. */
bool qn_vk_modules_whole(void);

/* NULL: this kernel was not built for the format. */
const struct qn_vk_module *qn_vk_module_find(enum qn_vk_kernel kernel);

#endif
