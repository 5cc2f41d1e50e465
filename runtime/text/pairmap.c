#include "text/pairmap.h"

bool qn_pairmap_init(const struct quern_callbacks *cb, struct qn_pairmap *map, size_t expected)
{
    *map = (struct qn_pairmap){0};
    if (expected > SIZE_MAX / 4)
        return false;
    size_t size = 16;
    while (size < expected + expected / 2)
        size *= 2;
    map->slots = qn_zalloc(cb, size, sizeof *map->slots);
    map->mask = size - 1;
    return map->slots != NULL;
}

void qn_pairmap_finish(const struct quern_callbacks *cb, struct qn_pairmap *map)
{
    qn_free(cb, map->slots);
    *map = (struct qn_pairmap){0};
}

static void insert(struct qn_pairmap *map, const struct qn_pair_slot *pair)
{
    size_t i = qn_pair_hash(pair->key) & map->mask;
    while (map->slots[i].key != 0)
        i = (i + 1) & map->mask;
    map->slots[i] = *pair;
    map->n++;
}

bool qn_pairmap_add(const struct quern_callbacks *cb, struct qn_pairmap *map, uint32_t left, uint32_t right,
                    uint32_t value0, uint32_t value1)
{
    if ((map->n + 1) * 4 > (map->mask + 1) * 3) {
        struct qn_pairmap bigger;
        if (!qn_pairmap_init(cb, &bigger, map->mask + 1))
            return false;
        for (size_t i = 0; i <= map->mask; i++)
            if (map->slots[i].key != 0)
                insert(&bigger, &map->slots[i]);
        qn_pairmap_finish(cb, map);
        *map = bigger;
    }
    insert(map, &(struct qn_pair_slot){qn_pair_key(left, right), {value0, value1}});
    return true;
}
