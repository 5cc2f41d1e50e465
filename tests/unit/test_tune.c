/* Tuning a device: the fastest value that computes right is found, written, used, and not measured again;
 * values that are fast and wrong are not taken; nothing is written where nothing is faster. */
#include <quern/quern.h>

#include "base/host.h"
#include "drivers/cpu/cpu.h"
#include "test.h"

#include <unistd.h>

/* The CPU's driver with products that take, as its clock has it, longer with some values of a setting, and
 * are wrong with one. */
static struct {
    const struct quern_driver *cpu;
    struct quern_driver driver;
    int lanes; /* 0: not set */
    uint64_t n_opened;
    struct quern_buffer *out;
    uint64_t offset;
} slow;

enum { RIGHT = 4, WRONG = 8 };

static int32_t slow_open(const struct quern_host *host, uint32_t index,
                         const struct quern_profile_view *profile, struct quern_device **device,
                         struct quern_error *err)
{
    slow.lanes = 0;
    slow.n_opened++;
    for (uint32_t i = 0; i < profile->n_settings; i++)
        if (strcmp(profile->settings[i].name, "kernels.matvec.Q4_0.lanes") == 0)
            slow.lanes = atoi(profile->settings[i].value);
    return slow.cpu->open(host, index, profile, device, err);
}

static int32_t slow_prepare(struct quern_device *device, const struct quern_segment *segment,
                            struct quern_prepared **prepared, struct quern_error *err)
{
    const struct quern_node *node = quern_graph_node(segment->graph, segment->nodes[0]);
    slow.out = node->out[0] == QUERN_NONE ? NULL : segment->bindings[node->out[0]].buffer;
    slow.offset = node->out[0] == QUERN_NONE ? 0 : segment->bindings[node->out[0]].offset;
    return slow.cpu->prepare(device, segment, prepared, err);
}

static int32_t slow_run(struct quern_device *device, struct quern_prepared *prepared,
                        const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    int32_t status = slow.cpu->run(device, prepared, args, point, err);
    if (!status && slow.lanes == WRONG && slow.out)
        ((float *)(void *)((char *)slow.cpu->buffer_map(device, slow.out) + slow.offset))[0] += 1e6f;
    return status;
}

/* By the device's own clock, which no other work on the machine disturbs. */
static uint32_t slow_times(struct quern_device *device, struct quern_prepared *prepared,
                           struct quern_node_time *times, uint32_t cap)
{
    uint64_t us = slow.lanes == WRONG ? 100 : slow.lanes == RIGHT ? 500 : 2000;
    if (cap > 0)
        times[0] = (struct quern_node_time){.begin_ns = 1000, .end_ns = 1000 + us * 1000};
    return 1;
}

static void slow_tunables(struct quern_tunables *table)
{
    static const struct quern_tunable items[] = {{"kernels.matvec.lanes", QUERN_TUNABLE_COUNT,
                                                  QUERN_TUNABLE_SPEED | QUERN_TUNABLE_FORMATS, 0, 0, "2 4 8",
                                                  "2", "invocations side by side"}};
    *table = (struct quern_tunables){sizeof *table, 1, sizeof items[0], items};
}

static const struct quern_driver *slow_driver(void)
{
    slow.cpu = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    slow.driver = *slow.cpu;
    slow.driver.name = "slow";
    slow.driver.open = slow_open;
    slow.driver.prepare = slow_prepare;
    slow.driver.run = slow_run;
    slow.driver.times = slow_times;
    slow.driver.tunables = slow_tunables;
    return &slow.driver;
}

struct seen {
    uint32_t n_rows;
    double gain;
    bool kept;
    char settings[64];
};

static void on_row(void *user, const struct quern_tune_row *row)
{
    struct seen *seen = user;
    seen->n_rows++;
    seen->gain = row->gain;
    seen->kept = row->kept;
    snprintf(seen->settings, sizeof seen->settings, "%s", row->settings);
}

