/* What is found out about drivers before they are used: records, trials, verdicts, marks. The driver that is
 * brought up here is the processor's in other clothes. */
#include "base/clock.h"
#include "base/file.h"
#include "cache/cache.h"
#include "device/auto.h"
#include "device/bringup.h"
#include "device/trial.h"
#include "drivers/cpu/cpu.h"
#include "drivers/null/null.h"
#include "test.h"

#include <dirent.h>
#include <unistd.h>

static struct quern_callbacks cb;

/* ---- records ---- */

static struct qn_text written(void)
{
    return (struct qn_text){.cb = &cb};
}

/* No beginning of a record is a record, and neither is one with more behind it. */
static void assert_whole(struct qn_text *text, bool (*reads)(const char *data, size_t n))
{
    assert_false(text->failed);
    for (size_t n = 0; n < text->n; n++)
        assert_false(reads(text->data, n));
    assert_true(reads(text->data, text->n));
    qn_text_put(text, "\n");
    assert_false(reads(text->data, text->n));
    qn_text_finish(text);
}

static bool reads_listing(const char *data, size_t n)
{
    struct qn_listing listing;
    struct quern_error err = {0};
    bool good = !qn_listing_read(&cb, data, n, "it", &listing, &err);
    assert_true(good || strstr(err.text, "it") == err.text);
    qn_listing_finish(&cb, &listing);
    return good;
}

static bool reads_bad(const char *data, size_t n)
{
    static struct qn_bad_parts bad;
    return !qn_bad_parts_read(data, n, "it", &bad, NULL);
}

static bool reads_verdict(const char *data, size_t n)
{
    struct qn_verdict verdict;
    return !qn_verdict_read(data, n, "it", &verdict, NULL);
}

static bool reads_rating(const char *data, size_t n)
{
    struct qn_rating rating;
    return !qn_rating_read(data, n, "it", &rating, NULL);
}

static void test_records(void **state)
{
    (void)state;
    static struct quern_device_info infos[2];
    infos[0] = (struct quern_device_info){
        .type = 3, .memory = UINT64_C(1) << 40, .name = "a\nb c", .features = "x y"};
    infos[1] = (struct quern_device_info){.identity = "00ff", .facts = "heap 0: 1 MiB\nlimit: 7: 8\n"};
    struct qn_listing listing = {.n = 2, .infos = infos, .reason = "none"}, back;
    struct qn_text text = written();
    qn_listing_write(&text, &listing);
    assert_int_equal(qn_listing_read(&cb, text.data, text.n, "it", &back, NULL), QUERN_OK);
    assert_int_equal(back.n, 2);
    assert_string_equal(back.reason, "none");
    assert_string_equal(back.infos[0].name, "a b c");
    assert_true(back.infos[0].type == 3 && back.infos[0].memory == UINT64_C(1) << 40);
    assert_string_equal(back.infos[1].facts, infos[1].facts);
    assert_string_equal(back.infos[1].identity, "00ff");
    qn_listing_finish(&cb, &back);
    assert_whole(&text, reads_listing);

    static struct qn_bad_parts bad = {.n = 1, .part = {{.path = "/a b.json", .reason = "crashed"}}};
    qn_bad_parts_write(&text, &bad);
    assert_whole(&text, reads_bad);
    qn_verdict_write(
        &text,
        &(struct qn_verdict){
            .status = 5, .strikes = 1, .import = true, .without = "features.x", .reason = "it is slow"});
    struct qn_verdict verdict;
    assert_int_equal(qn_verdict_read(text.data, text.n, "it", &verdict, NULL), QUERN_OK);
    assert_true(verdict.import && !verdict.good && verdict.status == 5 && verdict.strikes == 1);
    assert_string_equal(verdict.without, "features.x");
    assert_whole(&text, reads_verdict);
    struct qn_rating rating = {{0, 1.5, 1e9, 0.001}}, rating_back;
    qn_rating_write(&text, &rating);
    assert_int_equal(qn_rating_read(text.data, text.n, "it", &rating_back, NULL), QUERN_OK);
    assert_memory_equal(&rating, &rating_back, sizeof rating);
    assert_whole(&text, reads_rating);
}

