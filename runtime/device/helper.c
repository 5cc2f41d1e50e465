/* What the helper program does: the first to touch a driver, in a process that may be lost. Its arguments are
 *     list DRIVER                      the devices, as a listing
 *     try DRIVER INDEX [CACHE [NAME=VALUE]...]   whether a device computes what it should, as a verdict
 *     rate DRIVER INDEX [CACHE [NAME=VALUE]...]  how fast it is, and the processor beside it, as a rating
 * (CACHE: a directory, "" for none) and its answer is a record (records.h). */
#include "device/records.h"
#include "device/registry.h"
#include "device/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct task {
    struct quern_callbacks cb;
    struct quern_cache *cache; /* for what the drivers compile; NULL: none */
    struct quern_host host;
    const struct quern_driver *driver;
    uint32_t index;
    uint32_t n_settings;
    struct quern_setting *settings; /* [n_settings], with room for one more; their names are copies. Owned */
};

static enum quern_status list(const struct task *task, struct qn_text *answer, struct quern_error *err)
{
    struct qn_listing listing = {0};
    struct quern_error detail = {0};
    listing.infos = qn_zalloc(&task->cb, QN_MAX_LISTED, sizeof *listing.infos);
    if (!listing.infos)
        return qn_fail_memory(err, "a list of devices");
    for (uint32_t i = 0; i < QN_MAX_LISTED; i++)
        listing.infos[i].struct_size = sizeof listing.infos[i];
    int32_t status = task->driver->probe(&task->host, listing.infos, QN_MAX_LISTED, &listing.n, &detail);
    if (status)
        listing.n = 0;
    if (listing.n > QN_MAX_LISTED)
        listing.n = QN_MAX_LISTED;
    listing.status = (uint32_t)status;
    snprintf(listing.reason, sizeof listing.reason, "%.380s", status ? detail.text : "");
    qn_listing_write(answer, &listing);
    qn_listing_finish(&task->cb, &listing);
    return QUERN_OK;
}

/* Below this part of the device's rate, weights are worth a copy, which takes time and memory. */
#define LEAST_SHARE 0.9

/* The device computes wrong results, as `err` says: opens it anew without the feature that is to blame. */
static enum quern_status blame(const struct task *task, struct qn_device *device, const struct qn_device *cpu,
                               struct qn_verdict *verdict, struct quern_error *err)
{
    struct quern_error detail;
    qn_device_close(device);
    if (qn_trial_blame(&task->cb, task->driver, &task->host, task->index, task->settings, task->n_settings,
                       cpu, verdict->without, &detail))
        return QUERN_ERR_NUMERIC;
    snprintf(verdict->reason, sizeof verdict->reason, "%.90s is off: with it, %.270s", verdict->without,
             err->text);
    task->settings[task->n_settings] = (struct quern_setting){verdict->without, "0"};
    return qn_device_open_plain(device, task->driver, task->index, task->settings, task->n_settings + 1, err);
}

/* Opens the device and the processor, and does the work of the trial or of the measurement (NULL: that of the
 * other). */
static enum quern_status with_devices(const struct task *task, struct qn_verdict *verdict,
                                      struct qn_rating *rating, struct quern_error *err)
{
    double share = 0;
    struct qn_device device = {.host = task->host}, cpu = {.host = task->host};
    const struct quern_driver *cpu_driver = qn_driver_builtin(&task->cb, "cpu");
    struct qn_rates rates, cpu_rates;
    if (!cpu_driver)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "there is no driver of the processor to compare with");
    enum quern_status status =
        qn_device_open_plain(&cpu, cpu_driver, 0, task->settings, task->n_settings, err);
    if (!status)
        status =
            qn_device_open_plain(&device, task->driver, task->index, task->settings, task->n_settings, err);
    if (!status && verdict)
        status = qn_trial_check(&task->cb, &device, &cpu, err);
    if (status == QUERN_ERR_NUMERIC && verdict)
        status = blame(task, &device, &cpu, verdict, err);
    if (!status && verdict)
        status = qn_trial_import(&task->cb, &device, &share, err);
    if (!status && verdict)
        verdict->import = share > LEAST_SHARE;
    if (!status && rating)
        status = qn_trial_measure(&task->cb, &device, &rates, err);
    if (!status && rating)
        status = qn_trial_measure(&task->cb, &cpu, &cpu_rates, err);
    if (!status && rating)
        *rating = (struct qn_rating){{rates.decode, rates.prefill, cpu_rates.decode, cpu_rates.prefill}};
    qn_device_close(&device);
    qn_device_close(&cpu);
    return status;
}

