/* Cases of whole operations, for any driver: the list that its test runs against the CPU's reference, and the
 * list that the benchmark times. */
#ifndef QN_CONFORMANCE_CASES_H
#define QN_CONFORMANCE_CASES_H

#include "conformance/fill.h"
#include "conformance/one_node.h"

/* How tokens choose experts. */
enum qn_spread {
    QN_SPREAD_RANDOM,
    QN_SPREAD_ONE,    /* all take the same ones; the others have none */
    QN_SPREAD_ROUNDS, /* in turn, so that each has as many */
};

/* One case. What its operation does not use is 0. */
struct qn_op_case {
    enum quern_op op;
    uint32_t tokens;
    bool any_format;  /* one case for each format of weights that the device reads; `format` is set then */
    bool many_rounds; /* more than the loops of some devices go round: these may refuse, and say so */
    bool large;       /* takes long or much memory */
    enum quern_format format, v_format; /* of the weights; of K and V */
    enum qn_fill fill;
    bool exact;    /* otherwise the device may round activations */
    bool in_place; /* where the operation may */
    bool outputs;  /* of the rows that are asked for, every third token */
    union {
        struct {
            uint32_t d, n_vocab;
            float scale;
        } embed;
        struct {
            uint32_t d, kind, group;
            bool weight, bias, addend;
        } norm;
        struct {
            uint32_t k, n[3]; /* k is rounded up to whole blocks; the first n that is 0 ends the weights */
            uint32_t act;
            bool glu, bias, residual;
            float scale, softcap; /* scale 0: 1 */
        } matmul;
        struct {
            struct quern_rope_attr attr;
            uint32_t n_head, first, stride; /* positions: first, first + stride, ... */
            bool factors;
        } rope;
        struct { /* kv_store and attention */
            struct quern_kv_layer layer;
            uint32_t n_head, page_tokens, n_seqs;
            uint32_t held[3], fed[3]; /* tokens of each sequence before the step, and of the step */
            float scale, softcap;
            bool sinks, freed; /* freed: pages that no token sees are gone */
        } kv;
        struct {
            uint32_t n, act;
            bool split, up;
        } activation;
        struct {
            uint32_t d;
            float scale;
        } add;
        struct {
            uint32_t d;
        } rows;
        struct {
            struct quern_moe_route_attr attr;
            bool bias;
        } route;
        struct {
            uint32_t k, n, n_expert, n_used, act, spread;
            bool glu, bias, per_slot;
        } moe;
        struct {
            uint32_t n, n_used;
            bool shared, gate, residual;
        } combine;
        struct {
            uint32_t n, k, wanted;
            bool ties, bad; /* few different values; some that are not finite */
        } select;
    };
};

const char *qn_op_name(enum quern_op op); /* "matmul"; NULL: there is none of this number */

/* Calls `visit` for each case of the operation, the fast and the exact ones. Case i of random cases is the
 * same for the same seed. */
typedef void (*qn_op_visit)(const struct qn_op_case *at, void *user);
void qn_op_cases(enum quern_op op, qn_op_visit visit, void *user);
struct qn_op_case qn_op_random(enum quern_op op, enum quern_format format, uint64_t *state);

/* What the benchmark times: the operation at a size that fills a device. */
struct qn_op_sizes {
    uint32_t k, rows; /* of matrices */
    uint32_t held;    /* tokens before the step that attention sees */
    uint64_t pool;    /* bytes of weights that one token is to read, more than caches hold */
    uint32_t tokens;  /* 0: 1, 8 and `many` */
    uint32_t many;    /* at most QN_CASE_TOKENS */
};
void qn_op_bench(enum quern_op op, enum quern_format format, const struct qn_op_sizes *sizes,
                 qn_op_visit visit, void *user);

/* Operations and formats by name, as arguments of programs. */
struct qn_op_choice {
    bool op[QUERN_OP_END], any_op;
    uint64_t formats; /* bit per format; 0: all */
};
bool qn_op_choose(struct qn_op_choice *choice, const char *name); /* false: nothing has that name */
bool qn_op_reads_weights(enum quern_op op);                       /* which have formats */
bool qn_op_is_chosen(const struct qn_op_choice *choice, enum quern_op op, enum quern_format format);

/* The case in words: "matmul q4_k k 256 n 33 tokens 5 bias". */
void qn_op_print(const struct qn_op_case *at, char *text, size_t size);

/* Makes the graph and its contents; the caller finishes it, also where `failed` is set. */
void qn_op_build(const struct qn_op_case *at, const struct quern_callbacks *cb,
                 const struct quern_driver *driver, uint64_t seed, struct qn_case *c);

#endif
