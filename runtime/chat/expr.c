/* Parses expressions, by recursive descent and, for binary operators, by precedence. */
#include "chat/ast.h"
#include "chat/eval.h"

#include <stdio.h>
#include <string.h>

/* ---- words shared with parser.c ---- */

static void point_at(struct qn_parser *p, const struct qn_token *token)
{
    p->run->line = token->line;
    p->run->column = token->column;
}

struct qn_node *qn_node_new(struct qn_parser *p, enum qn_node_kind kind, const struct qn_token *at)
{
    struct qn_node *node = qn_run_alloc(p->run, 1, sizeof *node);
    if (node) {
        node->kind = kind;
        node->line = at->line;
        node->column = at->column;
    }
    return node;
}

const struct qn_text *qn_intern(struct qn_parser *p, const struct qn_text *name)
{
    struct qn_val known;
    if (!qn_dict_get(p->run, p->names, qn_str(name), &known))
        return NULL;
    if (known.kind == QN_STR)
        return known.s;
    return qn_dict_put(p->run, p->names, qn_str(name), qn_str(name)) ? name : NULL;
}

bool qn_nest(struct qn_parser *p)
{
    point_at(p, p->token);
    if (p->level >= QN_CHAT_NESTING_MAX)
        return qn_raise_limit(p->run, "100 levels within each other");
    p->level++;
    return true;
}

bool qn_unexpected(struct qn_parser *p, const char *expected)
{
    const struct qn_token *token = p->token;
    const char *found = token->kind == QN_T_END          ? "the end of the template"
                        : token->kind == QN_T_DATA       ? "text"
                        : token->kind == QN_T_OUTPUT     ? "{{"
                        : token->kind == QN_T_OUTPUT_END ? "}}"
                        : token->kind == QN_T_BLOCK      ? "{%"
                        : token->kind == QN_T_BLOCK_END  ? "%}"
                        : token->kind == QN_T_STRING     ? "a string"
                        : token->kind == QN_T_OPERATOR   ? NULL
                        : token->kind == QN_T_NAME       ? NULL
                                                         : "a number";
    point_at(p, token);
    if (found)
        return qn_raise(p->run, "expected %s, found %s", expected, found);
    if (token->kind == QN_T_OPERATOR)
        return qn_raise(p->run, "expected %s, found '%.2s'", expected, token->op);
    return qn_raise(p->run, "expected %s, found '%.*s'", expected,
                    (int)(token->s->len < 40 ? token->s->len : 40), token->s->data);
}

static bool is_op(const struct qn_token *token, const char *op)
{
    return token->kind == QN_T_OPERATOR && strncmp(token->op, op, 2) == 0;
}

static bool is_word(const struct qn_token *token, const char *name)
{
    return token->kind == QN_T_NAME && qn_text_is(token->s, name);
}

bool qn_next_is(const struct qn_parser *p, const char *op)
{
    return is_op(p->token, op);
}

bool qn_next_word(const struct qn_parser *p, const char *name)
{
    return is_word(p->token, name);
}

bool qn_skip(struct qn_parser *p, const char *op)
{
    bool is = qn_next_is(p, op);
    p->token += is;
    return is;
}

bool qn_skip_word(struct qn_parser *p, const char *name)
{
    bool is = qn_next_word(p, name);
    p->token += is;
    return is;
}

bool qn_expect(struct qn_parser *p, const char *op)
{
    char expected[8];
    snprintf(expected, sizeof expected, "'%s'", op);
    return qn_skip(p, op) || qn_unexpected(p, expected);
}

const struct qn_text *qn_expect_name(struct qn_parser *p)
{
    if (p->token->kind == QN_T_NAME)
        return qn_intern(p, p->token++->s);
    qn_unexpected(p, "a name");
    return NULL;
}

void qn_append(struct qn_node **list, struct qn_node ***end, struct qn_node *node)
{
    if (!*end)
        *end = list;
    **end = node;
    *end = &node->next;
}

/* ---- atoms ---- */

