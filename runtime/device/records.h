/* What is found out about drivers, as text: the helper program writes it, the cache keeps it. Read strictly:
 * it may come from a program that crashed half-way, or from a file that anyone wrote. */
#ifndef QN_DEVICE_RECORDS_H
#define QN_DEVICE_RECORDS_H

#include "base/host.h"
#include <quern/driver.h>

/* Text that grows. */
struct qn_text {
    const struct quern_callbacks *cb;
    char *data;
    size_t n, cap;
    bool failed; /* memory is out */
};
void qn_text_put(struct qn_text *text, const char *fmt, ...) QUERN_PRINTF(2, 3);
void qn_text_finish(struct qn_text *text);

enum { QN_MAX_LISTED = 16 };

/* Devices of a driver, or why there are none. */
struct qn_listing {
    uint32_t n;
    struct quern_device_info *infos; /* [n], owned */
    uint32_t status;                 /* enum quern_status of the failure for which there are none */
    char reason[384];
};
void qn_listing_finish(const struct quern_callbacks *cb, struct qn_listing *listing);

/* Parts of a driver that cannot be loaded. */
struct qn_bad_parts {
    uint32_t n;
    struct qn_bad_part {
        char path[512];
        char reason[256];
    } part[QUERN_MAX_PARTS];
};

/* What a trial of a device came to. */
struct qn_verdict {
    bool good;
    uint32_t status;  /* enum quern_status of what failed */
    uint32_t strikes; /* processes that died with the device in use, with none that did not in between */
    bool import;      /* weights are as fast in the host's memory as in its own */
    char without[96]; /* the setting that must be off for it to be good: "features.coopmat"; "": none */
    char reason[384]; /* "" where it is good and nothing must be off */
};

/* How fast a device is, and the processor beside it: as in trial.h. */
enum { QN_DECODE, QN_PREFILL, QN_CPU_DECODE, QN_CPU_PREFILL, QN_RATES };
struct qn_rating {
    double rate[QN_RATES];
};

void qn_listing_write(struct qn_text *text, const struct qn_listing *listing);
void qn_bad_parts_write(struct qn_text *text, const struct qn_bad_parts *bad);
void qn_verdict_write(struct qn_text *text, const struct qn_verdict *verdict);
void qn_rating_write(struct qn_text *text, const struct qn_rating *rating);

/* QUERN_ERR_FILE where the text is not a whole record of this kind, written by this version of Quern; `what`
 * names it in the sentence. On failure nothing is owned. */
enum quern_status qn_listing_read(const struct quern_callbacks *cb, const char *data, size_t n,
                                  const char *what, struct qn_listing *listing, struct quern_error *err);
enum quern_status qn_bad_parts_read(const char *data, size_t n, const char *what, struct qn_bad_parts *bad,
                                    struct quern_error *err);
enum quern_status qn_verdict_read(const char *data, size_t n, const char *what, struct qn_verdict *verdict,
                                  struct quern_error *err);
enum quern_status qn_rating_read(const char *data, size_t n, const char *what, struct qn_rating *rating,
                                 struct quern_error *err);

#endif
