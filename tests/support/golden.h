/* The reference models and logits in tests/golden (its README tells how they were made). */
#ifndef QN_TEST_GOLDEN_H
#define QN_TEST_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QN_GOLDEN_TOKENS = 48, QN_GOLDEN_GREEDY = 32, QN_GOLDEN_CTX = 256 };

struct qn_golden {
    char name[64];    /* "llama", "qllama.Q4_K_M" */
    char model[1024]; /* path of the model */
    bool quantised;
    float tolerance; /* of a logit computed in float32 on exactly decoded weights */
    uint32_t n_vocab;
    int32_t tokens[QN_GOLDEN_TOKENS];
    float *logits;                    /* [48, n_vocab], in float32 on exactly decoded weights */
    int32_t greedy[QN_GOLDEN_GREEDY]; /* what follows the tokens, greedily */
    uint32_t n_greedy;                /* how many of these are sure: those before the first small margin */
};

/* Names of all models, sorted. Returns how many there are, at most cap. */
size_t qn_golden_list(char (*names)[64], size_t cap);
/* False, with a line on stderr, when a file is missing or short. */
bool qn_golden_load(struct qn_golden *golden, const char *name);
void qn_golden_finish(struct qn_golden *golden);

/* Writes the path of a file below tests/golden. */
void qn_golden_path(char *path, size_t size, const char *folder, const char *file);

struct qn_golden_diff {
    double max, rms;
    double kl;          /* mean KL divergence of the rows' softmax, from the reference */
    uint32_t worst_row; /* where the largest difference is */
    bool finite;
};
/* Compares `rows` rows of logits with the reference's rows from `first`. */
struct qn_golden_diff qn_golden_compare(const struct qn_golden *golden, const float *logits, uint32_t first,
                                        uint32_t rows);
/* Number of the largest of n logits. */
int32_t qn_golden_argmax(const float *logits, uint32_t n);

#endif
