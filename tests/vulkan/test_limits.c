/* Reference models on devices that are smaller than the one that is here: what a device says of its limits
 * and features is kept to, whatever it is, and the numbers stay right. The layer of tests/layer plays the
 * devices and watches.
 *
 * usage: test_vulkan_limits [DEVICE MODEL...]   one device, as QUERN_LAYER_DEVICE has it, for trying out
 *        test_vulkan_limits broken              devices that do not take some kernels
 *        test_vulkan_limits emulated            devices of built-in profiles, each with a part of the models
 *        test_vulkan_limits emulated all        each with all of them
 *        test_vulkan_limits emulated PROFILE MODEL...   one device, for trying out */
#include <quern/quern.h>

#include "device/profile.h"
#include "test.h"

#include "heap.h"
#include "support/golden.h"
#include "support/layer.h"

enum { N = QN_GOLDEN_TOKENS, N_BATCH = 40, SKIPPED = 77 };

static struct quern_error err;
static const char *validate = "0"; /* the setting */
static bool exact = true;
static const struct quern_profiles *profiles; /* NULL: the built-in ones */

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (strstr(text, "Vulkan validation"))
        fail_msg("%s", text);
    qn_test_heap_log(user, level, text);
}

static enum quern_status open_model(struct qn_test_heap *heap, const char *path, struct quern_model **model)
{
    /* the last two: kernels that round are all used, where `exact` lets them */
    const struct quern_setting settings[] = {
        {"vk-validate", validate}, {"vk-dot8", "1"}, {"kernels.coopmat-on-software", "1"}};
    qn_test_heap_init(heap);
    heap->cb.log = on_log;
    return quern_model_open(model, quern_source_path(path),
                            quern_model_params(.callbacks = &heap->cb, .device = "vulkan",
                                               .n_ctx = QN_GOLDEN_CTX, .exact = exact, .settings = settings,
                                               .n_settings = QN_LEN(settings), .profiles = profiles),
                            &err);
}

static void check(enum quern_status status, const char *device, const char *name)
{
    if (status)
        fail_msg("%s, %s: %s", device, name, err.text);
}

/* Logits of the reference's tokens [N, n_vocab], most in one batch, the rest one by one. */
static void read_logits(const struct qn_golden *golden, const char *fault, const char *device, float *logits,
                        struct qn_test_heap *heap)
{
    struct quern_model *model;
    struct quern_session *session;
    qn_layer_set(fault, device);
    check(open_model(heap, golden->model, &model), device, golden->name);
    check(quern_session_create(&session, model, quern_session_params(.kv_k = QUERN_F32, .kv_v = QUERN_F32),
                               &err),
          device, golden->name);
    for (uint32_t at = 0, n = N_BATCH; at < N; at += n, n = 1) {
        struct quern_item items[N];
        for (uint32_t i = 0; i < n; i++)
            items[i] = (struct quern_item){.token = golden->tokens[at + i], .logits = true};
        check(quern_session_eval(session, items, n, &err), device, golden->name);
        memcpy(logits + (size_t)at * golden->n_vocab, quern_session_logits(session, 0),
               (size_t)n * golden->n_vocab * sizeof *logits);
    }
    quern_session_destroy(&session);
    quern_model_destroy(&model);
    assert_int_equal(heap->n_live, 0);
    if (!qn_layer_clean())
        fail_msg("%s, %s: see above", device, golden->name);
}

static float *room_for_logits(const struct qn_golden *golden)
{
    float *logits = calloc((size_t)N * golden->n_vocab, sizeof *logits);
    assert_non_null(logits);
    return logits;
}

static void load(struct qn_golden *golden, const char *name)
{
    if (!qn_golden_load(golden, name))
        fail_msg("no reference data for %s", name);
}

/* Every row within the tolerance. */
static void check_model_with(const char *fault, const char *device, const char *name)
{
    struct qn_golden golden;
    struct qn_test_heap heap;
    load(&golden, name);
    float *logits = room_for_logits(&golden);
    read_logits(&golden, fault, device, logits, &heap);
    struct qn_golden_diff diff = qn_golden_compare(&golden, logits, 0, N);
    if (!diff.finite || diff.max > golden.tolerance)
        fail_msg("%s, %s: row %u is wrong by %g, allowed %g", device, name, diff.worst_row, diff.max,
                 golden.tolerance);
    if (heap.n_warnings > 0)
        fail_msg("%s, %s: %s", device, name, heap.warning);
    free(logits);
    qn_golden_finish(&golden);
}

