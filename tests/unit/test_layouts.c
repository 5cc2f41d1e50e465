/* Weights that are laid out for the device: which, with what in them, and when everything stays in the file.
 */
#include "test.h"

#include "base/clock.h"
#include "formats/rows16.h"
#include "heap.h"
#include "session/lay_out.h"
#include "session/layouts.h"
#include "session/weights.h"
#include "support/joints.h"

static const char *const names[] = {"qllama.Q4_K_M", "qmoe.Q4_K_M", "llama.F16", "llama.BF16", "llama"};

enum repack { BEHIND, FIRST, NEVER };

static struct quern_model *open_with(const char *name, const char *isa, bool exact, bool no_mmap,
                                     enum repack repack)
{
    const struct quern_setting setting = {"isa", isa};
    struct quern_model *model =
        qn_open_golden("models", name,
                       quern_model_params(.device = "cpu", .n_threads = 3, .settings = &setting,
                                          .n_settings = 1, .exact = exact, .no_mmap = no_mmap,
                                          .no_repack = repack == NEVER, .repack_first = repack == FIRST));
    assert_non_null(model);
    return model;
}

static struct quern_model *open_model(const char *name, enum repack repack)
{
    return open_with(name, "all", false, false, repack);
}

static uint32_t n_laid_out(const struct quern_model *model)
{
    uint32_t n = 0;
    for (size_t t = 0; t < qn_gguf_n_tensors(model->file.gguf); t++)
        n += model->weights[0].tensors[t].layout == QUERN_LAYOUT_ROWS16;
    return n;
}

/* Every row of what was laid out is that of the file. */
static void check_rows(const struct quern_model *model)
{
    static uint8_t row[65536];
    const struct qn_plan_device *device = &model->plan_devices[0];
    for (size_t t = 0; t < qn_gguf_n_tensors(model->file.gguf); t++) {
        const struct quern_binding *at = &model->weights[0].tensors[t];
        const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, t);
        if (at->layout != QUERN_LAYOUT_ROWS16)
            continue;
        const size_t n_rows = (size_t)tensor->dim[1];
        const size_t row_bytes = (size_t)qn_format_row_bytes(tensor->format, tensor->dim[0]);
        const char *data = (char *)device->driver->buffer_map(device->handle, at->buffer) + at->offset;
        assert_true(row_bytes <= sizeof row && at->offset % 64 == 0 && at->bytes == tensor->bytes);
        for (size_t r = 0; r < n_rows * tensor->dim[2]; r++) {
            qn_rows16_row(tensor->format, (size_t)tensor->dim[0], n_rows,
                          data + r / n_rows * n_rows * row_bytes, r % n_rows, row);
            assert_memory_equal(row, tensor->data + r * row_bytes, row_bytes);
        }
    }
}

static void test_contents(void **state)
{
    (void)state;
    for (size_t i = 0; i < QN_LEN(names); i++) {
        struct quern_model *model = open_model(names[i], FIRST);
        bool wants = model->plan_devices[0].caps.rows16_formats >> QUERN_Q4_K & 1;
        printf("%s: %u tensors are laid out\n", names[i], n_laid_out(model));
        assert_int_equal(n_laid_out(model) > 0, wants);
        check_rows(model);
        quern_model_destroy(&model);
    }
}

static void test_as_in_file(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct quern_model *model =
            open_with(names[0], way == 3 ? "none" : "all", way == 0, way == 1, way == 2 ? NEVER : FIRST);
        assert_int_equal(n_laid_out(model), 0);
        quern_model_destroy(&model);
    }
}

static int32_t no_room(struct quern_device *device, uint32_t heap, uint64_t bytes,
                       struct quern_buffer **buffer, struct quern_error *err)
{
    return qn_fail(err, QUERN_ERR_MEMORY, "no room");
}

static int32_t no_way(struct quern_device *device, const struct quern_weight_rows *rows,
                      struct quern_error *err)
{
    return qn_fail(err, QUERN_ERR_DEVICE, "no way");
}

static enum quern_status load_again(struct quern_model *model, struct quern_error *err)
{
    qn_weights_unload(model, 0);
    return qn_weights_load(model, 0, err);
}

