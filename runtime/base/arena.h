/* Memory that is given back all at once: one arena for all that goes together. It counts what it
 * takes from the host, and stops at a limit. */
#ifndef QN_BASE_ARENA_H
#define QN_BASE_ARENA_H

#include "base/host.h"

struct qn_arena_block;

struct qn_arena {
    const struct quern_callbacks *cb; /* resolved; outlives the arena */
    struct qn_arena_block *blocks;    /* newest first */
    char *at, *end;                   /* what is free in the newest */
    char *newest;                     /* the last piece handed out */
    size_t used, limit;               /* bytes taken from the host, and how many there may be */
    bool over;                        /* the limit, not the host, refused */
};

void qn_arena_init(struct qn_arena *arena, const struct quern_callbacks *cb, size_t limit);
void qn_arena_finish(struct qn_arena *arena);

/* n elements of `size` bytes, zeroed, aligned to 16 bytes. NULL: memory is out or the limit is reached. */
void *qn_arena_alloc(struct qn_arena *arena, size_t n, size_t size);
/* A piece of `old` bytes grown to `size`, in place where it is the newest; contents are kept, the rest is
 * zeroed. NULL as above, and the old piece stays. */
void *qn_arena_extend(struct qn_arena *arena, void *piece, size_t old, size_t size);

#endif
