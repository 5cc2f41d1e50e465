/* Map from byte strings to small numbers: open addressing over xxhash. Keys are not copied: they must outlive
 * the map. Part of the text library, since it needs xxhash. */
#ifndef QN_BASE_STRMAP_H
#define QN_BASE_STRMAP_H

#include "base/host.h"

struct qn_strmap_slot {
    const char *key; /* NULL: free */
    uint32_t len;
    uint32_t hash; /* upper half of the 64 bits, compared before the bytes */
    int32_t value;
};

struct qn_strmap {
    struct qn_strmap_slot *slots;
    size_t mask; /* slots - 1 */
    size_t n;
};

/* Room for `expected` keys without growing. False: memory is out, and nothing is held. */
bool qn_strmap_init(const struct quern_callbacks *cb, struct qn_strmap *map, size_t expected);
void qn_strmap_finish(const struct quern_callbacks *cb, struct qn_strmap *map);
/* Sets or replaces. False: memory is out, and nothing changed. */
bool qn_strmap_put(const struct quern_callbacks *cb, struct qn_strmap *map, const char *key, size_t len,
                   int32_t value);
/* The value, or -1. */
int32_t qn_strmap_get(const struct qn_strmap *map, const char *key, size_t len);

#endif