/* Without room weights stay in the file; a driver that fails leaves the device without any. */
static void test_failures(void **state)
{
    (void)state;
    struct quern_model *model = open_model(names[0], FIRST);
    struct qn_plan_device *device = &model->plan_devices[0];
    const struct quern_driver *driver = device->driver;
    struct quern_driver other = *driver;
    struct quern_error err = {0};
    const uint32_t n = n_laid_out(model);
    const uint64_t memory = device->caps.heap[0].bytes;
    device->driver = &other;
    device->caps.heap[0].bytes = 4096;
    assert_int_equal(load_again(model, &err), QUERN_OK);
    assert_int_equal(n_laid_out(model), 0);
    device->caps.heap[0].bytes = memory;
    other.buffer_create = no_room;
    assert_int_equal(load_again(model, &err), QUERN_OK);
    assert_int_equal(n_laid_out(model), 0);
    other.buffer_create = driver->buffer_create;
    other.weights_prepare = NULL;
    assert_int_equal(load_again(model, &err), QUERN_OK);
    assert_int_equal(n_laid_out(model), 0);
    other.weights_prepare = no_way;
    assert_int_equal(load_again(model, &err), n > 0 ? QUERN_ERR_DEVICE : QUERN_OK);
    assert_int_equal(device->weights == NULL, n > 0);
    other.weights_prepare = driver->weights_prepare;
    assert_int_equal(load_again(model, &err), QUERN_OK);
    assert_int_equal(n_laid_out(model), n);
    device->driver = driver;
    quern_model_destroy(&model);
}

/* The first weight that a product of several tensors' rows reads. */
static struct quern_value *multiplied(struct quern_model *model)
{
    for (uint32_t i = 0; i < model->graph.view.n_nodes; i++) {
        const struct quern_node *node = quern_graph_node(&model->graph.view, i);
        if (node->op == QUERN_OP_MATMUL)
            return &model->graph.values[node->in[1]];
    }
    fail_msg("a model without products");
    return NULL;
}

/* A value that is some rows of a tensor must be whole groups of 16, or reach to the end. */
static void test_parts(void **state)
{
    (void)state;
    struct quern_model *model = open_model(names[0], FIRST);
    struct quern_value *value = multiplied(model);
    const struct quern_value whole = *value;
    const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, value->weight);
    const int64_t rows = (int64_t)tensor->dim[1];
    const struct {
        int64_t first, n;
        bool fits;
    } parts[] = {{0, rows, true}, {0, 16, true},    {16, 32, true},       {16, rows - 16, true},
                 {8, 16, false},  {16, 24, false},  {0, rows - 1, false}, {rows - 5, 5, false},
                 {32, 16, true},  {16, rows, false}};
    uint8_t *layout = malloc(qn_gguf_n_tensors(model->file.gguf));
    assert_non_null(layout);
    assert_true(rows >= 64 && rows % 16 == 0);
    model->plan_devices[0].caps.rows16_formats |= (uint64_t)1 << tensor->format;
    for (size_t i = 0; i < QN_LEN(parts); i++) {
        value->dim[1] = parts[i].n;
        value->weight_offset = (uint64_t)parts[i].first * qn_format_row_bytes(tensor->format, tensor->dim[0]);
        qn_choose_layouts(model, 0, layout);
        assert_int_equal(layout[value->weight], parts[i].fits ? QUERN_LAYOUT_ROWS16 : QUERN_LAYOUT_FILE);
    }
    *value = whole;
    for (uint32_t i = 0; i < model->graph.view.n_nodes; i++)
        model->place[QN_PHASE_PREFILL][i] = 1; /* on another device, in one phase */
    qn_choose_layouts(model, 0, layout);
    assert_int_equal(layout[value->weight], QUERN_LAYOUT_ROWS16);
    for (uint32_t i = 0; i < model->graph.view.n_nodes; i++)
        model->place[QN_PHASE_DECODE][i] = 1; /* in both */
    qn_choose_layouts(model, 0, layout);
    for (size_t t = 0; t < qn_gguf_n_tensors(model->file.gguf); t++)
        assert_int_equal(layout[t], QUERN_LAYOUT_FILE);
    free(layout);
    quern_model_destroy(&model);
}

/* ---- behind the first steps ---- */

/* Bytes that are still to be laid out, with the model's lock. */
static uint64_t bytes_left(struct quern_model *model)
{
    qn_mutex_lock(&model->lock);
    const struct qn_lay_out *left = &model->weights[0].lay_out;
    const uint64_t bytes = left->next < left->n ? left->total - left->done : 0;
    qn_mutex_unlock(&model->lock);
    return bytes;
}

