/* Evaluation: scopes, calls, and the tables of what is built in. */
#ifndef QN_CHAT_EVAL_H
#define QN_CHAT_EVAL_H

#include "chat/ast.h"

/* Names that mean something to the interpreter, interned. */
struct qn_known_names {
    const struct qn_text *loop, *caller, *varargs, *kwargs;
};

struct quern_chat_template {
    struct quern_callbacks cb;
    struct qn_arena arena;
    struct qn_node *body;
    struct qn_known_names names;
};

/* Variables of the template itself; those outside are found through `parent`. */
struct qn_var {
    const struct qn_text *name; /* interned */
    struct qn_val value;
};

struct qn_scope {
    struct qn_scope *parent;
    struct qn_var *at;
    size_t n, cap;
};

enum qn_flow {
    QN_FLOW_NEXT,
    QN_FLOW_BREAK,
    QN_FLOW_CONTINUE,
};

struct qn_macro {
    const struct qn_node *node;
    struct qn_scope *scope; /* where it was defined */
};

struct qn_loop {
    const struct qn_node *node;
    struct qn_scope *scope;      /* around the loop */
    const struct qn_seq *source; /* what is looped over */
    size_t n_source;             /* how many of these have been asked the loop's condition */
    struct qn_seq *items;        /* those that met it; the others are asked when they are needed */
    size_t index;
    unsigned depth;          /* from 1 */
    struct qn_val *previous; /* arguments of the last call of loop.changed; NULL: none yet */
    size_t n_previous;
};

/* A method together with its object. */
struct qn_method_of {
    const struct qn_function *function;
    struct qn_val self;
};

enum { QN_PARAMS_MAX = 6 };

/* Arguments of a call. */
struct qn_args {
    struct qn_val *at; /* by place */
    size_t n, cap;
    struct qn_entry *named; /* key: the name */
    size_t n_named, cap_named;
    struct qn_val room[QN_PARAMS_MAX]; /* where `at` begins */
};

/* Something built in: a function, filter, test or method. */
struct qn_function {
    const char *name;
    /* `self`: what a filter, test or method is applied to. `arg`: one for each parameter, MISSING where it
     * was not given; all of them where there are no parameters, see `args`. */
    bool (*run)(struct qn_run *run, struct qn_val self, const struct qn_val *arg, const struct qn_args *args,
                struct qn_val *out);
    const char *params; /* "old new count": names, in order; NULL: any arguments */
    uint8_t n_required;
    bool by_place; /* arguments cannot be named */
};

/* NULL: there is none; *beyond: Jinja has it, and this interpreter does not. */
const struct qn_function *qn_filter_find(const struct qn_text *name, bool *beyond);
const struct qn_function *qn_test_find(const struct qn_text *name, bool *beyond);
const struct qn_function *qn_global_find(const struct qn_text *name);
/* The method of a value, NULL: it has none of this name. */
const struct qn_function *qn_method_find(struct qn_val self, const struct qn_text *name);
/* A row of a table by its name. */
const struct qn_function *qn_function_find(const struct qn_function *table, size_t n,
                                           const struct qn_text *name);

/* The table's function with its arguments in order. */
bool qn_apply(struct qn_run *run, const struct qn_function *function, struct qn_val self,
              const struct qn_args *args, struct qn_val *out);
/* callee(args) */
bool qn_call(struct qn_run *run, struct qn_val callee, const struct qn_args *args, struct qn_val *out);

/* ---- expressions (eval.c) ---- */

bool qn_eval(struct qn_run *run, const struct qn_node *node, struct qn_val *out);
/* Arguments of a call, filter or test. */
bool qn_eval_args(struct qn_run *run, const struct qn_node *list, struct qn_args *args);
void qn_args_init(struct qn_args *args);
bool qn_args_add(struct qn_run *run, struct qn_args *args, struct qn_val v);
bool qn_args_add_named(struct qn_run *run, struct qn_args *args, struct qn_val name, struct qn_val v);
/* Puts the position into messages. */
static inline void qn_point(struct qn_run *run, const struct qn_node *node)
{
    run->line = node->line;
    run->column = node->column;
}
/* `ahead`: what a block wrote, for the innermost filter. */
bool qn_eval_filters(struct qn_run *run, const struct qn_node *node, struct qn_val ahead, struct qn_val *out);

/* a op b */
bool qn_binary(struct qn_run *run, enum qn_op op, struct qn_val a, struct qn_val b, struct qn_val *out);
bool qn_compare(struct qn_run *run, enum qn_op op, struct qn_val a, struct qn_val b, bool *out);
/* Python's % on a string (format.c), and the method format. */
bool qn_format_percent(struct qn_run *run, const struct qn_text *format, struct qn_val values,
                       struct qn_val *out);
