/* What the processor's driver is told by profile, command line and environment. */
#ifndef QN_CPU_SETTINGS_H
#define QN_CPU_SETTINGS_H

#include "base/host.h"
#include <quern/driver.h>

struct qn_cpu_settings {
    uint32_t threads;
    uint32_t isa; /* bit per enum qn_isa */
    uint64_t
        in_file_layout; /* bit per enum quern_format: weights that are computed with as the file has them */
};

/* QUERN_ERR_PARAM names the setting whose value is wrong, and what was expected. */
enum quern_status qn_cpu_settings_read(const struct quern_profile_view *profile,
                                       struct qn_cpu_settings *settings, struct quern_error *err);
/* See struct quern_driver. */
void qn_cpu_tunables(struct quern_tunables *tunables);

#endif
