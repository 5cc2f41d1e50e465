/* The CPU as a device: plain C for every operation, and what the machine's vector instructions do better. */
#ifndef QN_CPU_H
#define QN_CPU_H

#include <quern/driver.h>

/* The driver's table, or NULL for a version of the ABI that it does not know. Its one device, index 0, may be
 * opened several times. Settings: "threads" (1 to 512), "isa" ("all", "none", or the instruction sets to
 * use, as words separated by commas or spaces; sets that the machine lacks are left out). */
const struct quern_driver *quern_cpu_driver_get(uint32_t abi);

#endif
