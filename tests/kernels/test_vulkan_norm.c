/* A norm and the products that read its result, as one segment on a Vulkan device, where the norm may store
 * the result in 8 bits or half floats for them, and as a segment each, where it does not: the same bits. */
#include "base/host.h"
#include "drivers/vulkan/vulkan.h"
#include "formats/formats.h"
#include "conformance/fill.h"
#include "test.h"

enum { N = 40, TOKENS = 64, SKIPPED = 77 };
enum { X, ADDEND, SCALE, BIAS, SUM, Y, W0, W1, Y0, Y1, N_VALUES };
enum { NORM, PRODUCT0, PRODUCT1, N_NODES };

/* What a norm stores. */
enum form { FLOATS, IN_8_BITS, IN_HALVES, FORMS };

struct norm_case {
    uint32_t tokens, kind, group;
    enum quern_format format[2]; /* of the products' weights */
    bool addend, bias, read_by_host;
    enum form only; /* stored in this form alone, where the device has products that read it */
    enum qn_fill fill;
};

static const struct norm_case cases[] = {
    {1, QUERN_NORM_RMS, 2048, {QUERN_Q4_0, QUERN_Q8_0}, true, .only = IN_8_BITS},
    {8, QUERN_NORM_RMS, 2080, {QUERN_Q8_0, QUERN_Q5_1}, .only = IN_8_BITS},
    {3, QUERN_NORM_LAYER, 512, {QUERN_Q6_K, QUERN_Q4_K}, .bias = true, .only = IN_8_BITS},
    {2, QUERN_NORM_RMS, 64, {QUERN_Q4_K, QUERN_IQ4_XS}, true, .only = IN_8_BITS},
    {2, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_F32}, true},
    {5, QUERN_NORM_LAYER, 96, {QUERN_F16, QUERN_Q4_0}, .bias = true},
    {1, QUERN_NORM_RMS, 256, {QUERN_Q4_0, QUERN_Q4_0}, .read_by_host = true},
    {1, QUERN_NORM_RMS, 40, {QUERN_BF16, QUERN_F32}},
    /* for more tokens products read half floats, if at all */
    {9, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_Q8_0}, true, .only = IN_HALVES},
    {64, QUERN_NORM_RMS, 2080, {QUERN_Q4_0, QUERN_F16}, .only = IN_HALVES},
    {33, QUERN_NORM_LAYER, 1284, {QUERN_F16, QUERN_F16}, true, .bias = true, .only = IN_HALVES},
    {20, QUERN_NORM_LAYER, 1280, {QUERN_Q6_K, QUERN_Q4_K}, .bias = true, .only = IN_HALVES},
    {17, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_Q4_0}, true, .only = IN_HALVES, .fill = QN_FILL_OUTLIER},
    {17, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_Q4_0}, true, .only = IN_HALVES, .fill = QN_FILL_TINY},
    {17, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_Q4_0}, .only = IN_HALVES, .fill = QN_FILL_ZERO},
    {16, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_F32}, true},
    {40, QUERN_NORM_RMS, 1024, {QUERN_Q4_0, QUERN_Q4_0}, .read_by_host = true},
    {9, QUERN_NORM_RMS, 256, {QUERN_Q4_0, QUERN_Q4_0}}, /* a row has four groups */
    {12, QUERN_NORM_RMS, 1030, {QUERN_F16, QUERN_F16}}, /* the last quad is not whole */
};

static struct {
    struct quern_device *device;
    bool has[FORMS]; /* products that read it */
    int n_complaints;
} gpu;

struct rig {
    struct quern_value values[N_VALUES];
    struct quern_binding bindings[N_VALUES];
    struct quern_node nodes[N_NODES];
    struct quern_graph graph;
    struct quern_buffer *buffer; /* of all values */
    char *map;
    size_t bytes;
};

