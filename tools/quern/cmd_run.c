/* quern run: a prompt goes in, text comes out. */
#include "default_model.h"
#include "sampling.h"
#include "term.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct run_options {
    struct model_options model;
    struct sampling_options sampling;
    const char *prompt, *file;
    struct arg_list stop;
    int64_t n_predict, n_probs, keep;
    bool ignore_end, shift, json, quiet_prompt, special, no_escape, no_timings;
};

/* A generation as it goes on. */
struct run {
    const struct run_options *options;
    struct sampling sampling;
    struct quern_sampler *sampler;
    struct buffer text;
    cJSON *tokens; /* with --json */
    uint64_t begin_ns, first_ns, prompt_ns;
    size_t n_prompt;
    bool ends_line;
};

/* ---- input ---- */

/* What the model that comes with the program tells where nobody says anything. */
static const char story[] = "Once upon a time";

/* `tell`: no prompt at all means the story. */
static int read_prompt(const struct run_options *o, bool tell, struct buffer *prompt)
{
    if (o->prompt && o->file)
        return verb_usage(&verb_run, "-p and -f exclude each other");
    if (o->prompt) {
        size_t n = strlen(o->prompt);
        char *text = o->no_escape ? NULL : unescape(o->prompt, &n);
        buffer_put(prompt, text ? text : o->prompt, n);
        free(text);
        return EXIT_DONE;
    }
    bool terminal = !o->file && term_is_terminal(stdin);
    if (terminal && !tell)
        return verb_usage(&verb_run, "no prompt: give one with -p or -f, or on standard input");
    int code = terminal ? EXIT_DONE : read_input(o->file, prompt);
    if (code == EXIT_DONE && prompt->n > 0 && prompt->data[prompt->n - 1] == '\n')
        prompt->data[--prompt->n] = '\0';
    if (code == EXIT_DONE && prompt->n == 0 && tell && !o->file)
        buffer_put(prompt, story, strlen(story));
    return code;
}

/* ---- output ---- */

static void write_text(struct run *run, const char *text, size_t n)
{
    if (n == 0)
        return;
    run->ends_line = text[n - 1] == '\n';
    term_text(text, n);
}

static void keep_token(struct run *run, int32_t token, const char *text, size_t n)
{
    cJSON *item = json_object();
    json_put_int(item, "id", token);
    json_put_bytes(item, "text", text, n);
    size_t n_probs;
    const struct quern_prob *probs = quern_sampler_probs(run->sampler, &n_probs);
    if (n_probs > 0) {
        cJSON *list = json_array();
        for (size_t i = 0; i < n_probs; i++) {
            cJSON *one = json_object();
            json_put_int(one, "id", probs[i].token);
            json_put_real(one, "prob", probs[i].prob);
            json_put_real(one, "logit", probs[i].logit);
            json_add(list, one);
        }
        json_put(item, "probs", list);
    }
    json_add(run->tokens, item);
}

static bool on_text(void *user, const char *text, size_t n, int32_t token)
{
    struct run *run = user;
    if (run->first_ns == 0)
        run->first_ns = term_now_ns();
    if (run->tokens) {
        buffer_put(&run->text, text, n);
        if (token >= 0)
            keep_token(run, token, text, n);
    } else {
        write_text(run, text, n);
    }
    return !term_broken(); /* Ctrl-C ends the next evaluation, so that held text still comes */
}

static const char *stop_name(enum quern_status status, enum quern_stop_reason reason)
{
    static const char *const name[] = {"length", "end", "stop-string", "caller", "context"};
    return status == QUERN_ERR_CANCELLED ? "interrupted" : name[reason];
}

static void print_json(struct run *run, const struct loaded *loaded, const char *prompt,
                       size_t n_prompt_bytes, const struct quern_generate_result *result, const char *stop)
{
    cJSON *root = json_object();
    json_put_text(root, "model", run->options->model.model);
    json_put_int(root, "seed", (int64_t)run->sampling.seed);
    json_put_bytes(root, "prompt", prompt, n_prompt_bytes);
    json_put_bytes(root, "text", run->text.data ? run->text.data : "", run->text.n);
    json_put_text(root, "stop", stop);
    json_put(root, "tokens", run->tokens);
    run->tokens = NULL;
    cJSON *t = json_object();
    uint64_t ns = result->decode_ns + result->sample_ns;
    json_put_real(t, "load_ms", (double)loaded->load_ns / 1e6);
    json_put_int(t, "prompt_n", (int64_t)run->n_prompt);
    json_put_real(t, "prompt_ms", (double)run->prompt_ns / 1e6);
    json_put_real(t, "prompt_per_second", per_second(run->n_prompt, run->prompt_ns));
    json_put_int(t, "generated_n", (int64_t)result->n_tokens);
    json_put_real(t, "generated_ms", (double)ns / 1e6);
    json_put_real(t, "generated_per_second", per_second(result->n_tokens, ns));
    json_put_real(t, "sample_ms", (double)result->sample_ns / 1e6);
    json_put_real(t, "first_token_ms", run->first_ns ? (double)(run->first_ns - run->begin_ns) / 1e6 : 0);
    json_put(root, "timings", t);
    json_end(root, false, stdout);
}

