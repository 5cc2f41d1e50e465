#include "support/proxy_driver.h"

#include "base/clock.h"
#include "base/host.h"
#include "base/thread.h"
#include "drivers/cpu/cpu.h"
#include "support/joints.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_JOBS = 64 };

/* A run whose time has not come, with copies of all that is valid only during the call; or a copy. */
struct job {
    struct quern_prepared *prepared; /* NULL: a copy */
    struct quern_buffer *dst, *src;
    uint64_t dst_offset, src_offset, bytes;
    struct quern_step *step;
    struct quern_kv_pools *kv;
    uint32_t n_homes, trace;
    struct quern_buffer *token; /* see struct quern_run_args */
    uint64_t token_offset;
    uint64_t point;
    uint64_t due_ns;
};

/* Buffers and prepared segments are the CPU's own; the device is ours. */
struct quern_device {
    struct qn_proxy *proxy;
    const struct quern_driver *inner;
    struct quern_device *cpu;
    struct qn_thread thread;
    struct qn_mutex lock; /* of what follows */
    struct qn_cond changed;
    struct job jobs[MAX_JOBS]; /* ring */
    uint32_t first, n_jobs;
    uint64_t submitted, done;
    int32_t status; /* of the first job that failed */
    struct quern_error error;
    bool closing;
};

static struct qn_proxy proxies[QN_N_PROXIES];

struct qn_proxy *qn_proxy(unsigned index)
{
    return &proxies[index];
}

void qn_proxy_reset(void)
{
    memset(proxies, 0, sizeof proxies);
}

static const char *const fault_name[QN_PROXY_FAULTS] = {"open", "caps",    "buffer_create", "buffer_import",
                                                        "copy", "prepare", "run",           "wait"};

/* Counts a call; the status with which it shall fail. */
static int32_t enter(struct qn_proxy *proxy, enum qn_proxy_fault what, struct quern_error *err)
{
    uint32_t n = ++proxy->calls[what];
    if (proxy->fault_at[what] == 0 || n < proxy->fault_at[what])
        return QUERN_OK;
    return qn_fail(err, proxy->fault_status, "injected fault of %s %u", fault_name[what], n);
}

/* ---- the thread that does the work ---- */

static void free_job(struct job *job)
{
    for (uint32_t h = 0; h < job->n_homes; h++)
        free((void *)(uintptr_t)job->kv[h].pool);
    free(job->kv);
    free(job->step);
}

static void run_job(struct quern_device *device, struct job *job)
{
    uint64_t now = qn_now_ns();
    if (now < job->due_ns)
        qn_sleep_ns(job->due_ns - now);
    if (job->token)
        memcpy((char *)job->step + job->step->token,
               (char *)device->inner->buffer_map(device->cpu, job->token) + job->token_offset, 4);
    struct quern_run_args args = {.struct_size = sizeof args,
                                  .n_homes = job->n_homes,
                                  .step = job->step,
                                  .kv = job->kv,
                                  .trace = job->trace};
    struct quern_error err = {0};
    uint64_t point;
    int32_t status = job->prepared ? device->inner->run(device->cpu, job->prepared, &args, &point, &err)
                                   : device->inner->copy(device->cpu, job->dst, job->dst_offset, job->src,
                                                         job->src_offset, job->bytes, &point, &err);
    qn_mutex_lock(&device->lock);
    if (status && !device->status) {
        device->status = status;
        device->error = err;
    }
    device->done = job->point;
    qn_mutex_unlock(&device->lock);
    free_job(job);
}

static void worker(void *arg)
{
    struct quern_device *device = arg;
    qn_mutex_lock(&device->lock);
    while (!device->closing || device->n_jobs > 0) {
        if (device->n_jobs == 0) {
            qn_cond_wait(&device->changed, &device->lock);
            continue;
        }
        struct job job = device->jobs[device->first];
        qn_mutex_unlock(&device->lock);
        run_job(device, &job);
        qn_mutex_lock(&device->lock);
        device->first = (device->first + 1) % MAX_JOBS;
        device->n_jobs--;
        qn_cond_broadcast(&device->changed);
    }
    qn_mutex_unlock(&device->lock);
}

/* Waits for all work: before anything that the CPU must not do beside a run. */
static void quiesce(struct quern_device *device)
{
    qn_mutex_lock(&device->lock);
    while (device->n_jobs > 0)
        qn_cond_wait(&device->changed, &device->lock);
    qn_mutex_unlock(&device->lock);
}

