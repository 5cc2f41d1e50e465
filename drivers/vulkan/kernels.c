/* What kernels.inc says of each kernel, and their modules. */
#include "drivers/vulkan/kernels.h"

#include "base/host.h"
#include "formats/formats.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether a list of words, with spaces between them, has this one. */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (; *list; list += strcspn(list, " "), list += strspn(list, " "))
        if (strcspn(list, " ") == n && memcmp(list, word, n) == 0)
            return true;
    return false;
}

/* Whether a row with these formats has that one: "all" are those that weights can be stored in, as compile.py
 * has it. */
static bool asks_for(const char *formats, enum quern_format format)
{
    const struct qn_format *f = qn_format_get(format);
    if (strcmp(formats, "all") != 0)
        return f && has_word(formats, f->name);
    return f && f->dequantise && format != QUERN_Q8_1 && format != QUERN_Q8_K;
}

struct qn_vk_kernel_info qn_vk_kernel_info(enum qn_vk_kernel kernel)
{
    static const struct row {
        enum qn_vk_kernel first;
        const char *name, *source, *define;
        uint32_t n_buffers, n_words;
        bool pools;
        const char *formats; /* NULL: it has none */
    } rows[] = {
#define KERNEL(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, false, NULL},
#define KERNEL_POOLS(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, true, NULL},
#define KERNEL_FORMATS(id, name, source, define, n_buffers, n_words, formats) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, false, formats},
#include "shaders/kernels.inc"
    };
    size_t i = QN_LEN(rows) - 1;
    while (kernel < rows[i].first)
        i--;
    struct qn_vk_kernel_info info = {.source = rows[i].source,
                                     .n_buffers = rows[i].n_buffers,
                                     .n_words = rows[i].n_words,
                                     .pools = rows[i].pools};
    const char *format =
        rows[i].formats ? quern_format_name((enum quern_format)(kernel - rows[i].first)) : NULL;
    int n = snprintf(info.name, sizeof info.name, "%s%s%s", rows[i].name, rows[i].formats ? "_" : "",
                     format ? format : "");
    snprintf(info.defines, sizeof info.defines, "%s%s%s", rows[i].define, format ? " FORMAT_" : "",
             format ? format : "");
    info.extension = has_word(info.defines, "COOPMAT2")  ? QN_VK_GLSL_COOPMAT2
                     : has_word(info.defines, "COOPMAT") ? QN_VK_GLSL_COOPMAT
                                                         : QN_VK_PLAIN_GLSL;
    info.optional = info.extension != QN_VK_PLAIN_GLSL || has_word(info.defines, "DOT8");
    info.for_format =
        !rows[i].formats || asks_for(rows[i].formats, (enum quern_format)(kernel - rows[i].first));
    for (int c = 0; c < n; c++)
        info.name[c] = (char)tolower((unsigned char)info.name[c]);
    return info;
}

static int compare_name(const void *name, const void *module)
{
    return strcmp(name, ((const struct qn_vk_module *)module)->name);
}

const struct qn_vk_module *qn_vk_module_find(enum qn_vk_kernel kernel)
{
    struct qn_vk_kernel_info info = qn_vk_kernel_info(kernel);
    return bsearch(info.name, qn_vk_modules, qn_vk_n_modules, sizeof *qn_vk_modules, compare_name);
}

bool qn_vk_modules_whole(void)
{
    return qn_vk_module_find(QN_VK_ATTENTION_COOPMAT) &&
           qn_vk_module_find((enum qn_vk_kernel)(QN_VK_MATMUL_COOPMAT2 + QUERN_F16));
}
