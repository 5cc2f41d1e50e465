/* Every call of Vulkan that can fail, failing: at start, while a model is loaded and prepared, and in the
 * middle of a text. Alone the device gives a status and a reason, and the text goes on where it can; beside
 * the CPU it is dropped and the tokens are the same. Nothing crashes, hangs, leaks or breaks a rule of
 * Vulkan.
 *
 * usage: test_vulkan_faults [all]   all: each n-th call, not only powers of two; without the validation
 * layer, which takes most of the time */
#include <quern/quern.h>

#include "test.h"

#include "heap.h"
#include "support/golden.h"
#include "support/layer.h"

enum { N_GREEDY = 4, SKIPPED = 77 };

static struct qn_golden golden;
static bool every_call;

/* ---- a life ---- */

struct life {
    struct qn_test_heap heap;
    struct quern_model *model;
    struct quern_session *session;
    struct quern_trace *trace;
    enum quern_status status; /* of the first call that failed */
    struct quern_error err;
    int n_failed;
};

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (strstr(text, "Vulkan validation"))
        fail_msg("%s", text);
    qn_test_heap_log(user, level, text);
}

/* Notes how a call ended; true: it failed. */
static bool failed(struct life *life, enum quern_status status, const struct quern_error *err)
{
    if (status == QUERN_OK)
        return false;
    if (err->status != status || err->text[0] == '\0')
        fail_msg("a failure with status %s without a reason", quern_status_name(status));
    if (life->n_failed++ == 0) {
        life->status = status;
        life->err = *err;
    }
    return true;
}

static bool begin(struct life *life, const char *device)
{
    const struct quern_setting validate[] = {{"vk-validate", every_call ? "0" : "1"}};
    struct quern_error err = {0};
    *life = (struct life){0};
    qn_test_heap_init(&life->heap);
    life->heap.cb.log = on_log;
    assert_int_equal(quern_trace_create(&life->trace, &life->heap.cb, &err), QUERN_OK);
    return !failed(life,
                   quern_model_open(&life->model, quern_source_path(golden.model),
                                    quern_model_params(.callbacks = &life->heap.cb, .device = device,
                                                       .n_ctx = QN_GOLDEN_CTX, .n_threads = 1, .exact = true,
                                                       .settings = validate, .n_settings = 1),
                                    &err),
                   &err) &&
           !failed(life,
                   quern_session_create(&life->session, life->model,
                                        quern_session_params(.n_seqs = 2, .n_batch = 16, .kv_k = QUERN_F32,
                                                             .kv_v = QUERN_F32, .trace = life->trace),
                                        &err),
                   &err);
}

/* A call that is tried again once where it fails; the sequence is then as it was. False: it failed twice. */
static bool feed(struct life *life, uint32_t seq, const int32_t *tokens, size_t n)
{
    struct quern_error err = {0};
    size_t length = quern_session_length(life->session, seq);
    for (int i = 0; i < 2; i++) {
        if (!failed(life, quern_session_feed(life->session, seq, tokens, n, &err), &err))
            return true;
        assert_int_equal(quern_session_length(life->session, seq), length);
    }
    return false;
}

/* The next token of a sequence must be what the reference has. */
static bool greedy(struct life *life, uint32_t seq, uint32_t i)
{
    int32_t token = qn_golden_argmax(quern_session_logits(life->session, 0), golden.n_vocab);
    if (token != golden.greedy[i])
        fail_msg("token %u of sequence %u is %d, expected %d", i, seq, token, golden.greedy[i]);
    return feed(life, seq, &token, 1);
}

/* Prompt, a fork, whose first token copies a page, and a few tokens of both. False: it could not go on. */
static bool live(struct life *life)
{
    struct quern_error err = {0};
    if (!feed(life, 0, golden.tokens, QN_GOLDEN_TOKENS))
        return false;
    if (failed(life, quern_session_fork(life->session, 1, 0, &err), &err))
        return false;
    bool good = greedy(life, 1, 0);
    for (uint32_t i = 1; i < N_GREEDY && good; i++)
        good = greedy(life, 1, i);
    return good;
}

static void end(struct life *life)
{
    quern_session_destroy(&life->session);
    quern_model_destroy(&life->model);
    quern_trace_destroy(&life->trace);
    assert_int_equal(life->heap.n_live, 0);
}

/* ---- faults ---- */

struct fault {
    const char *call, *what;
};