static void test_foreign_records(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "",
        "end\n",
        "quern-verdict 0.0.0\ngood 1\nstatus 0\nstrikes 0\nimport 0\nwithout \nreason \nend\n",
        "quern-verdict " QN_VERSION "\ngood 2\nstatus 0\nstrikes 0\nimport 0\nwithout \nreason \nend\n",
        "quern-verdict " QN_VERSION "\ngood 1\nstatus -1\nstrikes 0\nimport 0\nwithout \nreason \nend\n",
        "quern-verdict " QN_VERSION
        "\ngood 1\nstatus 0\nstrikes 99999999999\nimport 0\nwithout \nreason \nend\n",
        "quern-verdict " QN_VERSION "\ngood 1\nstatus 0\nstrikes 0\nimport 2\nwithout \nreason \nend\n",
        "quern-devices " QN_VERSION "\nstatus 0\nreason \nend\n"};
    for (size_t i = 0; i < QN_LEN(foreign); i++)
        assert_false(reads_verdict(foreign[i], strlen(foreign[i])));
    struct qn_text text = written(); /* more devices than fit */
    qn_text_put(&text, "quern-devices " QN_VERSION "\nstatus 0\nreason \n");
    for (int i = 0; i <= QN_MAX_LISTED; i++)
        qn_text_put(&text, "type 1\ndevice\n");
    qn_text_put(&text, "end\n");
    assert_false(reads_listing(text.data, text.n));
    qn_text_finish(&text);
    qn_text_put(&text, "quern-devices " QN_VERSION "\nstatus 0\nreason \nname %0999d\ndevice\nend\n", 1);
    assert_false(reads_listing(text.data, text.n));
    qn_text_finish(&text);
}

/* ---- trials ---- */

static struct qn_device open_device(const struct quern_driver *driver, struct quern_host *host)
{
    *host = qn_device_host(&cb, NULL);
    struct qn_device device = {.host = *host};
    struct quern_error err;
    assert_int_equal(qn_device_open_plain(&device, driver, 0, NULL, 0, &err), QUERN_OK);
    return device;
}

static void test_trial(void **state)
{
    (void)state;
    struct quern_host hosts[2];
    struct qn_device cpu = open_device(quern_cpu_driver_get(QUERN_DRIVER_ABI), &hosts[0]);
    struct qn_device null = open_device(quern_null_driver_get(QUERN_DRIVER_ABI), &hosts[1]);
    struct quern_error err = {0};
    struct qn_rates rates = {0, 0};
    assert_int_equal(qn_trial_check(&cb, &cpu, &cpu, &err), QUERN_OK);
    assert_int_equal(qn_trial_check(&cb, &null, &cpu, &err), QUERN_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "wrong results"));
    assert_int_equal(qn_trial_measure(&cb, &null, &rates, &err), QUERN_OK);
    assert_true(rates.decode > 0 && rates.prefill > 0);
    qn_device_close(&cpu);
    qn_device_close(&null);
}

/* The CPU with memory of its own: what is imported is slow to reach. */
static struct quern_buffer *imported;

static int32_t slow_import(struct quern_device *device, void *memory, uint64_t bytes,
                           struct quern_buffer **buffer, struct quern_error *err)
{
    assert_int_equal((uintptr_t)memory % 4096, 0);
    int32_t status =
        quern_cpu_driver_get(QUERN_DRIVER_ABI)->buffer_import(device, memory, bytes, buffer, err);
    imported = *buffer;
    return status;
}

static void slow_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    imported = buffer == imported ? NULL : imported;
    quern_cpu_driver_get(QUERN_DRIVER_ABI)->buffer_destroy(device, buffer);
}

static int32_t slow_run(struct quern_device *device, struct quern_prepared *prepared,
                        const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    if (imported)
        qn_sleep_ns(200000000);
    return quern_cpu_driver_get(QUERN_DRIVER_ABI)->run(device, prepared, args, point, err);
}