static void print_timings(const struct run *run, const struct loaded *loaded,
                          const struct quern_generate_result *result, const char *stop)
{
    uint64_t ns = result->decode_ns + result->sample_ns;
    fprintf(stderr, "\nload         %10.2f ms\n", (double)loaded->load_ns / 1e6);
    fprintf(stderr, "prompt       %10.2f ms  %6zu tokens  %10.2f t/s\n", (double)run->prompt_ns / 1e6,
            run->n_prompt, per_second(run->n_prompt, run->prompt_ns));
    fprintf(stderr, "generated    %10.2f ms  %6zu tokens  %10.2f t/s\n", (double)ns / 1e6, result->n_tokens,
            per_second(result->n_tokens, ns));
    if (run->first_ns)
        fprintf(stderr, "first token  %10.2f ms  after the prompt was given\n",
                (double)(run->first_ns - run->begin_ns) / 1e6);
    fprintf(stderr, "stopped by   %s\n", stop);
    if (sampling_varies(&run->sampling))
        fprintf(stderr, "seed         %" PRIu64 "\n", run->sampling.seed);
}

/* ---- the generation ---- */

static int generate(struct run *run, struct loaded *loaded, const struct buffer *prompt,
                    const struct id_list *ids)
{
    const struct run_options *o = run->options;
    const char **stop = need_memory(NULL, o->stop.n + 1, sizeof *stop);
    for (size_t i = 0; i < o->stop.n; i++) {
        size_t n;
        char *text = unescape(o->stop.items[i], &n);
        stop[i] = o->no_escape ? strcpy(text, o->stop.items[i]) : text;
    }
    struct quern_error err = {0};
    struct quern_generate_result result = {0};
    run->begin_ns = term_now_ns();
    run->n_prompt = ids->n;
    enum quern_status status = quern_session_feed(loaded->session, 0, ids->id, ids->n, &err);
    run->prompt_ns = term_now_ns() - run->begin_ns;
    term_status_end();
    for (size_t i = 0; i < ids->n; i++)
        quern_sampler_accept(run->sampler, ids->id[i]);
    bool fed = status == QUERN_OK;
    if (fed && !o->json && !o->quiet_prompt) /* now: it would hide the progress */
        write_text(run, prompt->data, prompt->n);
    if (fed)
        status = quern_generate(
            loaded->session,
            quern_generate_params(.sampler = run->sampler, .max_tokens = o->n_predict < 0 ? -1 : o->n_predict,
                                  .ignore_end = o->ignore_end, .show_control = o->special, .stop = stop,
                                  .n_stop = o->stop.n, .user = run, .on_text = on_text),
            &result, &err);
    for (size_t i = 0; i < o->stop.n; i++)
        free((void *)stop[i]);
    free((void *)stop);
    bool interrupted = status == QUERN_ERR_CANCELLED;
    const char *why = stop_name(status, result.reason);
    if (fed && !o->json && !run->ends_line)
        write_text(run, "\n", 1);
    if (status != QUERN_OK && !interrupted)
        return fault(o->model.model, &err);
    if (interrupted && !fed)
        return EXIT_INTERRUPTED;
    if (o->json)
        print_json(run, loaded, prompt->data, prompt->n, &result, why);
    else if (!o->no_timings)
        print_timings(run, loaded, &result, why);
    return EXIT_DONE;
}

static int prepare(struct run *run, struct loaded *loaded, const struct buffer *prompt, struct id_list *ids)
{
    const struct run_options *o = run->options;
    int code = open_model(loaded, &o->model, (uint32_t)o->model.ctx);
    if (code == EXIT_DONE)
        code = open_session(
            loaded, &o->model,
            quern_session_params(.overflow = o->shift ? QUERN_OVERFLOW_SHIFT : QUERN_OVERFLOW_ERROR,
                                 .n_keep = (uint32_t)o->keep));
    if (code == EXIT_DONE)
        code = tokenize_text(loaded->vocab, o->model.model, prompt->data, prompt->n,
                             QUERN_ADD_SPECIAL | QUERN_PARSE_SPECIAL, ids);
    if (code == EXIT_DONE && ids->n == 0)
        code = verb_usage(&verb_run, "the prompt is empty");
    if (code == EXIT_DONE)
        code = sampling_create(&run->sampling, loaded, o->model.model, run->sampling.seed,
                               (uint32_t)o->n_probs, &run->sampler);
    return code;
}

