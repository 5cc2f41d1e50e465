#include "base/arena.h"

#include <string.h>

/* Under AddressSanitizer what was not handed out is out of bounds, with a gap between the pieces. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QN_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define QN_POISON 1
#endif
#ifdef QN_POISON
#include <sanitizer/asan_interface.h>
#define poison(ptr, n)   __asan_poison_memory_region(ptr, n)
#define unpoison(ptr, n) __asan_unpoison_memory_region(ptr, n)
enum { GAP = 16 };
#else
#define poison(ptr, n)   ((void)(ptr), (void)(n))
#define unpoison(ptr, n) ((void)(ptr), (void)(n))
enum { GAP = 0 };
#endif

enum { ALIGN = 16, FIRST_BLOCK = 4096, LARGEST_STEP = 1 << 20 };

struct qn_arena_block {
    struct qn_arena_block *next;
    size_t size; /* with this header */
};

_Static_assert(sizeof(struct qn_arena_block) % ALIGN == 0 || sizeof(void *) == 4, "blocks begin aligned");

static size_t round_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

void qn_arena_init(struct qn_arena *arena, const struct quern_callbacks *cb, size_t limit)
{
    *arena = (struct qn_arena){.cb = cb, .limit = limit};
}

void qn_arena_finish(struct qn_arena *arena)
{
    for (struct qn_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        unpoison(block, block->size);
        qn_free(arena->cb, block);
    }
    *arena = (struct qn_arena){.cb = arena->cb, .limit = arena->limit};
}

static bool add_block(struct qn_arena *arena, size_t need)
{
    size_t step = arena->used < FIRST_BLOCK    ? FIRST_BLOCK
                  : arena->used > LARGEST_STEP ? LARGEST_STEP
                                               : arena->used;
    size_t header = round_up(sizeof(struct qn_arena_block));
    size_t size = header + (need > step ? need : step);
    if (size > arena->limit - arena->used) {
        size = header + need;
        if (size > arena->limit - arena->used) {
            arena->over = true;
            return false;
        }
    }
    struct qn_arena_block *block = qn_alloc(arena->cb, size, 1);
    if (!block)
        return false;
    *block = (struct qn_arena_block){arena->blocks, size};
    arena->blocks = block;
    arena->used += size;
    arena->at = (char *)block + header;
    arena->end = (char *)block + size;
    poison(arena->at, (size_t)(arena->end - arena->at));
    return true;
}

static char *take(struct qn_arena *arena, size_t size)
{
    if (size > arena->limit) {
        arena->over = true;
        return NULL;
    }
    size_t room = round_up(size > 0 ? size : 1) + GAP;
    if ((size_t)(arena->end - arena->at) < room && !add_block(arena, room))
        return NULL;
    char *piece = arena->at;
    arena->at += room;
    arena->newest = piece;
    unpoison(piece, size);
    return piece;
}

void *qn_arena_alloc(struct qn_arena *arena, size_t n, size_t size)
{
    if (size > 0 && n > arena->limit / size) {
        arena->over = true;
        return NULL;
    }
    char *piece = take(arena, n * size);
    if (piece)
        memset(piece, 0, n * size);
    return piece;
}

void *qn_arena_extend(struct qn_arena *arena, void *piece, size_t old, size_t size)
{
    if (piece && piece == arena->newest && size <= (size_t)(arena->end - arena->newest) &&
        round_up(size) + GAP <= (size_t)(arena->end - arena->newest)) {
        arena->at = arena->newest + round_up(size) + GAP;
        unpoison(piece, size);
        memset((char *)piece + old, 0, size - old);
        return piece;
    }
    char *fresh = take(arena, size);
    if (!fresh)
        return NULL;
    if (old > 0)
        memcpy(fresh, piece, old);
    memset(fresh + old, 0, size - old);
    return fresh;
}
