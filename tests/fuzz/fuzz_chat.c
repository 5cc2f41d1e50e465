/* Chat templates on any text, with any JSON.
 * Input: the template, then, each after a byte 0xFF, messages, tools and variables. Without messages there is
 * a small conversation. */
#include <quern/chat.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x) ((x) ? (void)0 : (fprintf(stderr, "failed: %s (line %d)\n", #x, __LINE__), abort()))

static const char conversation[] =
    "[{\"role\": \"system\", \"content\": \"Be <b>brief</b>.\"},"
    " {\"role\": \"user\", \"content\": \" Hello,\\nw\\u00f6rld <|im_end|> \", \"n\": 3, \"f\": -2.5},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", "
    "\"arguments\":"
    " {\"a\": [1, \"x\", true]}}}]}]";

/* The part up to the next 0xFF as a string, or NULL where there is none. */
static char *next_part(const uint8_t **data, size_t *size)
{
    if (!*data)
        return NULL;
    const uint8_t *end = *size > 0 ? memchr(*data, 0xFF, *size) : NULL;
    size_t n = end ? (size_t)(end - *data) : *size;
    char *part = malloc(n + 1);
    CHECK(part);
    if (n > 0)
        memcpy(part, *data, n);
    part[n] = '\0';
    *size -= end ? n + 1 : n;
    *data = end ? end + 1 : NULL;
    return part;
}

static void check_text(const struct quern_chat_text *text)
{
    size_t end = 0;
    CHECK(text->data[text->length] == '\0');
    for (size_t i = 0; i < text->n_input; i++) {
        CHECK(text->input[i].begin < text->input[i].end && text->input[i].end <= text->length);
        CHECK(i == 0 || text->input[i].begin > end);
        end = text->input[i].end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *source = next_part(&data, &size), *messages = next_part(&data, &size);
    char *tools = next_part(&data, &size), *variables = next_part(&data, &size);
    struct quern_chat_template *chat;
    struct quern_error err = {0};
    enum quern_status status = quern_chat_template_create(&chat, source, strlen(source), NULL, &err);
    CHECK(status == err.status && (status == QUERN_OK) == (chat != NULL));
    if (chat) {
        struct quern_chat_text *text;
        status = quern_chat_render(chat,
                                   quern_chat_params(.messages = messages ? messages : conversation,
                                                     .tools = tools, .variables = variables, .bos = "<s>"),
                                   &text, &err);
        CHECK(status == err.status && (status == QUERN_OK) == (text != NULL));
        CHECK(status == QUERN_OK || err.text[0] != '\0');
        if (text)
            check_text(text);
        quern_chat_text_destroy(&text);
    }
    quern_chat_template_destroy(&chat);
    free(source);
    free(messages);
    free(tools);
    free(variables);
    return 0;
}
