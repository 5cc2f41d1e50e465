/* Pipelines that were kept are looked at before the driver gets them: what is of another device or driver, or
 * cut off, never reaches it, and is replaced. */
#include <quern/quern.h>

#include "base/file.h"
#include "cache/cache.h"
#include "test.h"

#include "heap.h"
#include "support/golden.h"
#include "support/layer.h"

#define DIR "test_pipeline_cache.tmp"
enum { SKIPPED = 77 };

static struct qn_golden golden;
static struct quern_callbacks plain;
static int n_told; /* lines about pipelines that are not used */

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    n_told += strstr(text, "kept pipelines are of another device or driver") != NULL;
}

/* Opens the model on the device and evaluates a token. */
static enum quern_status run(struct quern_error *err)
{
    const struct quern_callbacks cb = {.log = on_log};
    struct quern_model *model;
    struct quern_session *session = NULL;
    n_told = 0;
    qn_layer_set(NULL, NULL);
    enum quern_status status = quern_model_open(
        &model, quern_source_path(golden.model),
        quern_model_params(.callbacks = &cb, .device = "vulkan", .n_ctx = 64, .cache_dir = DIR), err);
    if (!status)
        status = quern_session_create(&session, model, quern_session_params(.n_batch = 16), err);
    if (!status)
        status = quern_session_feed(session, 0, golden.tokens, 1, err);
    quern_session_destroy(&session);
    quern_model_destroy(&model);
    return status;
}

/* ---- the entry on disk ---- */

struct entry {
    uint8_t key[256], data[4096];
    size_t key_bytes, data_bytes;
};

static char entry_path[256];

static bool note_path(void *user, const struct qn_dir_entry *entry)
{
    if (strncmp(entry->name, "pipelines-", 10) == 0)
        snprintf(entry_path, sizeof entry_path, DIR "/%s", entry->name);
    return true;
}

static struct entry load(void)
{
    struct entry copy;
    struct qn_view view;
    struct qn_cache_entry entry;
    entry_path[0] = '\0';
    assert_int_equal(qn_dir_list(&plain, DIR, note_path, NULL, NULL), QUERN_OK);
    assert_int_equal(qn_view_path(&plain, &view, entry_path, false, NULL), QUERN_OK);
    assert_null(qn_cache_read(view.data, (size_t)view.size, &entry));
    assert_true(entry.key_bytes <= sizeof copy.key && entry.data_bytes <= sizeof copy.data);
    memcpy(copy.key, entry.key, entry.key_bytes);
    memcpy(copy.data, entry.data, entry.data_bytes);
    copy.key_bytes = entry.key_bytes;
    copy.data_bytes = entry.data_bytes;
    qn_view_finish(&plain, &view);
    return copy;
}

static void store(const struct entry *entry)
{
    struct quern_cache *cache;
    assert_int_equal(quern_cache_open(&cache, DIR, 0, NULL, NULL), QUERN_OK);
    qn_cache_put(cache, "pipelines", entry->key, entry->key_bytes, entry->data, entry->data_bytes);
    quern_cache_close(&cache);
}

static void clear(void)
{
    struct quern_cache *cache;
    assert_int_equal(quern_cache_open(&cache, DIR, 0, NULL, NULL), QUERN_OK);
    assert_int_equal(quern_cache_clear(cache, NULL, NULL, NULL), QUERN_OK);
    quern_cache_close(&cache);
}

/* ---- tests ---- */

static void test_foreign(void **state)
{
    (void)state;
    struct quern_error err = {0};
    clear();
    assert_int_equal(run(&err), QUERN_OK);
    const struct entry good = load();
    assert_int_equal(run(&err), QUERN_OK);
    assert_int_equal(n_told, 0);
    assert_int_equal(qn_layer_lines("pipeline miss"), 0);
    /* header size, version, vendor, device, UUID; then data that end too early */
    static const size_t at[] = {0, 1, 4, 8, 12, 16, 31};
    for (size_t i = 0; i < QN_LEN(at) + 3; i++) {
        struct entry bad = good;
        if (i < QN_LEN(at))
            bad.data[at[i]] ^= 0x41;
        else
            bad.data_bytes = i == QN_LEN(at) ? 31 : i == QN_LEN(at) + 1 ? 1 : 0;
        store(&bad);
        assert_int_equal(run(&err), QUERN_OK);
        assert_true(n_told > 0);
        assert_int_equal(qn_layer_lines("cache in"),
                         qn_layer_lines("cache in 0 empty")); /* it did not see it */
        assert_true(qn_layer_lines("pipeline miss") > 0);
        assert_true(qn_layer_clean());
        struct entry now = load();
        assert_int_equal(now.data_bytes, good.data_bytes);
        assert_memory_equal(now.data, good.data, 32);
        assert_int_equal(run(&err), QUERN_OK);
        assert_int_equal(n_told, 0);
        assert_int_equal(qn_layer_lines("pipeline miss"), 0);
    }
    clear();
    remove(DIR);
}

int main(void)
{
    struct quern_error err = {0};
    plain = qn_callbacks_resolve(NULL);
    if (!qn_golden_load(&golden, "llama"))
        return SKIPPED;
    if (run(&err)) {
        fprintf(stderr, "SKIPPED: no Vulkan device: %s\n", err.text);
        qn_golden_finish(&golden);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_foreign)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    qn_golden_finish(&golden);
    return failed;
}
