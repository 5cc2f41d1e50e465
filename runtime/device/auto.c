/* What --device auto takes: for each phase the device that is fastest, as measured or as profiles say. */
#include "device/auto.h"

#include "device/bringup.h"
#include "device/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const qn_phase_prefix[QN_PHASES] = {
    [QN_PHASE_DECODE] = "decode=", [QN_PHASE_PREFILL] = "prefill="};

/* ---- choosing ---- */

/* What people do: tokens of a prompt, and of an answer. */
static const double TOKENS[QN_PHASES] = {[QN_PHASE_DECODE] = 128, [QN_PHASE_PREFILL] = 512};
/* Two devices must be so much faster than one: each has the weights, and keys and values go over. */
static const double TWO_DEVICES = 1.1;

/* Seconds for a million weights; INFINITY: it is not used. One that is preferred takes none, and the
 * processor is there if nothing is known of it. */
static double seconds(const struct qn_candidate *candidates, uint32_t i, enum qn_phase phase)
{
    const double rate = candidates[i].rate[phase];
    if (candidates[i].wish[phase] == QN_WISH_PREFER)
        return 0;
    if (candidates[i].wish[phase] == QN_WISH_AVOID || (rate <= 0 && i > 0))
        return INFINITY;
    return rate > 0 ? TOKENS[phase] / rate : 1e9;
}

void qn_auto_choose(const struct qn_candidate *candidates, uint32_t n, uint32_t chosen[QN_PHASES])
{
    double best = INFINITY;
    chosen[QN_PHASE_DECODE] = chosen[QN_PHASE_PREFILL] = 0;
    for (uint32_t prefill = 0; prefill < n; prefill++)
        for (uint32_t decode = 0; decode < n; decode++) {
            double time =
                seconds(candidates, prefill, QN_PHASE_PREFILL) + seconds(candidates, decode, QN_PHASE_DECODE);
            if (prefill != decode)
                time *= TWO_DEVICES;
            if (time < best) {
                best = time;
                chosen[QN_PHASE_PREFILL] = prefill;
                chosen[QN_PHASE_DECODE] = decode;
            }
        }
}

/* ---- what profiles say ---- */

static void take_setting(const struct quern_setting *setting, struct qn_candidate *said)
{
    static const struct {
        const char *placement, *costs;
        double unit; /* of costs, for a million weights times tokens */
    } names[QN_PHASES] = {[QN_PHASE_DECODE] = {"placement.decode", QN_COSTS_DECODE, QN_RATE_BYTES},
                          [QN_PHASE_PREFILL] = {"placement.prefill", QN_COSTS_PREFILL, QN_RATE_OPS}};
    for (int phase = 0; phase < QN_PHASES; phase++)
        if (strcmp(setting->name, names[phase].placement) == 0)
            said->wish[phase] = strcmp(setting->value, "avoid") == 0    ? QN_WISH_AVOID
                                : strcmp(setting->value, "prefer") == 0 ? QN_WISH_PREFER
                                                                        : QN_WISH_MEASURE;
        else if (strcmp(setting->name, names[phase].costs) == 0)
            said->rate[phase] = strtod(setting->value, NULL) / names[phase].unit;
}

/* Wishes and rates, as far as profiles give them. */
static struct qn_candidate what_is_said(const struct qn_bringup *bringup, uint32_t index)
{
    struct qn_candidate said = {.rate = {0}};
    struct qn_settings settings;
    struct quern_error err;
    if (qn_bringup_settings(bringup, index, &settings, &err))
        return said;
    for (uint32_t i = 0; i < settings.n; i++)
        take_setting(&settings.item[i], &said);
    qn_settings_finish(bringup->cb, &settings);
    return said;
}

static struct qn_candidate what_is_said_of_processor(const struct quern_callbacks *cb,
                                                     const struct qn_drivers *drivers)
{
    struct qn_candidate said = {.rate = {0}};
    struct qn_bringup processor;
    struct quern_error err;
    const struct quern_driver *driver = qn_driver_builtin(cb, "cpu");
    if (!driver || qn_bringup_init(&processor, cb, drivers, driver, false, &err))
        return said;
    if (processor.listing.n > 0)
        said = what_is_said(&processor, 0);
    qn_bringup_finish(&processor);
    return said;
}

/* ---- finding out ---- */

struct search {
    const struct quern_callbacks *cb;
    struct qn_candidate processor;                  /* what is said of it */
    struct qn_candidate candidates[QN_MAX_DEVICES]; /* the processor first */
    uint32_t n;
};

/* Rates of a candidate: measured, but for what the profiles say of it and of the processor. */
static enum quern_status find_rates(struct search *search, struct qn_bringup *bringup, uint32_t index,
                                    struct qn_candidate *candidate, struct quern_error *err)
{
    struct qn_candidate *processor = &search->candidates[0];
    struct qn_rating rating = {{0}};
    bool all = true;
    for (int phase = 0; phase < QN_PHASES; phase++)
        all &= candidate->rate[phase] > 0 && search->processor.rate[phase] > 0;
    enum quern_status status = all ? QUERN_OK : qn_bringup_rating(bringup, index, &rating, err);
    const double measured[QN_PHASES] = {rating.rate[QN_DECODE], rating.rate[QN_PREFILL]};
    const double of_processor[QN_PHASES] = {rating.rate[QN_CPU_DECODE], rating.rate[QN_CPU_PREFILL]};
    for (int phase = 0; phase < QN_PHASES; phase++) {
        if (candidate->rate[phase] <= 0)
            candidate->rate[phase] = measured[phase];
        if (search->processor.rate[phase] <= 0 && of_processor[phase] > processor->rate[phase])
            processor->rate[phase] = of_processor[phase]; /* what disturbs it makes it slower */
    }
    return status;
}

