/* Options of drawing tokens, and the sampler that they describe. */
#include "sampling.h"
#include "term.h"

#include <math.h>
#include <stdlib.h>

#define AT(member) offsetof(struct sampling_options, member)

const struct arg_option sampling_args[10] = {
    {"-s, --seed", ARG_INT, AT(seed), "N", "seed of the draws; -1: another one each time", -1, 9e18},
    {"--temp, --temperature", ARG_REAL, AT(temperature), "X",
     "temperature; 0: always the most probable token", 0, 1e6},
    {"--top-k", ARG_INT, AT(top_k), "N", "draw from the N best tokens; 0: all", -1, 1e9},
    {"--top-p", ARG_REAL, AT(top_p), "X", "draw from the best tokens that make up X; 1: all", 0, 1},
    {"--min-p", ARG_REAL, AT(min_p), "X", "no tokens less probable than X times the best; 0: all", 0, 1},
    {"--repeat-penalty", ARG_REAL, AT(repeat), "X", "divide logits of recent tokens; 1: none", 1e-6, 1e6},
    {"--presence-penalty", ARG_REAL, AT(presence), "X", "subtract from logits of recent tokens", -1e6, 1e6},
    {"--frequency-penalty", ARG_REAL, AT(frequency), "X", "subtract for each time that a token came", -1e6,
     1e6},
    {"--repeat-last-n", ARG_INT, AT(last_n), "N", "how far back \"recent\" reaches; -1: the context", -1,
     1e9},
    {"--logit-bias, -l", ARG_LIST, AT(bias), "ID+X", "add X to a token's logit (ID-X, ID-inf); repeatable"},
};

/* "15043+1", "15043-0.5", "15043-inf" */
static int parse_biases(struct sampling *sampling)
{
    const struct arg_list *list = &sampling->options->bias;
    sampling->bias = need_memory(NULL, list->n + 1, sizeof *sampling->bias);
    for (size_t i = 0; i < list->n; i++) {
        const char *text = list->items[i];
        char *sign, *end;
        long token = strtol(text, &sign, 10);
        double value = strtod(sign, &end);
        if (sign == text || token < 0 || token > INT32_MAX || (*sign != '+' && *sign != '-') || *end ||
            isnan(value) || value == INFINITY)
            return verb_usage(sampling->verb, "--logit-bias: expected ID+BIAS or ID-BIAS, not \"%s\"", text);
        sampling->bias[i] = (struct quern_logit_bias){.token = (int32_t)token, .bias = (float)value};
    }
    return EXIT_DONE;
}

int sampling_start(struct sampling *sampling, const struct verb *verb, const struct sampling_options *options)
{
    *sampling = (struct sampling){.verb = verb, .options = options};
    sampling->seed = options->seed >= 0 ? (uint64_t)options->seed : term_random();
    return parse_biases(sampling);
}

void sampling_finish(struct sampling *sampling)
{
    free(sampling->bias);
    *sampling = (struct sampling){0};
}

int sampling_create(const struct sampling *sampling, const struct loaded *loaded, const char *path,
                    uint64_t seed, uint32_t n_probs, struct quern_sampler **sampler)
{
    const struct sampling_options *o = sampling->options;
    struct quern_error err = {0};
    uint32_t last_n = o->last_n < 0 ? quern_session_n_ctx(loaded->session) : (uint32_t)o->last_n;
    enum quern_status status = quern_sampler_create(
        sampler, quern_vocab_size(loaded->vocab),
        quern_sampler_params(.seed = seed, .temperature = (float)o->temperature,
                             .top_k = o->top_k < 0 ? 0 : (uint32_t)o->top_k, .top_p = (float)o->top_p,
                             .min_p = (float)o->min_p, .repeat_penalty = (float)o->repeat,
                             .presence_penalty = (float)o->presence, .frequency_penalty = (float)o->frequency,
                             .penalty_last_n = last_n, .bias = sampling->bias, .n_bias = o->bias.n,
                             .n_probs = n_probs),
        NULL, &err);
    if (status == QUERN_ERR_PARAM)
        return verb_usage(sampling->verb, "%s", err.text);
    return status == QUERN_OK ? EXIT_DONE : fault(path, &err);
}

bool sampling_varies(const struct sampling *sampling)
{
    return sampling->options->seed < 0 && sampling->options->temperature > 0;
}