static int32_t no_import(struct quern_device *device, void *memory, uint64_t bytes,
                         struct quern_buffer **buffer, struct quern_error *err)
{
    return qn_fail(err, QUERN_ERR_UNSUPPORTED, "not today");
}

static void unsure_caps(struct quern_device *device, struct quern_caps *caps)
{
    quern_cpu_driver_get(QUERN_DRIVER_ABI)->caps(device, caps);
    caps->heap[0].flags |= QUERN_HEAP_MEASURE;
}

static void test_import(void **state)
{
    (void)state;
    struct quern_host host;
    struct quern_error err = {0};
    double share = 0;
    struct quern_driver driver = *quern_cpu_driver_get(QUERN_DRIVER_ABI);
    driver.buffer_destroy = slow_destroy;
    driver.run = slow_run;
    driver.buffer_import = slow_import;
    driver.caps = unsure_caps;
    struct qn_device slow = open_device(&driver, &host);
    assert_int_equal(qn_trial_import(&cb, &slow, &share, &err), QUERN_OK);
    assert_true(share > 0 && share < 0.9);
    driver.buffer_import = no_import;
    assert_int_equal(qn_trial_import(&cb, &slow, &share, &err), QUERN_OK);
    assert_true(share == 0);
    qn_device_close(&slow);
    struct qn_device sure = open_device(quern_cpu_driver_get(QUERN_DRIVER_ABI), &host);
    assert_int_equal(qn_trial_import(&cb, &sure, &share, &err), QUERN_OK);
    assert_true(share == 0);
    qn_device_close(&sure);
}

/* The processor decodes 10 and prefills 100 million weights a second. */
static void test_choice(void **state)
{
    (void)state;
    static const enum qn_wish M = QN_WISH_MEASURE, P = QN_WISH_PREFER, A = QN_WISH_AVOID;
    const struct {
        struct qn_candidate others[2]; /* wishes and rates of decode, prefill */
        uint32_t decode, prefill;
    } cases[] = {
        {{{.rate = {20, 200}}}, 1, 1},
        {{{.rate = {5, 50}}}, 0, 0},
        {{{.rate = {10, 100}}}, 0, 0}, /* no gain */
        {{{.rate = {0, 0}}}, 0, 0},    /* not measured */
        {{{.rate = {2, 1000}}}, 0, 1}, /* one for each */
        {{{.rate = {100, 20}}}, 1, 0},
        {{{.rate = {9.9, 1000}}}, 1, 1},                      /* two do not pay */
        {{{.rate = {20, 200}}, {.rate = {30, 300}}}, 2, 2},   /* the faster one */
        {{{.rate = {200, 200}}, {.rate = {20, 2000}}}, 1, 2}, /* each its own */
        {{{.wish = {A, A}, .rate = {20, 200}}}, 0, 0},        /* what profiles say */
        {{{.wish = {P, P}}}, 1, 1},
        {{{.wish = {A, P}}}, 0, 1},
        {{{.wish = {M, P}, .rate = {20, 1}}}, 1, 1},
        {{{.wish = {M, P}, .rate = {1, 1}}}, 0, 1},
        {{{.wish = {M, A}, .rate = {200, 2000}}}, 1, 0},
    };
    struct qn_candidate unknown[2] = {{.id = "cpu"}, {.wish = {M, P}}};
    uint32_t choice[QN_PHASES];
    qn_auto_choose(unknown, 2, choice);
    assert_int_equal(choice[QN_PHASE_DECODE], 0);
    assert_int_equal(choice[QN_PHASE_PREFILL], 1);
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct qn_candidate candidates[3] = {
            {.id = "cpu", .rate = {10, 100}}, cases[i].others[0], cases[i].others[1]};
        uint32_t chosen[QN_PHASES];
        qn_auto_choose(candidates, 3, chosen);
        if (chosen[QN_PHASE_DECODE] != cases[i].decode || chosen[QN_PHASE_PREFILL] != cases[i].prefill)
            fail_msg("case %zu: decode on %u, prefill on %u", i, chosen[QN_PHASE_DECODE],
                     chosen[QN_PHASE_PREFILL]);
    }
}