static bool is_usable(const struct search *search, struct qn_bringup *bringup, uint32_t index,
                      const struct qn_candidate *candidate)
{
    const char *name = bringup->listing.infos[index].name, *id = candidate->id;
    struct qn_verdict verdict = {.good = false};
    struct quern_error err = {0};
    bool known, avoided = true;
    for (int phase = 0; phase < QN_PHASES; phase++)
        avoided &= candidate->wish[phase] == QN_WISH_AVOID;
    if (avoided)
        qn_log(search->cb, QUERN_LOG_INFO, "auto: %s (%s) is not used: its profile avoids it", id, name);
    else if (qn_bringup_verdict(bringup, index, true, &verdict, &known, &err) || !verdict.good)
        qn_log(search->cb, QUERN_LOG_INFO, "auto: %s (%s) is not used: %s", id, name,
               verdict.reason[0] ? verdict.reason : err.text);
    else
        return true;
    return false;
}

/* Adds a device to those that may be chosen. */
static void consider(struct search *search, struct qn_bringup *bringup, uint32_t index)
{
    const char *name = bringup->listing.infos[index].name;
    struct qn_candidate candidate = what_is_said(bringup, index);
    struct quern_error err = {0};
    qn_device_write_id(bringup, index, candidate.id, sizeof candidate.id);
    if (!is_usable(search, bringup, index, &candidate))
        return;
    bool measure = false;
    for (int phase = 0; phase < QN_PHASES; phase++)
        measure |= candidate.wish[phase] == QN_WISH_MEASURE;
    if (!measure)
        qn_log(search->cb, QUERN_LOG_INFO, "auto: %s (%s) is placed by its profile", candidate.id, name);
    else if (find_rates(search, bringup, index, &candidate, &err))
        qn_log(search->cb, QUERN_LOG_INFO, "auto: %s (%s) is not measured: %s", candidate.id, name, err.text);
    else
        qn_log(search->cb, QUERN_LOG_INFO,
               "auto: %s (%s) against the processor: decode %.4g to %.4g, prefill %.4g to %.4g million "
               "weights/s",
               candidate.id, name, candidate.rate[QN_PHASE_DECODE],
               search->candidates[0].rate[QN_PHASE_DECODE], candidate.rate[QN_PHASE_PREFILL],
               search->candidates[0].rate[QN_PHASE_PREFILL]);
    search->candidates[search->n++] = candidate;
}

static void consider_driver(struct search *search, struct qn_bringup *bringup)
{
    for (uint32_t i = 0; i < bringup->listing.n && search->n < QN_LEN(search->candidates); i++)
        if (qn_device_is_hardware(bringup->listing.infos[i].type) && qn_bringup_confined(bringup))
            consider(search, bringup, i);
}

/* The list of devices for the choice: the processor is always there, to stand in. */
static void write_ids(const struct qn_candidate *candidates, const uint32_t chosen[QN_PHASES],
                      char ids[QN_AUTO_SIZE])
{
    const bool both = chosen[QN_PHASE_DECODE] == chosen[QN_PHASE_PREFILL];
    size_t n = 0;
    for (int phase = QN_PHASES; phase-- > 0;)
        if (chosen[phase] > 0 && !(both && phase == QN_PHASE_DECODE))
            n += (size_t)snprintf(ids + n, QN_AUTO_SIZE - n, "%s%s,", both ? "" : qn_phase_prefix[phase],
                                  candidates[chosen[phase]].id);
    snprintf(ids + n, QN_AUTO_SIZE - n, "cpu");
}

void qn_device_auto(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                    char ids[QN_AUTO_SIZE])
{
    static const struct qn_drivers built_in = {0}; /* those that the helper knows */
    struct search search = {.cb = cb, .n = 1};
    bool can_measure = drivers->cache && drivers->helper && drivers->helper[0];
    const struct quern_driver *driver;
    if (can_measure)
        search.processor = what_is_said_of_processor(cb, drivers);
    search.candidates[0] = search.processor;
    for (size_t i = 0; can_measure && qn_driver_at(cb, &built_in, i, &driver); i++) {
        struct qn_bringup bringup;
        struct quern_error err = {0};
        if (!driver || !driver->identify)
            continue;
        if (qn_bringup_init(&bringup, cb, drivers, driver, false, &err)) {
            qn_log(cb, QUERN_LOG_INFO, "auto: driver %s: %s", driver->name, err.text);
            continue;
        }
        consider_driver(&search, &bringup);
        qn_bringup_finish(&bringup);
    }
    uint32_t chosen[QN_PHASES];
    qn_auto_choose(search.candidates, search.n, chosen);
    write_ids(search.candidates, chosen, ids);
    qn_log(cb, QUERN_LOG_INFO, "auto: %s", ids);
}
