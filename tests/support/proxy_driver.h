/* Drivers for testing the joints: each wraps the CPU's table under a name of its own ("proxyA", "proxyB") and
 * finishes its work late, in a thread of its own, fails where a test says, and counts calls. Tables carry no
 * user pointer, so the proxies are a fixed few, and each may be opened by one model at a time. */
#ifndef QN_TEST_PROXY_DRIVER_H
#define QN_TEST_PROXY_DRIVER_H

#include <quern/driver.h>
#include <quern/quern.h>

#include <stdint.h>

enum { QN_N_PROXIES = 2 };

/* Where a proxy fails. Calls are counted from 1, since qn_proxy_reset(). */
enum qn_proxy_fault {
    QN_PROXY_OPEN,
    QN_PROXY_CAPS, /* fault_at 1: capabilities that nobody can plan with */
    QN_PROXY_CREATE,
    QN_PROXY_IMPORT,
    QN_PROXY_COPY,
    QN_PROXY_PREPARE,
    QN_PROXY_RUN,
    QN_PROXY_WAIT,
    QN_PROXY_FAULTS,
};

struct qn_proxy {
    /* what the test sets, while no call is under way */
    uint64_t delay_ns;                  /* from run() to the start of the computation */
    uint32_t fault_at[QN_PROXY_FAULTS]; /* this call fails, and all later ones; 0: none */
    enum quern_status fault_status;
    uint64_t max_pool_bytes; /* of a KV pool; 0: as the CPU has it */
    bool no_import;          /* weights are copied */
    bool no_ahead;           /* without QUERN_CAPS_AHEAD */
    /* what the proxy counts */
    uint32_t calls[QN_PROXY_FAULTS];
    uint32_t releases, destroys, closes;
    uint32_t late;   /* waits that found the work unfinished */
    uint32_t tokens; /* runs that took their token from a buffer */
};

/* Settings and counters of proxy 0 ("proxyA") or 1 ("proxyB"). */
struct qn_proxy *qn_proxy(unsigned index);
/* Zeros for all proxies. None is open. */
void qn_proxy_reset(void);
/* The tables, for quern_model_params.drivers. */
extern const struct quern_driver *const qn_proxy_drivers[QN_N_PROXIES];
/* The reference model of that name on these devices, the proxies among them; one thread each. Ends the
 * program where it cannot be opened. */
struct quern_model *qn_proxy_open(const char *name, const char *device, const struct quern_callbacks *cb);

#endif