/* ---- a driver that needs bring-up ---- */

static char build[64] = "one";

static int32_t identify(const struct quern_host *host, struct quern_driver_identity *identity,
                        struct quern_error *err)
{
    identity->n_parts = 1;
    snprintf(identity->build, sizeof identity->build, "%s", build);
    snprintf(identity->part[0].path, sizeof identity->part[0].path, "/a/driver");
    return QUERN_OK;
}

static int32_t confine(const struct quern_host *host, const struct quern_driver_identity *identity,
                       uint32_t parts, char *environment, size_t size, struct quern_error *err)
{
    memcpy(environment, "A=1\0", 5);
    return QUERN_OK;
}

static char folder[64];

/* Leaves the marks of n processes that are dead; subject: the device's (else that of its list). */
static void leave_marks(struct quern_cache *cache, const struct qn_drivers *drivers,
                        const struct quern_driver *driver, int n)
{
    struct qn_bringup bringup;
    char command[512];
    assert_int_equal(qn_bringup_init(&bringup, &cb, drivers, driver, false, NULL), QUERN_OK);
    struct qn_mark *mark = qn_mark_create(&bringup, 0);
    assert_non_null(mark);
    qn_mark_begin(mark, "trying");
    for (int i = 0; i < n; i++) {
        snprintf(command, sizeof command, "for f in %s/marks/*[0-9]; do cp $f $f-dead%d; done", folder, i);
        assert_int_equal(system(command), 0);
    }
    qn_mark_end(mark, false);
    qn_mark_destroy(&mark);
    qn_bringup_finish(&bringup);
}

static struct qn_verdict verdict_of(const struct qn_drivers *drivers, const struct quern_driver *driver,
                                    bool passes)
{
    struct qn_bringup bringup;
    struct qn_verdict verdict;
    struct quern_error err;
    bool known;
    assert_int_equal(qn_bringup_init(&bringup, &cb, drivers, driver, false, &err), QUERN_OK);
    assert_int_equal(qn_bringup_verdict(&bringup, 0, true, &verdict, &known, &err), QUERN_OK);
    struct qn_mark *mark = qn_mark_create(&bringup, 0);
    qn_mark_begin(mark, "running");
    qn_mark_begin(mark, "running, within");
    qn_mark_end(mark, passes);
    qn_mark_destroy(&mark);
    qn_bringup_finish(&bringup);
    return verdict;
}

/* A driver in a cache of its own. */
struct dressed {
    struct quern_driver driver;
    const struct quern_driver *extra[1];
    struct quern_cache *cache;
    struct qn_drivers drivers;
};