static void add_value(struct rig *rig, uint32_t id, uint32_t kind, enum quern_format format, int64_t d0,
                      int64_t d1)
{
    bool rows = kind != QUERN_VALUE_WEIGHT;
    rig->values[id] = (struct quern_value){.kind = kind, .format = format, .dim = {d0, d1, 1, 1}};
    rig->bindings[id].offset = rig->bytes;
    rig->bindings[id].bytes = qn_format_row_bytes(format, (uint64_t)d0) * (rows ? TOKENS : (uint64_t)d1);
    rig->bytes += (rig->bindings[id].bytes + 255) / 256 * 256;
}

static struct quern_node node_of(uint32_t op)
{
    struct quern_node node = {.op = op};
    memset(node.in, 0xff, sizeof node.in);
    memset(node.out, 0xff, sizeof node.out);
    return node;
}

static void make_graph(struct rig *rig, const struct norm_case *at)
{
    int64_t k = at->group > 1024 ? at->group : 1024 / at->group * at->group;
    const uint32_t weight[] = {W0, W1}, result[] = {Y0, Y1};
    *rig = (struct rig){0};
    for (uint32_t i = X; i <= Y; i++)
        if (i != SCALE && i != BIAS)
            add_value(rig, i, QUERN_VALUE_ACTIVATION, QUERN_F32, k, QUERN_DIM_TOKENS);
        else
            add_value(rig, i, QUERN_VALUE_WEIGHT, QUERN_F32, at->group, 1);
    if (at->read_by_host)
        rig->values[Y].kind = QUERN_VALUE_OUTPUT;
    struct quern_node *norm = &rig->nodes[NORM];
    *norm = node_of(QUERN_OP_NORM);
    norm->attr.norm = (struct quern_norm_attr){at->kind, at->group, 1e-5f};
    norm->in[0] = X, norm->in[1] = SCALE, norm->out[0] = Y;
    norm->in[2] = at->bias ? BIAS : QUERN_NONE;
    norm->in[3] = at->addend ? ADDEND : QUERN_NONE;
    norm->out[1] = at->addend ? SUM : QUERN_NONE;
    for (uint32_t i = 0; i < 2; i++) {
        add_value(rig, weight[i], QUERN_VALUE_WEIGHT, at->format[i], k, N);
        add_value(rig, result[i], QUERN_VALUE_ACTIVATION, QUERN_F32, N, QUERN_DIM_TOKENS);
        struct quern_node *product = &rig->nodes[PRODUCT0 + i];
        *product = node_of(QUERN_OP_MATMUL);
        product->attr.matmul = (struct quern_matmul_attr){.n_weights = 1, .scale = 1, .residual_scale = 1};
        product->in[0] = Y, product->in[1] = weight[i], product->out[0] = result[i];
    }
    rig->graph = (struct quern_graph){.struct_size = sizeof rig->graph,
                                      .value_size = sizeof rig->values[0],
                                      .node_size = sizeof rig->nodes[0],
                                      .n_values = N_VALUES,
                                      .n_nodes = N_NODES,
                                      .values = rig->values,
                                      .nodes = rig->nodes};
}

static void fill(struct rig *rig, enum qn_fill activations)
{
    memset(rig->map, 0xff, rig->bytes);
    for (uint32_t i = 0; i < N_VALUES; i++) {
        void *at = rig->map + rig->bindings[i].offset;
        size_t n = rig->bindings[i].bytes / 4;
        if (i == W0 || i == W1)
            qn_fill_weights(rig->values[i].format, QN_FILL_RANDOM, i, at, (size_t)rig->values[i].dim[0] * N);
        else if (i <= BIAS)
            qn_fill_activations(i == X || i == ADDEND ? activations : QN_FILL_RANDOM, i, at, n);
    }
}

