/* What kernels.inc says of each kernel, and their modules. */
#include "drivers/vulkan/kernels.h"

#include "base/host.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qn_vk_kernel_info qn_vk_kernel_info(enum qn_vk_kernel kernel)
{
    static const struct row {
        enum qn_vk_kernel first;
        const char *name, *source, *define;
        uint32_t n_buffers, n_words;
        bool pools, formats;
    } rows[] = {
#define KERNEL(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, false, false},
#define KERNEL_POOLS(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, true, false},
#define KERNEL_FORMATS(id, name, source, define, n_buffers, n_words, formats) \
    {QN_VK_##id, #name, source, define, n_buffers, n_words, false, true},
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