static int run_run(const void *options, const struct arg_list *rest)
{
    struct run_options chosen = *(const struct run_options *)options;
    const struct run_options *o = &chosen;
    char room[DEFAULT_MODEL_PATH];
    bool tell = !o->model.model;
    if (o->n_probs > 0 && !o->json)
        return verb_usage(&verb_run, "--n-probs shows in --json only");
    for (size_t i = 0; i < o->stop.n; i++)
        if (o->stop.items[i][0] == '\0')
            return verb_usage(&verb_run, "--stop: the string is empty");
    struct run run = {.options = o, .ends_line = true};
    struct buffer prompt = {0};
    struct loaded loaded = {0};
    struct id_list ids = {0};
    int code = sampling_start(&run.sampling, &verb_run, &o->sampling);
    if (code == EXIT_DONE)
        code = default_model(&verb_run, &chosen.model, room);
    if (code == EXIT_DONE)
        code = read_prompt(o, tell, &prompt);
    if (code == EXIT_DONE)
        code = prepare(&run, &loaded, &prompt, &ids);
    if (code == EXIT_DONE) {
        if (o->json)
            run.tokens = json_array();
        code = generate(&run, &loaded, &prompt, &ids);
    }
    cJSON_Delete(run.tokens);
    ids_finish(&ids);
    buffer_finish(&prompt);
    buffer_finish(&run.text);
    sampling_finish(&run.sampling);
    quern_sampler_destroy(&run.sampler);
    close_model(&loaded);
    return code;
}

#define AT(member) offsetof(struct run_options, member)

static const struct arg_option text_args[] = {
    {"-p, --prompt", ARG_TEXT, AT(prompt), "TEXT", "the prompt; \\n and \\t stand for what they mean"},
    {"-f, --file", ARG_FILE, AT(file), "FILE", "read the prompt from a file; - or nothing: standard input"},
    {"-n, --predict, --n-predict", ARG_INT, AT(n_predict), "N", "tokens to generate at most; -1: no limit",
     -2, 1e9},
    {"--stop, -r, --reverse-prompt", ARG_LIST, AT(stop), "TEXT", "end before this text; may be repeated"},
    {"--ignore-eos", ARG_FLAG, AT(ignore_end), NULL, "go on after tokens that end a text"},
    {"--context-shift", ARG_FLAG, AT(shift), NULL, "a full context drops its older half"},
    {"--keep", ARG_INT, AT(keep), "N", "first tokens that a shift keeps", 0, 1e9},
    {"--no-display-prompt", ARG_FLAG, AT(quiet_prompt), NULL, "print the generated text only"},
    {"--special", ARG_FLAG, AT(special), NULL, "print control tokens too"},
    {"--no-escape", ARG_FLAG, AT(no_escape), NULL, "take backslashes in -p and --stop as they are"},
    {"--no-timings, --no-perf", ARG_FLAG, AT(no_timings), NULL, "no timings at the end"},
    {"--json", ARG_FLAG, AT(json), NULL, "one JSON object at the end instead of text as it comes"},
    {"--n-probs", ARG_INT, AT(n_probs), "N", "with --json: the N most probable tokens of each draw", 0, 1e6},
};

static const struct run_options run_defaults = {
    .model = MODEL_DEFAULTS,
    .sampling = SAMPLING_DEFAULTS,
    .n_predict = -1,
};

const struct verb verb_run = {
    .name = "run",
    .summary = "Continues a prompt with a model.",
    .synopsis = "[-m MODEL] [-p PROMPT | -f FILE] [options]",
    .details =
        "Text goes to standard output as it comes, timings and the seed to standard error at the end.\n"
        "Ctrl-C ends with the text so far and exit code 0; a second one ends at once.\n"
        "Without -m the model that comes with the program tells a story.\n"
        "QUERN_MODEL, QUERN_DEVICE, QUERN_THREADS and QUERN_CPU_ISA stand for options that are not given.",
    .tables = {{"Model", model_arg, ARG_N(model_arg), AT(model)},
               {"Text", text_args, ARG_N(text_args), 0},
               {"Sampling", sampling_args, ARG_N(sampling_args), AT(sampling)},
               {"Context", context_args, ARG_N(context_args), AT(model)},
               {"Running", load_args, ARG_N(load_args), AT(model)}},
    .defaults = &run_defaults,
    .size = sizeof(struct run_options),
    .run = run_run,
};
