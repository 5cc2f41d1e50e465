/* Parses statements. */
#include "chat/ast.h"

#include <string.h>

static struct qn_node *parse_statement(struct qn_parser *p);

/* Up to the name of a block that is one of `ends` (parted by spaces), which is the caller's; NULL: up to the
 * end of all. */
static bool parse_body(struct qn_parser *p, const struct qn_token *opened, const char *ends,
                       struct qn_node **body)
{
    struct qn_node **end = NULL;
    if (!qn_nest(p))
        return false;
    for (;; p->token++) {
        struct qn_node *node = NULL;
        const struct qn_token *token = p->token;
        if (token->kind == QN_T_END) {
            if (!ends)
                break;
            p->run->line = opened->line;
            p->run->column = opened->column;
            return qn_raise(p->run, "this block has no end (%s)", ends);
        }
        if (token->kind == QN_T_DATA) {
            node = qn_node_new(p, QN_N_DATA, token);
            if (node)
                node->value = qn_str(token->s);
        } else if (token->kind == QN_T_OUTPUT) {
            p->token++;
            node = qn_node_new(p, QN_N_PRINT, token);
            if (!node || !(node->a = qn_parse_tuple(p, true, NULL)))
                return false;
            if (p->token->kind != QN_T_OUTPUT_END)
                return qn_unexpected(p, "'}}'");
        } else {
            p->token++;
            if (p->token->kind != QN_T_NAME)
                return qn_unexpected(p, "the name of a block");
            const struct qn_text *name = p->token->s;
            for (const char *word = ends; word; word = strchr(word, ' ') ? strchr(word, ' ') + 1 : NULL) {
                size_t n = strcspn(word, " ");
                if (n == name->len && memcmp(word, name->data, n) == 0) {
                    p->level--;
                    return true;
                }
            }
            node = parse_statement(p);
            if (node && p->token->kind != QN_T_BLOCK_END)
                return qn_unexpected(p, "'%}'");
        }
        if (!node)
            return false;
        qn_append(body, &end, node);
    }
    p->level--;
    return true;
}

static bool end_of_block(struct qn_parser *p)
{
    if (p->token->kind != QN_T_BLOCK_END)
        return qn_unexpected(p, "'%}'");
    p->token++;
    return true;
}

/* The rest of an opening block, the body, and the closing block's name. */
static bool parse_block(struct qn_parser *p, const struct qn_token *opened, const char *ends,
                        struct qn_node **body)
{
    if (!end_of_block(p) || !parse_body(p, opened, ends, body))
        return false;
    p->token++;
    return true;
}

/* ---- targets of assignments ---- */

static struct qn_node *parse_target(struct qn_parser *p, bool attribute, const char *stop);

static struct qn_node *parse_one_target(struct qn_parser *p, bool attribute)
{
    static const char *const reserved[] = {"true", "True", "false", "False", "none", "None"};
    const struct qn_token *token = p->token;
    if (qn_next_is(p, "(") || qn_next_is(p, "[")) {
        const char *close = qn_next_is(p, "(") ? ")" : "]";
        if (!qn_nest(p))
            return NULL;
        p->token++;
        struct qn_node *inner = parse_target(p, false, NULL);
        p->level--;
        return inner && qn_expect(p, close) ? inner : NULL;
    }
    for (size_t i = 0; i < QN_LEN(reserved); i++) {
        if (qn_next_word(p, reserved[i])) {
            qn_unexpected(p, "a name that can be assigned to");
            return NULL;
        }
    }
    struct qn_node *node = qn_node_new(p, QN_N_NAME, token);
    if (!node || !(node->name = qn_expect_name(p)))
        return NULL;
    if (attribute && qn_skip(p, ".")) {
        const struct qn_text *key = qn_expect_name(p);
        if (!key)
            return NULL;
        node->kind = QN_N_NS_ATTR;
        node->value = qn_str(key);
    }
    return node;
}

