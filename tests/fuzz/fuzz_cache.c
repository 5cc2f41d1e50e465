/* Fuzz target of the cache's entries: what the reader takes is what the writer writes. An input is also read
 * with a checksum that fits, so that the rest of the form is reached. */
#include "cache/cache.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct qn_cache_entry *entry, const uint8_t *file, size_t size)
{
    uint8_t head[QN_CACHE_HEAD], tail[QN_CACHE_TAIL];
    char name[80];
    qn_cache_write(entry, head, tail);
    qn_cache_name(entry, name);
    const uint8_t *key = entry->key, *blob = entry->data;
    if (qn_cache_size(entry) != size || strncmp(name, entry->kind, strlen(entry->kind)) != 0 ||
        key + entry->key_bytes > blob || blob + entry->data_bytes != file + size - QN_CACHE_TAIL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qn_cache_entry entry;
    if (!qn_cache_read(data, size, &entry))
        check(&entry, data, size);
    if (size < QN_CACHE_HEAD + QN_CACHE_TAIL)
        return 0;
    uint8_t *fit = malloc(size);
    if (!fit)
        return 0;
    memcpy(fit, data, size);
    uint8_t head[QN_CACHE_HEAD];
    const char *wrong = qn_cache_read(fit, size, &entry);
    if (wrong && strcmp(wrong, "its checksum is wrong") == 0) {
        qn_cache_write(&entry, head, fit + size - QN_CACHE_TAIL);
        if (memcmp(head, fit, sizeof head) == 0 && qn_cache_read(fit, size, &entry) != NULL)
            abort();
    }
    free(fit);
    return 0;
}
