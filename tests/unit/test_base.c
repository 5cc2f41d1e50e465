/* Memory, errors, files, threads: the ground that everything else stands on. */
#include "base/words.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "test.h"

#include <unistd.h>

static void test_alloc(void **state)
{
    (void)state;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    assert_null(qn_alloc(&cb, SIZE_MAX / 2, 8));
    assert_null(qn_alloc(&cb, 0, 8));
    uint32_t *array = NULL;
    size_t cap = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(qn_grow(&cb, &array, &cap, i + 1, sizeof *array));
        array[i] = i * 3;
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(array[i], i * 3);
    assert_false(qn_grow(&cb, &array, &cap, SIZE_MAX, sizeof *array));
    assert_int_equal(array[999], 2997);
    assert_int_equal((uintptr_t)array % QN_ALIGN, 0);
    qn_free(&cb, array);
}

static void test_error(void **state)
{
    (void)state;
    struct quern_error err;
    assert_int_equal(qn_fail(&err, QUERN_ERR_FILE, "%s: %d", "x", 7), QUERN_ERR_FILE);
    assert_int_equal(err.status, QUERN_ERR_FILE);
    assert_string_equal(err.text, "x: 7");
    assert_int_equal(qn_fail(NULL, QUERN_ERR_PARAM, "nobody listens"), QUERN_ERR_PARAM);
}

static void test_file(void **state)
{
    (void)state;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct quern_error err;
    const char *path = "test_base.tmp";
    assert_int_equal(qn_write_file(&cb, path, "hello quern", 11, &err), QUERN_OK);
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        struct qn_view view;
        assert_int_equal(qn_view_path(&cb, &view, path, use_mmap != 0, &err), QUERN_OK);
        assert_int_equal(view.size, 11);
        assert_memory_equal(view.data, "hello quern", 11);
        qn_view_finish(&cb, &view);
        assert_null(view.data);
    }
    remove(path);
    struct qn_view view;
    assert_int_equal(qn_view_path(&cb, &view, "no/such/file", true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "no/such/file"));
    assert_int_equal(qn_view_path(&cb, &view, ".", true, &err), QUERN_ERR_FILE);
}

struct listed {
    int n;
    uint64_t bytes;
    int64_t written_ns;
};

static bool note_entry(void *user, const struct qn_dir_entry *entry)
{
    struct listed *listed = user;
    assert_string_equal(entry->name, "file");
    listed->n++;
    listed->bytes = entry->bytes;
    listed->written_ns = entry->written_ns;
    return true;
}

static void test_dir(void **state)
{
    (void)state;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct quern_error err;
    struct listed listed = {0};
    assert_int_equal(qn_dir_list(&cb, "test_base.dir", note_entry, &listed, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "test_base.dir"));
    for (int again = 0; again < 2; again++)
        assert_int_equal(qn_dir_make(&cb, "test_base.dir/below", &err), QUERN_OK);
    int64_t before = qn_date_ns();
    assert_int_equal(qn_write_file(&cb, "test_base.dir/file", "12345", 5, &err), QUERN_OK);
    assert_int_equal(qn_dir_make(&cb, "test_base.dir/file/x", &err), QUERN_ERR_FILE);
    assert_int_equal(qn_dir_list(&cb, "test_base.dir", note_entry, &listed, &err), QUERN_OK);
    assert_int_equal(listed.n, 1); /* no directories, nothing half written */
    assert_int_equal(listed.bytes, 5);
    assert_true(listed.written_ns > before - 10000000000 && listed.written_ns < before + 60000000000);
    qn_sleep_ns(50000000);
    assert_true(qn_file_touch(&cb, "test_base.dir/file"));
    uint64_t bytes;
    int64_t written_ns;
    assert_true(qn_file_stat(&cb, "test_base.dir/file", &bytes, &written_ns));
    assert_int_equal(bytes, 5);
    assert_true(written_ns > listed.written_ns);
    assert_true(qn_file_remove(&cb, "test_base.dir/file"));
    assert_true(qn_file_remove(&cb, "test_base.dir/file")); /* what is gone is gone */
    assert_false(qn_file_stat(&cb, "test_base.dir/file", NULL, NULL));
    assert_false(qn_file_touch(&cb, "test_base.dir/file"));
    rmdir("test_base.dir/below");
    rmdir("test_base.dir");
}

struct counter {
    struct qn_mutex mutex;
    struct qn_cond cond;
    int n;
};

static void count_up(void *arg)
{
    struct counter *counter = arg;
    for (int i = 0; i < 1000; i++) {
        qn_mutex_lock(&counter->mutex);
        counter->n++;
        qn_cond_signal(&counter->cond);
        qn_mutex_unlock(&counter->mutex);
    }
}

static void test_words(void **state)
{
    (void)state;
    const char *list = " int-dot,coopmat, coopmat2 ", *at = list;
    char word[8];
    assert_int_equal(qn_word_place(list, "int-dot", 7), 0);
    assert_int_equal(qn_word_place(list, "coopmat", 7), 1);
    assert_int_equal(qn_word_place(list, "coopmat2", 8), 2);
    assert_true(qn_word_place(list, "coop", 4) == SIZE_MAX && qn_word_place("", "coop", 4) == SIZE_MAX);
    assert_true(qn_word_place(list, "", 0) == SIZE_MAX);
    assert_true(qn_word_take(&at, word, sizeof word));
    assert_string_equal(word, "int-dot");
    assert_true(qn_word_take(&at, word, sizeof word) && qn_word_take(&at, word, sizeof word));
    assert_string_equal(word, "coopmat"); /* cut */
    assert_false(qn_word_take(&at, word, sizeof word));
}

static void test_threads(void **state)
{
    (void)state;
    struct counter counter = {.n = 0};
    assert_true(qn_mutex_init(&counter.mutex));
    assert_true(qn_cond_init(&counter.cond));
    struct qn_thread thread[4];
    for (int i = 0; i < 4; i++)
        assert_true(qn_thread_start(&thread[i], count_up, &counter));
    qn_mutex_lock(&counter.mutex);
    while (counter.n < 4000)
        qn_cond_wait(&counter.cond, &counter.mutex);
    qn_mutex_unlock(&counter.mutex);
    for (int i = 0; i < 4; i++)
        qn_thread_join(&thread[i]);
    qn_mutex_lock(&counter.mutex);
    uint64_t start = qn_now_ns();
    assert_false(qn_cond_wait_for(&counter.cond, &counter.mutex, 2000000));
    assert_true(qn_now_ns() - start >= 1000000);
    qn_mutex_unlock(&counter.mutex);
    qn_cond_finish(&counter.cond);
    qn_mutex_finish(&counter.mutex);
    assert_true(qn_cpu_count() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc), cmocka_unit_test(test_error),   cmocka_unit_test(test_file),
        cmocka_unit_test(test_dir),   cmocka_unit_test(test_threads), cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
