/* The public API: compiling a template, rendering it. */
#include "chat/eval.h"
#include <quern/chat.h>

#include <string.h>

enum { COMPILE_MEMORY_MAX = 64 << 20 };

/* ---- compiling ---- */

static bool compile(struct qn_run *run, struct quern_chat_template *made, const char *text, size_t length)
{
    struct qn_tokens tokens = {NULL};
    struct qn_parser p = {.run = run, .names = qn_dict_new(run)};
    bool ok = p.names && qn_lex(run, text, length, &tokens);
    if (ok) {
        static const char *const words[] = {"loop", "caller", "varargs", "kwargs"};
        const struct qn_text **const known[] = {&made->names.loop, &made->names.caller, &made->names.varargs,
                                                &made->names.kwargs};
        for (size_t i = 0; ok && i < QN_LEN(words); i++) {
            const struct qn_text *name = qn_text_new(run, words[i], strlen(words[i]), QN_CLEAN);
            *known[i] = name ? qn_intern(&p, name) : NULL;
            ok = *known[i] != NULL;
        }
        p.token = tokens.at;
        ok = ok && qn_parse(&p, &made->body);
    }
    qn_free(run->arena.cb, tokens.at);
    return ok;
}

enum quern_status quern_chat_template_create(struct quern_chat_template **chat, const char *text,
                                             size_t length, const struct quern_callbacks *callbacks,
                                             struct quern_error *err)
{
    *chat = NULL;
    if (length > QN_CHAT_SOURCE_MAX)
        return qn_fail(err, QUERN_ERR_FILE, "chat template: %zu bytes, at most %d are read", length,
                       QN_CHAT_SOURCE_MAX);
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    struct quern_chat_template *made = qn_zalloc(&cb, 1, sizeof *made);
    if (!made)
        return qn_fail_memory(err, "a chat template");
    made->cb = cb;
    struct qn_run run = {.err = err, .blame = QUERN_ERR_FILE, .what = "chat template", .steps = UINT64_MAX};
    qn_arena_init(&run.arena, &made->cb, COMPILE_MEMORY_MAX);
    bool ok = compile(&run, made, text, length);
    made->arena = run.arena;
    if (!ok) {
        quern_chat_template_destroy(&made);
        return run.status;
    }
    *chat = made;
    return QUERN_OK;
}

void quern_chat_template_destroy(struct quern_chat_template **chat)
{
    if (!chat || !*chat)
        return;
    struct quern_callbacks cb = (*chat)->cb;
    qn_arena_finish(&(*chat)->arena);
    qn_free(&cb, *chat);
    *chat = NULL;
}

/* ---- rendering ---- */

static bool define(struct qn_run *run, const char *name, struct qn_val value)
{
    const struct qn_text *text = qn_text_new(run, name, strlen(name), QN_CLEAN);
    return text && qn_dict_put(run, run->context, qn_str(text), value);
}

static bool define_text(struct qn_run *run, const char *name, const char *value)
{
    value = value ? value : "";
    const struct qn_text *text = qn_text_new(run, value, strlen(value), QN_CLEAN);
    return text && define(run, name, qn_str(text));
}

/* A JSON argument of one type; NULL is None. */
static bool define_json(struct qn_run *run, const char *name, const char *json, bool messages)
{
    struct qn_val value = QN_VAL_NONE;
    if (json && !qn_json_read(run, name, json, messages, &value))
        return false;
    if (json && value.kind != QN_LIST)
        return qn_raise_status(run, QUERN_ERR_PARAM, "%s must be a JSON array", name);
    return define(run, name, value);
}

static bool define_variables(struct qn_run *run, const char *json)
{
    struct qn_val value;
    if (!json)
        return true;
    if (!qn_json_read(run, "variables", json, false, &value))
        return false;
    if (value.kind != QN_DICT)
        return qn_raise_status(run, QUERN_ERR_PARAM, "variables must be a JSON object");
    for (size_t i = 0; i < value.dict->n; i++)
        if (!qn_dict_put(run, run->context, value.dict->at[i].key, value.dict->at[i].value))
            return false;
    return true;
}

static bool define_all(struct qn_run *run, const struct quern_chat_params *params)
{
    run->context = qn_dict_new(run);
    return run->context && define_json(run, "messages", params->messages ? params->messages : "[]", true) &&
           define_json(run, "tools", params->tools, false) && define(run, "documents", QN_VAL_NONE) &&
           define(run, "add_generation_prompt", qn_bool(params->add_generation_prompt)) &&
           define_text(run, "bos_token", params->bos) && define_text(run, "eos_token", params->eos) &&
           define_variables(run, params->variables);
}

/* The caller's text, with what it takes to give it back. */
struct owned_text {
    struct quern_chat_text text;
    struct quern_callbacks cb;
    char *data;
    struct quern_range *spans;
};

static size_t count_spans(const struct qn_builder *b, struct quern_range *spans)
{
    size_t n = 0;
    if (b->taint == QN_INPUT && b->len > 0) {
        if (spans)
            spans[0] = (struct quern_range){0, b->len};
        return 1;
    }
    for (size_t at = 0; b->taint == QN_MIXED && at < b->len; at++) {
        if (!b->marks[at])
            continue;
        size_t begin = at;
        while (at < b->len && b->marks[at])
            at++;
        if (spans)
            spans[n] = (struct quern_range){begin, at};
        n++;
    }
    return n;
}

static bool hand_over(struct qn_run *run, const struct quern_callbacks *cb, const struct qn_builder *b,
                      struct quern_chat_text **out)
{
    struct owned_text *owned = qn_zalloc(cb, 1, sizeof *owned);
    if (!owned)
        return qn_raise_memory(run);
    owned->cb = *cb;
    owned->data = qn_strndup(cb, b->data, b->len);
    size_t n = count_spans(b, NULL);
    owned->spans = n > 0 ? qn_alloc(cb, n, sizeof *owned->spans) : NULL;
    *out = &owned->text;
    if (!owned->data || (n > 0 && !owned->spans)) {
        quern_chat_text_destroy(out);
        return qn_raise_memory(run);
    }
    if (n > 0)
        count_spans(b, owned->spans);
    owned->text = (struct quern_chat_text){owned->data, b->len, owned->spans, n};
    return true;
}

enum quern_status quern_chat_render(const struct quern_chat_template *chat,
                                    const struct quern_chat_params *params, struct quern_chat_text **text,
                                    struct quern_error *err)
{
    *text = NULL;
    struct qn_run run = {.err = err,
                         .blame = QUERN_ERR_PARAM,
                         .what = "chat template",
                         .steps = QN_CHAT_STEPS_MAX,
                         .chat = chat,
                         .now = params->now};
    struct qn_scope scope = {NULL};
    struct qn_builder out = {.run = &run};
    qn_arena_init(&run.arena, &chat->cb, QN_CHAT_MEMORY_MAX);
    run.scope = &scope;
    run.out = &out;
    if (define_all(&run, params) && qn_exec(&run, chat->body))
        (void)hand_over(&run, &chat->cb, &out, text);
    qn_arena_finish(&run.arena);
    return run.status;
}

void quern_chat_text_destroy(struct quern_chat_text **text)
{
    if (!text || !*text)
        return;
    struct owned_text *owned = (struct owned_text *)*text; /* its first member */
    struct quern_callbacks cb = owned->cb;
    qn_free(&cb, owned->spans);
    qn_free(&cb, owned->data);
    qn_free(&cb, owned);
    *text = NULL;
}
