/* What --device auto takes: the device that is fastest at what people do, as measured or as profiles say. */
#include "device/bringup.h"
#include "device/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds for a prompt of 512 tokens and an answer of 128, for a million weights. */
static double seconds(double prefill, double decode)
{
    return 512 / prefill + 128 / decode;
}

bool qn_rating_is_faster(const struct qn_rating *rating)
{
    const double *rate = rating->rate;
    return rate[QN_DECODE] > 0 && rate[QN_PREFILL] > 0 &&
           seconds(rate[QN_PREFILL], rate[QN_DECODE]) < seconds(rate[QN_CPU_PREFILL], rate[QN_CPU_DECODE]);
}

/* ---- what profiles say ---- */

/* About using the device: of both phases, that which says more. */
enum wish { MEASURE, PREFER, AVOID };

struct said {
    enum wish wish;
    double decode, prefill; /* as in struct qn_rates; 0: nothing */
};

static void take_setting(const struct quern_setting *setting, enum wish wish[2], struct said *said)
{
    static const char *const names[] = {"placement.decode", "placement.prefill"};
    for (size_t k = 0; k < QN_LEN(names); k++)
        if (strcmp(setting->name, names[k]) == 0)
            wish[k] = strcmp(setting->value, "avoid") == 0    ? AVOID
                      : strcmp(setting->value, "prefer") == 0 ? PREFER
                                                              : MEASURE;
    if (strcmp(setting->name, QN_COSTS_DECODE) == 0)
        said->decode = strtod(setting->value, NULL) / QN_RATE_BYTES;
    else if (strcmp(setting->name, QN_COSTS_PREFILL) == 0)
        said->prefill = strtod(setting->value, NULL) / QN_RATE_OPS;
}

static struct said what_is_said(const struct qn_bringup *bringup, uint32_t index)
{
    enum wish wish[2] = {MEASURE, MEASURE};
    struct said said = {MEASURE, 0, 0};
    struct qn_settings settings;
    struct quern_error err;
    if (qn_bringup_settings(bringup, index, &settings, &err))
        return said;
    for (uint32_t i = 0; i < settings.n; i++)
        take_setting(&settings.item[i], wish, &said);
    qn_settings_finish(bringup->cb, &settings);
    said.wish = wish[0] > wish[1] ? wish[0] : wish[1];
    return said;
}

static struct said what_is_said_of_processor(const struct qn_bringup *bringup)
{
    struct said said = {MEASURE, 0, 0};
    struct qn_bringup processor;
    struct quern_error err;
    const struct quern_driver *driver = qn_driver_builtin(bringup->cb, "cpu");
    if (!driver || qn_bringup_init(&processor, bringup->cb, bringup->drivers, driver, false, &err))
        return said;
    if (processor.listing.n > 0)
        said = what_is_said(&processor, 0);
    qn_bringup_finish(&processor);
    return said;
}

/* ---- rating ---- */

/* Measured, but for what the profiles say of the device and of the processor. */
static enum quern_status rate(struct qn_bringup *bringup, uint32_t index, const struct said *said,
                              struct qn_rating *rating, struct quern_error *err)
{
    const struct said processor = what_is_said_of_processor(bringup);
    const double given[QN_RATES] = {[QN_DECODE] = said->decode,
                                    [QN_PREFILL] = said->prefill,
                                    [QN_CPU_DECODE] = processor.decode,
                                    [QN_CPU_PREFILL] = processor.prefill};
    bool all = true;
    for (size_t i = 0; i < QN_RATES; i++)
        all &= given[i] > 0;
    enum quern_status status = all ? QUERN_OK : qn_bringup_rating(bringup, index, rating, err);
    for (size_t i = 0; i < QN_RATES; i++)
        if (given[i] > 0)
            rating->rate[i] = given[i];
    return status;
}

/* Seconds that the device takes, INFINITY: it is not used. One that is preferred takes none. */
static double seconds_of(struct qn_bringup *bringup, uint32_t index, const char *id)
{
    const struct quern_device_info *info = &bringup->listing.infos[index];
    const struct quern_callbacks *cb = bringup->cb;
    struct qn_verdict verdict = {.good = false};
    struct qn_rating rating;
    struct quern_error err = {0};
    bool known;
    const struct said said = what_is_said(bringup, index);
    if (said.wish == AVOID) {
        qn_log(cb, QUERN_LOG_INFO, "auto: %s (%s) is not used: its profile avoids it", id, info->name);
        return INFINITY;
    }
    if (qn_bringup_verdict(bringup, index, true, &verdict, &known, &err) || !verdict.good) {
        qn_log(cb, QUERN_LOG_INFO, "auto: %s (%s) is not used: %s", id, info->name,
               verdict.reason[0] ? verdict.reason : err.text);
        return INFINITY;
    }
    if (said.wish == PREFER) {
        qn_log(cb, QUERN_LOG_INFO, "auto: %s (%s) is preferred by its profile", id, info->name);
        return 0;
    }
    if (rate(bringup, index, &said, &rating, &err)) {
        qn_log(cb, QUERN_LOG_INFO, "auto: %s (%s) is not measured: %s", id, info->name, err.text);
        return INFINITY;
    }
    const double *rates = rating.rate;
    bool faster = qn_rating_is_faster(&rating);
    qn_log(
        cb, QUERN_LOG_INFO,
        "auto: %s (%s) is %s than the processor: decode %.4g to %.4g, prefill %.4g to %.4g million weights/s",
        id, info->name, faster ? "faster" : "slower", rates[QN_DECODE], rates[QN_CPU_DECODE],
        rates[QN_PREFILL], rates[QN_CPU_PREFILL]);
    return faster ? seconds(rates[QN_PREFILL], rates[QN_DECODE]) : INFINITY;
}

/* ---- choosing ---- */

/* Puts the driver's fastest device first where it is faster than the processor and what was found before. */
static void consider(struct qn_bringup *bringup, double *best, char ids[QN_AUTO_SIZE])
{
    for (uint32_t i = 0; i < bringup->listing.n; i++) {
        char id[64];
        if (!qn_device_is_hardware(bringup->listing.infos[i].type) || !qn_bringup_confined(bringup))
            continue;
        qn_device_write_id(bringup, i, id, sizeof id);
        double time = seconds_of(bringup, i, id);
        if (time < *best) {
            *best = time;
            snprintf(ids, QN_AUTO_SIZE, "%s,cpu", id);
        }
    }
}

void qn_device_auto(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                    char ids[QN_AUTO_SIZE])
{
    static const struct qn_drivers built_in = {0}; /* those that the helper knows */
    double best = INFINITY;
    snprintf(ids, QN_AUTO_SIZE, "cpu");
    bool can_measure = drivers->cache && drivers->helper && drivers->helper[0];
    const struct quern_driver *driver;
    for (size_t i = 0; can_measure && qn_driver_at(cb, &built_in, i, &driver); i++) {
        struct qn_bringup bringup;
        struct quern_error err = {0};
        if (!driver || !driver->identify)
            continue;
        if (qn_bringup_init(&bringup, cb, drivers, driver, false, &err)) {
            qn_log(cb, QUERN_LOG_INFO, "auto: driver %s: %s", driver->name, err.text);
            continue;
        }
        consider(&bringup, &best, ids);
        qn_bringup_finish(&bringup);
    }
    qn_log(cb, QUERN_LOG_INFO, "auto: %s", ids);
}
