#include "base/strmap.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

bool qn_strmap_init(const struct quern_callbacks *cb, struct qn_strmap *map, size_t expected)
{
    *map = (struct qn_strmap){0};
    if (expected > SIZE_MAX / 4)
        return false;
    size_t size = 16;
    while (size < expected + expected / 2)
        size *= 2;
    map->slots = qn_zalloc(cb, size, sizeof *map->slots);
    map->mask = size - 1;
    return map->slots != NULL;
}

void qn_strmap_finish(const struct quern_callbacks *cb, struct qn_strmap *map)
{
    qn_free(cb, map->slots);
    *map = (struct qn_strmap){0};
}

/* The slot that holds the key, or the free one where it belongs. */
static struct qn_strmap_slot *find(const struct qn_strmap *map, const char *key, size_t len, uint64_t hash)
{
    uint32_t upper = (uint32_t)(hash >> 32);
    for (size_t i = (size_t)hash & map->mask;; i = (i + 1) & map->mask) {
        struct qn_strmap_slot *slot = &map->slots[i];
        if (!slot->key || (slot->hash == upper && slot->len == len && memcmp(slot->key, key, len) == 0))
            return slot;
    }
}

static bool grow(const struct quern_callbacks *cb, struct qn_strmap *map)
{
    struct qn_strmap bigger;
    if (!qn_strmap_init(cb, &bigger, map->mask + 1))
        return false;
    for (size_t i = 0; i <= map->mask; i++) {
        const struct qn_strmap_slot *slot = &map->slots[i];
        if (slot->key)
            *find(&bigger, slot->key, slot->len, XXH3_64bits(slot->key, slot->len)) = *slot;
    }
    bigger.n = map->n;
    qn_strmap_finish(cb, map);
    *map = bigger;
    return true;
}

bool qn_strmap_put(const struct quern_callbacks *cb, struct qn_strmap *map, const char *key, size_t len,
                   int32_t value)
{
    if (len > UINT32_MAX || ((map->n + 1) * 4 > (map->mask + 1) * 3 && !grow(cb, map)))
        return false;
    uint64_t hash = XXH3_64bits(key, len);
    struct qn_strmap_slot *slot = find(map, key, len, hash);
    map->n += slot->key == NULL;
    *slot = (struct qn_strmap_slot){key, (uint32_t)len, (uint32_t)(hash >> 32), value};
    return true;
}

int32_t qn_strmap_get(const struct qn_strmap *map, const char *key, size_t len)
{
    const struct qn_strmap_slot *slot = find(map, key, len, XXH3_64bits(key, len));
    return slot->key ? slot->value : -1;
}