static struct qn_node *parse_name(struct qn_parser *p)
{
    static const struct {
        const char *word;
        struct qn_val value;
    } words[] = {
        {"true", {.kind = QN_BOOL, .b = true}},
        {"True", {.kind = QN_BOOL, .b = true}},
        {"false", {.kind = QN_BOOL, .b = false}},
        {"False", {.kind = QN_BOOL, .b = false}},
        {"none", {.kind = QN_NONE}},
        {"None", {.kind = QN_NONE}},
    };
    static const char *const beyond[] = {"cycler", "joiner", "lipsum"};
    const struct qn_token *token = p->token++;
    struct qn_node *node = qn_node_new(p, QN_N_NAME, token);
    if (!node)
        return NULL;
    for (size_t i = 0; i < QN_LEN(words); i++) {
        if (is_word(token, words[i].word)) {
            node->kind = QN_N_CONST;
            node->value = words[i].value;
            return node;
        }
    }
    for (size_t i = 0; i < QN_LEN(beyond); i++) {
        if (is_word(token, beyond[i]) && qn_next_is(p, "(")) {
            point_at(p, token);
            qn_raise_status(p->run, QUERN_ERR_UNSUPPORTED, "the function '%s' is not supported", beyond[i]);
            return NULL;
        }
    }
    p->uses |= is_word(token, "varargs")  ? 1u
               : is_word(token, "kwargs") ? 2u
               : is_word(token, "caller") ? 4u
                                          : 0;
    node->name = qn_intern(p, token->s);
    return node->name ? node : NULL;
}

/* "a" "b" is one string. */
static struct qn_node *parse_string(struct qn_parser *p)
{
    struct qn_node *node = qn_node_new(p, QN_N_CONST, p->token);
    if (!node)
        return NULL;
    node->value = qn_str(p->token->s);
    if (p->token[1].kind != QN_T_STRING) {
        p->token++;
        return node;
    }
    struct qn_builder b = {.run = p->run};
    for (; p->token->kind == QN_T_STRING; p->token++)
        if (!qn_put_text(&b, p->token->s))
            return NULL;
    node->value = qn_str(qn_builder_text(&b));
    return node->value.s ? node : NULL;
}

static struct qn_node *parse_list(struct qn_parser *p)
{
    struct qn_node *node = qn_node_new(p, QN_N_LIST, p->token++), **end = NULL;
    while (node && !qn_skip(p, "]")) {
        if (node->list && !qn_expect(p, ","))
            return NULL;
        if (qn_skip(p, "]"))
            break;
        struct qn_node *one = qn_parse_expression(p);
        if (!one)
            return NULL;
        qn_append(&node->list, &end, one);
    }
    return node;
}

static struct qn_node *parse_dict(struct qn_parser *p)
{
    struct qn_node *node = qn_node_new(p, QN_N_DICT, p->token++), **end = NULL;
    while (node && !qn_skip(p, "}")) {
        if (node->list && !qn_expect(p, ","))
            return NULL;
        if (qn_skip(p, "}"))
            break;
        struct qn_node *pair = qn_node_new(p, QN_N_PAIR, p->token);
        if (!pair || !(pair->a = qn_parse_expression(p)) || !qn_expect(p, ":") ||
            !(pair->b = qn_parse_expression(p)))
            return NULL;
        qn_append(&node->list, &end, pair);
    }
    return node;
}

static struct qn_node *parse_primary(struct qn_parser *p)
{
    if (p->token->kind == QN_T_NAME)
        return parse_name(p);
    if (p->token->kind == QN_T_STRING)
        return parse_string(p);
    if (p->token->kind == QN_T_INT || p->token->kind == QN_T_FLOAT) {
        struct qn_node *node = qn_node_new(p, QN_N_CONST, p->token);
        if (node)
            node->value = p->token++->number;
        return node;
    }
    struct qn_node *node = NULL;
    if (!qn_next_is(p, "(") && !qn_next_is(p, "[") && !qn_next_is(p, "{")) {
        qn_unexpected(p, "an expression");
        return NULL;
    }
    if (!qn_nest(p))
        return NULL;
    if (qn_next_is(p, "[")) {
        node = parse_list(p);
    } else if (qn_next_is(p, "{")) {
        node = parse_dict(p);
    } else {
        p->token++;
        if (qn_next_is(p, ")"))
            node = qn_node_new(p, QN_N_TUPLE, p->token);
        else
            node = qn_parse_tuple(p, true, NULL);
        if (node && !qn_expect(p, ")"))
            return NULL;
    }
    p->level--;
    return node;
}

