/* A graph of one node, which shows what a driver makes of an operation through its table: in one batch or in
 * chunks of tokens, in a segment for as many tokens or for fewer. */
#ifndef QN_CONFORMANCE_ONE_NODE_H
#define QN_CONFORMANCE_ONE_NODE_H

#include "base/host.h"
#include "graph/graph.h"

#include <stdbool.h>
#include <stddef.h>

enum { QN_CASE_VALUES = 12, QN_CASE_TOKENS = 512, QN_CASE_SEQS = 8, QN_CASE_PAGES = 800, QN_CASE_POOLS = 8 };

struct qn_case_value {
    struct quern_value value;
    void *data; /* rows of all tokens, or the weight; owned */
    size_t bytes;
    size_t row_bytes; /* activations: bytes for each token */
    uint32_t layout;  /* weights: enum quern_layout of the data */
    void *origin;     /* weights with another layout: the same as QUERN_LAYOUT_FILE, or NULL; owned */
    bool per_output;
};

struct qn_case {
    const struct quern_callbacks *cb; /* resolved; devices are opened with them, too */
    const struct quern_driver *driver;
    struct quern_device *device; /* open already; NULL: each way opens one with its threads and `isa` */
    const char *isa;             /* setting of the device; NULL: all */
    bool exact;
    bool in_place; /* out[0] has the address of in[0] */
    struct quern_node node;
    struct qn_case_value values[QN_CASE_VALUES];
    uint32_t n_values;
    /* Weights with an origin are being laid out: the driver has done so many rows of value 0, 16 more of each
     * next one. */
    bool laying_out;
    uint64_t n_laid;
    bool weights_joined;             /* they lie in one buffer, one after another */
    bool laid_out;                   /* they lie in the order that the device would rather read */
    bool failed;                     /* memory ran out while it was made: it cannot be run */
    bool measured;                   /* runs may be measured and recorded anew, and allocate */
    uint64_t (*n_allocations)(void); /* so far; a run must not change it. NULL: nobody counts */

    uint32_t n_tokens, n_outputs, n_seqs, select;
    int32_t token[QN_CASE_TOKENS];
    uint32_t position[QN_CASE_TOKENS], sequence[QN_CASE_TOKENS], output[QN_CASE_TOKENS];

    /* KV: page p of sequence s is pages[s][p], page_bytes each. */
    struct quern_kv_layer kv;
    struct quern_kv_binding kv_at;
    uint32_t pages[QN_CASE_SEQS][QN_CASE_PAGES];
    char *pool[QN_CASE_POOLS]; /* contents before the run, and afterwards those after it; owned */
    uint32_t n_pools;
};

/* ---- cases ---- */

/* A case of n_tokens tokens of sequence 0 at positions 0, 1, ...; no outputs. Where memory runs out while
 * something is added, `failed` is set and the value has no data. */
void qn_case_init(struct qn_case *c, const struct quern_callbacks *cb, const struct quern_driver *driver,
                  enum quern_op op, uint32_t n_tokens);
void qn_case_finish(struct qn_case *c);

/* Adds a value and returns its id. `data` is copied; NULL: zeros, for results. */
uint32_t qn_case_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, int64_t d2,
                        const void *data);
uint32_t qn_case_rows(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, const void *data);
uint32_t qn_case_output_rows(struct qn_case *c, enum quern_format format, int64_t d0, const void *data);

/* Data of a value: after the run, a result. */
float *qn_case_data(struct qn_case *c, uint32_t id);
bool qn_case_is_result(const struct qn_case *c, uint32_t id);

/* Lays out KV pages for one layer and allocates the pools, filled with 0xff. */
void qn_case_kv(struct qn_case *c, struct quern_kv_layer layer, enum quern_format k_format,
                enum quern_format v_format, uint32_t page_tokens, uint32_t n_pages, uint32_t pages_per_pool);

/* Address in the pools of a row of K (part 0) or V (part 1) of a sequence's position. */
char *qn_case_kv_row(struct qn_case *c, int part, uint32_t sequence, uint32_t position, uint32_t head);

/* Places the tokens: sequence s has held[s] before the step and is fed fed[s], in pages scattered over
 * n_pages. */
void qn_case_place(struct qn_case *c, uint32_t n_seqs, const uint32_t *held, const uint32_t *fed,
                   uint32_t n_pages);

/* ---- running ---- */

/* A device with the case's memory, and the node prepared on it for steps of at most `bucket` tokens. */
struct qn_rig {
    struct quern_device *device;
    struct quern_buffer *buffer[QN_CASE_VALUES], *pool[QN_CASE_POOLS];
    struct quern_buffer *origin[QN_CASE_VALUES]; /* of weights that are being laid out */
    struct quern_prepared *prepared;
    uint32_t bucket, n_runs;
    struct quern_host host;
    struct qn_case_block *block; /* of the step */
};

/* What a way of running leaves behind: results, and the pools. Owned. */
struct qn_left {
    char *results[QN_CASE_VALUES];
    char *pool[QN_CASE_POOLS];
};

/* Memory, weights in it, and the node prepared. To be finished after a failure, too. */
int32_t qn_rig_init(const struct qn_case *c, struct qn_rig *rig, uint32_t bucket, const char *threads,
                    struct quern_error *err);
void qn_rig_finish(const struct qn_case *c, struct qn_rig *rig);

/* Runs all tokens, `chunk` at a time, with what the case holds. */
int32_t qn_rig_run(const struct qn_case *c, struct qn_rig *rig, uint32_t chunk, struct qn_left *left,
                   struct quern_error *err);

/* All tokens once more in one batch, with what lies on the device. */
int32_t qn_rig_again(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err);

/* Runs it in one batch again and again for about `seconds`: *best is the shortest time of one, by the
 * device's clock where it has one. */
int32_t qn_case_time(const struct qn_case *c, double seconds, double *best, struct quern_error *err);

/* Arithmetic and the least bytes that must move, of all tokens; n_kv: keys that a token sees. */
struct qn_node_work qn_case_work(const struct qn_case *c, uint64_t n_kv);

/* False: memory is out; it is finished all the same. */
bool qn_left_init(const struct qn_case *c, struct qn_left *left);
void qn_left_finish(const struct qn_case *c, struct qn_left *left);

/* What differs between the two in words, or NULL. */
const char *qn_left_differ(const struct qn_case *c, const struct qn_left *a, const struct qn_left *b);

/* Prepares and runs the node once, `chunk` tokens at a time. `left` is to be finished after a failure, too.
 */
int32_t qn_case_run_way(const struct qn_case *c, const char *threads, uint32_t chunk, struct qn_left *left,
                        struct quern_error *err);
/* The case's results and pools become those. */
void qn_case_keep(struct qn_case *c, const struct qn_left *left);
/* Both, in one batch. */
int32_t qn_case_run_once(struct qn_case *c, const char *threads, struct quern_error *err);

#endif
