/* Answers: the conversation becomes a prompt, of which the session evaluates what it does not know yet, and
 * the model goes on from there. */
#include "chat.h"
#include "term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum overflow { OVERFLOW_DROP, OVERFLOW_ERROR };

/* An answer as it comes. */
struct answer {
    struct chat *chat;
    struct quern_sampler *sampler;
    struct buffer text;
    struct chat_counts counts;
    const char *stop;
    uint64_t begin_ns;
    bool ends_line;
};

/* ---- the prompt ---- */

/* Tokens of the messages that the model sees. */
static int prompt_ids(const struct chat *chat, struct id_list *ids)
{
    cJSON *seen = json_array();
    int n = cJSON_GetArraySize(chat->messages);
    for (int i = 0; i < n; i++)
        if (i >= chat->first || (i == 0 && chat_system(chat)))
            cJSON_AddItemReferenceToArray(seen, cJSON_GetArrayItem(chat->messages, i));
    int code = chat_template_ids(chat, seen, ids);
    cJSON_Delete(seen);
    return code;
}

/* The user's message with which the second of the turns that the model sees begins; 0 where there is only
 * one. */
static int next_turn(const struct chat *chat)
{
    int n = cJSON_GetArraySize(chat->messages), i = chat->first;
    while (i < n && strcmp(chat_role(chat, i), "user") != 0)
        i++;
    for (i++; i < n; i++)
        if (strcmp(chat_role(chat, i), "user") == 0)
            return i;
    return 0;
}

static int too_long(const struct chat *chat, size_t n)
{
    uint32_t n_ctx = quern_session_n_ctx(chat->loaded.session);
    if (chat->options->overflow == OVERFLOW_ERROR && next_turn(chat) > 0)
        return fault_text(
            NULL,
            "the context of %u tokens is full: the conversation has %zu; begin again with /reset, or "
            "have a longer one with -c",
            n_ctx, n);
    return fault_text(NULL,
                      "the message does not fit: with it the prompt has %zu tokens, the context %u; have a "
                      "longer one with -c",
                      n, n_ctx);
}

/* The prompt, with room for an answer: a quarter of the context, or the longest answer where that is less.
 * Where turns have to go, so many go that the rest takes at most half of the context: then this is rare, and
 * what follows finds its beginning evaluated. */
static int fit_prompt(struct answer *answer, struct id_list *ids)
{
    struct chat *chat = answer->chat;
    int64_t most = chat->options->n_predict;
    size_t n_ctx = quern_session_n_ctx(chat->loaded.session), room = n_ctx / 4;
    room = most >= 0 && (size_t)most < room ? (size_t)most : room;
    int code = prompt_ids(chat, ids);
    if (code == EXIT_DONE && ids->n + room > n_ctx && chat->options->overflow == OVERFLOW_DROP)
        for (int next; code == EXIT_DONE && ids->n > n_ctx / 2 && (next = next_turn(chat)) > 0;) {
            chat->first = next;
            answer->counts.n_dropped++;
            ids_finish(ids);
            code = prompt_ids(chat, ids);
        }
    if (code == EXIT_DONE && answer->counts.n_dropped > 0) {
        term_status_end();
        fprintf(stderr,
                "quern: the context of %zu tokens is full: the model no longer sees the oldest %zu turn%s\n",
                n_ctx, answer->counts.n_dropped, answer->counts.n_dropped > 1 ? "s" : "");
    }
    if (code == EXIT_DONE && ids->n >= n_ctx)
        code = too_long(chat, ids->n);
    return code;
}

static int evaluate(struct answer *answer, const struct id_list *ids)
{
    struct chat *chat = answer->chat;
    struct quern_error err = {0};
    const char *model = chat->options->model.model;
    int code = sampling_create(&chat->sampling, &chat->loaded, model, chat->sampling.seed + chat->n_answers,
                               0, &answer->sampler);
    if (code != EXIT_DONE)
        return code;
    chat->n_answers++;
    for (size_t i = 0; i < ids->n; i++)
        quern_sampler_accept(answer->sampler, ids->id[i]);
    answer->begin_ns = term_now_ns();
    answer->counts.n_prompt = ids->n;
    enum quern_status status =
        quern_session_prompt(chat->loaded.session, 0, ids->id, ids->n, &answer->counts.n_reused, &err);
    answer->counts.prompt_ns = term_now_ns() - answer->begin_ns;
    answer->counts.n_evaluated = ids->n - answer->counts.n_reused;
    term_status_end();
    return status == QUERN_OK ? EXIT_DONE : fault(model, &err);
}

/* ---- the text ---- */

static void write_text(struct answer *answer, const char *text, size_t n)
{
    if (n == 0 || answer->chat->options->json)
        return;
    answer->ends_line = text[n - 1] == '\n';
    term_text(text, n);
}

static bool on_text(void *user, const char *text, size_t n, int32_t token)
{
    struct answer *answer = user;
    if (answer->counts.first_ns == 0)
        answer->counts.first_ns = term_now_ns() - answer->begin_ns;
    buffer_put(&answer->text, text, n);
    write_text(answer, text, n);
    return (token < 0 || token != answer->chat->template.end) && !term_broken();
}

static const char *stop_name(enum quern_status status, enum quern_stop_reason reason)
{
    /* Stop strings, and tokens that on_text stops at, are the template's end of an answer. */
    static const char *const name[] = {"length", "end", "end", "end", "context"};
    return status == QUERN_ERR_CANCELLED ? "interrupted" : name[reason];
}

