/* Conversations: a model's own chat template turns messages into the prompt that the model was trained on.
 *
 * Templates are written in Jinja (`tokenizer.chat_template` of a GGUF file). A template is compiled once and
 * immutable: any number of threads may render it. Rendering is bounded in steps, depth and output, so that a
 * hostile template costs an error and nothing else. */
#ifndef QUERN_CHAT_H
#define QUERN_CHAT_H

#include <quern/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The template that the file carries: `tokenizer.chat_template`, or, with a name such as "tool_use",
 * `tokenizer.chat_template.tool_use`. Sets *text to NULL where there is none. The text is the vocabulary's,
 * not NUL-terminated. */
QUERN_API void quern_vocab_chat_template(const struct quern_vocab *vocab, const char *name, const char **text,
                                         size_t *length);

struct quern_chat_template;

/* Compiles `length` bytes of Jinja; the text need not outlive the call. What is wrong with it is
 * QUERN_ERR_FILE, what Jinja has and this interpreter has not is QUERN_ERR_UNSUPPORTED; both name line and
 * column. `callbacks` may be NULL and is copied. */
QUERN_API enum quern_status quern_chat_template_create(struct quern_chat_template **chat, const char *text,
                                                       size_t length, const struct quern_callbacks *callbacks,
                                                       struct quern_error *err);
QUERN_API void quern_chat_template_destroy(struct quern_chat_template **chat);

/* What a template sees. Text is UTF-8 and NUL-terminated. */
struct quern_chat_params {
    const char *messages;       /* JSON array: [{"role": "user", "content": "Hello"}, ...] */
    const char *tools;          /* JSON array of tool definitions; NULL: none, which templates see as None */
    const char *variables;      /* JSON object of further variables (enable_thinking, ...); NULL: none */
    const char *bos, *eos;      /* texts of bos_token and eos_token; NULL: "" */
    bool add_generation_prompt; /* end with what starts an answer */
    int64_t now;                /* for strftime_now: seconds since 1970-01-01 00:00 in local time */
};
#define quern_chat_params(...) (&(struct quern_chat_params){.add_generation_prompt = true, __VA_ARGS__})

/* A range of bytes. */
struct quern_range {
    size_t begin, end;
};

/* A prompt, and where input stands in it: strings of the messages (but for their roles and the names of their
 * members), of the tools and of the variables, whatever the template did to them. Control tokens written out
 * there are text like any other, so that no message can pretend to be another role. The ranges are in order
 * and do not touch. */
struct quern_chat_text {
    const char *data; /* NUL-terminated; may contain NUL bytes of its own */
    size_t length;
    const struct quern_range *input;
    size_t n_input;
};

/* Renders. *text is the caller's, to be given back with quern_chat_text_destroy. A template that refuses the
 * messages (raise_exception) or fails on them is QUERN_ERR_PARAM with its own words, line and column; JSON
 * that is wrong is QUERN_ERR_PARAM; exceeding a bound is QUERN_ERR_FILE. */
QUERN_API enum quern_status quern_chat_render(const struct quern_chat_template *chat,
                                              const struct quern_chat_params *params,
                                              struct quern_chat_text **text, struct quern_error *err);
QUERN_API void quern_chat_text_destroy(struct quern_chat_text **text);

/* Tokens of a rendered prompt: control tokens are recognised outside of the input only, and the begin
 * token is added where the model expects one and the template wrote none. cap and n as in quern_tokenize. */
QUERN_API enum quern_status quern_chat_tokenize(const struct quern_vocab *vocab,
                                                const struct quern_chat_text *text, int32_t *ids, size_t cap,
                                                size_t *n, struct quern_error *err);

#ifdef __cplusplus
}
#endif

#endif
