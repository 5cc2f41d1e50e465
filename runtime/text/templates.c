#include "text/templates.h"

#include <string.h>

static const char prefix[] = "tokenizer.chat_template";
enum { PREFIX_LEN = sizeof prefix - 1 };

/* Whether an entry is a template, and its name. */
static bool is_template(const struct qn_gguf_kv *kv, struct qn_str *name)
{
    if (kv->key.len < PREFIX_LEN || memcmp(kv->key.data, prefix, PREFIX_LEN) != 0)
        return false;
    size_t skip = kv->key.len == PREFIX_LEN ? PREFIX_LEN : PREFIX_LEN + 1;
    *name = (struct qn_str){kv->key.data + skip, kv->key.len - skip};
    return skip == PREFIX_LEN || (kv->key.data[PREFIX_LEN] == '.' && name->len > 0);
}

static struct qn_str copy(char **at, struct qn_str text)
{
    struct qn_str copied = {*at, text.len};
    if (text.len > 0)
        memcpy(*at, text.data, text.len);
    *at += text.len;
    return copied;
}

enum quern_status qn_templates_load(const struct quern_callbacks *cb, struct qn_templates *templates,
                                    const struct qn_gguf *gguf, struct quern_error *err)
{
    struct qn_str name;
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < qn_gguf_n_kvs(gguf); i++) {
        const struct qn_gguf_kv *kv = qn_gguf_kv_at(gguf, i);
        if (!is_template(kv, &name))
            continue;
        if (kv->is_array || kv->type != QN_GGUF_STRING)
            return qn_fail(err, QUERN_ERR_FILE, "%s: key '%.*s' is %s%s, expected string", qn_gguf_name(gguf),
                           (int)(kv->key.len < 100 ? kv->key.len : 100), kv->key.data,
                           qn_gguf_type_name(kv->type), kv->is_array ? "[]" : "");
        n++;
        bytes += name.len + (size_t)kv->bytes;
    }
    if (n == 0)
        return QUERN_OK;
    templates->at = qn_alloc(cb, n, sizeof *templates->at);
    templates->blob = qn_alloc(cb, bytes, 1);
    if (!templates->at || !templates->blob)
        return qn_fail_memory(err, "the chat templates");
    char *at = templates->blob;
    for (size_t i = 0; i < qn_gguf_n_kvs(gguf); i++) {
        const struct qn_gguf_kv *kv = qn_gguf_kv_at(gguf, i);
        struct qn_str text;
        uint64_t cursor = 0;
        if (is_template(kv, &name) && qn_gguf_next_str(kv, &cursor, &text))
            templates->at[templates->n++] = (struct qn_template){copy(&at, name), copy(&at, text)};
    }
    return QUERN_OK;
}

void qn_templates_finish(const struct quern_callbacks *cb, struct qn_templates *templates)
{
    qn_free(cb, templates->at);
    qn_free(cb, templates->blob);
    *templates = (struct qn_templates){NULL};
}

struct qn_str qn_templates_find(const struct qn_templates *templates, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < templates->n; i++)
        if (templates->at[i].name.len == len && memcmp(templates->at[i].name.data, name, len) == 0)
            return templates->at[i].text;
    return (struct qn_str){NULL, 0};
}
