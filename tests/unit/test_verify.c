/* Verifying a device: a driver that computes wrong with a feature on is found, the feature is named, and what
 * is written cures it. */
#include <quern/quern.h>

#include "device/trial.h"
#include "drivers/cpu/cpu.h"
#include "test.h"

#include <unistd.h>

/* The CPU's driver with a feature that is broken: of products of Q4_0 weights the first result is off, always
 * or in every other run. */
static struct {
    const struct quern_driver *cpu;
    struct quern_driver driver;
    bool feature, steady;
    uint64_t n_runs;
    struct quern_buffer *out;
    uint64_t offset;
} broken;

static int32_t broken_open(const struct quern_host *host, uint32_t index,
                           const struct quern_profile_view *profile, struct quern_device **device,
                           struct quern_error *err)
{
    broken.feature = true;
    for (uint32_t i = 0; i < profile->n_settings; i++)
        if (strcmp(profile->settings[i].name, "features.fused") == 0)
            broken.feature = strcmp(profile->settings[i].value, "0") != 0;
    return broken.cpu->open(host, index, profile, device, err);
}

static int32_t broken_prepare(struct quern_device *device, const struct quern_segment *segment,
                              struct quern_prepared **prepared, struct quern_error *err)
{
    broken.out = NULL;
    for (uint32_t i = 0; i < segment->n_nodes; i++) {
        const struct quern_node *node = quern_graph_node(segment->graph, segment->nodes[i]);
        bool wanted = node->op == QUERN_OP_MATMUL &&
                      (segment->n_nodes > 1
                           ? quern_graph_value(segment->graph, node->out[0])->kind == QUERN_VALUE_OUTPUT
                           : quern_graph_value(segment->graph, node->in[1])->format == QUERN_Q4_0);
        if (wanted) {
            broken.out = segment->bindings[node->out[0]].buffer;
            broken.offset = segment->bindings[node->out[0]].offset;
        }
    }
    return broken.cpu->prepare(device, segment, prepared, err);
}

static int32_t broken_run(struct quern_device *device, struct quern_prepared *prepared,
                          const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    int32_t status = broken.cpu->run(device, prepared, args, point, err);
    if (!status && broken.out && broken.feature && (broken.steady || broken.n_runs++ % 2))
        ((float *)(void *)((char *)broken.cpu->buffer_map(device, broken.out) + broken.offset))[0] += 1e6f;
    return status;
}

