/* Laid out weights that are kept on disk: used by the next start, with the same results; never when the file
 * is not whole, not of this model, or not what the device wants; and nothing is lost where it cannot be
 * written. */
#include "test.h"

#include "base/clock.h"
#include "base/file.h"
#include "heap.h"
#include "session/kept.h"
#include "session/lay_out.h"
#include "support/golden.h"
#include "support/joints.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A folder with a copy of a model of its own, and what was logged. */
static struct home {
    char folder[64], model[96], kept[128], cache[96];
    struct quern_callbacks cb;
    _Atomic int n_warnings;
    char warning[512]; /* the last one */
    bool cancels;
} home;

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (level > QUERN_LOG_WARNING)
        return;
    snprintf(home.warning, sizeof home.warning, "%s", text);
    home.n_warnings++;
}

static bool on_cancel(void *user)
{
    return home.cancels;
}

static struct qn_view read_file(const char *path)
{
    struct qn_view view;
    struct quern_error err;
    if (qn_view_path(&home.cb, &view, path, false, &err))
        fail_msg("%s", err.text);
    return view;
}

static void write_file(const char *path, const void *data, uint64_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, (size_t)size, file), size);
    assert_int_equal(fclose(file), 0);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static int set_up(void **state)
{
    char from[1200];
    home = (struct home){.folder = "/tmp/quern-kept-XXXXXX", .cb = {.log = on_log, .cancel = on_cancel}};
    home.cb = qn_callbacks_resolve(&home.cb);
    assert_non_null(mkdtemp(home.folder));
    snprintf(home.model, sizeof home.model, "%s/m.gguf", home.folder);
    snprintf(home.kept, sizeof home.kept, "%s.layouts", home.model);
    snprintf(home.cache, sizeof home.cache, "%s/cache", home.folder);
    qn_golden_path(from, sizeof from, "models", "qllama.Q4_K_M.gguf");
    struct qn_view model;
    struct quern_error err;
    if (qn_view_path(&home.cb, &model, from, false, &err))
        fail_msg("%s", err.text);
    write_file(home.model, model.data, model.size);
    qn_view_finish(&home.cb, &model);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", home.folder);
    return system(command);
}

enum when { FIRST, BEHIND };

static struct quern_model *open_as(enum when when, bool keeps)
{
    struct quern_model *model;
    struct quern_error err;
    home.n_warnings = 0;
    if (quern_model_open(&model, quern_source_path(home.model),
                         quern_model_params(.callbacks = &home.cb, .device = "cpu", .n_threads = 2,
                                            .cache_dir = home.cache, .repack_first = when == FIRST,
                                            .keep_layouts = keeps),
                         &err))
        fail_msg("%s", err.text);
    return model;
}

static struct quern_model *open_model(enum when when)
{
    return open_as(when, true);
}

/* Whether the processor has layouts; without any there is nothing to keep. */
static void need_layouts(void)
{
    struct quern_model *model = open_as(FIRST, false);
    const bool has = model->weights[0].copied > 0;
    quern_model_destroy(&model);
    if (!has)
        skip();
}

static struct qn_rows rows_of(struct quern_model *model)
{
    struct qn_rows rows;
    struct quern_error err;
    if (qn_text_alone(model, quern_session_params(), 7, &rows, &err))
        fail_msg("%s", err.text);
    return rows;
}

static bool is_left(struct quern_model *model)
{
    qn_mutex_lock(&model->lock);
    const bool left = model->weights[0].lay_out.next < model->weights[0].lay_out.n;
    qn_mutex_unlock(&model->lock);
    return left;
}

/* Opens the model, runs a text, closes it; the logits are those of the file. uses: what was kept is mapped.
 */