static void check_model(const char *device, const char *name)
{
    check_model_with(NULL, device, name);
}

/* ---- devices that do ---- */

static void check_models(const char *device, const char *const *names)
{
    for (; *names; names++)
        check_model(device, *names);
}

static const char *const few[] = {"gemma2", "qwen3moe", "qllama.Q4_K_M", NULL};

/* Limits and features of a phone: every architecture's operations and every number format. */
static void test_phone(void **state)
{
    static char names[256][64];
    size_t n = qn_golden_list(names, 256);
    size_t n_run = 0;
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], "qmoe.", 5) != 0 ||
            strstr(names[i], "MXFP4")) { /* the others' formats are qllama's */
            check_model("phone", names[i]);
            n_run++;
        }
    assert_true(n_run > 40);
}

/* Weights, activations and KV in many small pieces. */
static void test_small_buffers(void **state)
{
    check_models("maxStorageBufferRange=128K", few);
    check_models("maxMemoryAllocationSize=256K,maxBufferSize=256K", few);
}

/* Each alone, so that none stands in for another. */
static void test_features(void **state)
{
    static const char *const devices[] = {
        "shaderIntegerDotProduct=0",
        "storageBuffer8BitAccess=0,shaderInt8=0",
        "subgroupArithmetic=0",
        "shaderFloat16=0",
        "subgroupSizeControl=0,computeFullSubgroups=0",
        "timestampValidBits=0",
        "apiVersion=1.2",
    };
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        check_models(devices[i], few + 1);
}

/* A dispatch that takes longer than a submit may is done in slices from then on, and the next ones go with
 * the last of them. It is each dispatch of the first layer in turn, when the device is measured with one
 * token. */
static void test_slow(void **state)
{
    enum { FIRST = 23, LAST = 32 }; /* of all; those before are of the batch */
    for (int n = FIRST; n <= LAST; n++) {
        char fault[64];
        snprintf(fault, sizeof fault, "vkQueueSubmit@%d=slow", n);
        check_model_with(fault, "deviceType=integrated", "llama");
    }
}

/* What a driver fails to compile although it has the feature is done as on a device without it, and a line
 * says so. */
static void test_broken_kernels(void **state)
{
    static const struct {
        const char *broken, *without;
    } cases[] = {
        {"brokenCapability=6019", "shaderIntegerDotProduct=0"},
        {"brokenCapability=6022", "VK_KHR_cooperative_matrix=0"},
    };
    static const char *const names[] = {"qllama.Q4_K_M", "qmoe.Q4_K_M"};
    size_t n_broken = 0;
    exact = false;
    for (size_t i = 0; i < QN_LEN(cases) * QN_LEN(names); i++) {
        const char *name = names[i % 2], *broken = cases[i / 2].broken;
        struct qn_golden golden;
        struct qn_test_heap heap;
        load(&golden, name);
        float *logits = room_for_logits(&golden), *expected = room_for_logits(&golden);
        read_logits(&golden, NULL, cases[i / 2].without, expected, &heap);
        assert_int_equal(heap.n_warnings, 0);
        read_logits(&golden, NULL, broken, logits, &heap);
        bool there = qn_layer_lines("broken capability") > 0;
        if (!there)
            printf("skipped %s, %s: no kernel with it is used\n", broken, name);
        if ((heap.n_warnings > 0) != there || (there && !strstr(heap.warning, "is not used, others serve")))
            fail_msg("%s, %s: %d warnings, the last: %s", broken, name, heap.n_warnings, heap.warning);
        if (memcmp(logits, expected, (size_t)N * golden.n_vocab * sizeof *logits) != 0)
            fail_msg("%s, %s: other numbers than with %s", broken, name, cases[i / 2].without);
        n_broken += there;
        free(logits);
        free(expected);
        qn_golden_finish(&golden);
    }
    exact = true;
    assert_true(n_broken > 0);
}

