/* Storage of keys and values: pages in pools that only ever grow, reference-counted so that sequences may
 * share them. Which page holds what is the business of the sequences (session.c). */
#ifndef QN_SESSION_KV_H
#define QN_SESSION_KV_H

#include "plan/plan.h"

enum { QN_MAX_HOMES = QUERN_MAX_KV_GROUPS * QN_MAX_DEVICES };

/* The pages of one group of layers. */
struct qn_kv_group {
    uint32_t *refs;      /* per page; 0: free */
    uint32_t *free_list; /* stack */
    size_t cap_refs, cap_free;
    uint32_t n_pages, n_free;
    uint32_t n_pools;
};

struct qn_kv {
    const struct quern_callbacks *cb;
    const struct qn_kv_layout *layout;             /* outlives the storage, but not the model's generation */
    struct qn_plan_device devices[QN_MAX_DEVICES]; /* as they were: a dropped one still frees its memory */
    uint32_t n_devices;
    struct qn_kv_group group[QUERN_MAX_KV_GROUPS];
    /* what drivers get: pools[device][home], in that device's handles */
    struct quern_kv_pools pools[QN_MAX_DEVICES][QN_MAX_HOMES];
    struct quern_buffer **buffers[QN_MAX_DEVICES][QN_MAX_HOMES];
    size_t cap_buffers[QN_MAX_DEVICES][QN_MAX_HOMES];
    uint32_t home_group[QN_MAX_HOMES]; /* copies of the layout, to free without it */
    uint32_t home_owner[QN_MAX_HOMES];
    uint32_t n_homes;
    void *bridge; /* between the places of two phases: room for the longest move; NULL: none yet */
};

void qn_kv_init(struct qn_kv *kv, const struct quern_callbacks *cb, const struct qn_kv_layout *layout,
                const struct qn_plan_device *devices, uint32_t n_devices);
void qn_kv_finish(struct qn_kv *kv);

/* A page with one reference; grows the pools when none is free. On failure *failed is the device, or
 * QUERN_NONE. */
enum quern_status qn_kv_take(struct qn_kv *kv, uint32_t group, uint32_t *page, uint32_t *failed,
                             struct quern_error *err);
void qn_kv_share(struct qn_kv *kv, uint32_t group, uint32_t page);
void qn_kv_release(struct qn_kv *kv, uint32_t group, uint32_t page);
/* Copies a page's contents in every home of the group. No step is running. */
enum quern_status qn_kv_copy(struct qn_kv *kv, uint32_t group, uint32_t to, uint32_t from, uint32_t *failed,
                             struct quern_error *err);
/* Brings a page's contents to where one phase has them from where the other one does. No step is running;
 * `devices` are the model's, those of the storage. */
enum quern_status qn_kv_move(struct qn_kv *kv, struct qn_plan_device *devices, uint32_t group, uint32_t page,
                             enum qn_phase to, uint32_t *failed, struct quern_error *err);
/* Bytes of the pools that this device has allocated. */
uint64_t qn_kv_bytes(const struct qn_kv *kv, const struct quern_device *device);

#endif
