/* The cache on disk: what is kept, what is thrown away, several processes at once. */
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "cache/cache.h"
#include "test.h"
#include "heap.h"

#define DIR "test_cache.tmp"

static struct qn_test_heap heap;

static struct quern_cache *open_cache(uint64_t limit)
{
    struct quern_error err;
    struct quern_cache *cache;
    if (heap.cb.alloc == NULL)
        qn_test_heap_init(&heap);
    heap.n_warnings = 0;
    assert_int_equal(quern_cache_open(&cache, DIR, limit, &heap.cb, &err), QUERN_OK);
    return cache;
}

static struct quern_cache *empty_cache(uint64_t limit)
{
    struct quern_cache *cache = open_cache(limit);
    assert_int_equal(quern_cache_clear(cache, NULL, NULL, NULL), QUERN_OK);
    return cache;
}

static void put(const struct quern_cache *cache, const char *kind, const char *key, const char *data)
{
    qn_cache_put(cache, kind, key, strlen(key), data, strlen(data));
}

/* Whether the key has this data; NULL: whether it is missing. */
static bool has(const struct quern_cache *cache, const char *kind, const char *key, const char *data)
{
    struct qn_blob blob;
    bool found = qn_cache_get(cache, kind, key, strlen(key), &blob);
    bool good = data ? found && (uintptr_t)blob.data % QN_ALIGN == 0 && blob.bytes == strlen(data) &&
                           memcmp(blob.data, data, blob.bytes) == 0
                     : !found && !blob.data;
    qn_blob_finish(cache, &blob);
    return good;
}

static void path_of(const char *kind, const char *key, char path[128])
{
    char name[80];
    qn_cache_name(&(struct qn_cache_entry){.kind = kind, .key = key, .key_bytes = strlen(key)}, name);
    snprintf(path, 128, DIR "/%s", name);
}

static void test_put_get(void **state)
{
    (void)state;
    struct quern_cache *cache = empty_cache(0);
    assert_true(has(cache, "spirv", "a", NULL));
    put(cache, "spirv", "a", "one");
    put(cache, "spirv", "b", "");
    put(cache, "pipelines", "a", "two");
    assert_true(has(cache, "spirv", "a", "one"));
    assert_true(has(cache, "spirv", "b", ""));
    assert_true(has(cache, "pipelines", "a", "two"));
    assert_true(has(cache, "pipelines", "b", NULL));
    put(cache, "spirv", "a", "another");
    assert_true(has(cache, "spirv", "a", "another"));
    qn_cache_drop(cache, "spirv", "a", 1);
    assert_true(has(cache, "spirv", "a", NULL));
    put(cache, "No Kind", "a", "x"); /* refused, not written */
    put(NULL, "spirv", "a", "x");
    assert_true(has(NULL, "spirv", "a", NULL));

    struct quern_cache_kind kinds[4];
    size_t n;
    assert_int_equal(quern_cache_kinds(cache, kinds, 1, &n, NULL), QUERN_OK);
    assert_int_equal(n, 2);
    assert_int_equal(quern_cache_kinds(cache, kinds, 4, &n, NULL), QUERN_OK);
    assert_int_equal(n, 2);
    assert_string_equal(kinds[0].name, "pipelines");
    assert_string_equal(kinds[1].name, "spirv");
    assert_int_equal(kinds[1].n_entries, 1);
    assert_int_equal(kinds[1].bytes, QN_CACHE_HEAD + 64 + QN_CACHE_TAIL);
    struct quern_cache_kind removed;
    assert_int_equal(quern_cache_clear(cache, "pipelines", &removed, NULL), QUERN_OK);
    assert_int_equal(removed.n_entries, 1);
    assert_true(has(cache, "spirv", "b", ""));
    assert_int_equal(heap.n_warnings, 0);
    quern_cache_close(&cache);
    assert_null(cache);
}

/* Every byte of an entry counts, and so does each that is missing. */
static void test_damage(void **state)
{
    (void)state;
    struct quern_cache *cache = empty_cache(0);
    char path[128];
    path_of("spirv", "key", path);
    put(cache, "spirv", "key", "some data");
    struct qn_view whole;
    assert_int_equal(qn_view_path(&heap.cb, &whole, path, false, NULL), QUERN_OK);
    uint8_t bytes[256];
    size_t size = (size_t)whole.size;
    assert_true(size < sizeof bytes);
    for (size_t i = 0; i < 2 * size; i++) {
        memcpy(bytes, whole.data, size);
        if (i < size)
            bytes[i] ^= 1;
        heap.n_warnings = 0;
        assert_int_equal(qn_write_file(&heap.cb, path, bytes, i < size ? size : i - size, NULL), QUERN_OK);
        assert_true(has(cache, "spirv", "key", NULL));
        assert_int_equal(heap.n_warnings, 1);
        assert_non_null(strstr(heap.warning, path));
        assert_false(qn_file_stat(&heap.cb, path, NULL, NULL)); /* thrown away */
    }
    qn_view_finish(&heap.cb, &whole);

    put(cache, "spirv", "other", "data"); /* whole, but of another key */
    char other[128];
    path_of("spirv", "other", other);
    assert_int_equal(rename(other, path), 0);
    assert_true(has(cache, "spirv", "key", NULL));
    assert_non_null(strstr(heap.warning, "another key"));
    quern_cache_close(&cache);
}