/* ---- what follows an atom ---- */

static struct qn_node *parse_arg(struct qn_parser *p)
{
    struct qn_node *arg = qn_node_new(p, QN_N_ARG, p->token);
    if (!arg)
        return NULL;
    if (qn_skip(p, "*"))
        arg->op = '*';
    else if (qn_skip(p, "**"))
        arg->op = 'P';
    else if (p->token->kind == QN_T_NAME && is_op(&p->token[1], "=")) {
        arg->name = qn_expect_name(p);
        p->token++;
        if (!arg->name)
            return NULL;
    }
    arg->a = qn_parse_expression(p);
    return arg->a ? arg : NULL;
}

/* (a, b, c=d, *e, **f) */
static bool parse_args(struct qn_parser *p, struct qn_node **list)
{
    struct qn_node **end = NULL;
    bool named = false, spread = false, spread_named = false;
    if (!qn_nest(p) || !qn_expect(p, "("))
        return false;
    while (!qn_skip(p, ")")) {
        if (*list && !qn_expect(p, ","))
            return false;
        if (*list && qn_skip(p, ")"))
            break;
        const struct qn_token *at = p->token;
        struct qn_node *arg = parse_arg(p);
        if (!arg)
            return false;
        bool fits = arg->op == '*'   ? !spread && !spread_named
                    : arg->op == 'P' ? !spread_named
                    : arg->name      ? !spread_named
                                     : !named && !spread && !spread_named;
        if (!fits) {
            point_at(p, at);
            return qn_raise(p->run, "an argument of this kind cannot stand here");
        }
        named |= arg->name != NULL;
        spread |= arg->op == '*';
        spread_named |= arg->op == 'P';
        qn_append(list, &end, arg);
    }
    p->level--;
    return true;
}

static struct qn_node *parse_call(struct qn_parser *p, struct qn_node *callee)
{
    struct qn_node *node = qn_node_new(p, QN_N_CALL, p->token);
    if (!node || !parse_args(p, &node->list))
        return NULL;
    node->line = callee->line;
    node->column = callee->column;
    node->a = callee;
    return node;
}

static struct qn_node *parse_attr(struct qn_parser *p, struct qn_node *object)
{
    const struct qn_token *token = ++p->token;
    struct qn_node *node = qn_node_new(p, QN_N_ATTR, token);
    if (!node)
        return NULL;
    node->a = object;
    if (token->kind == QN_T_INT) {
        node->kind = QN_N_ITEM;
        node->b = qn_node_new(p, QN_N_CONST, token);
        if (!node->b)
            return NULL;
        node->b->value = p->token++->number;
        return node;
    }
    node->name = qn_expect_name(p);
    return node->name ? node : NULL;
}

/* One of the things between [ and ]; a slice has node->a NULL yet. */
static struct qn_node *parse_subscript(struct qn_parser *p)
{
    struct qn_node *parts[3] = {NULL};
    const struct qn_token *start = p->token;
    int n = 0;
    for (;;) {
        if (!qn_next_is(p, ":") && !qn_next_is(p, "]") && !qn_next_is(p, ",")) {
            parts[n] = qn_parse_expression(p);
            if (!parts[n])
                return NULL;
            if (n == 0 && !qn_next_is(p, ":"))
                return parts[0];
        } else if (n == 0 && !qn_next_is(p, ":")) {
            qn_unexpected(p, "an expression");
            return NULL;
        }
        if (n == 2 || !qn_skip(p, ":"))
            break;
        n++;
    }
    struct qn_node *slice = qn_node_new(p, QN_N_SLICE, start);
    if (slice) {
        slice->b = parts[0];
        slice->c = parts[1];
        slice->d = parts[2];
    }
    return slice;
}