static void dress(struct dressed *dressed)
{
    dressed->driver = *quern_cpu_driver_get(QUERN_DRIVER_ABI);
    dressed->driver.name = "dressed";
    dressed->driver.identify = identify;
    dressed->driver.confine = confine;
    dressed->extra[0] = &dressed->driver;
    snprintf(folder, sizeof folder, "/tmp/quern-bringup-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(quern_cache_open(&dressed->cache, folder, 0, &cb, NULL), QUERN_OK);
    dressed->drivers = (struct qn_drivers){.extra = dressed->extra, .n_extra = 1, .cache = dressed->cache};
}

static void undress(struct dressed *dressed)
{
    char command[128];
    quern_cache_close(&dressed->cache);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* How many verdicts are kept. `text`: each becomes that, in an entry that is whole. */
static int kept_verdicts(const struct dressed *dressed, const char *text)
{
    int n = 0;
    char path[512];
    struct dirent *file;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((file = readdir(dir))) {
        struct qn_view view;
        struct qn_cache_entry entry;
        if (strncmp(file->d_name, "device-verdict-", 15) != 0)
            continue;
        n++;
        snprintf(path, sizeof path, "%s/%s", folder, file->d_name);
        assert_int_equal(qn_view_path(&cb, &view, path, false, NULL), QUERN_OK);
        assert_null(qn_cache_read(view.data, (size_t)view.size, &entry));
        if (text)
            qn_cache_put(dressed->cache, entry.kind, entry.key, entry.key_bytes, text, strlen(text));
        qn_view_finish(&cb, &view);
    }
    closedir(dir);
    return n;
}

/* What is kept and is no verdict refuses no device, and is gone afterwards. */
static void test_unreadable_verdict(void **state)
{
    (void)state;
    static const char *const unreadable[] = {"nothing of a verdict",
                                             "quern-verdict " QN_VERSION "\ngood 0\nstatus 5\nstrikes 2\n"};
    struct dressed dressed;
    dress(&dressed);
    for (size_t i = 0; i < QN_LEN(unreadable); i++) {
        leave_marks(dressed.cache, &dressed.drivers, &dressed.driver, 2);
        assert_false(verdict_of(&dressed.drivers, &dressed.driver, false).good);
        assert_int_equal(kept_verdicts(&dressed, unreadable[i]), 1);
        struct qn_verdict verdict = verdict_of(&dressed.drivers, &dressed.driver, false);
        assert_true(verdict.good);
        assert_true(verdict.status == QUERN_OK && verdict.strikes == 0 && !verdict.reason[0]);
        assert_int_equal(kept_verdicts(&dressed, NULL), 0);

        leave_marks(dressed.cache, &dressed.drivers, &dressed.driver, 1); /* one strike, which is not read */
        assert_int_equal(verdict_of(&dressed.drivers, &dressed.driver, false).strikes, 1);
        assert_int_equal(kept_verdicts(&dressed, unreadable[i]), 1);
        leave_marks(dressed.cache, &dressed.drivers, &dressed.driver, 1); /* the first that counts */
        verdict = verdict_of(&dressed.drivers, &dressed.driver, true);
        assert_true(verdict.good && verdict.strikes == 1);
    }
    undress(&dressed);
}

static void test_strikes(void **state)
{
    (void)state;
    struct dressed dressed;
    dress(&dressed);
    const struct quern_driver *driver = &dressed.driver;
    const struct qn_drivers *drivers = &dressed.drivers;
    struct quern_cache *cache = dressed.cache;

    assert_true(verdict_of(drivers, driver, true).good);
    leave_marks(cache, drivers, driver, 1);
    assert_int_equal(verdict_of(drivers, driver, false).strikes, 1); /* it did not pass: the strike stays */
    assert_int_equal(verdict_of(drivers, driver, true).strikes, 1);
    assert_int_equal(verdict_of(drivers, driver, true).strikes, 0);
    leave_marks(cache, drivers, driver, 1);
    assert_true(verdict_of(drivers, driver, false).good);
    leave_marks(cache, drivers, driver, 1);
    struct qn_verdict verdict = verdict_of(drivers, driver, false);
    assert_false(verdict.good);
    assert_non_null(strstr(verdict.reason, "2 processes in a row died"));
    assert_false(verdict_of(drivers, driver, false).good); /* from now on */
    snprintf(build, sizeof build, "two");                  /* other kernels are another matter */
    assert_true(verdict_of(drivers, driver, false).good);
    snprintf(build, sizeof build, "one");
    assert_false(verdict_of(drivers, driver, false).good);

    struct qn_device device;
    struct quern_error err = {0};
    assert_int_equal(qn_device_open(&cb, drivers, "dressed", 7, &device, &err), QUERN_ERR_DEVICE);
    assert_non_null(strstr(err.text, "in a row died"));
    assert_int_equal(quern_device_forget(quern_device_params(.cache_dir = folder), NULL), QUERN_OK);
    assert_int_equal(qn_device_open(&cb, drivers, "dressed", 7, &device, &err), QUERN_OK);
    qn_device_close(&device);
    undress(&dressed);
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_foreign_records),
        cmocka_unit_test(test_trial),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_strikes),
        cmocka_unit_test(test_unreadable_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