static void submit(struct quern_device *device, struct job job, uint64_t *point)
{
    qn_mutex_lock(&device->lock);
    while (device->n_jobs == MAX_JOBS)
        qn_cond_wait(&device->changed, &device->lock);
    *point = job.point = ++device->submitted;
    device->jobs[(device->first + device->n_jobs++) % MAX_JOBS] = job;
    qn_cond_broadcast(&device->changed);
    qn_mutex_unlock(&device->lock);
}

/* ---- the table ---- */

static int32_t proxy_probe(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                           uint32_t *n, struct quern_error *err)
{
    return quern_cpu_driver_get(QUERN_DRIVER_ABI)->probe(host, infos, cap, n, err);
}

static int32_t open_proxy(struct qn_proxy *proxy, const struct quern_host *host, uint32_t index,
                          const struct quern_profile_view *profile, struct quern_device **out,
                          struct quern_error *err)
{
    *out = NULL;
    int32_t status = enter(proxy, QN_PROXY_OPEN, err);
    if (status)
        return status;
    struct quern_device *device = calloc(1, sizeof *device);
    if (!device || !qn_mutex_init(&device->lock) || !qn_cond_init(&device->changed))
        abort(); /* the test's own memory */
    device->proxy = proxy;
    device->inner = quern_cpu_driver_get(QUERN_DRIVER_ABI);
    status = device->inner->open(host, index, profile, &device->cpu, err);
    if (status) {
        qn_cond_finish(&device->changed);
        qn_mutex_finish(&device->lock);
        free(device);
        return status;
    }
    if (!qn_thread_start(&device->thread, worker, device))
        abort();
    *out = device;
    return QUERN_OK;
}

static int32_t open_a(const struct quern_host *host, uint32_t index, const struct quern_profile_view *profile,
                      struct quern_device **device, struct quern_error *err)
{
    return open_proxy(&proxies[0], host, index, profile, device, err);
}

static int32_t open_b(const struct quern_host *host, uint32_t index, const struct quern_profile_view *profile,
                      struct quern_device **device, struct quern_error *err)
{
    return open_proxy(&proxies[1], host, index, profile, device, err);
}

static void proxy_close(struct quern_device *device)
{
    qn_mutex_lock(&device->lock);
    device->closing = true;
    qn_cond_broadcast(&device->changed);
    qn_mutex_unlock(&device->lock);
    qn_thread_join(&device->thread);
    device->inner->close(device->cpu);
    device->proxy->closes++;
    qn_cond_finish(&device->changed);
    qn_mutex_finish(&device->lock);
    free(device);
}

static void proxy_caps(struct quern_device *device, struct quern_caps *caps)
{
    struct quern_error err;
    device->inner->caps(device->cpu, caps);
    if (device->proxy->max_pool_bytes > 0)
        caps->max_pool_bytes = device->proxy->max_pool_bytes;
    if (!device->proxy->no_ahead)
        caps->flags |= QUERN_CAPS_AHEAD;
    if (device->proxy->no_import)
        caps->heap[0].flags &= ~(uint32_t)QUERN_HEAP_IMPORT;
    if (enter(device->proxy, QN_PROXY_CAPS, &err))
        caps->offset_align = 0;
}

static void proxy_supports(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    device->inner->supports(device->cpu, graph, mask);
}

static int32_t proxy_create(struct quern_device *device, uint32_t heap, uint64_t bytes,
                            struct quern_buffer **buffer, struct quern_error *err)
{
    *buffer = NULL;
    int32_t status = enter(device->proxy, QN_PROXY_CREATE, err);
    return status ? status : device->inner->buffer_create(device->cpu, heap, bytes, buffer, err);
}

static int32_t proxy_import(struct quern_device *device, void *memory, uint64_t bytes,
                            struct quern_buffer **buffer, struct quern_error *err)
{
    *buffer = NULL;
    int32_t status = enter(device->proxy, QN_PROXY_IMPORT, err);
    return status ? status : device->inner->buffer_import(device->cpu, memory, bytes, buffer, err);
}

static void proxy_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    quiesce(device);
    device->proxy->destroys++;
    device->inner->buffer_destroy(device->cpu, buffer);
}

static void *proxy_map(struct quern_device *device, struct quern_buffer *buffer)
{
    return device->inner->buffer_map(device->cpu, buffer);
}

static int32_t proxy_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                          struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                          struct quern_error *err)
{
    int32_t status = enter(device->proxy, QN_PROXY_COPY, err);
    if (status)
        return status;
    submit(device,
           (struct job){
               .dst = dst, .src = src, .dst_offset = dst_offset, .src_offset = src_offset, .bytes = bytes},
           point);
    return QUERN_OK;
}

