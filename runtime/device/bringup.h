/* A driver before it is used: what devices it has, and whether one of them may be trusted. Drivers that load
 * code of others (identify in their table) are tried in the helper program first, and what came out is kept
 * in the cache. */
#ifndef QN_DEVICE_BRINGUP_H
#define QN_DEVICE_BRINGUP_H

#include "device/profile.h"
#include "device/records.h"
#include "device/registry.h"

struct qn_bringup {
    const struct quern_callbacks *cb;
    const struct qn_drivers *drivers;
    const struct quern_driver *driver;
    struct quern_driver_identity *identity; /* NULL: the driver is used without a trial */
    uint32_t parts;                         /* bit per part of it that may be loaded */
    bool fresh;                             /* lists anew, whatever is kept */
    struct qn_bad_parts *bad;               /* those that may not; NULL: none */
    struct qn_listing listing;
    bool in_process; /* the list is this process's own */
};

/* Finds out the driver's devices; none with a reason where it has none or could not be tried. On failure
 * nothing is held. */
enum quern_status qn_bringup_init(struct qn_bringup *bringup, const struct quern_callbacks *cb,
                                  const struct qn_drivers *drivers, const struct quern_driver *driver,
                                  bool fresh, struct quern_error *err);
void qn_bringup_finish(struct qn_bringup *bringup);

enum { QN_MORE = 2 };
/* What the index-th device is opened with: what its profiles say, then what the program was told. The texts
 * are those of profiles and program. */
struct qn_settings {
    struct quern_setting *item; /* [n], with room for QN_MORE; owned */
    uint32_t n, n_origins;
    const char **origin; /* [n_origins], of the first: where profiles say them; owned */
};
enum quern_status qn_bringup_settings(const struct qn_bringup *bringup, uint32_t index,
                                      struct qn_settings *settings, struct quern_error *err);
void qn_settings_finish(const struct quern_callbacks *cb, struct qn_settings *settings);

/* The driver of the device of that id, brought up, and the device's number. On failure nothing is held. */
enum quern_status qn_device_find(const struct quern_callbacks *cb, const struct qn_drivers *drivers,
                                 const char *id, struct qn_bringup *bringup, uint32_t *index,
                                 struct quern_error *err);

/* Whether the process would load just the parts that it may. */
bool qn_bringup_confined(const struct qn_bringup *bringup);
/* The environment for that, as struct quern_driver.confine writes it; "" where it is fine as it is. */
enum quern_status qn_bringup_environment(const struct qn_bringup *bringup, char *text, size_t size,
                                         struct quern_error *err);

/* Whether the index-th device may be used: what is known, and, where that is not enough and `ask` is set,
 * what the helper says. *known: false where neither says anything; then the verdict is good. */
enum quern_status qn_bringup_verdict(struct qn_bringup *bringup, uint32_t index, bool ask,
                                     struct qn_verdict *verdict, bool *known, struct quern_error *err);
/* The id of the index-th device. */
void qn_device_write_id(const struct qn_bringup *bringup, uint32_t index, char *id, size_t size);
/* How fast it is, as kept or as the helper measures it. QUERN_ERR_UNSUPPORTED without a helper. */
enum quern_status qn_bringup_rating(struct qn_bringup *bringup, uint32_t index, struct qn_rating *rating,
                                    struct quern_error *err);

/* Forgets all that was found out about drivers. */
enum quern_status qn_bringup_forget(const struct quern_callbacks *cb, struct quern_cache *cache,
                                    struct quern_error *err);

/* ---- work that is done for the first time in this process ---- */

/* What is marked of an open device. */
struct qn_mark;
/* NULL where nothing can be marked. */
struct qn_mark *qn_mark_create(const struct qn_bringup *bringup, uint32_t index);
void qn_mark_destroy(struct qn_mark **mark);
/* From here to the end, the process is at the driver's mercy. Nested calls count as one. NULL is allowed. */
void qn_mark_begin(struct qn_mark *mark, const char *what);
/* passed: it did what it should, which clears the device of what happened before. */
void qn_mark_end(struct qn_mark *mark, bool passed);

#endif
