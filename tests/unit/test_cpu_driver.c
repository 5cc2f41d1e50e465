/* The CPU driver's device, buffers and worker pool, and what it refuses. */
#include "base/clock.h"
#include "base/host.h"
#include "drivers/cpu/cpu.h"
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/pool.h"
#include "formats/rows16.h"
#include "support/cpu_case.h"
#include "test.h"

#include <stdatomic.h>

/* ---------------------------------------------------------------- device */

static int32_t open_with(const char *name, const char *value, struct quern_error *err)
{
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, qn_plain_callbacks()};
    struct quern_setting setting = {name, value};
    struct quern_profile_view profile = {sizeof profile, 1, &setting};
    struct quern_device *device = NULL;
    int32_t status = driver->open(&host, 0, &profile, &device, err);
    assert_true((status == QUERN_OK) == (device != NULL));
    if (device)
        driver->close(device);
    return status;
}

static void test_device(void **state)
{
    (void)state;
    assert_null(quern_cpu_driver_get(QUERN_DRIVER_ABI + 1));
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, qn_plain_callbacks()};
    struct quern_device_info info = {.struct_size = sizeof info};
    struct quern_error err;
    uint32_t n = 0;
    assert_int_equal(driver->probe(&host, &info, 1, &n, &err), QUERN_OK);
    assert_int_equal(n, 1);
    assert_true(info.type == QUERN_DEVICE_CPU && info.name[0] != '\0' && info.memory > 0);
    assert_int_equal(open_with("threads", "3", &err), QUERN_OK);
    assert_int_equal(open_with("threads", "0", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("threads", "513", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("threads", "2x", &err), QUERN_ERR_PARAM);
    assert_int_equal(open_with("isa", "avx2, neon", &err), QUERN_OK);
    assert_int_equal(open_with("isa", "avx9", &err), QUERN_ERR_PARAM);
    assert_non_null(strstr(err.text, "avx9"));
    assert_int_equal(open_with("colour", "blue", &err), QUERN_OK);

    struct quern_device *a = NULL, *b = NULL; /* one index, two devices */
    assert_int_equal(driver->open(&host, 0, NULL, &a, &err), QUERN_OK);
    assert_int_equal(driver->open(&host, 0, NULL, &b, &err), QUERN_OK);
    struct quern_caps caps = {.struct_size = sizeof caps};
    driver->caps(a, &caps);
    assert_true(caps.weight_formats >> QUERN_IQ1_M & 1 && caps.weight_formats >> QUERN_Q4_K & 1);
    assert_false(caps.weight_formats >> QUERN_I32 & 1);
    struct quern_buffer *x = NULL, *y = NULL;
    char memory[16] = "0123456789abcde";
    uint64_t point = 0;
    assert_int_equal(driver->buffer_create(a, 0, 16, &x, &err), QUERN_OK);
    assert_int_equal(driver->buffer_import(a, memory, 16, &y, &err), QUERN_OK);
    assert_ptr_equal(driver->buffer_map(a, y), memory);
    assert_int_equal(driver->copy(a, x, 0, y, 4, 12, &point, &err), QUERN_OK);
    assert_int_equal(driver->wait(a, point, 0, &err), QUERN_OK);
    assert_memory_equal(driver->buffer_map(a, x), "456789abcde", 12);
    assert_int_equal(driver->copy(a, x, 5, y, 4, 12, &point, &err), QUERN_ERR_PARAM);
    assert_int_equal(driver->wait(a, point + 1, 0, &err), QUERN_ERR_PARAM);
    driver->buffer_destroy(a, x);
    driver->buffer_destroy(a, y);
    driver->close(a);
    driver->close(b);
}

/* The driver lays out as the runtime does, and refuses what it cannot. */
static void test_weights_prepare(void **state)
{
    (void)state;
    enum { K = 64, ROWS = 53, BYTES = ROWS * K / 32 * 34 };
    static uint8_t rows[BYTES], want[BYTES];
    const struct quern_driver *driver = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    struct quern_host host = {sizeof host, qn_plain_callbacks()};
    struct quern_device *device = NULL;
    struct quern_buffer *buffer = NULL;
    struct quern_error err;
    assert_int_equal(driver->open(&host, 0, NULL, &device, &err), QUERN_OK);
    assert_int_equal(driver->buffer_create(device, 0, BYTES + 64, &buffer, &err), QUERN_OK);
    for (size_t i = 0; i < BYTES; i++)
        rows[i] = (uint8_t)qn_rng();
    qn_rows16_pack(QUERN_Q8_0, K, ROWS, rows, want);
    const struct quern_weight_rows all = {.struct_size = sizeof all,
                                          .layout = QUERN_LAYOUT_ROWS16,
                                          .format = QUERN_Q8_0,
                                          .n = K,
                                          .n_rows = ROWS,
                                          .rows = rows,
                                          .buffer = buffer,
                                          .offset = 64};
    struct quern_weight_rows part = all;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_OK);
    assert_memory_equal((char *)driver->buffer_map(device, buffer) + 64, want, BYTES);
    part.format = QUERN_F16, part.n = K / 2;
    qn_rows16_pack(QUERN_F16, K / 2, ROWS, rows, want);
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_OK);
    assert_memory_equal((char *)driver->buffer_map(device, buffer) + 64, want, ROWS * K);
    part = all, part.offset = 65;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part.offset = UINT64_MAX;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part = all, part.n = 48;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_PARAM);
    part = all, part.format = QUERN_I32;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_UNSUPPORTED);
    part = all, part.layout = QUERN_LAYOUT_FILE;
    assert_int_equal(driver->weights_prepare(device, &part, &err), QUERN_ERR_UNSUPPORTED);
    driver->buffer_destroy(device, buffer);
    driver->close(device);
}