static struct quern_tune_result tune(const struct quern_device_params *devices, const char *only,
                                     const char *save_to, bool again, struct seen *seen)
{
    struct quern_tune_result result;
    struct quern_error err = {.text = ""};
    *seen = (struct seen){0};
    if (quern_device_tune(devices,
                          quern_tune_params(.device = "slow", .only = only, .seconds = 0.001,
                                            .bytes = 2 << 20, .save_to = save_to, .again = again,
                                            .row = on_row, .user = seen),
                          &result, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return result;
}

static void test_tune(void **state)
{
    const struct quern_driver *driver = slow_driver();
    struct quern_device_params devices = *quern_device_params(.drivers = &driver, .n_drivers = 1);
    char folder[] = "/tmp/quern-tune-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct seen seen;
    struct quern_tune_result result = tune(&devices, "matvec q4_0", folder, false, &seen);
    assert_int_equal(seen.n_rows, 1);
    assert_true(seen.gain > 3.9 && result.n_faster == 1);
    assert_string_equal(seen.settings, "lanes 4");
    /* the next run uses it */
    struct quern_profiles *profiles;
    struct quern_device_list *list;
    const char *profile;
    const struct quern_profile_value *const *values;
    struct quern_error err;
    assert_int_equal(
        quern_profiles_open(&profiles,
                            quern_profiles_params(.drivers = &driver, .n_drivers = 1, .dir = folder), &err),
        QUERN_OK);
    devices.profiles = profiles;
    assert_int_equal(quern_device_list_create(&list, &devices, &err), QUERN_OK);
    size_t i = 0, n = 0;
    while (strcmp(quern_device_list_at(list, i)->driver, "slow") != 0)
        i++;
    n = quern_device_list_values(list, i, &profile, &values);
    assert_int_equal(n, 1);
    assert_string_equal(values[0]->setting, "kernels.matvec.Q4_0.lanes");
    assert_string_equal(values[0]->value, "4");
    quern_device_list_destroy(&list);
    /* what was measured is kept, and measured again where that is wanted, from what held before */
    uint64_t opened = slow.n_opened;
    (void)tune(&devices, "matvec q4_0", folder, false, &seen);
    assert_true(seen.kept && seen.gain > 3.9 && slow.n_opened <= opened + 1);
    assert_string_equal(seen.settings, "lanes 4");
    (void)tune(&devices, "matvec q4_0", folder, true, &seen);
    if (seen.kept || !(seen.gain > 3.9))
        fail_msg("kept %d, gain %g, settings %s", seen.kept, seen.gain, seen.settings);
    quern_profiles_close(&profiles);
    /* another row does not lose the first one's */
    devices.profiles = NULL;
    result = tune(&devices, "matvec q4_0 q8_0", folder, false, &seen);
    assert_int_equal(result.n_rows, 2);
    assert_true(!seen.kept && result.n_faster == 1);
    assert_int_equal(unlink(result.saved) | rmdir(folder), 0);
    (void)state;
}

static bool cancel(void *user)
{
    return ++*(int *)user > 30;
}

static void test_cancel(void **state)
{
    const struct quern_driver *driver = slow_driver();
    int n = 0;
    const struct quern_callbacks callbacks = {.user = &n, .cancel = cancel};
    struct quern_device_params devices =
        *quern_device_params(.callbacks = &callbacks, .drivers = &driver, .n_drivers = 1);
    char folder[] = "/tmp/quern-tune-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct quern_tune_result result;
    struct quern_error err;
    assert_int_equal(quern_device_tune(&devices,
                                       quern_tune_params(.device = "slow", .only = "matvec", .seconds = 0.001,
                                                         .bytes = 2 << 20, .save_to = folder),
                                       &result, &err),
                     QUERN_ERR_CANCELLED);
    /* the rows before it are there */
    assert_true(result.n_rows > 0 && result.n_rows < 5 && result.saved[0]);
    assert_int_equal(unlink(result.saved) | rmdir(folder), 0);
    assert_int_equal(quern_device_tune(quern_device_params(),
                                       quern_tune_params(.device = "cpu", .only = "embed"), &result, &err),
                     QUERN_ERR_PARAM);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tune), cmocka_unit_test(test_cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
