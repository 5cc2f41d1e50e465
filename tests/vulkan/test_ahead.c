/* Several tokens in flight on the Vulkan driver: random walks of two sessions give the bits that they give
 * one step after another, under the validation layer; nothing is left behind, also where the device is lost
 * meanwhile. */
#include <quern/quern.h>

#include "test.h"

#include "heap.h"
#include "support/joints.h"
#include "support/layer.h"
#include "support/walk.h"

enum { STEPS = 120, SKIPPED = 77 };

static void on_log(void *user, enum quern_log_level level, const char *text)
{
    if (strstr(text, "Vulkan validation"))
        fail_msg("%s", text);
    qn_test_heap_log(user, level, text);
}

static struct quern_model *open_on(struct qn_test_heap *heap, const char *name, const char *device,
                                   const char *submit_us)
{
    const struct quern_setting settings[] = {{"vk-validate", "1"}, {"submit.budget", submit_us}};
    qn_test_heap_init(heap);
    heap->cb.log = on_log;
    struct quern_model *model =
        qn_open_golden("models", name,
                       quern_model_params(.callbacks = &heap->cb, .device = device, .n_threads = 1,
                                          .settings = settings, .n_settings = submit_us ? 2 : 1));
    assert_non_null(model);
    return model;
}

static void close_model(struct qn_test_heap *heap, struct quern_model **model)
{
    quern_model_destroy(model);
    assert_int_equal(heap->n_live, 0);
}

/* Both sessions on one model, going ahead, against each on its own without. */
static void walk_on(const char *name, const char *device, const char *layer, const char *submit_us,
                    uint32_t seed)
{
    struct qn_walk_step got[STEPS], expected[STEPS];
    struct qn_test_heap heap[3];
    qn_layer_set(NULL, layer);
    struct quern_model *apart[] = {open_on(&heap[0], name, "vulkan", NULL),
                                   open_on(&heap[1], name, "vulkan", NULL)};
    struct quern_model *model = open_on(&heap[2], name, device, submit_us);
    struct qn_walk_params params = {
        .model = {apart[0], apart[1]}, .seed = seed, .n_ctx = {70, 400}, .n = STEPS};
    qn_walk(&params, expected);
    params.model[0] = params.model[1] = model;
    params.greedy = true;
    qn_walk(&params, got);
    assert_true(qn_walks_same(got, expected, STEPS));
    close_model(&heap[2], &model);
    close_model(&heap[0], &apart[0]);
    close_model(&heap[1], &apart[1]);
    assert_true(qn_layer_clean());
}

static void test_walks(void **state)
{
    (void)state;
    walk_on("llama", "vulkan", NULL, NULL, 1);
    walk_on("gemma2", "vulkan", NULL, NULL, 2); /* sliding windows */
}

/* Memory of its own, and submits of their own for what takes longer than a moment. */
static void test_far(void **state)
{
    (void)state;
    walk_on("llama", "vulkan", "deviceType=discrete,discrete=256M", NULL, 3);
    walk_on("llama", "vulkan", NULL, "200", 4);
}

/* One device for prompts and one for answers: keys and values go over, in memory that the host sees and in
 * memory that it does not. */
static void test_phases(void **state)
{
    (void)state;
    static const char two[] = "prefill=vulkan,decode=vulkan";
    walk_on("gemma2", two, NULL, NULL, 5);
    walk_on("llama", two, "deviceType=discrete,discrete=256M", NULL, 6);
}

static void test_lost(void **state)
{
    (void)state;
    enum { FEW = 40 };
    static const char *const faults[] = {"vkQueueSubmit@25+=VK_ERROR_DEVICE_LOST",
                                         "vkWaitSemaphores@31+=VK_ERROR_DEVICE_LOST",
                                         "vkQueueSubmit@41+=VK_ERROR_OUT_OF_DEVICE_MEMORY"};
    for (uint32_t i = 0; i < QN_LEN(faults); i++) {
        struct qn_walk_step steps[FEW];
        struct qn_test_heap heap;
        qn_layer_set(faults[i], NULL);
        struct quern_model *model = open_on(&heap, "llama", "vulkan,cpu", NULL);
        struct qn_walk_params params = {
            .model = {model, model}, .greedy = true, .seed = 10 + i, .n_ctx = {70, 400}, .n = FEW};
        qn_walk(&params, steps);
        for (uint32_t j = 0; j < FEW; j++)
            assert_true(steps[j].status == QUERN_OK || steps[j].status == QUERN_ERR_CONTEXT);
        assert_true(heap.n_warnings > 0);
        close_model(&heap, &model);
        assert_true(qn_layer_clean());
    }
}

int main(void)
{
    struct quern_model *model = qn_open_golden("models", "llama", quern_model_params(.device = "vulkan"));
    if (!model) {
        fprintf(stderr, "SKIPPED: no Vulkan device\n");
        return SKIPPED;
    }
    quern_model_destroy(&model);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
