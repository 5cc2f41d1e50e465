/* Map from two 32-bit numbers to two others: merges of a BPE vocabulary, edges of the special-token trie. */
#ifndef QN_TEXT_PAIRMAP_H
#define QN_TEXT_PAIRMAP_H

#include "base/host.h"

struct qn_pair_slot {
    uint64_t key;      /* left + 1 in the upper half, so that 0 is free */
    uint32_t value[2]; /* merges: rank, merged symbol; trie: node, unused */
};

struct qn_pairmap {
    struct qn_pair_slot *slots;
    size_t mask;
    size_t n;
};

/* Room for `expected` pairs without growing. False: memory is out, and nothing is held. */
bool qn_pairmap_init(const struct quern_callbacks *cb, struct qn_pairmap *map, size_t expected);
void qn_pairmap_finish(const struct quern_callbacks *cb, struct qn_pairmap *map);
/* Adds a pair that is not there yet; left below UINT32_MAX. False: memory is out, and nothing changed. */
bool qn_pairmap_add(const struct quern_callbacks *cb, struct qn_pairmap *map, uint32_t left, uint32_t right,
                    uint32_t value0, uint32_t value1);

static inline uint64_t qn_pair_key(uint32_t left, uint32_t right)
{
    return ((uint64_t)left + 1) << 32 | right;
}

static inline size_t qn_pair_hash(uint64_t key)
{
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(key ^ key >> 29);
}

/* NULL: there is no such pair. */
static inline const struct qn_pair_slot *qn_pairmap_get(const struct qn_pairmap *map, uint32_t left,
                                                        uint32_t right)
{
    uint64_t key = qn_pair_key(left, right);
    for (size_t i = qn_pair_hash(key) & map->mask;; i = (i + 1) & map->mask) {
        const struct qn_pair_slot *slot = &map->slots[i];
        if (slot->key == key)
            return slot;
        if (slot->key == 0)
            return NULL;
    }
}

#endif