static void check_run(enum when when, bool uses)
{
    struct quern_model *model = open_as(FIRST, false);
    struct qn_rows want = rows_of(model);
    quern_model_destroy(&model);
    model = open_model(when);
    const struct qn_weights *weights = &model->weights[0];
    assert_int_equal(weights->kept.path != NULL, uses);
    assert_int_equal(weights->copied == 0, uses);
    assert_int_equal(weights->mapped,
                     qn_gguf_file_bytes(model->file.gguf) + (uses ? weights->kept.form.bytes : 0));
    struct qn_rows got = rows_of(model);
    assert_true(qn_rows_same(&want, &got));
    for (int wait = 0; wait < 3000 && uses && is_left(model); wait++)
        qn_sleep_ns(10 * 1000 * 1000);
    qn_rows_free(&got);
    got = rows_of(model);
    assert_true(qn_rows_same(&want, &got)); /* and when all of it has been checked */
    quern_model_destroy(&model);
    qn_rows_free(&want);
    qn_rows_free(&got);
}

/* Makes the file; closing the model waits for it. */
static void keep(void)
{
    check_run(BEHIND, false);
    assert_int_equal(home.n_warnings, 0);
    assert_true(is_there(home.kept));
}

static void test_kept(void **state)
{
    need_layouts();
    struct quern_model *model = open_as(BEHIND, false);
    quern_model_destroy(&model);
    assert_false(is_there(home.kept)); /* only where it is wanted */
    keep();
    struct qn_view first = read_file(home.kept);
    check_run(BEHIND, true);
    check_run(FIRST, true);
    assert_int_equal(unlink(home.kept), 0);
    check_run(FIRST, false);
    struct qn_view second = read_file(home.kept);
    assert_int_equal(first.size, second.size); /* the same, whoever made it */
    assert_memory_equal(first.data, second.data, first.size);
    qn_view_finish(&home.cb, &first);
    qn_view_finish(&home.cb, &second);
    assert_int_equal(home.n_warnings, 0);
}

/* What cannot be used is not, and says why in one line; then it is made anew. */
static void test_of_no_use(void **state)
{
    need_layouts();
    keep();
    struct qn_view view = read_file(home.kept);
    struct qn_kept_form form;
    assert_null(qn_kept_read(view.data, view.size, &form));
    uint8_t *bytes = malloc(view.size);
    struct qn_kept_tensor *tensors = calloc(form.n, sizeof *tensors);
    assert_true(bytes && tensors && form.n > 1);
    for (uint32_t i = 0; i < form.n; i++)
        tensors[i] = qn_kept_at(&form, i);
    static const char *const whys[] = {"another version",   "sizes",           "sizes",
                                       "checksum",          "other weights",   "other weights",
                                       "model has changed", "laid out weights"};
    for (size_t way = 0; way < QN_LEN(whys); way++) {
        uint64_t size = view.size;
        memcpy(bytes, view.data, view.size);
        struct qn_kept_model model = form.model;
        bytes[8] += way == 0;
        size -= way == 1 ? 1 : 0;
        size = way == 2 ? QN_KEPT_HEAD : size;
        bytes[QN_KEPT_HEAD + 9] ^= way == 3;
        if (way == 4) {
            tensors[0].layout++;
            qn_kept_write_form(&model, tensors, form.n, form.bytes, bytes);
            tensors[0].layout--;
        } else if (way == 5) { /* a tensor less */
            qn_kept_write_form(&model, tensors, form.n - 1, form.bytes, bytes);
        } else if (way == 6) {
            model.hash ^= 1;
            qn_kept_write_form(&model, tensors, form.n, form.bytes, bytes);
        } else if (way == 7) {
            size = 5;
        }
        for (int when = 0; when < 2; when++) {
            write_file(home.kept, bytes, size);
            check_run(when ? BEHIND : FIRST, false);
            assert_int_equal(home.n_warnings, 1);
            if (!strstr(home.warning, whys[way]))
                fail_msg("way %zu: %s", way, home.warning);
            check_run(when ? BEHIND : FIRST, true);
        }
    }
    free(bytes);
    free(tensors);
    qn_view_finish(&home.cb, &view);
}

