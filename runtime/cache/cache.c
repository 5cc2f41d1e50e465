/* A directory of entries. It holds no state: what is there is what the directory says, so that any number of
 * processes may use it. Entries appear whole by a rename, are checked when read, and may vanish at any time.
 */
#include "cache/cache.h"

#include "base/clock.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LIMIT (1ull << 30)
#define HASH_DIGITS   32
static const char entry_end[] = ".qnc";
static const int64_t USE_NS = 60 * 1000000000ll; /* uses are noted to the minute */

struct quern_cache {
    struct quern_callbacks cb;
    uint64_t limit;
    char dir[]; /* without a slash at its end */
};

enum quern_status quern_cache_open(struct quern_cache **out, const char *dir, uint64_t limit,
                                   const struct quern_callbacks *callbacks, struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    size_t n = strlen(dir);
    struct quern_cache *cache = qn_alloc(&cb, sizeof *cache + n + 1, 1);
    *out = cache;
    if (!cache)
        return qn_fail_memory(err, "the cache");
    cache->cb = cb;
    cache->limit = limit > 0 ? limit : DEFAULT_LIMIT;
    while (n > 1 && dir[n - 1] == '/')
        n--;
    memcpy(cache->dir, dir, n);
    cache->dir[n] = '\0';
    return QUERN_OK;
}

void quern_cache_close(struct quern_cache **out)
{
    struct quern_cache *cache = *out;
    if (!cache)
        return;
    struct quern_callbacks cb = cache->cb;
    qn_free(&cb, cache);
    *out = NULL;
}

const char *qn_cache_dir(const struct quern_cache *cache)
{
    return cache ? cache->dir : NULL;
}

/* "DIR/NAME", to be freed; NULL when memory is out. */
static char *path_of(const struct quern_cache *cache, const char *name)
{
    size_t size = strlen(cache->dir) + strlen(name) + 2;
    char *path = qn_alloc(&cache->cb, size, 1);
    if (path)
        snprintf(path, size, "%s/%s", cache->dir, name);
    return path;
}

/* ---- one entry ---- */

/* NULL, or why the entry is not what was asked for. */
static const char *check(const struct qn_view *view, const struct qn_cache_entry *wanted,
                         struct qn_cache_entry *entry)
{
    const char *wrong = qn_cache_read(view->data, (size_t)view->size, entry);
    if (!wrong && (strcmp(entry->kind, wanted->kind) != 0 || entry->key_bytes != wanted->key_bytes ||
                   memcmp(entry->key, wanted->key, wanted->key_bytes) != 0))
        wrong = "it has another key";
    return wrong;
}

static void note_use(const struct quern_cache *cache, const char *path, int64_t written_ns)
{
    if (qn_date_ns() - written_ns > USE_NS)
        (void)qn_file_touch(&cache->cb, path);
}

bool qn_cache_get(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                  struct qn_blob *blob)
{
    *blob = (struct qn_blob){0};
    if (!cache)
        return false;
    const struct qn_cache_entry wanted = {.kind = kind, .key = key, .key_bytes = key_bytes};
    char *path = qn_cache_path(cache, kind, key, key_bytes);
    struct qn_view view = {0};
    struct qn_cache_entry entry;
    int64_t written_ns = 0;
    uint64_t bytes = 0;
    /* Read, not mapped: nobody can change it under us, and it may be replaced on every system. */
    if (path && qn_file_stat(&cache->cb, path, &bytes, &written_ns) && bytes <= cache->limit &&
        !qn_view_path(&cache->cb, &view, path, false, NULL)) {
        const char *wrong = check(&view, &wanted, &entry);
        if (wrong) {
            qn_log(&cache->cb, QUERN_LOG_WARNING, "%s is thrown away: %s", path, wrong);
            qn_view_finish(&cache->cb, &view);
            (void)qn_file_remove(&cache->cb, path);
        } else {
            *blob = (struct qn_blob){.data = entry.data, .bytes = entry.data_bytes, .heap = view.heap};
            note_use(cache, path, written_ns);
        }
    }
    qn_free(&cache->cb, path);
    return blob->data;
}

