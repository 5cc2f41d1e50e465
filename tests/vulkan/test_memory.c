/* The Vulkan driver on devices with other memory than lavapipe's, played by the layer of tests/layer: memory
 * that the host cannot reach, small buffers, few allocations, a small budget. The bits must be those of the
 * device as it is; nothing may be left behind. */
#include <quern/driver.h>
#include <quern/quern.h>

#include "base/host.h"
#include "drivers/vulkan/vulkan.h"
#include "test.h"

#include "heap.h"
#include "support/golden.h"
#include "support/layer.h"

#include <math.h>

enum { N = QN_GOLDEN_TOKENS, N_CTX = 128, SKIPPED = 77 };

struct text {
    struct qn_test_heap heap;
    struct quern_model *model;
    struct quern_session *session;
    float *logits; /* [N, n_vocab] */
    struct quern_error err;
};

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (strstr(text, "Vulkan validation"))
        fail_msg("%s", text);
    qn_test_heap_log(user, level, text);
}

static const char *submit_us; /* the setting; NULL: none */
static const char *import = "0";

static enum quern_status text_begin(struct text *text, const struct qn_golden *golden, const char *device,
                                    uint32_t n_batch)
{
    const struct quern_setting settings[] = {
        {"vk-validate", "1"}, {"vk-import", import}, {"submit.budget", submit_us}};
    *text = (struct text){0};
    qn_test_heap_init(&text->heap);
    text->heap.cb.log = on_log;
    enum quern_status status = quern_model_open(
        &text->model, quern_source_path(golden->model),
        quern_model_params(.callbacks = &text->heap.cb, .device = device, .n_ctx = N_CTX, .n_threads = 1,
                           .exact = true, .settings = settings, .n_settings = submit_us ? 3 : 2),
        &text->err);
    if (!status)
        status = quern_session_create(
            &text->session, text->model,
            quern_session_params(.n_batch = n_batch, .kv_k = QUERN_F32, .kv_v = QUERN_F16), &text->err);
    return status;
}

/* All tokens, `n_batch` at a time, and then some one by one. */
static enum quern_status text_run(struct text *text, const struct qn_golden *golden, uint32_t n_batch)
{
    text->logits = malloc((size_t)N * golden->n_vocab * sizeof *text->logits);
    assert_non_null(text->logits);
    enum quern_status status = QUERN_OK;
    for (size_t at = 0, n; at < N && !status; at += n) {
        struct quern_item items[N];
        n = at >= 40 ? 1 : n_batch < 40 - at ? n_batch : 40 - at;
        for (size_t i = 0; i < n; i++)
            items[i] = (struct quern_item){.token = golden->tokens[at + i], .logits = true};
        status = quern_session_eval(text->session, items, n, &text->err);
        for (size_t i = 0; i < n && !status; i++)
            memcpy(text->logits + (at + i) * golden->n_vocab, quern_session_logits(text->session, i),
                   golden->n_vocab * sizeof *text->logits);
    }
    return status;
}

static void text_end(struct text *text)
{
    free(text->logits);
    quern_session_destroy(&text->session);
    quern_model_destroy(&text->model);
    assert_int_equal(text->heap.n_live, 0);
    assert_true(qn_layer_clean());
}

static void run_on(struct text *text, const struct qn_golden *golden, const char *settings,
                   const char *device, uint32_t n_batch)
{
    qn_layer_set(NULL, settings);
    enum quern_status status = text_begin(text, golden, device, n_batch);
    if (!status)
        status = text_run(text, golden, n_batch);
    if (status)
        fail_msg("%s on %s with %s: %s", golden->name, device, settings ? settings : "nothing set",
                 text->err.text);
}

/* The same bits with these settings as without, or nearly. */
static void same_with(const char *const *settings, size_t n, const char *model, uint32_t n_batch)
{
    struct qn_golden golden;
    assert_true(qn_golden_load(&golden, model));
    struct text plain, other;
    run_on(&plain, &golden, NULL, "vulkan", n_batch);
    struct qn_golden_diff diff = qn_golden_compare(&golden, plain.logits, 0, N);
    if (!diff.finite || diff.max > golden.tolerance + 0.02) /* half floats in the KV cache */
        fail_msg("%s: max %g", model, diff.max);
    float *expected = plain.logits;
    plain.logits = NULL;
    text_end(&plain);
    for (size_t i = 0; i < n; i++) {
        /* kernels for another type of device add in another order */
        float allowed = strstr(settings[i], "deviceType") ? golden.tolerance : 0;
        run_on(&other, &golden, settings[i], "vulkan", n_batch);
        for (size_t j = 0; j < (size_t)N * golden.n_vocab; j++)
            if (fabsf(other.logits[j] - expected[j]) > allowed)
                fail_msg("%s with %s: logit %zu of row %zu is %g, expected %g", model, settings[i],
                         j % golden.n_vocab, j / golden.n_vocab, other.logits[j], expected[j]);
        text_end(&other);
    }
    free(expected);
    qn_golden_finish(&golden);
}