bool qn_format_braces(struct qn_run *run, const struct qn_text *format, const struct qn_args *args,
                      struct qn_val *out);

/* a[b] and a.b, as Jinja falls back from one to the other; UNDEFINED where there is nothing. */
bool qn_get_item(struct qn_run *run, struct qn_val object, struct qn_val key, struct qn_val *out);
bool qn_get_attr(struct qn_run *run, struct qn_val object, const struct qn_text *name, struct qn_val *out);
/* Only an attribute (method); MISSING where there is none. */
bool qn_get_only_attr(struct qn_run *run, struct qn_val object, const struct qn_text *name,
                      struct qn_val *out);
/* a[from:to:step], NONE where left out. */
bool qn_get_slice(struct qn_run *run, struct qn_val object, const struct qn_val bound[3], struct qn_val *out);
/* "a.b.0": attribute or item, from step to step. */
bool qn_get_path(struct qn_run *run, struct qn_val object, struct qn_val path, struct qn_val *out);

/* ---- statements (exec.c) ---- */

bool qn_exec(struct qn_run *run, const struct qn_node *body);
bool qn_call_macro(struct qn_run *run, const struct qn_macro *macro, const struct qn_args *args,
                   struct qn_val *out);
/* loop(items) of a recursive loop. */
bool qn_call_loop(struct qn_run *run, const struct qn_loop *loop, const struct qn_args *args,
                  struct qn_val *out);
/* loop.name; MISSING: it has none of this name. */
bool qn_loop_attr(struct qn_run *run, struct qn_val loop, const struct qn_text *name, struct qn_val *out);
bool qn_set_var(struct qn_run *run, const struct qn_text *name, struct qn_val value);

/* ---- tables, one a file ---- */

struct qn_table {
    const struct qn_function *at;
    size_t n;
};
extern const struct qn_table qn_text_filters, qn_list_filters, qn_value_filters;

/* ---- helpers of the tables ---- */

/* What struct qn_function calls. */
#define QN_BUILT_IN(name)                                                              \
    static bool name(struct qn_run *run, struct qn_val self, const struct qn_val *arg, \
                     const struct qn_args *args, struct qn_val *out)

/* The builder's text becomes the value. */
bool qn_finish(struct qn_builder *b, struct qn_val *out);
/* An integer, or `missing` where it was not given. */
bool qn_arg_int(struct qn_run *run, struct qn_val arg, int64_t missing, int64_t *out);
bool qn_arg_text(struct qn_run *run, struct qn_val arg, const struct qn_text **out);
bool qn_need_defined(struct qn_run *run, struct qn_val v);

/* ---- strings (strings.c) ---- */

enum qn_case {
    QN_LOWER,
    QN_FOLD, /* for comparing */
    QN_UPPER,
    QN_CAPITALIZE,
    QN_TITLE, /* words are runs of letters */
    QN_SWAP,
};
bool qn_text_case(struct qn_run *run, const struct qn_text *text, enum qn_case how, struct qn_val *out);
/* Whether there are letters, and all of them are upper (lower) case. */
bool qn_text_is_case(const struct qn_text *text, bool upper);
enum qn_side {
    QN_LEFT = 1,
    QN_RIGHT = 2,
};
/* Without the characters of `chars` (NULL: white space) at the sides. */
bool qn_text_strip(struct qn_run *run, const struct qn_text *text, const struct qn_text *chars,
                   unsigned sides, struct qn_val *out);
/* The first `count` places; negative: all. */
bool qn_text_replace(struct qn_run *run, const struct qn_text *text, const struct qn_text *from,
                     const struct qn_text *to, int64_t count, struct qn_val *out);
/* &, <, >, ' and " as HTML; the result is markup. */
bool qn_text_escape(struct qn_run *run, const struct qn_text *text, struct qn_val *out);
/* Parts at `separator` (NULL: white space), at most `most` cuts (negative: any number), from the right. */
bool qn_text_split(struct qn_run *run, const struct qn_text *text, const struct qn_text *separator,
                   int64_t most, bool from_right, struct qn_val *out);
/* The parts between line ends. */
bool qn_text_lines(struct qn_run *run, const struct qn_text *text, bool keep_ends, struct qn_seq **out);
/* str.join */
bool qn_text_join(struct qn_run *run, const struct qn_text *glue, const struct qn_seq *parts,
                  struct qn_val *out);
/* Filled up to `width` characters; sides: where the text is not. */
bool qn_text_fill(struct qn_run *run, const struct qn_text *text, int64_t width, const struct qn_text *fill,
                  unsigned sides, struct qn_val *out);

#endif
