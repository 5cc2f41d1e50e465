/* What the processor's driver is told by profile, command line and environment. */
#ifndef QN_CPU_SETTINGS_H
#define QN_CPU_SETTINGS_H

#include "base/cores.h"
#include "base/host.h"
#include "drivers/cpu/kernels.h"

struct qn_cpu_settings {
    uint32_t threads;
    bool bind; /* those that the driver makes run on these alone: */
    struct qn_cpu_set cpus;
    uint32_t isa;         /* bit per enum qn_isa */
    uint64_t cache_bytes; /* that a thread has to itself */
    /* Of the weights of each format. */
    uint64_t in_file_layout;                     /* bit per format: computed with as the file has them */
    uint32_t isa_of[QUERN_FORMAT_END];           /* bit per enum qn_isa: sets that their kernels may use */
    struct qn_reading reading[QUERN_FORMAT_END]; /* members that are UINT32_MAX are left alone */
};

/* QUERN_ERR_PARAM names the setting whose value is wrong, and what was expected. */
enum quern_status qn_cpu_settings_read(const struct quern_profile_view *profile,
                                       struct qn_cpu_settings *settings, struct quern_error *err);
/* See struct quern_driver. */
void qn_cpu_tunables(struct quern_tunables *tunables);

#endif
