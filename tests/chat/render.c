/* Renders templates for the comparison with Python's Jinja, see compare.py.
 *
 * Reads requests from stdin. Each begins with a line of numbers: the bytes of the template, messages, tools,
 * variables, bos and eos (-1: there is none), then `now` and whether to add a generation prompt; the texts
 * follow. Answers each with "ok BYTES\n", the prompt and a new line, or with "error SENTENCE\n". */
#include <quern/chat.h>

#include <stdio.h>
#include <stdlib.h>

enum { N_TEXTS = 6 };

struct request {
    char *text[N_TEXTS]; /* template, messages, tools, variables, bos, eos */
    long size[N_TEXTS];
    long long now;
    int prompt;
};

static bool read_request(struct request *r)
{
    char line[200];
    if (!fgets(line, sizeof line, stdin))
        return false;
    char *at = line;
    for (int i = 0; i < N_TEXTS; i++)
        r->size[i] = strtol(at, &at, 10);
    r->now = strtoll(at, &at, 10);
    r->prompt = (int)strtol(at, &at, 10);
    for (int i = 0; i < N_TEXTS; i++) {
        r->text[i] = r->size[i] < 0 ? NULL : calloc(1, (size_t)r->size[i] + 1);
        if (r->text[i] && fread(r->text[i], 1, (size_t)r->size[i], stdin) != (size_t)r->size[i])
            return false;
    }
    return true;
}

static void answer(const struct request *r)
{
    struct quern_error err = {0};
    struct quern_chat_template *chat = NULL;
    struct quern_chat_text *text = NULL;
    const struct quern_chat_params *params =
        quern_chat_params(.messages = r->text[1], .tools = r->text[2], .variables = r->text[3],
                          .bos = r->text[4], .eos = r->text[5], .now = r->now,
                          .add_generation_prompt = r->prompt != 0);
    if (quern_chat_template_create(&chat, r->text[0], (size_t)r->size[0], NULL, &err) == QUERN_OK &&
        quern_chat_render(chat, params, &text, &err) == QUERN_OK) {
        printf("ok %zu\n", text->length);
        fwrite(text->data, 1, text->length, stdout);
        printf("\n");
    } else {
        for (char *c = err.text; *c; c++)
            *c = *c == '\n' ? ' ' : *c;
        printf("error %s\n", err.text);
    }
    fflush(stdout);
    quern_chat_text_destroy(&text);
    quern_chat_template_destroy(&chat);
}

int main(void)
{
    struct request r;
    while (read_request(&r)) {
        answer(&r);
        for (int i = 0; i < N_TEXTS; i++)
            free(r.text[i]);
    }
    return 0;
}