/* A name, or several, in brackets or not. */
static struct qn_node *parse_target(struct qn_parser *p, bool attribute, const char *stop)
{
    const struct qn_token *at = p->token;
    struct qn_node *first = parse_one_target(p, attribute), **end = NULL;
    if (!first || first->kind == QN_N_NS_ATTR || !qn_next_is(p, ","))
        return first;
    struct qn_node *tuple = qn_node_new(p, QN_N_TUPLE, at);
    if (!tuple)
        return NULL;
    qn_append(&tuple->list, &end, first);
    while (qn_skip(p, ",")) {
        if (qn_next_is(p, ")") || qn_next_is(p, "]") || qn_next_is(p, "=") || (stop && qn_next_word(p, stop)))
            break;
        struct qn_node *more = parse_one_target(p, false);
        if (!more)
            return NULL;
        qn_append(&tuple->list, &end, more);
    }
    return tuple;
}

/* ---- statements ---- */

static struct qn_node *parse_if(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_IF, at), *last = node;
    p->in_branch++;
    for (;;) {
        if (!last || !(last->a = qn_parse_tuple(p, false, NULL)) || !end_of_block(p) ||
            !parse_body(p, at, "elif else endif", &last->list))
            return NULL;
        if (!qn_next_word(p, "elif"))
            break;
        last->c = qn_node_new(p, QN_N_IF, p->token++);
        last = last->c;
    }
    if (qn_skip_word(p, "else")) {
        if (!parse_block(p, at, "endif", &last->more))
            return NULL;
    } else {
        p->token++;
    }
    p->in_branch--;
    return node;
}

static struct qn_node *parse_for(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_FOR, at);
    if (!node || !(node->a = parse_target(p, false, "in")))
        return NULL;
    if (!qn_skip_word(p, "in")) {
        qn_unexpected(p, "'in'");
        return NULL;
    }
    if (!(node->b = qn_parse_tuple(p, false, "recursive")))
        return NULL;
    if (qn_skip_word(p, "if") && !(node->c = qn_parse_expression(p)))
        return NULL;
    node->op = qn_skip_word(p, "recursive") ? 'r' : 0;
    p->in_loop++;
    if (!end_of_block(p) || !parse_body(p, at, "else endfor", &node->list))
        return NULL;
    p->in_loop--;
    if (qn_skip_word(p, "else"))
        return parse_block(p, at, "endfor", &node->more) ? node : NULL;
    p->token++;
    return node;
}

static struct qn_node *parse_flow(struct qn_parser *p)
{
    struct qn_node *node = qn_node_new(p, qn_next_word(p, "break") ? QN_N_BREAK : QN_N_CONTINUE, p->token);
    if (p->in_loop == 0) {
        qn_unexpected(p, "a loop around this");
        return NULL;
    }
    p->token++;
    return node;
}

static struct qn_node *parse_set(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_SET, at);
    if (!node || !(node->a = parse_target(p, true, NULL)))
        return NULL;
    if (qn_skip(p, "="))
        return (node->b = qn_parse_tuple(p, true, NULL)) ? node : NULL;
    node->kind = QN_N_SET_BLOCK;
    if (qn_next_is(p, "|") && !(node->b = qn_parse_filters(p, NULL, false)))
        return NULL;
    return parse_block(p, at, "endset", &node->list) ? node : NULL;
}

/* (a, b=1) */
static bool parse_params(struct qn_parser *p, struct qn_node *macro)
{
    struct qn_node **end = NULL;
    if (!qn_expect(p, "("))
        return false;
    bool defaults = false;
    while (!qn_skip(p, ")")) {
        if (macro->more && !qn_expect(p, ","))
            return false;
        const struct qn_token *at = p->token;
        struct qn_node *param = parse_one_target(p, false);
        if (!param || param->kind != QN_N_NAME)
            return param ? qn_unexpected(p, "a parameter") : false;
        param->kind = QN_N_PARAM;
        if (qn_skip(p, "=")) {
            defaults = true;
            if (!(param->a = qn_parse_expression(p)))
                return false;
        } else if (defaults) {
            p->token = at;
            return qn_unexpected(p, "a parameter with a default");
        }
        qn_append(&macro->more, &end, param);
    }
    return true;
}

