/* A device that computes nothing: memory of the host, support for everything, and counts of what it was asked
 * for. For testing whatever drives devices. */
#ifndef QN_NULL_H
#define QN_NULL_H

#include <quern/driver.h>

/* The driver's table, or NULL for a version of the ABI that it does not know. Its one device is index 0.
 * After a run, values of the kind OUTPUT that the segment writes are zeros; nothing else is written. */
const struct quern_driver *quern_null_driver_get(uint32_t abi);

/* What has been asked of a device since it was opened. */
struct qn_null_counts {
    uint64_t prepares, releases;
    uint64_t runs, nodes; /* nodes of the segments that were run */
    uint64_t copies, waits;
    uint64_t buffers_created, buffers_imported, buffers_destroyed;
};

struct qn_null_counts qn_null_counts(struct quern_device *device);

#endif
