/* Cases in words. */
#include "conformance/cases.h"

#include "formats/formats.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
    char *at;
    size_t size, n;
};

static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (text->n < text->size)
        text->n += (size_t)vsnprintf(text->at + text->n, text->size - text->n, format, args);
    va_end(args);
}

static void say_format(struct text *text, enum quern_format format)
{
    say(text, " ");
    for (const char *c = quern_format_name(format); *c; c++)
        say(text, "%c", tolower((unsigned char)*c));
}

static void say_flag(struct text *text, bool is, const char *word)
{
    if (is)
        say(text, " %s", word);
}

static void say_shape(struct text *text, const struct qn_op_case *at)
{
    const struct quern_moe_route_attr *route = &at->route.attr;
    switch (at->op) {
    case QUERN_OP_EMBED:
        say_format(text, at->format);
        say(text, " d %u vocabulary %u", at->embed.d, at->embed.n_vocab);
        break;
    case QUERN_OP_NORM:
        say(text, " %s d %u group %u", at->norm.kind ? "layer" : "rms", at->norm.d, at->norm.group);
        say_flag(text, at->norm.weight, "weight");
        say_flag(text, at->norm.bias, "bias");
        say_flag(text, at->norm.addend, "addend");
        break;
    case QUERN_OP_MATMUL:
        say_format(text, at->format);
        say(text, " k %u n %u", at->matmul.k, at->matmul.n[0]);
        for (int i = 1; i < 3 && at->matmul.n[i]; i++)
            say(text, "+%u", at->matmul.n[i]);
        say(text, at->matmul.act ? " act %u" : "", at->matmul.act);
        say_flag(text, at->matmul.glu, "glu");
        say_flag(text, at->matmul.bias, "bias");
        say_flag(text, at->matmul.residual, "residual");
        say_flag(text, at->matmul.softcap > 0, "softcap");
        break;
    case QUERN_OP_ROPE:
        say(text, " %s head %u dims %u heads %u from %u", at->rope.attr.kind ? "halves" : "adjacent",
            at->rope.attr.head_dim, at->rope.attr.n_dims, at->rope.n_head, at->rope.first);
        say_flag(text, at->rope.attr.ext_factor != 0, "yarn");
        say_flag(text, at->rope.factors, "factors");
        break;
    case QUERN_OP_KV_STORE:
    case QUERN_OP_ATTENTION:
        say_format(text, at->format);
        say_format(text, at->v_format);
        say(text, " heads %u/%u of %u/%u pages of %u window %u held", at->kv.n_head, at->kv.layer.n_head_kv,
            at->kv.layer.head_dim_k, at->kv.layer.head_dim_v, at->kv.page_tokens, at->kv.layer.window);
        for (uint32_t s = 0; s < at->kv.n_seqs; s++)
            say(text, " %u", at->kv.held[s]);
        say_flag(text, at->kv.softcap > 0, "softcap");
        say_flag(text, at->kv.sinks, "sinks");
        break;
    case QUERN_OP_MOE_ROUTE:
        say(text, " %u of %u gating %u normalise %u", route->n_used, route->n_expert, route->gating,
            route->normalise);
        say_flag(text, at->route.bias, "bias");
        break;
    case QUERN_OP_MOE_MATMUL:
        say_format(text, at->format);
        say(text, " k %u n %u experts %u of %u spread %u", at->moe.k, at->moe.n, at->moe.n_used,
            at->moe.n_expert, at->moe.spread);
        say_flag(text, at->moe.glu, "glu");
        say_flag(text, at->moe.bias, "bias");
        say_flag(text, at->moe.per_slot, "per-slot");
        break;
    case QUERN_OP_MOE_COMBINE:
        say(text, " n %u experts %u", at->combine.n, at->combine.n_used);
        break;
    default:
        say(text, " n %u", at->rows.d); /* the first number of the others */
    }
}

void qn_op_print(const struct qn_op_case *at, char *buffer, size_t size)
{
    static const char *const fills[QN_FILL_END] = {"", "zero", "tiny", "huge", "extreme", "outlier"};
    struct text text = {buffer, size, 0};
    say(&text, "%s", qn_op_name(at->op));
    say_shape(&text, at);
    say(&text, " tokens %u", at->tokens);
    say_flag(&text, at->fill != QN_FILL_RANDOM, fills[at->fill]);
    say_flag(&text, at->outputs, "outputs");
    say_flag(&text, at->in_place, "in place");
    say_flag(&text, at->exact, "exact");
}
