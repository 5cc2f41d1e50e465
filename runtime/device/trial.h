/* Whether a device computes what it should, and how fast: a small model of random weights, run through a plan
 * as any model is. For devices that are open; knows nothing of processes, files or verdicts. */
#ifndef QN_DEVICE_TRIAL_H
#define QN_DEVICE_TRIAL_H

#include "device/registry.h"

/* Runs the model on `device`, several tokens at once and then one, and compares with `reference`, which runs
 * the same exactly. QUERN_ERR_NUMERIC where results differ by more than rounding. */
enum quern_status qn_trial_check(const struct quern_callbacks *cb, const struct qn_device *device,
                                 const struct qn_device *reference, struct quern_error *err);

/* The feature of the driver's index-th device without which it computes what it should, as the name of a
 * setting, where the settings that are given are not enough. QUERN_ERR_NUMERIC: no single one is to blame. */
enum quern_status qn_trial_blame(const struct quern_callbacks *cb, const struct quern_driver *driver,
                                 const struct quern_host *host, uint32_t index,
                                 const struct quern_setting *settings, uint32_t n_settings,
                                 const struct qn_device *reference, char without[96],
                                 struct quern_error *err);

/* Rates of products of Q4_0 weights, in millions of weights times tokens per second. */
#define QN_RATE_BYTES 0.5625e6 /* of a million weights */
#define QN_RATE_OPS   2e6      /* of a million weights times tokens */
struct qn_rates {
    double decode;  /* token by token: what memory allows */
    double prefill; /* QN_TRIAL_BATCH at once: what arithmetic allows */
};
enum { QN_TRIAL_BATCH = 32 };
enum quern_status qn_trial_measure(const struct quern_callbacks *cb, const struct qn_device *device,
                                   struct qn_rates *rates, struct quern_error *err);

/* What part of its rate, token by token, the device reaches where weights stay in the host's memory (see
 * buffer_import); 0 where they cannot, or where nothing is to be measured. */
enum quern_status qn_trial_import(const struct quern_callbacks *cb, const struct qn_device *device,
                                  double *share, struct quern_error *err);

#endif