/* The nodes from `first` on as one segment. */
static void run_nodes(struct rig *rig, const struct norm_case *at, uint32_t first, uint32_t n)
{
    const struct quern_driver *driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI);
    static const uint32_t ids[N_NODES] = {NORM, PRODUCT0, PRODUCT1};
    const struct quern_segment segment = {.struct_size = sizeof segment,
                                          .n_nodes = n,
                                          .graph = &rig->graph,
                                          .nodes = ids + first,
                                          .bindings = rig->bindings,
                                          .max_tokens = at->tokens,
                                          .max_outputs = at->tokens};
    const struct quern_step step = {
        .struct_size = sizeof step, .block_bytes = sizeof step, .n_tokens = at->tokens};
    const struct quern_run_args args = {.struct_size = sizeof args, .step = &step};
    struct quern_prepared *prepared = NULL;
    struct quern_error err;
    uint64_t point = 0;
    int32_t status = driver->prepare(gpu.device, &segment, &prepared, &err);
    if (!status)
        status = driver->run(gpu.device, prepared, &args, &point, &err);
    if (!status)
        status = driver->wait(gpu.device, point, UINT64_MAX, &err);
    if (status)
        fail_msg("nodes %u to %u: %s", first, first + n - 1, err.text);
    driver->release(gpu.device, prepared);
}

static void run_case(const struct norm_case *at)
{
    const struct quern_driver *driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI);
    struct rig rig;
    struct quern_error err;
    make_graph(&rig, at);
    if (driver->buffer_create(gpu.device, 0, rig.bytes, &rig.buffer, &err))
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < N_VALUES; i++)
        rig.bindings[i].buffer = rig.buffer;
    rig.map = driver->buffer_map(gpu.device, rig.buffer);
    char *apart = malloc(rig.bytes);
    if (!rig.map || !apart) {
        fprintf(stderr, "SKIPPED: the host does not reach the device's memory\n");
        exit(SKIPPED);
    }
    fill(&rig, at->fill);
    for (uint32_t i = 0; i < N_NODES; i++)
        run_nodes(&rig, at, i, 1);
    memcpy(apart, rig.map, rig.bytes);
    fill(&rig, at->fill);
    run_nodes(&rig, at, 0, N_NODES);
    for (uint32_t i = 0; i < N_VALUES; i++) {
        size_t first = rig.bindings[i].offset, bytes = rig.bindings[i].bytes;
        bool same = memcmp(apart + first, rig.map + first, bytes) == 0;
        /* otherwise nothing has been written there */
        bool in_floats = i != Y || at->only == FLOATS || !gpu.has[at->only];
        if (same != in_floats)
            fail_msg("case %zu: value %u is %s", (size_t)(at - cases), i, same ? "the same" : "another");
    }
    free(apart);
    driver->buffer_destroy(gpu.device, rig.buffer);
    assert_int_equal(gpu.n_complaints, 0);
}

static void test_norm(void **state)
{
    (void)state;
    for (size_t i = 0; i < QN_LEN(cases); i++)
        run_case(&cases[i]);
}

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    (void)user;
    (void)level;
    if (strstr(text, "Vulkan validation") && gpu.n_complaints++ < 10)
        fprintf(stderr, "%s\n", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_norm)};
    const struct quern_callbacks logged = {.log = on_log}, callbacks = qn_callbacks_resolve(&logged);
    const struct quern_host host = {sizeof host, &callbacks};
    struct quern_setting settings[] = {{"vk-validate", "1"}, {"kernels.coopmat-on-software", "1"}};
    struct quern_profile_view profile = {sizeof profile, QN_LEN(settings), settings};
    struct quern_device_info info = {.struct_size = sizeof info};
    const struct quern_driver *driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI);
    struct quern_error err;
    uint32_t n = 0;
    if (driver->probe(&host, &info, 1, &n, &err) || n == 0) {
        fprintf(stderr, "SKIPPED: no Vulkan device is here\n");
        return SKIPPED;
    }
    if (driver->open(&host, 0, &profile, &gpu.device, &err)) {
        fprintf(stderr, "test_vulkan_norm: %s\n", err.text);
        return 1;
    }
    gpu.has[IN_8_BITS] = strstr(info.features, "int-dot") != NULL;
    gpu.has[IN_HALVES] = strstr(info.features, "coopmat") != NULL;
    printf("%s: %s\n", info.name, info.features);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    driver->close(gpu.device);
    return failed > 0;
}