void qn_blob_finish(const struct quern_cache *cache, struct qn_blob *blob)
{
    if (blob->heap)
        qn_free(&cache->cb, blob->heap);
    *blob = (struct qn_blob){0};
}

static void evict(const struct quern_cache *cache);

void qn_cache_put(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                  const void *data, size_t bytes)
{
    if (!cache)
        return;
    const struct qn_cache_entry entry = {
        .kind = kind, .key = key, .key_bytes = key_bytes, .data = data, .data_bytes = bytes};
    const uint64_t size = qn_cache_size(&entry);
    if (size == 0) {
        qn_log(&cache->cb, QUERN_LOG_INFO, "an entry of kind %s and %zu bytes does not go into the cache",
               kind, bytes);
        return;
    }
    uint8_t head[QN_CACHE_HEAD], tail[QN_CACHE_TAIL];
    qn_cache_write(&entry, head, tail);
    const struct qn_piece pieces[] = {{head, sizeof head},
                                      {key, key_bytes},
                                      {NULL, size - bytes - key_bytes - sizeof head - sizeof tail},
                                      {data, bytes},
                                      {tail, sizeof tail}};
    struct quern_error err = {0};
    if (qn_cache_write_pieces(cache, kind, key, key_bytes, pieces, QN_LEN(pieces), &err))
        qn_log(&cache->cb, QUERN_LOG_INFO, "the cache stays as it is: %s", err.text);
}

/* ---- files among the entries ---- */

char *qn_cache_path(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes)
{
    char name[80];
    if (!cache)
        return NULL;
    qn_cache_name(&(struct qn_cache_entry){.kind = kind, .key = key, .key_bytes = key_bytes}, name);
    return path_of(cache, name);
}

enum quern_status qn_cache_write_pieces(const struct quern_cache *cache, const char *kind, const void *key,
                                        size_t key_bytes, const struct qn_piece *pieces, size_t n,
                                        struct quern_error *err)
{
    uint64_t bytes = 0;
    if (!cache)
        return qn_fail(err, QUERN_ERR_FILE, "there is no cache");
    for (size_t i = 0; i < n; i++)
        bytes += pieces[i].size;
    if (!qn_cache_kind_good(kind) || bytes > cache->limit)
        return qn_fail(err, QUERN_ERR_PARAM, "%s of %llu MiB do not go into a cache of %llu MiB", kind,
                       (unsigned long long)(bytes >> 20), (unsigned long long)(cache->limit >> 20));
    char *path = qn_cache_path(cache, kind, key, key_bytes);
    enum quern_status status = path ? QUERN_OK : qn_fail_memory(err, "a file name");
    if (!status)
        status = qn_dir_make(&cache->cb, cache->dir, err);
    if (!status)
        status = qn_write_pieces(&cache->cb, path, pieces, n, err);
    if (!status)
        evict(cache);
    qn_free(&cache->cb, path);
    return status;
}

void qn_cache_drop(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes)
{
    if (!cache)
        return;
    char *path = qn_cache_path(cache, kind, key, key_bytes);
    if (path)
        (void)qn_file_remove(&cache->cb, path);
    qn_free(&cache->cb, path);
}

/* ---- all entries ---- */

struct item {
    char name[80];
    uint64_t bytes;
    int64_t written_ns;
};

