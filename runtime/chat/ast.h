/* A compiled template: the tree, and the stages that make it. */
#ifndef QN_CHAT_AST_H
#define QN_CHAT_AST_H

#include "chat/value.h"

/* ---- tokens (lexer.c) ---- */

enum qn_tok {
    QN_T_END,
    QN_T_DATA,       /* text between the tags */
    QN_T_OUTPUT,     /* {{ */
    QN_T_OUTPUT_END, /* }} */
    QN_T_BLOCK,      /* {% */
    QN_T_BLOCK_END,  /* %} */
    QN_T_NAME,
    QN_T_STRING,
    QN_T_INT,
    QN_T_FLOAT,
    QN_T_OPERATOR, /* `op` holds its characters */
};

struct qn_token {
    enum qn_tok kind;
    char op[2];              /* "+", "//", ... padded with NUL */
    uint32_t line, column;   /* from 1, in code points */
    const struct qn_text *s; /* name, string or data */
    struct qn_val number;
};

/* Start from zero; `at` is given back with qn_free on run->arena.cb, also after a failure. */
struct qn_tokens {
    struct qn_token *at;
    size_t n, cap;
};

/* Cuts a template into tokens, the last of which is QN_T_END. Their texts lie in the arena. */
bool qn_lex(struct qn_run *run, const char *source, size_t len, struct qn_tokens *tokens);

/* ---- the tree (parser.c, expr.c) ---- */

enum qn_node_kind {
    /* expressions */
    QN_N_CONST,   /* value */
    QN_N_NAME,    /* name */
    QN_N_LIST,    /* list: elements */
    QN_N_TUPLE,   /* list */
    QN_N_DICT,    /* list: a pair node for each (a: key, b: value) */
    QN_N_PAIR,    /* a, b */
    QN_N_UNARY,   /* op, a */
    QN_N_BINARY,  /* op, a, b */
    QN_N_AND,     /* list */
    QN_N_OR,      /* list */
    QN_N_NOT,     /* a */
    QN_N_COMPARE, /* a, list: one node for each operand (QN_N_OPERAND) */
    QN_N_OPERAND, /* op, a */
    QN_N_CONCAT,  /* list */
    QN_N_COND,    /* a if b else c (NULL: undefined) */
    QN_N_ATTR,    /* a.name */
    QN_N_ITEM,    /* a[b] */
    QN_N_SLICE,   /* a[b:c:d], each may be NULL */
    QN_N_CALL,    /* a(list) */
    QN_N_FILTER,  /* a|filter(list); a NULL: what the block wrote */
    QN_N_TEST,    /* a is test(list) */
    QN_N_ARG,     /* a; name where given by name; op '*' or 'P' (**) where spread */
    /* statements */
    QN_N_DATA,  /* value */
    QN_N_PRINT, /* a */
    QN_N_IF,    /* a, list: body, c: the elif behind it, more: else */
    QN_N_FOR,   /* target a, in b, if c; list: body, more: else; op 'r': recursive */
    QN_N_BREAK,
    QN_N_CONTINUE,
    QN_N_SET,          /* target a = b */
    QN_N_SET_BLOCK,    /* target a, filters b (the innermost has a NULL) or NULL, list: body */
    QN_N_MACRO,        /* name, more: parameters, list: body; op 1: uses varargs, 2: kwargs, 4: caller */
    QN_N_PARAM,        /* name, default a or NULL */
    QN_N_CALL_BLOCK,   /* call a, b: the macro that is `caller` */
    QN_N_FILTER_BLOCK, /* filters b, list: body */
    QN_N_SCOPE,        /* list: body; more: set nodes that go before (with) */
    QN_N_NS_ATTR,      /* target name.key: name, value is the attribute */
};

enum qn_op {
    QN_OP_ADD,
    QN_OP_SUB,
    QN_OP_MUL,
    QN_OP_DIV,
    QN_OP_FLOORDIV,
    QN_OP_MOD,
    QN_OP_POW,
    QN_OP_EQ,
    QN_OP_NE,
    QN_OP_LT,
    QN_OP_LE,
    QN_OP_GT,
    QN_OP_GE,
    QN_OP_IN,
    QN_OP_NOT_IN,
};

struct qn_function;

struct qn_node {
    enum qn_node_kind kind;
    uint32_t op;
    uint32_t line, column;
    struct qn_node *next; /* in the list that this node is part of */
    struct qn_node *a, *b, *c, *d;
    struct qn_node *list, *more;
    const struct qn_text *name;         /* names are interned: equal ones are the same pointer */
    const struct qn_function *function; /* of filters and tests; NULL: unknown, fails when it is reached */
    struct qn_val value;
};

struct qn_parser {
    struct qn_run *run;
    const struct qn_token *token;  /* the next one */
    struct qn_dict *names;         /* interned */
    unsigned level;                /* of nesting */
    unsigned in_loop, in_branch;   /* for break; for what need not exist */
    const struct qn_node *unknown; /* the first filter or test that nobody knows and that may be reached */
    uint32_t uses;                 /* which of varargs, kwargs, caller the macro mentions */
};

/* Parses all statements. */
bool qn_parse(struct qn_parser *p, struct qn_node **body);

/* expr.c; the words both parsers share */
struct qn_node *qn_node_new(struct qn_parser *p, enum qn_node_kind kind, const struct qn_token *at);
const struct qn_text *qn_intern(struct qn_parser *p, const struct qn_text *name);
bool qn_nest(struct qn_parser *p); /* a level deeper; the caller takes it back with p->level-- */
/* Fails at the next token. Return false or NULL. */
bool qn_unexpected(struct qn_parser *p, const char *expected);
bool qn_next_is(const struct qn_parser *p, const char *op);     /* an operator, or */
bool qn_next_word(const struct qn_parser *p, const char *name); /* a name */
bool qn_skip(struct qn_parser *p, const char *op);
bool qn_skip_word(struct qn_parser *p, const char *name);
bool qn_expect(struct qn_parser *p, const char *op);
const struct qn_text *qn_expect_name(struct qn_parser *p);

struct qn_node *qn_parse_expression(struct qn_parser *p);
/* An expression, or several with commas; `conditional`: a if b else c is one; ends before `stop` too. */
struct qn_node *qn_parse_tuple(struct qn_parser *p, bool conditional, const char *stop);
/* |filter|filter; `inner` NULL: the filters of a block. `inline_name`: the first name has no bar. */
struct qn_node *qn_parse_filters(struct qn_parser *p, struct qn_node *inner, bool inline_name);
/* Places a node at the end of a list. */
void qn_append(struct qn_node **list, struct qn_node ***end, struct qn_node *node);

#endif