static enum quern_status parse(struct task *task, int argc, const char *const *argv, struct quern_error *err)
{
    if (argc < 2)
        return qn_fail(err, QUERN_ERR_PARAM, "expected a task and a driver");
    task->driver = qn_driver_builtin(&task->cb, argv[1]);
    if (!task->driver)
        return qn_fail(err, QUERN_ERR_PARAM, "there is no driver %.64s", argv[1]);
    char *end = NULL;
    if (argc > 2)
        task->index = (uint32_t)strtoul(argv[2], &end, 10);
    if (argc > 2 && (end == argv[2] || *end))
        return qn_fail(err, QUERN_ERR_PARAM, "\"%.64s\" is no index of a device", argv[2]);
    if (argc > 3 && argv[3][0]) {
        enum quern_status status = quern_cache_open(&task->cache, argv[3], 0, &task->cb, err);
        if (status)
            return status;
        task->host = qn_device_host(&task->cb, task->cache);
    }
    task->settings = qn_alloc(&task->cb, (size_t)argc + 1, sizeof *task->settings);
    if (!task->settings)
        return qn_fail_memory(err, "settings of a device");
    for (int i = 4; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (!equals)
            return qn_fail(err, QUERN_ERR_PARAM, "\"%.64s\" is no setting", argv[i]);
        char *name = qn_strndup(&task->cb, argv[i], (size_t)(equals - argv[i]));
        if (!name)
            return qn_fail_memory(err, "a setting");
        task->settings[task->n_settings++] = (struct quern_setting){name, equals + 1};
    }
    return QUERN_OK;
}

static enum quern_status answer_task(const struct task *task, const char *what, struct qn_text *answer,
                                     struct quern_error *err)
{
    if (strcmp(what, "list") == 0)
        return list(task, answer, err);
    struct quern_error why = {0};
    if (strcmp(what, "try") == 0) {
        struct qn_verdict verdict = {0};
        enum quern_status status = with_devices(task, &verdict, NULL, &why);
        verdict.good = !status;
        verdict.status = (uint32_t)status;
        if (status)
            snprintf(verdict.reason, sizeof verdict.reason, "%.380s", why.text);
        qn_verdict_write(answer, &verdict);
        return QUERN_OK;
    }
    struct qn_rating rating;
    if (strcmp(what, "rate") != 0)
        return qn_fail(err, QUERN_ERR_PARAM, "\"%.64s\" is no task of the helper", what);
    enum quern_status status = with_devices(task, NULL, &rating, err);
    if (!status)
        qn_rating_write(answer, &rating);
    return status;
}

enum quern_status quern_device_helper(int argc, const char *const *argv,
                                      void (*write)(void *user, const char *text, size_t length), void *user,
                                      struct quern_error *err)
{
    struct task task = {.cb = qn_callbacks_resolve(NULL)};
    struct qn_text answer = {.cb = &task.cb};
    task.host = qn_device_host(&task.cb, NULL);
    enum quern_status status = parse(&task, argc, argv, err);
    if (!status)
        status = answer_task(&task, argv[0], &answer, err);
    if (!status && answer.failed)
        status = qn_fail_memory(err, "an answer");
    if (!status)
        write(user, answer.data, answer.n);
    qn_text_finish(&answer);
    for (uint32_t i = 0; i < task.n_settings; i++)
        qn_free(&task.cb, (void *)task.settings[i].name);
    qn_free(&task.cb, task.settings);
    quern_cache_close(&task.cache);
    return status;
}