static void broken_tunables(struct quern_tunables *table)
{
    static const struct quern_tunable items[] = {
        {"features.quick", QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on", "does nothing"},
        {"features.fused", QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on", "is broken"},
        {"features.last", QUERN_TUNABLE_FLAG, 0, 0, 1, NULL, "on", "does nothing"}};
    *table = (struct quern_tunables){sizeof *table, 3, sizeof items[0], items};
}

static const struct quern_driver *broken_driver(bool steady)
{
    broken.cpu = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    broken.driver = *broken.cpu;
    broken.driver.name = "broken";
    broken.driver.open = broken_open;
    broken.driver.prepare = broken_prepare;
    broken.driver.run = broken_run;
    broken.driver.tunables = broken_tunables;
    broken.steady = steady;
    return &broken.driver;
}

struct seen {
    uint32_t n_rows, n_failed, n_unsteady;
    char remedy[64], fault[512];
};

static void on_row(void *user, const struct quern_verify_row *row)
{
    struct seen *seen = user;
    seen->n_rows++;
    assert_true(row->n_cases > 0 && (row->n_failed == 0) == (row->fault[0] == '\0'));
    if (row->n_failed == 0)
        return;
    assert_string_equal(row->operation, "matmul");
    assert_string_equal(row->format, "Q4_0");
    seen->n_failed++;
    seen->n_unsteady += row->unsteady;
    snprintf(seen->remedy, sizeof seen->remedy, "%s", row->remedy);
    snprintf(seen->fault, sizeof seen->fault, "%s", row->fault);
}

static struct quern_verify_result verify(const struct quern_device_params *devices, const char *only,
                                         const char *save_to, struct seen *seen)
{
    struct quern_verify_result result;
    struct quern_error err = {.text = ""};
    *seen = (struct seen){0};
    if (quern_device_verify(devices,
                            quern_verify_params(.device = "broken", .only = only, .save_to = save_to,
                                                .row = on_row, .user = seen),
                            &result, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return result;
}

static void test_broken_feature(void **state)
{
    const struct quern_driver *driver = broken_driver(true);
    struct quern_device_params devices = *quern_device_params(.drivers = &driver, .n_drivers = 1);
    char folder[] = "/tmp/quern-verify-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct seen seen;
    struct quern_verify_result result = verify(&devices, "matmul q4_0 q8_0 add", folder, &seen);
    assert_int_equal(seen.n_rows, 3);
    assert_int_equal(seen.n_failed, 1);
    assert_string_equal(seen.remedy, "features.fused=0");
    assert_non_null(strstr(seen.fault, "expected"));
    assert_int_equal(result.n_rows_failed, 1);
    assert_true(result.saved[0] && access(result.saved, R_OK) == 0);
    /* what was written is a profile of the device, with which nothing fails */
    struct quern_profiles *profiles;
    struct quern_error err;
    assert_int_equal(
        quern_profiles_open(&profiles,
                            quern_profiles_params(.drivers = &driver, .n_drivers = 1, .dir = folder), &err),
        QUERN_OK);
    devices.profiles = profiles;
    assert_int_equal(unlink(result.saved) | rmdir(folder), 0);
    result = verify(&devices, "matmul q4_0", NULL, &seen);
    assert_int_equal(result.n_failed, 0);
    assert_true(result.n_cases > 0);
    quern_profiles_close(&profiles);
    (void)state;
}

static void test_unsteady(void **state)
{
    const struct quern_driver *driver = broken_driver(false);
    struct quern_device_params devices = *quern_device_params(.drivers = &driver, .n_drivers = 1);
    struct seen seen;
    (void)verify(&devices, "matmul q4_0", NULL, &seen);
    assert_true(seen.n_failed == 1 && seen.n_unsteady == 1);
    assert_string_equal(seen.remedy, "features.fused=0");
    (void)state;
}

/* The trial before a first use finds the feature, too. */
static void test_blame(void **state)
{
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    const struct quern_host host = qn_device_host(&cb, NULL);
    struct quern_error err = {.text = ""};
    char without[96] = "";
    for (int steady = 0; steady < 2; steady++) {
        const struct quern_driver *driver = broken_driver(steady);
        struct qn_device device = {.host = host}, cpu = {.host = host};
        broken.n_runs = 0;
        assert_int_equal(qn_device_open_plain(&cpu, broken.cpu, 0, NULL, 0, &err), QUERN_OK);
        assert_int_equal(qn_device_open_plain(&device, driver, 0, NULL, 0, &err), QUERN_OK);
        assert_int_equal(qn_trial_check(&cb, &device, &cpu, &err), QUERN_ERR_NUMERIC);
        qn_device_close(&device);
        assert_int_equal(qn_trial_blame(&cb, driver, &host, 0, NULL, 0, &cpu, without, &err), QUERN_OK);
        assert_string_equal(without, "features.fused");
        /* where it is none of the features */
        assert_int_equal(qn_trial_blame(&cb, driver, &host, 1, NULL, 0, &cpu, without, &err),
                         QUERN_ERR_NUMERIC);
        qn_device_close(&cpu);
    }
    (void)state;
}

static void test_params(void **state)
{
    struct quern_verify_result result;
    struct quern_error err;
    assert_int_equal(quern_device_verify(quern_device_params(),
                                         quern_verify_params(.device = "cpu", .only = "walk"), &result, &err),
                     QUERN_ERR_PARAM);
    assert_non_null(strstr(err.text, "\"walk\""));
    assert_int_equal(
        quern_device_verify(quern_device_params(), quern_verify_params(.device = "walk:1"), &result, &err),
        QUERN_ERR_PARAM);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_feature),
        cmocka_unit_test(test_unsteady),
        cmocka_unit_test(test_blame),
        cmocka_unit_test(test_params),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
