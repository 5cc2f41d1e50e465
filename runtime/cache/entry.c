/* The form of one entry of the cache. */
#include "base/little.h"
#include "cache/cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char magic[] = "QNCACHE\n";
enum { MAGIC = sizeof magic - 1, KIND = 32 };

static uint64_t padded(uint64_t bytes)
{
    return (bytes + QN_CACHE_HEAD - 1) / QN_CACHE_HEAD * QN_CACHE_HEAD;
}

static uint64_t hash_of(const struct qn_cache_entry *entry, const uint8_t head[QN_CACHE_HEAD])
{
    uint64_t hash = XXH3_64bits(head, QN_CACHE_HEAD);
    hash = XXH3_64bits_withSeed(entry->key, entry->key_bytes, hash);
    return XXH3_64bits_withSeed(entry->data, entry->data_bytes, hash);
}

bool qn_cache_kind_good(const char *kind)
{
    size_t n = strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return n > 0 && n < KIND && kind[n] == '\0';
}

uint64_t qn_cache_size(const struct qn_cache_entry *entry)
{
    if (entry->key_bytes > QN_CACHE_MAX_KEY || entry->data_bytes > UINT64_MAX / 2)
        return 0;
    return QN_CACHE_HEAD + padded(entry->key_bytes) + entry->data_bytes + QN_CACHE_TAIL;
}

void qn_cache_write(const struct qn_cache_entry *entry, uint8_t head[QN_CACHE_HEAD],
                    uint8_t tail[QN_CACHE_TAIL])
{
    memset(head, 0, QN_CACHE_HEAD);
    memcpy(head, magic, MAGIC);
    qn_put_little(head + 8, QN_CACHE_VERSION, 4);
    memcpy(head + 16, entry->kind, strlen(entry->kind));
    qn_put_little(head + 48, entry->key_bytes, 4);
    qn_put_little(head + 56, entry->data_bytes, 8);
    qn_put_little(tail, hash_of(entry, head), QN_CACHE_TAIL);
}

const char *qn_cache_read(const void *file, size_t size, struct qn_cache_entry *entry)
{
    const uint8_t *head = file;
    if (size < QN_CACHE_HEAD + QN_CACHE_TAIL || memcmp(head, magic, MAGIC) != 0)
        return "it is no entry of a cache";
    if (qn_get_little(head + 8, 4) != QN_CACHE_VERSION)
        return "it is of another version";
    const char *kind = (const char *)head + 16;
    if (!memchr(kind, '\0', KIND) || !qn_cache_kind_good(kind))
        return "its kind is not a name";
    uint64_t key_bytes = qn_get_little(head + 48, 4), data_bytes = qn_get_little(head + 56, 8);
    uint64_t room = size - QN_CACHE_HEAD - QN_CACHE_TAIL;
    if (key_bytes > QN_CACHE_MAX_KEY || padded(key_bytes) > room || data_bytes != room - padded(key_bytes))
        return "its sizes do not fit the file's";
    for (const uint8_t *at = head + QN_CACHE_HEAD + key_bytes; at < head + QN_CACHE_HEAD + padded(key_bytes);
         at++)
        if (*at != 0)
            return "what follows its key is not zero";
    *entry = (struct qn_cache_entry){.kind = kind,
                                     .key = head + QN_CACHE_HEAD,
                                     .key_bytes = (size_t)key_bytes,
                                     .data = head + QN_CACHE_HEAD + padded(key_bytes),
                                     .data_bytes = (size_t)data_bytes};
    if (qn_get_little(head + size - QN_CACHE_TAIL, QN_CACHE_TAIL) != hash_of(entry, head))
        return "its checksum is wrong";
    return NULL;
}

void qn_cache_name(const struct qn_cache_entry *entry, char name[80])
{
    uint64_t seed = XXH3_64bits(entry->kind, strlen(entry->kind));
    XXH128_hash_t hash = XXH3_128bits_withSeed(entry->key, entry->key_bytes, seed);
    snprintf(name, 80, "%s-%016" PRIx64 "%016" PRIx64 ".qnc", entry->kind, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
}
