/* The chat templates that a model file carries, as text. */
#ifndef QN_TEXT_TEMPLATES_H
#define QN_TEXT_TEMPLATES_H

#include "gguf/gguf.h"

struct qn_template {
    struct qn_str name; /* empty: the one without a name */
    struct qn_str text;
};

struct qn_templates {
    struct qn_template *at;
    size_t n;
    char *blob; /* all names and texts */
};

/* Copies `tokenizer.chat_template` and `tokenizer.chat_template.NAME`. What is no string there is
 * QUERN_ERR_FILE; give back what was read with qn_templates_finish then too. Start from zero. */
enum quern_status qn_templates_load(const struct quern_callbacks *cb, struct qn_templates *templates,
                                    const struct qn_gguf *gguf, struct quern_error *err);
void qn_templates_finish(const struct quern_callbacks *cb, struct qn_templates *templates);
/* By name, "" for the one without; NULL data: there is none. */
struct qn_str qn_templates_find(const struct qn_templates *templates, const char *name);

#endif
