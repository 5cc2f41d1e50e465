/* A model that is ready to run: file, vocabulary, graph, open devices, weights on them, and the plans made so
 * far. */
#ifndef QN_SESSION_MODEL_H
#define QN_SESSION_MODEL_H

#include "base/thread.h"
#include "device/registry.h"
#include "models/arch.h"
#include "plan/plan.h"
#include "session/handles.h"
#include "session/kept.h"

#include <stdatomic.h>

enum { QN_N_BUCKETS = 10 }; /* 1, 2, 4, ... 512 tokens */

/* Plans and KV layout of both phases for one pair of KV formats. */
struct qn_variant {
    struct qn_variant *next;
    enum quern_format k_format, v_format;
    struct qn_kv_layout kv;
    uint32_t max_tokens; /* of a step: a bucket whose activations fit into a buffer of each device */
    struct qn_plan *plans[QN_N_BUCKETS][2]; /* [bucket][0: one output row, 1: up to max_outputs] */
};

/* Weights of one device that are to be laid out (session/lay_out.h). */
struct qn_lay_out {
    struct qn_kept_tensor *tensors; /* [n], in the order of their places in the buffer; owned */
    uint32_t n, next;
    uint64_t room; /* bytes of the buffer */
    uint64_t at;   /* bytes of the next one that are done */
    uint64_t sum;  /* of these, where they are read from a file that was kept */
    uint64_t done, total, ns;
    bool keep; /* in a file, once all is done */
};

/* The weights on one device. */
struct qn_weights {
    struct quern_buffer **buffers;
    uint32_t n_buffers;
    struct quern_binding *tensors; /* per tensor of the file; buffer NULL: not needed */
    uint64_t mapped;               /* bytes of the buffers that are the file's own memory */
    uint64_t copied;               /* bytes of the others */
    struct quern_binding *origins; /* where those lie that are not laid out yet; NULL: all are */
    struct qn_lay_out lay_out;
    struct qn_kept kept; /* laid out weights that an earlier start has left */
};

/* The thread that lays out weights while no step runs. */
struct qn_laying {
    struct qn_thread thread;
    bool started;
    struct qn_mutex lock; /* of the model's and this one, a thread holds one at a time */
    struct qn_cond wake;
    _Atomic bool stop;
};

struct quern_model {
    struct quern_callbacks cb;
    struct quern_file file;
    struct quern_vocab vocab;
    struct qn_graph graph;
    struct qn_model_facts facts;
    bool exact;
    bool repack;               /* weights may be laid out anew */
    bool repack_first;         /* before the first step */
    char *keep_path;           /* where laid out weights are kept beside the model; NULL: not wanted */
    struct quern_cache *cache; /* NULL: none */
    uint32_t max_outputs;      /* rows of logits in one step */
    struct qn_laying laying;
    _Atomic uint32_t n_waiting; /* threads that want the lock for a step */

    struct qn_mutex lock; /* of everything below: held while a step runs */
    struct qn_device devices[QN_MAX_DEVICES];
    struct qn_plan_device plan_devices[QN_MAX_DEVICES]; /* handle NULL: dropped */
    uint32_t n_devices;
    struct qn_weights weights[QN_MAX_DEVICES];
    uint64_t n_steps, step_ns; /* steps so far; time of the last one of few tokens */
    uint8_t *place[QN_PHASES]; /* node -> device */
    uint32_t generation;       /* counts changes of devices or placement */
    struct qn_variant *variants;
    struct qn_variant *retired; /* of earlier generations: sessions may still hold their layouts */
};

/* With the lock held: */

/* Plans for these KV formats and sequences; made at first use, valid until the generation changes. */
enum quern_status qn_model_variant(struct quern_model *model, enum quern_format k_format,
                                   enum quern_format v_format, struct qn_kv_size size,
                                   struct qn_variant **variant, struct quern_error *err);
/* The plan for a step, prepared. On failure *failed is the index of the device that failed, or QUERN_NONE. */
enum quern_status qn_model_plan(struct quern_model *model, struct qn_variant *variant, uint32_t n_tokens,
                                uint32_t n_outputs, struct qn_plan **plan, uint32_t *failed,
                                struct quern_error *err);
/* What the drivers did for the first time is over: a plan that was made has run. passed: as it should. */
void qn_model_end_marks(struct quern_model *model, bool passed);
/* True when the failure of this device was mended by planning without it: what was done must be done again.
 * The reason is logged. */
bool qn_model_drop_device(struct quern_model *model, uint32_t device, enum quern_status status,
                          const char *reason);
/* Replaces the placement: place[phase][node], of devices that are in use and can run the node. */
void qn_model_set_place(struct quern_model *model, const uint8_t *const place[QN_PHASES]);

#endif
