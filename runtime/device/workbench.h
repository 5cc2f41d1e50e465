/* One device, opened again and again with other settings: what verifying and tuning do their work on. */
#ifndef QN_DEVICE_WORKBENCH_H
#define QN_DEVICE_WORKBENCH_H

#include "device/bringup.h"

struct qn_workbench {
    struct quern_callbacks cb;
    struct quern_cache *cache;
    struct quern_profiles *own; /* where the caller has none */
    struct qn_drivers drivers;
    struct qn_bringup bringup;
    uint32_t index;
    const struct quern_driver *driver;
    const struct quern_device_info *info;
    struct qn_settings settings; /* of profiles and program, and what its trial turned off */
    char without[96];
    const struct quern_driver *cpu; /* the reference */
    struct qn_tunable_set tunables; /* of all drivers */
};

/* Finds the device, which must have passed its trial. On failure nothing is held. It must stay where it is.
 */
enum quern_status qn_workbench_init(struct qn_workbench *bench, const struct quern_device_params *params,
                                    const char *id, struct quern_error *err);
void qn_workbench_finish(struct qn_workbench *bench);

/* Opens the device with n settings on top of its own. */
enum quern_status qn_workbench_open(struct qn_workbench *bench, const struct quern_setting *more, uint32_t n,
                                    struct qn_device *device, struct quern_error *err);

/* Something that was found out about the device, for its overlay. */
struct qn_overlay_line {
    const char *setting, *value; /* as the driver gets it */
    const char *reason;          /* NULL: it is no quirk, and there once */
};

/* Writes an overlay for the device with this version of its driver to "DIR/DRIVER-NAME-KIND.yaml", in place
 * of what was there. sources: lines that say where it comes from. path: room for PATH_MAX; the file's. */
enum { QN_PATH = 4096 };
enum quern_status qn_overlay_write(const struct qn_workbench *bench, const char *dir, const char *kind,
                                   const struct qn_overlay_line *lines, size_t n, const char *const *sources,
                                   size_t n_sources, char path[QN_PATH], struct quern_error *err);
/* Its name. */
void qn_overlay_path(const struct qn_workbench *bench, const char *dir, const char *kind, char path[QN_PATH]);

#endif