/* The body of a macro; what it mentions is noted in node->op. */
static bool parse_macro_body(struct qn_parser *p, const struct qn_token *at, const char *ends,
                             struct qn_node *node)
{
    uint32_t uses = p->uses;
    unsigned in_loop = p->in_loop;
    p->uses = 0;
    p->in_loop = 0;
    if (!parse_block(p, at, ends, &node->list))
        return false;
    node->op = p->uses;
    p->uses |= uses;
    p->in_loop = in_loop;
    return true;
}

static struct qn_node *parse_macro(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_MACRO, at);
    if (!node || !(node->name = qn_expect_name(p)) || !parse_params(p, node) ||
        !parse_macro_body(p, at, "endmacro", node))
        return NULL;
    return node;
}

static struct qn_node *parse_call_block(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_CALL_BLOCK, at);
    struct qn_node *caller = node ? qn_node_new(p, QN_N_MACRO, at) : NULL;
    if (!caller || (qn_next_is(p, "(") && !parse_params(p, caller)))
        return NULL;
    const struct qn_token *call = p->token;
    if (!(node->a = qn_parse_expression(p)))
        return NULL;
    if (node->a->kind != QN_N_CALL) {
        p->token = call;
        qn_unexpected(p, "a call");
        return NULL;
    }
    node->b = caller;
    return parse_macro_body(p, at, "endcall", caller) ? node : NULL;
}

static struct qn_node *parse_filter_block(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_FILTER_BLOCK, at);
    if (!node || !(node->b = qn_parse_filters(p, NULL, true)))
        return NULL;
    return parse_block(p, at, "endfilter", &node->list) ? node : NULL;
}

static struct qn_node *parse_with(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_SCOPE, at), **end = NULL;
    while (node && p->token->kind != QN_T_BLOCK_END) {
        if (node->more && !qn_expect(p, ","))
            return NULL;
        struct qn_node *set = qn_node_new(p, QN_N_SET, p->token);
        if (!set || !(set->a = parse_one_target(p, false)) || !qn_expect(p, "=") ||
            !(set->b = qn_parse_expression(p)))
            return NULL;
        qn_append(&node->more, &end, set);
    }
    return node && parse_block(p, at, "endwith", &node->list) ? node : NULL;
}

/* What the training code of a model marks as the model's own words; here it only has a scope. */
static struct qn_node *parse_generation(struct qn_parser *p)
{
    const struct qn_token *at = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_SCOPE, at);
    return node && parse_block(p, at, "endgeneration", &node->list) ? node : NULL;
}

static struct qn_node *parse_statement(struct qn_parser *p)
{
    static const struct {
        const char *name;
        struct qn_node *(*parse)(struct qn_parser *p);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"break", parse_flow},
        {"continue", parse_flow},
        {"with", parse_with},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"generation", parse_generation},
    };
    static const char *const beyond[] = {"autoescape", "block",  "do",      "debug",     "extends",
                                         "from",       "import", "include", "pluralize", "trans"};
    const struct qn_token *token = p->token;
    for (size_t i = 0; i < QN_LEN(statements); i++)
        if (qn_next_word(p, statements[i].name))
            return statements[i].parse(p);
    p->run->line = token->line;
    p->run->column = token->column;
    for (size_t i = 0; i < QN_LEN(beyond); i++) {
        if (qn_next_word(p, beyond[i])) {
            qn_raise_status(p->run, QUERN_ERR_UNSUPPORTED, "the block '%s' is not supported", beyond[i]);
            return NULL;
        }
    }
    qn_raise(p->run, "there is no block '%.*s'", (int)(token->s->len < 40 ? token->s->len : 40),
             token->s->data);
    return NULL;
}

bool qn_parse(struct qn_parser *p, struct qn_node **body)
{
    *body = NULL;
    if (!parse_body(p, p->token, NULL, body))
        return false;
    const struct qn_node *unknown = p->unknown;
    if (!unknown)
        return true;
    p->run->line = unknown->line;
    p->run->column = unknown->column;
    return qn_raise(p->run, "there is no %s '%.*s'", unknown->kind == QN_N_TEST ? "test" : "filter",
                    (int)(unknown->name->len < 60 ? unknown->name->len : 60), unknown->name->data);
}