static int generate(struct answer *answer)
{
    struct chat *chat = answer->chat;
    struct quern_error err = {0};
    struct quern_generate_result result = {0};
    const char *stop[] = {chat->template.stop_text};
    int64_t most = chat->options->n_predict;
    enum quern_status status = quern_generate(
        chat->loaded.session,
        quern_generate_params(.sampler = answer->sampler, .max_tokens = most < 0 ? -1 : most, .stop = stop,
                              .n_stop = stop[0] ? 1 : 0, .user = answer, .on_text = on_text),
        &result, &err);
    answer->counts.n_generated = result.n_tokens;
    answer->counts.generate_ns = result.decode_ns + result.sample_ns;
    answer->stop = stop_name(status, result.reason);
    if (!answer->ends_line)
        write_text(answer, "\n", 1);
    if (status == QUERN_OK && result.reason == QUERN_STOP_CONTEXT)
        fault_text(NULL, "the context of %u tokens is full: the answer ends here; have a longer one with -c",
                   quern_session_n_ctx(chat->loaded.session));
    return status == QUERN_OK || status == QUERN_ERR_CANCELLED ? EXIT_DONE
                                                               : fault(chat->options->model.model, &err);
}

/* ---- what is told of it ---- */

static void print_json(const struct answer *answer)
{
    const struct chat_counts *c = &answer->counts;
    cJSON *root = json_object();
    json_put_text(root, "role", "assistant");
    json_put_bytes(root, "content", answer->text.data, answer->text.n);
    json_put_text(root, "stop", answer->stop);
    cJSON *t = json_object();
    json_put_int(t, "prompt_n", (int64_t)c->n_prompt);
    json_put_int(t, "reused_n", (int64_t)c->n_reused);
    json_put_int(t, "evaluated_n", (int64_t)c->n_evaluated);
    json_put_real(t, "prompt_ms", (double)c->prompt_ns / 1e6);
    json_put_real(t, "prompt_per_second", per_second(c->n_evaluated, c->prompt_ns));
    json_put_int(t, "generated_n", (int64_t)c->n_generated);
    json_put_real(t, "generated_ms", (double)c->generate_ns / 1e6);
    json_put_real(t, "generated_per_second", per_second(c->n_generated, c->generate_ns));
    json_put_real(t, "first_token_ms", (double)c->first_ns / 1e6);
    json_put_int(t, "dropped_turns", (int64_t)c->n_dropped);
    json_put(root, "timings", t);
    json_end(root, false, stdout);
    fflush(stdout);
}

static void add_counts(struct chat_counts *total, const struct chat_counts *counts)
{
    total->n_prompt += counts->n_prompt;
    total->n_reused += counts->n_reused;
    total->n_evaluated += counts->n_evaluated;
    total->n_generated += counts->n_generated;
    total->n_dropped += counts->n_dropped;
    total->prompt_ns += counts->prompt_ns;
    total->generate_ns += counts->generate_ns;
}

static void print_counts(const char *what, const struct chat_counts *c, FILE *out)
{
    fprintf(out, "%-8s prompt     %8zu tokens, %zu of them kept from before\n", what, c->n_prompt,
            c->n_reused);
    fprintf(out, "%-8s evaluated  %8zu tokens  %10.2f ms  %10.2f t/s\n", "", c->n_evaluated,
            (double)c->prompt_ns / 1e6, per_second(c->n_evaluated, c->prompt_ns));
    fprintf(out, "%-8s generated  %8zu tokens  %10.2f ms  %10.2f t/s\n", "", c->n_generated,
            (double)c->generate_ns / 1e6, per_second(c->n_generated, c->generate_ns));
}

void chat_print_stats(const struct chat *chat, FILE *out)
{
    if (chat->last_stop) {
        print_counts("last", &chat->last, out);
        fprintf(out, "%-8s first token            %18.2f ms\n", "", (double)chat->last.first_ns / 1e6);
        fprintf(out, "%-8s stopped by %s\n", "", chat->last_stop);
        print_counts("all", &chat->total, out);
    }
    fprintf(out, "context  %zu of %u tokens, %zu turns no longer seen\n",
            quern_session_length(chat->loaded.session, 0), quern_session_n_ctx(chat->loaded.session),
            chat->total.n_dropped);
    if (sampling_varies(&chat->sampling))
        fprintf(out, "seed     %" PRIu64 "\n", chat->sampling.seed);
}

/* ---- the whole ---- */

int chat_answer(struct chat *chat)
{
    struct answer answer = {.chat = chat, .ends_line = true};
    struct id_list ids = {0};
    buffer_put(&answer.text, "", 0);
    int code = fit_prompt(&answer, &ids);
    if (code == EXIT_DONE)
        code = evaluate(&answer, &ids);
    if (code == EXIT_DONE)
        code = generate(&answer);
    bool interrupted = code == EXIT_INTERRUPTED || (answer.stop && strcmp(answer.stop, "interrupted") == 0);
    if (code == EXIT_DONE && !(interrupted && answer.text.n == 0)) {
        chat_add(chat, "assistant", answer.text.data, answer.text.n);
        chat->last = answer.counts;
        chat->last_stop = answer.stop;
        add_counts(&chat->total, &answer.counts);
        if (chat->options->json)
            print_json(&answer);
    }
    quern_sampler_destroy(&answer.sampler);
    ids_finish(&ids);
    buffer_finish(&answer.text);
    return interrupted ? EXIT_INTERRUPTED : code;
}