static struct qn_node *parse_item(struct qn_parser *p, struct qn_node *object)
{
    struct qn_node *node = qn_node_new(p, QN_N_ITEM, p->token);
    if (!node || !qn_nest(p))
        return NULL;
    p->token++;
    struct qn_node *subscript = parse_subscript(p);
    if (!subscript)
        return NULL;
    if (qn_next_is(p, ",")) { /* a tuple */
        struct qn_node *tuple = qn_node_new(p, QN_N_TUPLE, p->token), **end = NULL;
        if (!tuple)
            return NULL;
        qn_append(&tuple->list, &end, subscript);
        while (qn_skip(p, ",")) {
            struct qn_node *more = parse_subscript(p);
            if (!more)
                return NULL;
            qn_append(&tuple->list, &end, more);
        }
        subscript = tuple;
    }
    p->level--;
    if (!qn_expect(p, "]"))
        return NULL;
    if (subscript->kind == QN_N_SLICE && !subscript->a) {
        subscript->a = object;
        return subscript;
    }
    node->a = object;
    node->b = subscript;
    return node;
}

static struct qn_node *parse_postfix(struct qn_parser *p, struct qn_node *node)
{
    while (node && p->token->kind == QN_T_OPERATOR) {
        if (qn_next_is(p, "."))
            node = parse_attr(p, node);
        else if (qn_next_is(p, "["))
            node = parse_item(p, node);
        else if (qn_next_is(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* one.two, as no filter or test is called, but might be. */
static const struct qn_text *parse_dotted(struct qn_parser *p)
{
    const struct qn_text *name = qn_expect_name(p);
    while (name && qn_skip(p, ".")) {
        struct qn_builder b = {.run = p->run};
        const struct qn_text *more = qn_expect_name(p);
        if (!more || !qn_put_text(&b, name) || !qn_put_word(&b, ".") || !qn_put_text(&b, more))
            return NULL;
        name = qn_builder_text(&b);
    }
    return name;
}

/* The function of a filter or test. One that nobody knows is noted: it may be one that is never reached. */
static bool resolve(struct qn_parser *p, struct qn_node *node, bool filter)
{
    bool beyond;
    node->function = filter ? qn_filter_find(node->name, &beyond) : qn_test_find(node->name, &beyond);
    if (beyond) {
        p->run->line = node->line;
        p->run->column = node->column;
        return qn_raise_status(p->run, QUERN_ERR_UNSUPPORTED, "the %s '%.*s' is not supported",
                               filter ? "filter" : "test", (int)node->name->len, node->name->data);
    }
    if (!node->function && !p->unknown && p->in_branch == 0)
        p->unknown = node;
    return true;
}

struct qn_node *qn_parse_filters(struct qn_parser *p, struct qn_node *inner, bool inline_name)
{
    while (inline_name || qn_skip(p, "|")) {
        struct qn_node *node = qn_node_new(p, QN_N_FILTER, p->token);
        inline_name = false;
        if (!node || !(node->name = parse_dotted(p)))
            return NULL;
        node->a = inner;
        if ((qn_next_is(p, "(") && !parse_args(p, &node->list)) || !resolve(p, node, true))
            return NULL;
        inner = node;
    }
    return inner;
}

/* a is test, a is not test(b), a is test b */
static struct qn_node *parse_test(struct qn_parser *p, struct qn_node *value)
{
    const struct qn_token *at = p->token++;
    bool negated = qn_skip_word(p, "not");
    struct qn_node *node = qn_node_new(p, QN_N_TEST, p->token);
    if (!node || !(node->name = parse_dotted(p)))
        return NULL;
    node->a = value;
    const struct qn_token *next = p->token;
    bool begins = next->kind == QN_T_NAME || next->kind == QN_T_STRING || next->kind == QN_T_INT ||
                  next->kind == QN_T_FLOAT || qn_next_is(p, "[") || qn_next_is(p, "{");
    if (qn_next_is(p, "(")) {
        if (!parse_args(p, &node->list))
            return NULL;
    } else if (begins && !is_word(next, "else") && !is_word(next, "or") && !is_word(next, "and")) {
        if (is_word(next, "is")) {
            qn_unexpected(p, "no second 'is'");
            return NULL;
        }
        struct qn_node *arg = qn_node_new(p, QN_N_ARG, next);
        if (!arg || !(arg->a = parse_primary(p)) || !(arg->a = parse_postfix(p, arg->a)))
            return NULL;
        node->list = arg;
    }
    if (!resolve(p, node, false))
        return NULL;
    if (!negated)
        return node;
    struct qn_node *inverse = qn_node_new(p, QN_N_NOT, at);
    if (inverse)
        inverse->a = node;
    return inverse;
}

static struct qn_node *parse_unary(struct qn_parser *p, bool filters)
{
    struct qn_node *node;
    if (qn_next_is(p, "-") || qn_next_is(p, "+")) {
        if (!qn_nest(p))
            return NULL;
        node = qn_node_new(p, QN_N_UNARY, p->token);
        if (!node)
            return NULL;
        node->op = qn_next_is(p, "-") ? QN_OP_SUB : QN_OP_ADD;
        p->token++;
        node->a = parse_unary(p, false);
        p->level--;
        if (!node->a)
            return NULL;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    while (node && filters) {
        if (qn_next_is(p, "|"))
            node = qn_parse_filters(p, node, false);
        else if (qn_next_word(p, "is"))
            node = parse_test(p, node);
        else if (qn_next_is(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* ---- binary operators ---- */

/* From loose to tight; all bind to the left. */
static const struct {
    char text[3];
    uint8_t level, op;
} binary[] = {
    {"+", 1, QN_OP_ADD},       {"-", 1, QN_OP_SUB}, {"*", 3, QN_OP_MUL},  {"/", 3, QN_OP_DIV},
    {"//", 3, QN_OP_FLOORDIV}, {"%", 3, QN_OP_MOD}, {"**", 4, QN_OP_POW},
};
enum { LEVEL_SUM = 1, LEVEL_CONCAT = 2, LEVEL_POWER = 4 };

static struct qn_node *parse_binary(struct qn_parser *p, unsigned level);

static struct qn_node *parse_concat(struct qn_parser *p)
{
    const struct qn_token *at = p->token;
    struct qn_node *first = parse_binary(p, LEVEL_CONCAT + 1), **end = NULL;
    if (!first || !qn_next_is(p, "~"))
        return first;
    struct qn_node *node = qn_node_new(p, QN_N_CONCAT, at);
    if (!node)
        return NULL;
    qn_append(&node->list, &end, first);
    while (qn_skip(p, "~")) {
        struct qn_node *more = parse_binary(p, LEVEL_CONCAT + 1);
        if (!more)
            return NULL;
        qn_append(&node->list, &end, more);
    }
    return node;
}

static struct qn_node *parse_binary(struct qn_parser *p, unsigned level)
{
    if (level == LEVEL_CONCAT)
        return parse_concat(p);
    if (level > LEVEL_POWER)
        return parse_unary(p, true);
    struct qn_node *left = parse_binary(p, level + 1);
    while (left) {
        size_t i = 0;
        while (i < QN_LEN(binary) && !(binary[i].level == level && qn_next_is(p, binary[i].text)))
            i++;
        if (i == QN_LEN(binary))
            break;
        struct qn_node *node = qn_node_new(p, QN_N_BINARY, p->token++);
        if (!node || !(node->b = parse_binary(p, level + 1)))
            return NULL;
        node->op = binary[i].op;
        node->a = left;
        left = node;
    }
    return left;
}

static bool next_comparison(struct qn_parser *p, uint32_t *op)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < QN_LEN(signs); i++) {
        if (qn_skip(p, signs[i])) {
            *op = QN_OP_EQ + (uint32_t)i;
            return true;
        }
    }
    *op = QN_OP_IN;
    if (qn_skip_word(p, "in"))
        return true;
    *op = QN_OP_NOT_IN;
    if (qn_next_word(p, "not") && is_word(&p->token[1], "in")) {
        p->token += 2;
        return true;
    }
    return false;
}

static struct qn_node *parse_compare(struct qn_parser *p)
{
    const struct qn_token *at = p->token;
    struct qn_node *first = parse_binary(p, LEVEL_SUM), *node = NULL, **end = NULL;
    uint32_t op;
    while (first && next_comparison(p, &op)) {
        struct qn_node *operand = qn_node_new(p, QN_N_OPERAND, at);
        if (!node) {
            node = qn_node_new(p, QN_N_COMPARE, at);
            if (node)
                node->a = first;
        }
        if (!node || !operand || !(operand->a = parse_binary(p, LEVEL_SUM)))
            return NULL;
        operand->op = op;
        qn_append(&node->list, &end, operand);
    }
    return node ? node : first;
}

static struct qn_node *parse_not(struct qn_parser *p)
{
    if (!qn_next_word(p, "not"))
        return parse_compare(p);
    if (!qn_nest(p))
        return NULL;
    struct qn_node *node = qn_node_new(p, QN_N_NOT, p->token++);
    if (!node || !(node->a = parse_not(p)))
        return NULL;
    p->level--;
    return node;
}

/* a or b and c; a chain is one node. */
static struct qn_node *parse_logic(struct qn_parser *p, bool is_or)
{
    const struct qn_token *at = p->token;
    struct qn_node *first = is_or ? parse_logic(p, false) : parse_not(p), **end = NULL, *node = NULL;
    while (first && qn_skip_word(p, is_or ? "or" : "and")) {
        if (!node) {
            node = qn_node_new(p, is_or ? QN_N_OR : QN_N_AND, at);
            if (!node)
                return NULL;
            qn_append(&node->list, &end, first);
        }
        struct qn_node *more = is_or ? parse_logic(p, false) : parse_not(p);
        if (!more)
            return NULL;
        qn_append(&node->list, &end, more);
    }
    return node ? node : first;
}

static struct qn_node *parse_conditional(struct qn_parser *p)
{
    const struct qn_node *unknown = p->unknown;
    struct qn_node *node = parse_logic(p, true);
    while (node && qn_next_word(p, "if")) {
        struct qn_node *cond = qn_node_new(p, QN_N_COND, p->token++);
        if (!cond || !(cond->b = parse_logic(p, true)))
            return NULL;
        cond->a = node;
        if (qn_skip_word(p, "else")) {
            if (!qn_nest(p) || !(cond->c = parse_conditional(p)))
                return NULL;
            p->level--;
        }
        node = cond;
        p->unknown = unknown; /* no part of it need be reached */
    }
    return node;
}

struct qn_node *qn_parse_expression(struct qn_parser *p)
{
    return parse_conditional(p);
}

static bool ends_tuple(const struct qn_parser *p, const char *stop)
{
    return p->token->kind == QN_T_OUTPUT_END || p->token->kind == QN_T_BLOCK_END || qn_next_is(p, ")") ||
           (stop && qn_next_word(p, stop));
}

struct qn_node *qn_parse_tuple(struct qn_parser *p, bool conditional, const char *stop)
{
    const struct qn_token *at = p->token;
    struct qn_node *first = NULL, *tuple = NULL, **end = NULL;
    for (;;) {
        if (first && !tuple) {
            tuple = qn_node_new(p, QN_N_TUPLE, at);
            if (!tuple)
                return NULL;
            qn_append(&tuple->list, &end, first);
        }
        if (first && ends_tuple(p, stop))
            return tuple;
        struct qn_node *one = conditional ? parse_conditional(p) : parse_logic(p, true);
        if (!one)
            return NULL;
        if (tuple)
            qn_append(&tuple->list, &end, one);
        else
            first = one;
        if (!qn_skip(p, ","))
            return tuple ? tuple : first;
    }
}
