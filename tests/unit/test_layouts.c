/* Weights that are laid out for the device: which, with what in them, and when everything stays in the file.
 */
#include "test.h"

#include "formats/rows16.h"
#include "session/layouts.h"
#include "session/weights.h"
#include "support/joints.h"

static const char *const names[] = {"qllama.Q4_K_M", "qmoe.Q4_K_M"};

static struct quern_model *open_model(const char *name, const char *isa, bool exact, bool no_mmap,
                                      bool no_repack)
{
    const struct quern_setting setting = {"isa", isa};
    struct quern_model *model = qn_open_golden(
        "models", name,
        quern_model_params(.device = "cpu", .n_threads = 3, .settings = &setting, .n_settings = 1,
                           .exact = exact, .no_mmap = no_mmap, .no_repack = no_repack));
    assert_non_null(model);
    return model;
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
        struct quern_model *model = open_model(names[i], "all", false, false, false);
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
            open_model(names[0], way == 3 ? "none" : "all", way == 0, way == 1, way == 2);
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
    struct quern_model *model = open_model(names[0], "all", false, false, false);
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
    struct quern_model *model = open_model(names[0], "all", false, false, false);
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
        model->place[i] = 1; /* on another device */
    qn_choose_layouts(model, 0, layout);
    for (size_t t = 0; t < qn_gguf_n_tensors(model->file.gguf); t++)
        assert_int_equal(layout[t], QUERN_LAYOUT_FILE);
    free(layout);
    quern_model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_as_in_file),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