/* Memory of its own that the host does not reach, alone, with a small window, and with all of it in reach. */
static void test_discrete(void **state)
{
    static const char *const settings[] = {"deviceType=discrete,discrete=256M",
                                           "deviceType=discrete,discrete=256M,bar=16M",
                                           "deviceType=discrete,discrete=256M,bar=256M"};
    static const char *const models[] = {"llama3", "phi3_long", "mistral_swa", "qmoe.Q4_K_M",
                                         "qllama.IQ4_NL"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        same_with(settings, i == 0 ? 3 : 1, models[i], N);
}

/* Tensors larger than a buffer, more of them than one holds, and few allocations. */
static void test_small(void **state)
{
    static const char *const settings[] = {
        "maxMemoryAllocationSize=64K,maxStorageBufferRange=64K",
        "maxMemoryAllocationSize=64K,deviceType=discrete,discrete=256M",
        "maxMemoryAllocationCount=12,maxStorageBufferRange=64K",
    };
    static const char *const models[] = {"llama", "qmoe.Q4_K_M", "llama_tied"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        same_with(settings, sizeof settings / sizeof *settings, models[i], 4);
        same_with(settings, sizeof settings / sizeof *settings, models[i], N); /* in smaller steps */
    }
}

/* What does not fit is refused before it is tried, with what to change; beside the CPU the text goes on. */
static void test_budget(void **state)
{
    struct qn_golden golden;
    assert_true(qn_golden_load(&golden, "llama"));
    struct text text, expected;
    qn_layer_set(NULL, "heapBudget=128K");
    assert_int_equal(text_begin(&text, &golden, "vulkan", N), QUERN_ERR_MEMORY);
    if (!strstr(text.err.text, "MiB"))
        fail_msg("%s", text.err.text);
    text_end(&text);
    run_on(&text, &golden, "heapBudget=128K", "vulkan,cpu", N);
    assert_true(text.heap.n_warnings > 0);
    text_end(&text);
    run_on(&expected, &golden, "heapBudget=64M", "vulkan", N);
    text_end(&expected);
    qn_golden_finish(&golden);
}

/* Two devices of which one cannot be reached: values go between them through the host. */
static void test_beside(void **state)
{
    struct qn_golden golden;
    assert_true(qn_golden_load(&golden, "llama"));
    struct text text;
    run_on(&text, &golden, "deviceType=discrete,discrete=256M", "vulkan,cpu", N);
    text_end(&text);
    qn_golden_finish(&golden);
}

/* Submits and slices of dispatches as small as they can be, or some: the same bits. */
static void test_submits(void **state)
{
    static const struct {
        const char *model;
        uint32_t n_batch;
    } runs[] = {{"gemma2", 8}, {"qwen2moe", N}, {"mistral_swa", 8}, {"qllama.Q4_K_M", N}, {"llama", 1}};
    static const char *const budgets[] = {"1", "200"};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct qn_golden golden;
        assert_true(qn_golden_load(&golden, runs[i].model));
        struct text plain, other;
        run_on(&plain, &golden, NULL, "vulkan", runs[i].n_batch);
        float *expected = plain.logits;
        plain.logits = NULL;
        text_end(&plain);
        size_t indirect = qn_layer_calls("vkCmdDispatchIndirect");
        for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
            submit_us = budgets[b];
            run_on(&other, &golden, NULL, "vulkan", runs[i].n_batch);
            submit_us = NULL;
            assert_memory_equal(other.logits, expected, (size_t)N * golden.n_vocab * sizeof *expected);
            text_end(&other);
            if (b == 0 && qn_layer_calls("vkCmdDispatchBase") == 0)
                fail_msg("%s: nothing was done in slices", runs[i].model);
            /* recorded once, to be measured, like those that are never done in slices */
            if (b == 0 && qn_layer_calls("vkCmdDispatchIndirect") > indirect)
                fail_msg("%s: work whose size the device knows is not done in slices", runs[i].model);
            if (qn_layer_calls("vkQueueSubmit") < N)
                fail_msg("%s: %zu submits", runs[i].model, qn_layer_calls("vkQueueSubmit"));
        }
        free(expected);
        qn_golden_finish(&golden);
    }
    submit_us = "1ms";
    struct qn_golden golden;
    struct text text;
    assert_true(qn_golden_load(&golden, "llama"));
    qn_layer_set(NULL, NULL);
    assert_int_equal(text_begin(&text, &golden, "vulkan", 8), QUERN_ERR_PARAM);
    assert_non_null(strstr(text.err.text, "submit.budget"));
    submit_us = NULL;
    text_end(&text);
    qn_golden_finish(&golden);
}