static void test_limit(void **state)
{
    (void)state;
    enum { ENTRY = QN_CACHE_HEAD + 64 + 1000 + QN_CACHE_TAIL };
    struct quern_cache *cache = empty_cache(3 * ENTRY + 10);
    static const char data[4 * ENTRY];
    const char *keys[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) {
        qn_cache_put(cache, "k", keys[i], 1, data, 1000);
        qn_sleep_ns(20000000); /* dates of files differ */
        if (i == 2) {          /* "a" was used last */
            char path[128];
            path_of("k", "a", path);
            assert_true(qn_file_touch(&heap.cb, path));
            qn_sleep_ns(20000000);
        }
    }
    struct quern_cache_kind kind;
    size_t n;
    assert_int_equal(quern_cache_kinds(cache, &kind, 1, &n, NULL), QUERN_OK);
    assert_int_equal(kind.n_entries, 3);
    assert_true(kind.bytes <= 3 * ENTRY + 10);
    assert_true(has(cache, "k", "b", NULL));
    assert_true(has(cache, "k", "c", NULL));
    struct qn_blob blob;
    assert_true(qn_cache_get(cache, "k", "a", 1, &blob));
    qn_blob_finish(cache, &blob);
    qn_cache_put(cache, "k", "f", 1, data, 4 * ENTRY); /* larger than all may be */
    assert_true(has(cache, "k", "f", NULL));
    assert_true(qn_cache_get(cache, "k", "e", 1, &blob));
    qn_blob_finish(cache, &blob);
    quern_cache_close(&cache);
}

/* Where nothing can be written, the cache is cold, and foreign files stay. */
static void test_no_room(void **state)
{
    (void)state;
    struct quern_cache *cache = empty_cache(0);
    assert_int_equal(qn_write_file(&heap.cb, DIR "/notes.txt", "mine", 4, NULL), QUERN_OK);
    put(cache, "k", "a", "data");
    assert_int_equal(quern_cache_clear(cache, NULL, NULL, NULL), QUERN_OK);
    assert_true(qn_file_stat(&heap.cb, DIR "/notes.txt", NULL, NULL));
    quern_cache_close(&cache);

    assert_int_equal(quern_cache_open(&cache, DIR "/notes.txt/below", 0, &heap.cb, NULL), QUERN_OK);
    put(cache, "k", "a", "data");
    assert_true(has(cache, "k", "a", NULL));
    size_t n;
    assert_int_equal(quern_cache_kinds(cache, NULL, 0, &n, NULL), QUERN_OK);
    assert_int_equal(n, 0);
    assert_int_equal(quern_cache_clear(cache, NULL, NULL, NULL), QUERN_OK);
    quern_cache_close(&cache);
    remove(DIR "/notes.txt");
    assert_int_equal(heap.n_warnings, 0);
}

/* Memory may run out at any allocation: then the entry is not there, and nothing is held. */
static void test_memory(void **state)
{
    (void)state;
    struct quern_cache *cache = empty_cache(0);
    put(cache, "k", "a", "data");
    for (size_t i = 1; i < 12; i++) {
        size_t live = heap.n_live;
        struct qn_blob blob;
        heap.fail_at = heap.n_calls + i;
        bool found = qn_cache_get(cache, "k", "a", 1, &blob);
        qn_blob_finish(cache, &blob);
        assert_true(found || i <= 2);
        heap.fail_at = heap.n_calls + i;
        put(cache, "k", "b", "data");
        heap.fail_at = heap.n_calls + i;
        struct quern_cache_kind kind;
        size_t n;
        struct quern_error err;
        enum quern_status status = quern_cache_kinds(cache, &kind, 1, &n, &err);
        assert_true(status == QUERN_OK || status == QUERN_ERR_MEMORY);
        heap.fail_at = 0;
        assert_int_equal(heap.n_live, live);
    }
    assert_true(has(cache, "k", "b", "data"));
    quern_cache_close(&cache);
}

struct writer {
    struct qn_thread thread;
    struct quern_cache *cache;
    char letter;
    int wrong, seen;
};

/* Writes and reads a few keys over and over; every blob that is found is one letter, many times. */
static void write_and_read(void *arg)
{
    struct writer *w = arg;
    char data[3000];
    memset(data, w->letter, sizeof data);
    for (int i = 0; i < 60; i++) {
        char key = (char)('0' + i % 3);
        qn_cache_put(w->cache, "race", &key, 1, data, sizeof data);
        struct qn_blob blob;
        if (qn_cache_get(w->cache, "race", &key, 1, &blob)) {
            const char *got = blob.data;
            w->seen++;
            for (size_t j = 0; j < blob.bytes; j++)
                w->wrong += got[j] != got[0];
        }
        qn_blob_finish(w->cache, &blob);
    }
}

static void count_warning(void *user, enum quern_log_level level, const char *text)
{
    if (level <= QUERN_LOG_WARNING)
        *(int *)user += 1;
}

static void test_several(void **state)
{
    (void)state;
    struct quern_cache *cache = empty_cache(0);
    quern_cache_close(&cache);
    struct writer writers[4];
    int warnings = 0;
    const struct quern_callbacks cb = {.user = &warnings, .log = count_warning};
    for (int i = 0; i < 4; i++) { /* a handle each, as processes have */
        writers[i] = (struct writer){.letter = (char)('a' + i)};
        assert_int_equal(quern_cache_open(&writers[i].cache, DIR, 0, &cb, NULL), QUERN_OK);
        assert_true(qn_thread_start(&writers[i].thread, write_and_read, &writers[i]));
    }
    for (int i = 0; i < 4; i++) {
        qn_thread_join(&writers[i].thread);
        assert_int_equal(writers[i].wrong, 0);
        assert_true(writers[i].seen > 0);
        quern_cache_close(&writers[i].cache);
    }
    assert_int_equal(warnings, 0);
    cache = empty_cache(0);
    quern_cache_close(&cache);
    remove(DIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get), cmocka_unit_test(test_damage), cmocka_unit_test(test_limit),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_memory), cmocka_unit_test(test_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
