/* Options of drawing tokens, and the sampler that they describe. */
#ifndef TOOL_SAMPLING_H
#define TOOL_SAMPLING_H

#include "common.h"

struct sampling_options {
    struct arg_list bias;
    int64_t seed, top_k, last_n;
    double temperature, top_p, min_p, repeat, presence, frequency;
};
#define SAMPLING_DEFAULTS                                                                                    \
    {                                                                                                        \
        .seed = -1, .temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repeat = 1, .last_n = 64 \
    }

extern const struct arg_option sampling_args[10];

/* The options, understood: start from zero, sampling_finish frees. */
struct sampling {
    const struct verb *verb; /* whose usage messages speak of */
    const struct sampling_options *options;
    struct quern_logit_bias *bias;
    uint64_t seed; /* that of the options, or one of this run */
};

/* Understands the options. Returns an exit code. */
int sampling_start(struct sampling *sampling, const struct verb *verb,
                   const struct sampling_options *options);
void sampling_finish(struct sampling *sampling);
/* Makes a sampler; `path` is the model, for messages. Returns an exit code. */
int sampling_create(const struct sampling *sampling, const struct loaded *loaded, const char *path,
                    uint64_t seed, uint32_t n_probs, struct quern_sampler **sampler);
/* Whether a run with the same options would draw other tokens. */
bool sampling_varies(const struct sampling *sampling);

#endif
