/* shaderc, the compiler of GLSL that other projects provide: loaded while the program runs, where it is
 * installed. */
#ifndef QN_VK_SHADERC_H
#define QN_VK_SHADERC_H

#include "drivers/vulkan/sources.h"

struct qn_shaderc;

/* The files that it would be loaded from, as far as can be told without that: "PATH BYTES@DATE " each. "":
 * none; there may still be one in a folder that only the system knows. */
void qn_shaderc_find(const struct quern_callbacks *cb, char *text, size_t size);
/* QUERN_ERR_UNSUPPORTED: it is not installed, or lacks a function. On failure *shaderc is NULL. */
enum quern_status qn_shaderc_open(const struct quern_callbacks *cb, struct qn_shaderc **shaderc,
                                  struct quern_error *err);
void qn_shaderc_close(struct qn_shaderc **shaderc);
/* Names the library and its version: what compiles the same when it is the same. */
const char *qn_shaderc_version(const struct qn_shaderc *shaderc);

/* Compiles a compute kernel for Vulkan 1.2, with COOPMAT2 for 1.3 (as shaders/compile.py does). `defines`:
 * names separated by spaces. *words is freed with qn_free. Any number of threads may compile at once.
 * QUERN_ERR_UNSUPPORTED: the compiler's message, "file:line: error: ...". */
enum quern_status qn_shaderc_compile(const struct qn_shaderc *shaderc, const struct qn_vk_unit *unit,
                                     const char *defines, uint32_t **words, size_t *bytes,
                                     struct quern_error *err);

#endif