/* Another date, or other bytes before the tensors: another model. */
static void test_changed_model(void **state)
{
    need_layouts();
    keep();
    const struct timespec dates[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, home.model, dates, 0), 0);
    check_run(BEHIND, false);
    assert_true(home.n_warnings == 1 && strstr(home.warning, "model has changed"));
    struct qn_view view = read_file(home.model);
    uint8_t *bytes = malloc(view.size);
    assert_non_null(bytes);
    memcpy(bytes, view.data, view.size);
    char *name = (char *)bytes;
    while (memcmp(name, "general.name", 12) != 0)
        name++;
    name[12 + 4 + 8] ^= 1; /* after the type and the length, the name's first letter */
    write_file(home.model, bytes, view.size);
    assert_int_equal(utimensat(AT_FDCWD, home.model, dates, 0), 0);
    check_run(BEHIND, false);
    assert_true(home.n_warnings == 1 && strstr(home.warning, "model has changed"));
    check_run(FIRST, true);
    free(bytes);
    qn_view_finish(&home.cb, &view);
}

/* A weight that is not what it was is never read, and the file is thrown away. */
static void test_damaged_weights(void **state)
{
    need_layouts();
    keep();
    struct qn_view view = read_file(home.kept);
    struct qn_kept_form form;
    assert_null(qn_kept_read(view.data, view.size, &form));
    const uint64_t weights = (uint64_t)(form.weights - view.data);
    uint8_t *bytes = malloc(view.size);
    assert_non_null(bytes);
    for (uint32_t i = 0; i < form.n; i += form.n - 1) {
        const struct qn_kept_tensor at = qn_kept_at(&form, i);
        memcpy(bytes, view.data, view.size);
        bytes[weights + at.offset + at.bytes - 1] ^= 0x10;
        write_file(home.kept, bytes, view.size);
        check_run(FIRST, false); /* before anything reads them */
        assert_true(home.n_warnings == 1 && strstr(home.warning, "a checksum is wrong"));
        check_run(FIRST, true);
        write_file(home.kept, bytes, view.size);
        check_run(BEHIND, true); /* the tensors before that one are used, the others are the model file's */
        assert_true(home.n_warnings == 1 && strstr(home.warning, "a checksum is wrong"));
        assert_false(is_there(home.kept));
        keep();
    }
    free(bytes);
    qn_view_finish(&home.cb, &view);
}

/* A disk that is full: the file before stays, nothing half written is left, the model runs. */
static void test_full_disk(void **state)
{
    need_layouts();
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000; /* enough for the form, not for the weights */
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    check_run(BEHIND, false);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_true(home.n_warnings == 1 && strstr(home.warning, "not kept"));
    assert_false(is_there(home.kept));
    assert_int_equal(unlink(home.model) | rmdir(home.cache) | rmdir(home.folder), 0); /* empty */
    assert_int_equal(mkdir(home.folder, 0700), 0);
}

/* Where nothing can be written beside the model, the cache has it, as one of its entries. */
static void test_in_cache(void **state)
{
    need_layouts();
    struct quern_cache *cache;
    struct quern_cache_kind kind;
    size_t n;
    assert_int_equal(mkdir(home.kept, 0700), 0);
    check_run(BEHIND, false);
    assert_int_equal(home.n_warnings, 1); /* a directory is of no use */
    assert_int_equal(quern_cache_open(&cache, home.cache, 0, NULL, NULL), QUERN_OK);
    assert_int_equal(quern_cache_kinds(cache, &kind, 1, &n, NULL), QUERN_OK);
    assert_true(n == 1 && strcmp(kind.name, "layouts") == 0 && kind.n_entries == 1 && kind.bytes > 100000);
    check_run(BEHIND, true);
    assert_int_equal(quern_cache_clear(cache, "layouts", &kind, NULL), QUERN_OK);
    assert_int_equal(kind.n_entries, 1);
    check_run(FIRST, false);
    check_run(FIRST, true);
    quern_cache_close(&cache);
}

static const struct quern_driver *inner;
static uint32_t n_told, n_packed;