/* A heap of the device's own, with and without a window for the host. */
static void test_discrete(void **state)
{
    validate = "1"; /* copies to and fro must wait for each other */
    check_models("discrete=64M,deviceType=discrete", few);
    check_models("discrete=64M,bar=16M,deviceType=discrete", few);
    validate = "0";
}

/* ---- devices that do not ---- */

/* What Quern needs and the device lacks is said by name. */
static void test_missing(void **state)
{
    static const struct {
        const char *device, *says;
    } cases[] = {
        {"apiVersion=1.1", "Vulkan 1.2"},
        {"storageBuffer16BitAccess=0", "16-bit storage"},
        {"timelineSemaphore=0", "timeline semaphores"},
        {"maxPerStageDescriptorStorageBuffers=16", "storage buffers"},
    };
    char path[1200];
    qn_golden_path(path, sizeof path, "models", "llama.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_layer_set(NULL, cases[i].device);
        struct qn_test_heap heap;
        struct quern_model *model;
        assert_int_equal(open_model(&heap, path, &model), QUERN_ERR_UNSUPPORTED);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].device, err.text);
        assert_int_equal(heap.n_live, 0);
        assert_true(qn_layer_clean());
    }
}

/* A heap that is too small is out of memory. */
static void test_small_heap(void **state)
{
    char path[1200];
    qn_golden_path(path, sizeof path, "models", "llama.gguf");
    qn_layer_set(NULL, "heapSize=64K");
    struct qn_test_heap heap;
    struct quern_model *model;
    assert_int_equal(open_model(&heap, path, &model), QUERN_ERR_MEMORY);
    assert_int_equal(heap.n_live, 0);
    assert_true(qn_layer_clean());
}

/* ---- devices of profiles ---- */

/* What the layer plays for what a profile says; the driver takes the profile for the device's as well. */
static const struct {
    const char *setting, *plays;
} played[] = {
    {"limits.storage-buffer", "maxStorageBufferRange"},
    {"limits.shared-memory", "maxComputeSharedMemorySize"},
    {"limits.workgroup", "maxComputeWorkGroupInvocations"},
    {"limits.workgroup", "maxComputeWorkGroupSize"},
    {"limits.allocation", "maxMemoryAllocationSize"},
    {"limits.allocation", "maxBufferSize"},
    {"features.int-dot", "shaderIntegerDotProduct"},
    {"features.subgroup", "subgroupArithmetic"},
    {"features.subgroup-size", "subgroupSizeControl"},
    {"features.subgroup-size", "computeFullSubgroups"},
    {"features.float16", "shaderFloat16"},
    {"features.storage8", "storageBuffer8BitAccess"},
    {"features.coopmat", "VK_KHR_cooperative_matrix"},
    {"features.coopmat2", "VK_NV_cooperative_matrix2"},
    {"features.host-import", "VK_EXT_external_memory_host"},
};

/* The device as QUERN_LAYER_DEVICE has it. `more`: what the profile does not say of it. */
static void write_device(const struct quern_profiles *of, const char *more, char *text, size_t size)
{
    const struct quern_device_info info = {.struct_size = sizeof info, .type = QUERN_DEVICE_INTEGRATED_GPU};
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct qn_profile_values values;
    size_t n = (size_t)snprintf(text, size, "deviceType=integrated,%s", more), before = n;
    check(qn_profiles_resolve(of, &cb, "vulkan", &info, &values, &err), more, "profile");
    for (size_t v = 0; v < values.n; v++)
        for (size_t i = 0; i < QN_LEN(played) && n < size; i++)
            if (strcmp(values.value[v]->setting, played[i].setting) == 0 &&
                (strncmp(played[i].setting, "features.", 9) != 0 || strcmp(values.value[v]->value, "0") == 0))
                n += (size_t)snprintf(text + n, size - n, ",%s=%s", played[i].plays, values.value[v]->value);
    assert_true(n > before && n < size);
    qn_profile_values_finish(&cb, &values);
}

