/* What profiles may say: the tunables of the drivers and of the runtime itself, and their values as text. */
#ifndef QN_DEVICE_TUNABLES_H
#define QN_DEVICE_TUNABLES_H

#include "base/host.h"
#include "formats/formats.h"
#include <quern/driver.h>

enum { QN_MAX_DRIVERS = 16, QN_SETTING_VALUE = 64 };

#define QN_COSTS_DECODE  "costs.decode"
#define QN_COSTS_PREFILL "costs.prefill"

/* One table a driver, and the runtime's, which has no driver. */
struct qn_tunable_set {
    uint32_t n;
    struct {
        const struct quern_driver *driver; /* NULL: the runtime */
        struct quern_tunables table;
    } of[QN_MAX_DRIVERS];
};

/* Adds a driver's table, if it has one. False: there is no room. */
bool qn_tunables_add(struct qn_tunable_set *set, const struct quern_driver *driver);

/* Calls `each` for the tunables of the driver of that name (NULL: of all drivers) and of the runtime. */
void qn_tunables_each(const struct qn_tunable_set *set, const char *driver,
                      void (*each)(void *user, const struct quern_tunable *tunable), void *user);

/* The tunable of a setting, which may be one for a number format alone; NULL: there is none. */
const struct quern_tunable *qn_tunable_find(const struct qn_tunable_set *set, const char *driver,
                                            const char *setting);
/* The value of a setting from how it is written: "64 KiB" to "65536". False: it is none, and `value` says
 * what was expected ("bytes from 16 KiB to 2 GiB"). */
bool qn_tunable_parse(const struct quern_tunable *tunable, const char *text, char *value, size_t size);
/* The other way round. */
void qn_tunable_print(const struct quern_tunable *tunable, const char *value, char *text, size_t size);
/* What it may be, for people. */
void qn_tunable_range(const struct quern_tunable *tunable, char *text, size_t size);

#endif
