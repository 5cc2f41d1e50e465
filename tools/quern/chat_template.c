/* From messages to tokens: finds the template, tells it what it wants to know, and finds out what ends an
 * answer. */
#include "chat.h"
#include "term.h"

#include <stdlib.h>
#include <string.h>

#define FIELD "tokenizer.chat_template"

static char *copy_text(const char *text, size_t n)
{
    char *copy = need_memory(NULL, n + 1, 1);
    if (n > 0)
        memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

/* ---- opening ---- */

static int compile(struct chat *chat, const char *path, const char *text, size_t n)
{
    struct quern_error err = {0};
    struct quern_callbacks callbacks = tool_callbacks(chat->options->model.verbose);
    chat->template.path = path;
    if (quern_chat_template_create(&chat->template.compiled, text, n, &callbacks, &err) != QUERN_OK)
        return fault(path, &err);
    return EXIT_DONE;
}

/* The model's own template, or one of its named ones, or that of a file. */
static int find_template(struct chat *chat)
{
    const char *model = chat->options->model.model, *wanted = chat->options->template, *text;
    size_t n;
    quern_vocab_chat_template(chat->loaded.vocab, wanted, &text, &n);
    if (text)
        return compile(chat, model, text, n);
    if (!wanted)
        return fault_text(
            model,
            FIELD " is missing: the model brings no chat template; give one with --chat-template FILE");
    struct buffer file = {0};
    int code = read_input(wanted, &file);
    if (code == EXIT_DONE)
        code = compile(chat, wanted, file.data, file.n);
    buffer_finish(&file);
    return code;
}

/* KEY=JSON, put together as an object. */
static int read_variables(struct chat *chat, const struct verb *verb)
{
    const struct arg_list *list = &chat->options->variables;
    if (list->n == 0)
        return EXIT_DONE;
    cJSON *object = json_object();
    int code = EXIT_DONE;
    for (size_t i = 0; i < list->n && code == EXIT_DONE; i++) {
        const char *item = list->items[i], *value = strchr(item, '=');
        cJSON *json = value && value > item ? cJSON_ParseWithOpts(value + 1, NULL, true) : NULL;
        if (!json) {
            code = verb_usage(verb, "--template-var: expected KEY=JSON (a text in double quotes), not \"%s\"",
                              item);
            break;
        }
        char *key = copy_text(item, (size_t)(value - item));
        cJSON_DeleteItemFromObjectCaseSensitive(object, key); /* the last one counts */
        json_put(object, key, json);
        free(key);
    }
    if (code == EXIT_DONE)
        chat->template.variables = json_print(object);
    cJSON_Delete(object);
    return code;
}

static char *token_text(const struct quern_vocab *vocab, int32_t id)
{
    size_t n;
    const char *text = quern_vocab_token(vocab, id, &n);
    return copy_text(text, text ? n : 0);
}

/* ---- rendering ---- */

static enum quern_status render(const struct chat_template *t, const char *messages, bool ask,
                                struct quern_chat_text **text, struct quern_error *err)
{
    return quern_chat_render(t->compiled,
                             quern_chat_params(.messages = messages, .variables = t->variables, .bos = t->bos,
                                               .eos = t->eos, .add_generation_prompt = ask, .now = t->now),
                             text, err);
}

int chat_template_ids(const struct chat *chat, const cJSON *messages, struct id_list *ids)
{
    const struct chat_template *t = &chat->template;
    struct quern_error err = {0};
    struct quern_chat_text *text = NULL;
    *ids = (struct id_list){0};
    char *json = json_print(messages);
    enum quern_status status = render(t, json, true, &text, &err);
    free(json);
    if (status != QUERN_OK)
        return fault(t->path, &err);
    size_t cap = text->length + 16; /* a token has a byte or more, save for the begin token */
    ids->id = need_memory(NULL, cap, sizeof *ids->id);
    status = quern_chat_tokenize(chat->loaded.vocab, text, ids->id, cap, &ids->n, &err);
    if (status == QUERN_OK && ids->n > cap) {
        cap = ids->n;
        ids->id = need_memory(ids->id, cap, sizeof *ids->id);
        status = quern_chat_tokenize(chat->loaded.vocab, text, ids->id, cap, &ids->n, &err);
    }
    quern_chat_text_destroy(&text);
    if (status != QUERN_OK) {
        ids_finish(ids);
        return fault(chat->options->model.model, &err);
    }
    return EXIT_DONE;
}

/* ---- what ends an answer ---- */

static bool is_white(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", text[i]) || text[i] == '\0')
            return false;
    return true;
}

/* The template's words between an answer and the next message: the first control token there ends an answer,
 * or, in a template of plain words, the words do. */
static void find_end(struct chat *chat, const char *text, size_t n)
{
    struct chat_template *t = &chat->template;
    const struct quern_vocab *vocab = chat->loaded.vocab;
    struct id_list ids;
    if (tokenize_text(vocab, t->path, text, n, QUERN_PARSE_SPECIAL, &ids) != EXIT_DONE)
        return;
    bool found = false;
    for (size_t i = 0; i < ids.n && !found; i++)
        if (quern_vocab_is_control(vocab, ids.id[i])) {
            found = true;
            t->end = quern_vocab_is_end(vocab, ids.id[i]) ? -1 : ids.id[i];
        }
    ids_finish(&ids);
    while (n > 0 && is_white(text + n - 1, 1))
        n--;
    while (n > 1 && is_white(text, 2)) /* one line break at most stays before the words */
        text++, n--;
    if (n > 1 && is_white(text, 1) && text[0] != '\n')
        text++, n--;
    if (!found && n > 1)
        t->stop_text = copy_text(text, n);
}

/* Renders a conversation of known words and looks at what the template put between them. Templates that
 * refuse it leave the end to the vocabulary's end tokens. */
static void find_ends(struct chat *chat)
{
    static const char conversation[] = "[{\"role\":\"user\",\"content\":\"first-word\"},"
                                       "{\"role\":\"assistant\",\"content\":\"second-word\"},"
                                       "{\"role\":\"user\",\"content\":\"third-word\"}]";
    static const char second[] = "second-word", third[] = "third-word";
    chat->template.end = -1;
    struct quern_chat_text *text = NULL;
    if (render(&chat->template, conversation, false, &text, NULL) != QUERN_OK)
        return;
    const char *from = strstr(text->data, second);
    from = from ? from + strlen(second) : NULL;
    const char *to = from ? strstr(from, third) : NULL;
    if (to)
        find_end(chat, from, (size_t)(to - from));
    quern_chat_text_destroy(&text);
}

int chat_template_open(struct chat *chat)
{
    struct chat_template *t = &chat->template;
    const struct quern_vocab *vocab = chat->loaded.vocab;
    t->bos = token_text(vocab, quern_vocab_bos(vocab));
    t->eos = token_text(vocab, quern_vocab_eos(vocab));
    t->now = term_local_seconds();
    int code = read_variables(chat, chat->sampling.verb);
    if (code == EXIT_DONE)
        code = find_template(chat);
    if (code == EXIT_DONE)
        find_ends(chat);
    return code;
}

void chat_template_close(struct chat_template *t)
{
    quern_chat_template_destroy(&t->compiled);
    free(t->variables);
    free(t->bos);
    free(t->eos);
    free(t->stop_text);
    *t = (struct chat_template){0};
}