/* The rows of a text. by_step: no thread lays out, but one piece before each step. */
static void run_text(struct quern_model *model, bool by_step, struct qn_rows *rows)
{
    struct quern_session *s;
    struct quern_error err;
    int32_t ids[QN_TEXT_ROWS];
    qn_text(ids, QN_TEXT_ROWS, 3);
    assert_int_equal(quern_session_create(&s, model, quern_session_params(), &err), QUERN_OK);
    const uint32_t n_vocab = model->facts.n_vocab;
    *rows = (struct qn_rows){.data = malloc(QN_TEXT_ROWS * n_vocab * sizeof(float)), .width = n_vocab};
    assert_non_null(rows->data);
    for (; rows->n < QN_TEXT_ROWS; rows->n++) {
        const uint64_t before = bytes_left(model);
        if (by_step)
            model->step_ns = 8; /* of which a share is 1 ns: one piece */
        assert_int_equal(quern_session_feed(s, 0, &ids[rows->n], 1, &err), QUERN_OK);
        if (by_step)
            assert_true(before == 0 || bytes_left(model) < before);
        memcpy(rows->data + rows->n * n_vocab, quern_session_logits(s, 0), n_vocab * sizeof(float));
    }
    quern_session_destroy(&s);
}

/* The same logits, bit for bit, before, while and after weights are laid out, whoever does it. */
static void test_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < QN_LEN(names); i++) {
        struct qn_rows want, got;
        struct quern_model *model = open_model(names[i], NEVER);
        run_text(model, false, &want);
        quern_model_destroy(&model);
        for (int way = 0; way < 3; way++) {
            model = open_model(names[i], way == 0 ? FIRST : BEHIND);
            if (way == 2)
                qn_lay_out_stop(model);
            const uint32_t n = n_laid_out(model);
            run_text(model, way == 2, &got);
            assert_true(qn_rows_same(&want, &got));
            assert_int_equal(n_laid_out(model), n);
            if (way == 2)
                assert_int_equal(bytes_left(model), 0);
            if (way == 2)
                check_rows(model);
            qn_rows_free(&got);
            quern_model_destroy(&model);
        }
        qn_rows_free(&want);
    }
}

/* While no step runs, the thread lays out everything. */
static void test_idle(void **state)
{
    (void)state;
    struct quern_model *model = open_model(names[1], BEHIND);
    for (int wait = 0; wait < 3000 && bytes_left(model) > 0; wait++)
        qn_sleep_ns(10 * 1000 * 1000);
    assert_int_equal(bytes_left(model), 0);
    qn_mutex_lock(&model->lock);
    assert_null(model->plan_devices[0].origins);
    check_rows(model);
    qn_mutex_unlock(&model->lock);
    quern_model_destroy(&model);
}

/* A model may be closed at any time, and two sessions may use it while it is laid out. */
static void test_closing(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        struct quern_model *model = open_model(names[i % 2], BEHIND);
        qn_sleep_ns((uint64_t)(i / 2) * 3 * 1000 * 1000);
        quern_model_destroy(&model);
    }
}

/* What fails behind the steps costs nothing but speed. */
static void test_failure_behind(void **state)
{
    (void)state;
    struct qn_rows want, got;
    struct quern_model *model = open_model(names[0], NEVER);
    run_text(model, false, &want);
    quern_model_destroy(&model);
    model = open_model(names[0], BEHIND);
    qn_lay_out_stop(model);
    struct quern_driver other = *model->plan_devices[0].driver;
    const struct quern_driver *driver = model->plan_devices[0].driver;
    other.weights_prepare = no_way;
    model->plan_devices[0].driver = &other;
    run_text(model, true, &got);
    assert_true(qn_rows_same(&want, &got));
    assert_int_equal(bytes_left(model), 0);
    model->plan_devices[0].driver = driver;
    qn_rows_free(&want);
    qn_rows_free(&got);
    quern_model_destroy(&model);
}

/* Memory that runs out at any point: a failed call leaves nothing behind, and what works gives the same. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct quern_error err;
    char path[1200];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/models/%s.gguf", root ? root : ".", names[0]);
    for (size_t n = 1;; n++) {
        struct qn_test_heap heap;
        qn_test_heap_init(&heap);
        heap.fail_at = n;
        struct quern_model *model;
        enum quern_status status = quern_model_open(
            &model, quern_source_path(path),
            quern_model_params(.callbacks = &heap.cb, .device = "cpu", .n_threads = 1), &err);
        struct quern_session *s = NULL;
        const int32_t ids[2] = {5, 6};
        if (!status)
            status = quern_session_create(&s, model, quern_session_params(), &err);
        for (int i = 0; i < 2 && !status; i++)
            status = quern_session_feed(s, 0, &ids[i], 1, &err);
        assert_true(status == QUERN_OK || status == QUERN_ERR_MEMORY);
        quern_session_destroy(&s);
        quern_model_destroy(&model);
        assert_int_equal(heap.n_live, 0);
        if (heap.n_calls < n)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),      cmocka_unit_test(test_as_in_file),
        cmocka_unit_test(test_failures),      cmocka_unit_test(test_parts),
        cmocka_unit_test(test_same_bits),     cmocka_unit_test(test_idle),
        cmocka_unit_test(test_closing),       cmocka_unit_test(test_failure_behind),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