/* Weights in the pages of the file, where the device takes them, else copied: the same bits. */
static void test_import(void **state)
{
    static const char *const settings[] = {"VK_EXT_external_memory_host=0", "maxMemoryAllocationSize=256K",
                                           "deviceType=discrete,discrete=256M"};
    import = "1";
    same_with(settings, 3, "mistral_swa", 8);
    import = "0";
}

/* What the driver has asked for in all heaps of a device that nothing uses. */
static uint64_t asked_at_first(void)
{
    const struct quern_driver *driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI);
    const struct quern_callbacks callbacks = qn_callbacks_resolve(NULL);
    const struct quern_host host = {sizeof host, &callbacks};
    struct quern_device *device;
    struct quern_caps caps = {.struct_size = sizeof caps};
    struct quern_error err;
    if (driver->open(&host, 0, NULL, &device, &err))
        fail_msg("%s", err.text);
    driver->caps(device, &caps);
    uint64_t asked = 0;
    for (uint32_t h = 0; h < caps.n_heaps; h++) {
        struct quern_memory memory = {.struct_size = sizeof memory};
        driver->memory(device, h, &memory);
        asked += memory.same_as == h ? memory.asked : 0;
    }
    driver->close(device);
    return asked;
}

/* Sums over the heaps; each has taken what was asked of it, or more. */
static struct quern_memory_use use_of(const struct text *text, const char *settings)
{
    struct quern_memory_use all = {0}, uses[QUERN_MAX_HEAPS];
    uint32_t n = quern_session_memory(text->session, uses, QUERN_MAX_HEAPS);
    assert_in_range(n, 1, QUERN_MAX_HEAPS);
    for (uint32_t i = 0; i < n; i++) {
        const struct quern_memory_use *use = &uses[i];
        assert_int_equal(use->planned, use->weights + use->kv + use->activations + use->staging);
        if (use->taken < use->planned + use->other)
            fail_msg("%s: heap %u takes %llu bytes of %llu", settings, use->heap,
                     (unsigned long long)use->taken, (unsigned long long)(use->planned + use->other));
        all.weights += use->weights;
        all.mapped += use->mapped;
        all.kv += use->kv;
        all.activations += use->activations;
        all.staging += use->staging;
        all.other += use->other;
    }
    return all;
}

/* All that is asked of the device is planned, but for what the driver has for itself. */
static void test_planned(void **state)
{
    static const char *const settings[] = {"heapBudget=64M", "maxMemoryAllocationSize=64K",
                                           "deviceType=discrete,discrete=256M,bar=16M",
                                           "deviceType=discrete,discrete=256M"};
    struct qn_golden golden;
    assert_true(qn_golden_load(&golden, "llama"));
    for (int imported = 0; imported < 2; imported++)
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
            struct text text;
            bool discrete = strstr(settings[i], "discrete");
            import = imported ? "1" : "0";
            qn_layer_set(NULL, settings[i]);
            uint64_t first = asked_at_first();
            if (text_begin(&text, &golden, "vulkan", 8))
                fail_msg("%s: %s", settings[i], text.err.text);
            struct quern_memory_use before = use_of(&text, settings[i]);
            bool copied = i > 0 || !imported; /* too large, or not its memory */
            assert_int_equal(before.other, first);
            assert_int_equal(before.weights > 0, copied);
            assert_int_equal(before.mapped > 0, !copied);
            assert_int_equal(before.kv, 0);
            assert_true(before.staging > 0 || !discrete);
            assert_int_equal(text_run(&text, &golden, 8), QUERN_OK);
            struct quern_memory_use after = use_of(&text, settings[i]);
            assert_true(after.kv > 0 && after.activations > 0 && after.weights == before.weights);
            assert_true(after.other >= before.other); /* kernels' scratch */
            free(text.logits);
            text.logits = NULL;
            quern_session_truncate(text.session, 0, 0, NULL);
            assert_int_equal(text_run(&text, &golden, 8), QUERN_OK); /* again, in what there is */
            struct quern_memory_use again = use_of(&text, settings[i]);
            assert_memory_equal(&again, &after, sizeof after);
            text_end(&text);
        }
    import = "0";
    qn_golden_finish(&golden);
}

int main(void)
{
    struct qn_golden golden;
    struct text text;
    if (!qn_golden_load(&golden, "llama"))
        return 1;
    qn_layer_set(NULL, NULL);
    bool there = text_begin(&text, &golden, "vulkan", N) == QUERN_OK;
    if (!there)
        fprintf(stderr, "SKIPPED: memory of Vulkan devices: %s\n", text.err.text);
    text_end(&text);
    qn_golden_finish(&golden);
    if (!there)
        return SKIPPED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discrete), cmocka_unit_test(test_small),   cmocka_unit_test(test_budget),
        cmocka_unit_test(test_beside),   cmocka_unit_test(test_submits), cmocka_unit_test(test_import),
        cmocka_unit_test(test_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