static int32_t proxy_prepare(struct quern_device *device, const struct quern_segment *segment,
                             struct quern_prepared **prepared, struct quern_error *err)
{
    *prepared = NULL;
    int32_t status = enter(device->proxy, QN_PROXY_PREPARE, err);
    if (status)
        return status;
    quiesce(device);
    return device->inner->prepare(device->cpu, segment, prepared, err);
}

static void proxy_release(struct quern_device *device, struct quern_prepared *prepared)
{
    quiesce(device);
    device->proxy->releases++;
    device->inner->release(device->cpu, prepared);
}

static void *copy_of(const void *data, size_t bytes)
{
    void *copy = malloc(bytes + 1);
    if (!copy)
        abort();
    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

static int32_t proxy_run(struct quern_device *device, struct quern_prepared *prepared,
                         const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    int32_t status = enter(device->proxy, QN_PROXY_RUN, err);
    if (status)
        return status;
    struct job job = {.prepared = prepared,
                      .step = copy_of(args->step, args->step->block_bytes),
                      .kv = copy_of(args->kv, args->n_homes * sizeof *args->kv),
                      .n_homes = args->n_homes,
                      .trace = args->trace,
                      .token = args->token,
                      .token_offset = args->token_offset,
                      .due_ns = qn_now_ns() + device->proxy->delay_ns};
    for (uint32_t h = 0; h < job.n_homes; h++)
        job.kv[h].pool = copy_of((const void *)args->kv[h].pool, args->kv[h].n_pools * sizeof job.kv[h].pool);
    device->proxy->tokens += args->token != NULL;
    submit(device, job, point);
    return QUERN_OK;
}

static int32_t proxy_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                          struct quern_error *err)
{
    int32_t status = enter(device->proxy, QN_PROXY_WAIT, err);
    if (status)
        return status;
    uint64_t end = timeout_ns < UINT64_MAX / 2 ? qn_now_ns() + timeout_ns : UINT64_MAX;
    qn_mutex_lock(&device->lock);
    if (point > device->submitted)
        status = qn_fail(err, QUERN_ERR_PARAM, "work %llu has not been submitted", (unsigned long long)point);
    device->proxy->late += device->done < point;
    while (!status && device->done < point) {
        uint64_t now = qn_now_ns();
        if (now >= end)
            status = qn_fail(err, QUERN_ERR_TIMEOUT, "work %llu is not done", (unsigned long long)point);
        else
            qn_cond_wait_for(&device->changed, &device->lock,
                             end - now < 1000000000 ? end - now : 1000000000);
    }
    if (!status && device->status) {
        status = device->status;
        *err = device->error;
        device->status = QUERN_OK;
    }
    qn_mutex_unlock(&device->lock);
    return status;
}

static uint32_t proxy_times(struct quern_device *device, struct quern_prepared *prepared,
                            struct quern_node_time *times, uint32_t cap)
{
    return device->inner->times(device->cpu, prepared, times, cap);
}

#define PROXY(NAME, OPEN)                                                                         \
    {                                                                                             \
        .struct_size = sizeof(struct quern_driver), .abi = QUERN_DRIVER_ABI, .name = NAME,        \
        .probe = proxy_probe, .open = OPEN, .close = proxy_close, .caps = proxy_caps,             \
        .supports = proxy_supports, .buffer_create = proxy_create, .buffer_import = proxy_import, \
        .buffer_destroy = proxy_destroy, .buffer_map = proxy_map, .copy = proxy_copy,             \
        .prepare = proxy_prepare, .release = proxy_release, .run = proxy_run, .wait = proxy_wait, \
        .times = proxy_times,                                                                     \
    }

static const struct quern_driver tables[QN_N_PROXIES] = {PROXY("proxyA", open_a), PROXY("proxyB", open_b)};
const struct quern_driver *const qn_proxy_drivers[QN_N_PROXIES] = {&tables[0], &tables[1]};

struct quern_model *qn_proxy_open(const char *name, const char *device, const struct quern_callbacks *cb)
{
    struct quern_model *model =
        qn_open_golden("models", name,
                       quern_model_params(.callbacks = cb, .device = device, .n_threads = 1,
                                          .drivers = qn_proxy_drivers, .n_drivers = QN_N_PROXIES));
    if (!model)
        abort(); /* it has said why */
    return model;
}