/* One fault; false: it did not come to the n-th call. */
static bool with_fault(const struct fault *fault, unsigned n, bool cpu_too)
{
    char rule[128];
    snprintf(rule, sizeof rule, "%s@%u=%s", fault->call, n, fault->what);
    qn_layer_set(rule, NULL);
    struct life life;
    bool good = begin(&life, cpu_too ? "vulkan,cpu" : "vulkan") && live(&life);
    if (cpu_too && !good)
        fail_msg("%s: with the CPU beside it: %s", rule, life.err.text);
    bool fired = qn_layer_lines("fault") > 0;
    if (!fired && (life.n_failed > 0 || life.heap.n_warnings > 0))
        fail_msg("%s: nothing was to fail: %s%s", rule, life.err.text, life.heap.warning);
    bool lost = strcmp(fault->what, "VK_ERROR_DEVICE_LOST") == 0 || strcmp(fault->what, "VK_TIMEOUT") == 0;
    bool out_of_memory = strstr(fault->what, "OUT_OF") != NULL;
    if (life.n_failed > 0 && out_of_memory && life.status != QUERN_ERR_MEMORY)
        fail_msg("%s: status %s: %s", rule, quern_status_name(life.status), life.err.text);
    if (!cpu_too && lost && fired && life.n_failed > 0 && good)
        fail_msg("%s: a device that is gone came back", rule);
    if (cpu_too && life.heap.n_warnings > 0 && !strstr(life.heap.warning, "vulkan"))
        fail_msg("%s: the warning does not name the device: %s", rule, life.heap.warning);
    bool hangs = qn_layer_lines("fault vkWaitSemaphores") > 0 && strcmp(fault->what, "VK_TIMEOUT") == 0;
    end(&life);
    if (hangs ? qn_layer_lines("breach") > 0 : !qn_layer_clean())
        fail_msg("%s: see above", rule);
    return fired;
}

static void at_every_call(const struct fault *fault)
{
    unsigned n = 1, n_fired = 0;
    while (with_fault(fault, n, false)) {
        assert_true(with_fault(fault, n, true));
        n_fired++;
        n += every_call ? 1 : n;
    }
    if (n_fired == 0)
        fail_msg("%s is never called", fault->call);
    fprintf(stderr, "%s=%s: %u calls failed, fewer than %u are made\n", fault->call, fault->what, n_fired, n);
}

static void test_memory(void **state)
{
    at_every_call(&(struct fault){"any", "VK_ERROR_OUT_OF_DEVICE_MEMORY"});
    at_every_call(&(struct fault){"any", "VK_ERROR_OUT_OF_HOST_MEMORY"});
}

static void test_lost(void **state)
{
    at_every_call(&(struct fault){"any", "VK_ERROR_DEVICE_LOST"});
}

static void test_hang(void **state)
{
    at_every_call(&(struct fault){"vkWaitSemaphores", "VK_TIMEOUT"});
}

/* What each kind of call can fail with besides. */
static void test_others(void **state)
{
    static const struct fault faults[] = {
        {"vkCreateInstance", "VK_ERROR_INCOMPATIBLE_DRIVER"},
        {"vkCreateInstance", "VK_ERROR_INITIALIZATION_FAILED"},
        {"vkCreateDevice", "VK_ERROR_FEATURE_NOT_PRESENT"},
        {"vkEnumeratePhysicalDevices", "VK_ERROR_INITIALIZATION_FAILED"},
        {"vkAllocateMemory", "VK_ERROR_TOO_MANY_OBJECTS"},
        {"vkMapMemory", "VK_ERROR_MEMORY_MAP_FAILED"},
        {"vkAllocateDescriptorSets", "VK_ERROR_OUT_OF_POOL_MEMORY"},
        {"vkCreateDescriptorPool", "VK_ERROR_OUT_OF_DEVICE_MEMORY"},
        {"vkCreateShaderModule", "VK_ERROR_UNKNOWN"},
        {"vkCreateComputePipelines", "VK_ERROR_UNKNOWN"},
        {"vkEndCommandBuffer", "VK_ERROR_OUT_OF_DEVICE_MEMORY"},
        {"vkQueueSubmit", "VK_ERROR_DEVICE_LOST"},
        {"vkGetQueryPoolResults", "VK_NOT_READY"},
        {"vkGetQueryPoolResults", "VK_ERROR_DEVICE_LOST"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        at_every_call(&faults[i]);
}

/* Nothing fails, and the layer sees nothing wrong. */
static void test_no_fault(void **state)
{
    assert_false(with_fault(&(struct fault){"vkCreateInstance", "crash"}, 1000, false));
}

/* Whether there is a Vulkan device, and the layer stands before it. */
static bool device_is_there(void)
{
    struct life life;
    qn_layer_set(NULL, NULL);
    bool there = begin(&life, "vulkan");
    if (!there)
        fprintf(stderr, "SKIPPED: faults of Vulkan: %s\n", life.err.text);
    end(&life);
    if (there && qn_layer_lines("create VkDevice") == 0) {
        fprintf(stderr, "the layer was not loaded\n");
        exit(1);
    }
    return there;
}

int main(int argc, char **argv)
{
    every_call = argc > 1 && strcmp(argv[1], "all") == 0;
    if (!qn_golden_load(&golden, "qwen2") || golden.n_greedy < N_GREEDY)
        return 1;
    if (!device_is_there())
        return SKIPPED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_fault), cmocka_unit_test(test_memory), cmocka_unit_test(test_lost),
        cmocka_unit_test(test_hang),     cmocka_unit_test(test_others),
    };
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    qn_golden_finish(&golden);
    return result;
}
