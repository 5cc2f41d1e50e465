/* Fuzz target of the includes of kernels: the input is a source, and all that it includes is the same source.
 */
#include "drivers/vulkan/sources.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qn_vk_unit unit;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    char *text = qn_alloc(&cb, size + 1, 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    struct qn_vk_source files[] = {{"k.comp", text, size}, {"a", text, size}, {"lib/b/c", text, size}};
    struct qn_vk_folder folder = {.cb = &cb, .files = files, .n = 3, .cap = 3};
    struct quern_error err = {0};
    enum quern_status status = qn_vk_unit_gather(&folder, "k.comp", &unit, &err);
    if (unit.n < 1 || unit.n > QN_VK_MAX_INCLUDED || (status && err.text[0] == '\0') ||
        unit.file[0].text != text)
        abort();
    qn_free(&cb, text);
    return 0;
}