static int32_t count(struct quern_device *device, const struct quern_weight_rows *rows,
                     struct quern_error *err)
{
    n_told += rows->rows == NULL;
    n_packed += rows->rows != NULL;
    return inner->weights_prepare(device, rows, err);
}

/* The device is told of each tensor that was checked, and lays out nothing itself. */
static void test_told(void **state)
{
    need_layouts();
    keep();
    struct quern_model *model = open_model(BEHIND);
    qn_lay_out_stop(model);
    const struct qn_lay_out *left = &model->weights[0].lay_out;
    const uint32_t before = left->next, n = left->n;
    inner = model->plan_devices[0].driver;
    struct quern_driver other = *inner;
    other.weights_prepare = count;
    n_told = n_packed = 0;
    model->plan_devices[0].driver = &other;
    while (left->next < n) {
        const uint32_t next = left->next;
        model->step_ns = 8; /* of which a share is 1 ns: one piece */
        qn_lay_out_before_step(model, 1);
        assert_int_equal(left->next, next + 1); /* each of them is one piece */
    }
    model->plan_devices[0].driver = inner;
    assert_true(n_told == n - before && n_packed == 0);
    quern_model_destroy(&model);
}

/* A caller in a hurry need not wait; the next start finds nothing. */
static void test_cancelled(void **state)
{
    need_layouts();
    struct quern_model *model = open_model(BEHIND);
    qn_lay_out_stop(model);
    if (model->weights[0].lay_out.keep) { /* unless the thread was done before */
        home.cancels = true;
        quern_model_destroy(&model);
        home.cancels = false;
        assert_false(is_there(home.kept));
    } else {
        quern_model_destroy(&model);
    }
    check_run(BEHIND, is_there(home.kept));
}