/* Phones and an Apple GPU: what the layer plays besides, and what of them cannot be run here. */
static const struct {
    const char *profile, *more, *not_run;
} emulated[] = {
    {"qualcomm-adreno-6xx", "maxComputeSharedMemorySize=16K,minStorageBufferOffsetAlignment=64", "64 or 128"},
    {"qualcomm-adreno-7xx", "minStorageBufferOffsetAlignment=64", "64 or 128"},
    {"qualcomm-adreno-8xx", "minStorageBufferOffsetAlignment=64", "64 or 128"},
    {"arm-mali-valhall", "minStorageBufferOffsetAlignment=64", "16"},
    {"arm-mali-5th-gen", "minStorageBufferOffsetAlignment=64", "16"},
    {"apple", "minStorageBufferOffsetAlignment=16", "32"},
};
static bool all_models;
static char **only; /* profile, models; NULL: all */

static void test_emulated(void **state)
{
    static char names[256][64];
    size_t n = qn_golden_list(names, 256), n_run = 0;
    for (size_t e = 0; e < QN_LEN(emulated); e++) {
        char path[1200], device[1024];
        struct quern_profiles *one;
        if (only && strcmp(only[0], emulated[e].profile) != 0)
            continue;
        snprintf(path, sizeof path, "%s/drivers/profiles/%s.yaml", getenv("QUERN_SOURCE"),
                 emulated[e].profile);
        check(quern_profiles_open(&one, quern_profiles_params(.file = path, .emulate = true), &err),
              emulated[e].profile, path);
        profiles = one;
        write_device(one, emulated[e].more, device, sizeof device);
        /* as the summary of all tests lists it */
        printf("%s: %s\nskipped %s: kernels in its subgroups of %s invocations; smaller ones are run\n",
               emulated[e].profile, device, emulated[e].profile, emulated[e].not_run);
        for (char **name = only ? only + 1 : NULL; name && *name; name++)
            check_model(device, *name);
        if (!only)
            check_models(device, few);
        for (size_t i = 0; i < n && !only; i++)
            if (all_models || i % QN_LEN(emulated) == e) {
                check_model(device, names[i]);
                n_run++;
            }
        profiles = NULL;
        quern_profiles_close(&one);
    }
    printf("%zu models on %zu devices%s\n", n, QN_LEN(emulated),
           all_models ? "" : ", each on one of them; those of a few architectures on all");
    assert_true(only || (n > 50 && n_run == (all_models ? n * QN_LEN(emulated) : n)));
}

/* ---- */

static bool device_is_there(void)
{
    char path[1200];
    qn_golden_path(path, sizeof path, "models", "llama.gguf");
    struct qn_test_heap heap;
    struct quern_model *model;
    qn_layer_set(NULL, NULL);
    if (open_model(&heap, path, &model)) {
        fprintf(stderr, "SKIPPED: limits of Vulkan devices: %s\n", err.text);
        return false;
    }
    quern_model_destroy(&model);
    if (qn_layer_lines("create VkDevice") == 0) {
        fprintf(stderr, "the layer was not loaded\n");
        exit(1);
    }
    return true;
}

static char **arguments; /* device, models */

static void test_given(void **state)
{
    for (char **name = arguments + 1; *name; name++)
        check_model(arguments[0], *name);
}

int main(int argc, char **argv)
{
    if (!device_is_there())
        return SKIPPED;
    if (argc > 1 && strcmp(argv[1], "emulated") == 0) {
        all_models = argc == 3;
        only = argc > 3 ? argv + 2 : NULL;
        const struct CMUnitTest profiled[] = {cmocka_unit_test(test_emulated)};
        return cmocka_run_group_tests(profiled, NULL, NULL);
    }
    if (argc > 1 && strcmp(argv[1], "broken") == 0) {
        const struct CMUnitTest broken[] = {cmocka_unit_test(test_broken_kernels)};
        return cmocka_run_group_tests(broken, NULL, NULL);
    }
    if (argc > 2) {
        arguments = argv + 1;
        const struct CMUnitTest given[] = {cmocka_unit_test(test_given)};
        return cmocka_run_group_tests(given, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phone),         cmocka_unit_test(test_features),
        cmocka_unit_test(test_small_buffers), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_discrete),      cmocka_unit_test(test_missing),
        cmocka_unit_test(test_small_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