struct items {
    const struct quern_cache *cache;
    struct item *item;
    size_t n, cap;
    bool full; /* memory is out */
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The kind in an entry's file name; false: the file is no entry. */
static bool kind_of(const char *name, char kind[32])
{
    size_t n = strlen(name), rest = 1 + HASH_DIGITS + sizeof entry_end - 1;
    if (!ends_with(name, entry_end) || n <= rest || n - rest >= 32 || name[n - rest] != '-' ||
        strspn(name + n - rest + 1, "0123456789abcdef") != HASH_DIGITS)
        return false;
    memcpy(kind, name, n - rest);
    kind[n - rest] = '\0';
    return qn_cache_kind_good(kind);
}

static bool gather(void *user, const struct qn_dir_entry *entry)
{
    struct items *items = user;
    const struct quern_cache *cache = items->cache;
    char kind[32];
    if (strstr(entry->name, entry_end) && qn_part_is_left(entry)) {
        char *path = path_of(cache, entry->name);
        if (path)
            (void)qn_file_remove(&cache->cb, path);
        qn_free(&cache->cb, path);
    }
    if (!kind_of(entry->name, kind))
        return true;
    items->full = !qn_grow(&cache->cb, &items->item, &items->cap, items->n + 1, sizeof *items->item);
    if (items->full)
        return false;
    struct item *item = &items->item[items->n++];
    snprintf(item->name, sizeof item->name, "%s", entry->name);
    item->bytes = entry->bytes;
    item->written_ns = entry->written_ns;
    return true;
}

/* The entries that there are, and what was left half written is removed. Freed by the caller also on failure.
 */
static enum quern_status list(const struct quern_cache *cache, struct items *items, struct quern_error *err)
{
    *items = (struct items){.cache = cache};
    if (!qn_file_stat(&cache->cb, cache->dir, NULL, NULL))
        return QUERN_OK; /* not made yet */
    enum quern_status status = qn_dir_list(&cache->cb, cache->dir, gather, items, err);
    return items->full ? qn_fail_memory(err, "the list of a cache") : status;
}

static bool remove_item(const struct quern_cache *cache, const struct item *item)
{
    char *path = path_of(cache, item->name);
    bool gone = path && qn_file_remove(&cache->cb, path);
    qn_free(&cache->cb, path);
    return gone;
}

static int by_use(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->written_ns < y->written_ns ? -1 : x->written_ns > y->written_ns;
}

/* Down to the limit: what was not used for longest goes first. */
static void evict(const struct quern_cache *cache)
{
    struct items items;
    uint64_t total = 0;
    if (list(cache, &items, NULL) == QUERN_OK) {
        for (size_t i = 0; i < items.n; i++)
            total += items.item[i].bytes;
        if (total > cache->limit)
            qsort(items.item, items.n, sizeof *items.item, by_use);
        for (size_t i = 0; i < items.n && total > cache->limit; i++)
            if (remove_item(cache, &items.item[i]))
                total -= items.item[i].bytes;
    }
    qn_free(&cache->cb, items.item);
}

static int by_kind(const void *a, const void *b)
{
    char x[32], y[32];
    kind_of(((const struct item *)a)->name, x);
    kind_of(((const struct item *)b)->name, y);
    return strcmp(x, y);
}

enum quern_status quern_cache_kinds(const struct quern_cache *cache, struct quern_cache_kind *kinds,
                                    size_t cap, size_t *n, struct quern_error *err)
{
    struct items items;
    struct quern_cache_kind now = {0};
    *n = 0;
    enum quern_status status = list(cache, &items, err);
    if (!status && items.n > 0)
        qsort(items.item, items.n, sizeof *items.item, by_kind);
    for (size_t i = 0; i < items.n && !status; i++) {
        char kind[32];
        kind_of(items.item[i].name, kind);
        if (strcmp(kind, now.name) != 0)
            now = (struct quern_cache_kind){0}, ++*n;
        memcpy(now.name, kind, sizeof kind);
        now.n_entries++;
        now.bytes += items.item[i].bytes;
        if (*n <= cap)
            kinds[*n - 1] = now;
    }
    qn_free(&cache->cb, items.item);
    return status;
}

enum quern_status quern_cache_clear(struct quern_cache *cache, const char *kind,
                                    struct quern_cache_kind *removed, struct quern_error *err)
{
    struct items items;
    struct quern_cache_kind sum = {0};
    enum quern_status status = list(cache, &items, err);
    for (size_t i = 0; i < items.n && !status; i++) {
        char its[32];
        kind_of(items.item[i].name, its);
        if (kind && strcmp(kind, its) != 0)
            continue;
        if (!remove_item(cache, &items.item[i]))
            status = qn_fail(err, QUERN_ERR_FILE, "%s/%s: cannot be removed", cache->dir, items.item[i].name);
        sum.n_entries++;
        sum.bytes += items.item[i].bytes;
    }
    if (removed)
        *removed = sum;
    qn_free(&cache->cb, items.item);
    return status;
}