/* What is wrong with a node is said, not stumbled over. */
static void test_refusals(void **state)
{
    (void)state;
    struct quern_error err;
    struct qn_case c;
    qn_cpu_case_init(&c, QUERN_OP_MATMUL, 2, "all");
    c.node.attr.matmul = (struct quern_matmul_attr){.n_weights = 1, .scale = 1};
    c.node.in[0] = qn_random_rows(&c, 64, 1);
    c.node.in[1] = qn_random_weight(&c, QUERN_Q8_0, 64, 8, 1, NULL);
    c.node.out[0] = qn_case_rows(&c, QUERN_F32, 8, 1, NULL);
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_OK);
    size_t bytes = c.values[c.node.in[1]].bytes;
    c.values[c.node.in[1]].bytes -= 65; /* the buffer ends before the weight does */
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_PARAM);
    c.values[c.node.in[1]].bytes = bytes;
    c.values[c.node.in[1]].value.dim[0] = 96;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.values[c.node.in[1]].value.dim[0] = 64;
    c.values[c.node.in[1]].value.format = QUERN_I8;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.values[c.node.in[1]].value.format = QUERN_Q8_0;
    c.node.attr.matmul.glu = 1;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.attr.matmul.glu = 0;
    c.node.in[1] = QUERN_NONE;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.in[1] = 77;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    c.node.op = QUERN_OP_END;
    assert_int_equal(qn_case_run_once(&c, "1", &err), QUERN_ERR_UNSUPPORTED);
    qn_case_finish(&c);
}

/* ---------------------------------------------------------------- pool */

struct marks {
    _Atomic uint32_t count[1000];
    uint32_t n_threads;
    _Atomic bool bad_worker;
};

static void mark(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    struct marks *marks = arg;
    if (worker >= marks->n_threads)
        atomic_store(&marks->bad_worker, true);
    for (uint32_t i = begin; i < end; i++)
        atomic_fetch_add(&marks->count[i], 1);
}

static void test_pool(void **state)
{
    (void)state;
    struct quern_error err;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        struct qn_pool *pool = NULL;
        assert_int_equal(qn_pool_create(qn_plain_callbacks(), &pool, threads, NULL, &err), QUERN_OK);
        assert_int_equal(qn_pool_threads(pool), threads);
        static struct marks marks;
        marks.n_threads = threads;
        for (uint32_t round = 0; round < 3000; round++) {
            uint32_t n = qn_rng() % 1000, grain = 1 + qn_rng() % 40;
            for (uint32_t i = 0; i < 1000; i++)
                atomic_store_explicit(&marks.count[i], 0, memory_order_relaxed);
            if (round % 500 == 0)
                qn_sleep_ns(2000000); /* the workers fall asleep */
            qn_pool_run(pool, n, grain, mark, &marks);
            for (uint32_t i = 0; i < 1000; i++)
                assert_int_equal(atomic_load(&marks.count[i]), i < n ? 1 : 0);
        }
        assert_false(atomic_load(&marks.bad_worker));
        qn_pool_destroy(qn_plain_callbacks(), &pool);
        assert_null(pool);
    }
}

#ifdef __linux__
struct places {
    _Atomic uint32_t n_workers, n_elsewhere; /* chunks of workers; those that were not bound */
};

/* Counts a worker's chunk, and whether it may run on more than one processor. */
static void look(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    struct places *places = arg;
    struct qn_cpu_set allowed;
    uint32_t n = 0;
    assert_true(qn_cpu_allowed(&allowed));
    for (uint32_t cpu = 0; cpu < QN_MAX_CPUS; cpu++)
        n += qn_cpu_set_has(&allowed, cpu);
    if (worker > 0) {
        atomic_fetch_add(&places->n_workers, 1);
        atomic_fetch_add(&places->n_elsewhere, n != 1);
    }
    qn_sleep_ns(200000); /* so that others get some */
}

/* Workers stay where they are told to; the caller's thread is left alone. */
static void test_bound_pool(void **state)
{
    (void)state;
    struct quern_error err;
    struct qn_cpu_set before, after, one = {{0}};
    assert_true(qn_cpu_allowed(&before));
    uint32_t cpu = QN_MAX_CPUS;
    while (!qn_cpu_set_has(&before, --cpu)) {}
    one.word[cpu / 64] = (uint64_t)1 << cpu % 64;
    struct qn_pool *pool = NULL;
    assert_int_equal(qn_pool_create(qn_plain_callbacks(), &pool, 3, &one, &err), QUERN_OK);
    struct places places = {.n_workers = 0};
    for (int round = 0; round < 50 && atomic_load(&places.n_workers) < 20; round++)
        qn_pool_run(pool, 64, 1, look, &places);
    assert_true(atomic_load(&places.n_workers) > 0);
    assert_int_equal(atomic_load(&places.n_elsewhere), 0);
    assert_true(qn_cpu_allowed(&after));
    assert_memory_equal(&before, &after, sizeof before);
    qn_pool_destroy(qn_plain_callbacks(), &pool);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),     cmocka_unit_test(test_weights_prepare),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_pool),
#ifdef __linux__
        cmocka_unit_test(test_bound_pool),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