/* What a process that was killed has left goes, once nobody can be writing it. */
static void test_left_over(void **state)
{
    need_layouts();
    static const struct {
        const char *end;
        bool old, stays;
    } files[] = {{"layouts.1-0.part", true, false}, {"layouts.2-0.part", false, true},
                 {"layoutsx.part", true, true},     {"1-0.part", true, true},
                 {"layouts.part", true, false},     {"layouts.1-0.parts", true, true}};
    const struct timespec dates[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    char path[160];
    for (size_t i = 0; i < QN_LEN(files); i++) {
        snprintf(path, sizeof path, "%s.%s", home.model, files[i].end);
        write_file(path, "x", 1);
        if (files[i].old)
            assert_int_equal(utimensat(AT_FDCWD, path, dates, 0), 0);
    }
    struct quern_model *model = open_model(FIRST);
    quern_model_destroy(&model);
    for (size_t i = 0; i < QN_LEN(files); i++) {
        snprintf(path, sizeof path, "%s.%s", home.model, files[i].end);
        assert_int_equal(is_there(path), files[i].stays);
    }
}

/* Memory that runs out at any point, with a file and without. */
static void test_out_of_memory(void **state)
{
    need_layouts();
    for (int there = 0; there < 2; there++)
        for (size_t n = 1;; n++) {
            struct qn_test_heap heap;
            struct quern_model *model;
            struct quern_error err;
            if (!there)
                (void)unlink(home.kept);
            qn_test_heap_init(&heap);
            heap.fail_at = n;
            enum quern_status status =
                quern_model_open(&model, quern_source_path(home.model),
                                 quern_model_params(.callbacks = &heap.cb, .device = "cpu", .n_threads = 1,
                                                    .repack_first = true, .keep_layouts = true),
                                 &err);
            assert_true(status == QUERN_OK || status == QUERN_ERR_MEMORY);
            quern_model_destroy(&model);
            assert_int_equal(heap.n_live, 0);
            if (heap.n_calls < n)
                break;
        }
    check_run(FIRST, true);
}

/* ---- the form ---- */

/* What is written is read; with any byte of it changed, or cut anywhere, it is refused. */
static void test_form(void **state)
{
    const struct qn_kept_model model = {.bytes = 1ull << 40, .written_ns = -5, .hash = 0x123456789abcdef0};
    const struct qn_kept_tensor tensors[] = {
        {7, 1, 0, 100, 11}, {3, 2, 128, 64, UINT64_MAX}, {9, 1, 256, 1, 0}};
    enum { BYTES = 320 };
    const uint64_t begin = qn_kept_begin(3);
    uint8_t *file = calloc(1, begin + BYTES);
    struct qn_kept_form form;
    assert_non_null(file);
    qn_kept_write_form(&model, tensors, 3, BYTES, file);
    assert_null(qn_kept_read(file, begin + BYTES, &form));
    assert_memory_equal(&form.model, &model, sizeof model);
    assert_true(form.n == 3 && form.bytes == BYTES && form.weights == file + begin &&
                begin % QN_KEPT_ALIGN == 0);
    for (uint32_t i = 0; i < 3; i++) {
        const struct qn_kept_tensor at = qn_kept_at(&form, i);
        assert_memory_equal(&at, &tensors[i], sizeof at);
    }
    for (size_t at = 0; at < QN_KEPT_HEAD + 3 * QN_KEPT_ENTRY; at++)
        for (int bit = 0; bit < 8; bit++) {
            file[at] ^= (uint8_t)(1 << bit);
            assert_non_null(qn_kept_read(file, begin + BYTES, &form));
            file[at] ^= (uint8_t)(1 << bit);
        }
    for (uint64_t size = 0; size < begin + BYTES; size += size < 256 ? 1 : 1000)
        assert_non_null(qn_kept_read(file, size, &form));
    free(file);
}

/* Places with sums that fit, and that are no places. */
static void test_places(void **state)
{
    static const struct qn_kept_tensor wrong[][2] = {
        {{0, 1, 1, 10, 0}, {1, 1, 64, 64, 0}},
        {{0, 1, 0, 65, 0}, {1, 1, 64, 64, 0}},
        {{0, 1, 0, 64, 0}, {1, 1, 64, 65, 0}},
        {{0, 1, 64, 64, 0}, {1, 1, 0, 64, 0}},
        {{0, 1, 0, 64, 0}, {1, 1, 192, 0, 0}},
        {{0, 1, 0, UINT64_MAX, 0}, {1, 1, 64, 64, 0}},
        {{0, 1, 0, 0, 0}, {1, 1, 64, UINT64_MAX - 63, 0}},
        {{0, 1, 0, 0, 0}, {1, 1, UINT64_MAX - 63, 64, 0}},
    };
    const uint64_t begin = qn_kept_begin(2);
    uint8_t *file = calloc(1, begin + 128);
    struct qn_kept_form form;
    assert_non_null(file);
    for (size_t i = 0; i < QN_LEN(wrong); i++) {
        qn_kept_write_form(&(struct qn_kept_model){0}, wrong[i], 2, 128, file);
        const char *why = qn_kept_read(file, begin + 128, &form);
        if (!why || !strstr(why, "follow"))
            fail_msg("places %zu: %s", i, why ? why : "taken");
    }
    qn_kept_write_form(&(struct qn_kept_model){0}, NULL, 0, 0, file); /* nothing is a form as well */
    assert_null(qn_kept_read(file, qn_kept_begin(0), &form));
    free(file);
}

/* A sum is that of its pieces, and sees their order. */
static void test_sums(void **state)
{
    const size_t size = QN_KEPT_PIECE * 2 + 100;
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    const uint64_t sum = qn_kept_sum_all(data, size);
    assert_true(sum == qn_kept_sum(qn_kept_sum(qn_kept_sum(0, data, QN_KEPT_PIECE), data + QN_KEPT_PIECE,
                                               QN_KEPT_PIECE),
                                   data + 2 * (size_t)QN_KEPT_PIECE, 100));
    memmove(data, data + QN_KEPT_PIECE, QN_KEPT_PIECE);
    assert_true(qn_kept_sum_all(data, size) != sum);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_sums),
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_no_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_weights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_cache, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_left_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
