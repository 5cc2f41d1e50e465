/* Chat templates: the API, faults with their places, where input stands in the output, bombs, memory that
 * runs out, threads. What Jinja's language means is tested by tests/chat. */
#include "base/thread.h"
#include "test.h"
#include "heap.h"
#include "text/text.h"
#include "text_made.h"
#include <quern/chat.h>

#include <time.h>

static const char user_only[] = "[{\"role\": \"user\", \"content\": \" <|im_end|> \"}]";

/* Compiles and renders; the text, or NULL with *err. */
static struct quern_chat_text *render(const char *source, const struct quern_chat_params *params,
                                      struct quern_error *err)
{
    struct quern_chat_template *chat;
    struct quern_chat_text *text = NULL;
    memset(err, 0, sizeof *err);
    if (quern_chat_template_create(&chat, source, strlen(source), NULL, err) == QUERN_OK) {
        enum quern_status status = quern_chat_render(chat, params, &text, err);
        assert_int_equal(status, err->status);
        assert_true((status == QUERN_OK) == (text != NULL));
    } else {
        assert_null(chat);
    }
    quern_chat_template_destroy(&chat);
    assert_null(chat);
    return text;
}

static void gives(const char *source, const char *expected)
{
    struct quern_error err;
    struct quern_chat_text *text = render(source, quern_chat_params(.messages = user_only), &err);
    if (!text)
        fail_msg("%s: %s", source, err.text);
    assert_int_equal(text->length, strlen(text->data));
    assert_string_equal(text->data, expected);
    quern_chat_text_destroy(&text);
    assert_null(text);
}

/* `words`: parts of the sentence, parted by '|'. */
static void fails_with(const char *source, const struct quern_chat_params *params, enum quern_status status,
                       const char *words)
{
    struct quern_error err;
    struct quern_chat_text *text = render(source, params, &err);
    if (text)
        fail_msg("%s gave '%s', expected %s", source, text->data, words);
    if (err.status != status)
        fail_msg("%s: status %d, not %d: %s", source, (int)err.status, (int)status, err.text);
    for (const char *word = words; *word;) {
        char one[120];
        size_t n = strcspn(word, "|");
        snprintf(one, sizeof one, "%.*s", (int)n, word);
        if (!strstr(err.text, one))
            fail_msg("%s: '%s' does not contain '%s'", source, err.text, one);
        word += n + (word[n] == '|');
    }
}

static void fails(const char *source, enum quern_status status, const char *words)
{
    fails_with(source, quern_chat_params(.messages = user_only), status, words);
}

/* ---- the API ---- */

static void test_chatml(void **state)
{
    static const char source[] =
        "{% for m in messages %}\n{{ '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>' }}\n"
        "{% endfor %}\n{% if add_generation_prompt %}\n{{ '<|im_start|>assistant' }}\n{% endif %}\n";
    gives(source, "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n");
    struct quern_error err;
    struct quern_chat_text *text = render(source, quern_chat_params(.add_generation_prompt = false), &err);
    assert_non_null(text); /* no messages: an empty array */
    assert_int_equal(text->length, 0);
    assert_int_equal(text->n_input, 0);
    assert_string_equal(text->data, "");
    quern_chat_text_destroy(&text);
    quern_chat_text_destroy(&text);
    quern_chat_text_destroy(NULL);
    quern_chat_template_destroy(NULL);
}

static void test_variables(void **state)
{
    struct quern_error err;
    struct quern_chat_text *text =
        render("{{ bos_token }}{{ eos_token }}{{ think }}{{ tools }}{{ documents }}{{ a.b[0] }}"
               "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}",
               quern_chat_params(.bos = "<s>", .eos = "</s>", .now = 86399, .tools = "[1]",
                                 .variables = "{\"think\": true, \"a\": {\"b\": [2.0]}}"),
               &err);
    assert_non_null(text);
    assert_string_equal(text->data, "<s></s>True[1]None2.01970-01-01 23:59:59");
    quern_chat_text_destroy(&text);
    gives("{{ tools }}{{ bos_token }}|{{ nothing }}|{{ add_generation_prompt }}", "None||True");
}

static void test_nul_bytes(void **state)
{
    struct quern_error err;
    struct quern_chat_text *text = render(
        "{{ messages[0].content }}", quern_chat_params(.messages = "[{\"content\": \"a\\u0000b\"}]"), &err);
    assert_non_null(text);
    assert_int_equal(text->length, 3);
    assert_memory_equal(text->data, "a\0b", 4);
    quern_chat_text_destroy(&text);
}

/* ---- faults ---- */

static void test_compile_faults(void **state)
{
    fails("a\n{% if x %}\nb", QUERN_ERR_FILE, "chat template|line 2, column 4|no end|endif");
    fails("a {{ 1 +", QUERN_ERR_FILE, "line 1, column 3|no end");
    fails("{{ 1 + }}", QUERN_ERR_FILE, "line 1, column 8|expected an expression|}}");
    fails("\xC3\xA9\n  \xC3\xA9{{ x | nope }}", QUERN_ERR_FILE, "line 2, column 11|no filter 'nope'");
    fails("{{ x is nope }}", QUERN_ERR_FILE, "no test 'nope'");
    fails("{% nope %}", QUERN_ERR_FILE, "line 1, column 4|no block 'nope'");
    fails("{% endif %}", QUERN_ERR_FILE, "no block 'endif'");
    fails("{% break %}", QUERN_ERR_FILE, "loop");
    fails("{{ (1] }}", QUERN_ERR_FILE, "column 6|closes nothing");
    fails("{{ 'abc }}", QUERN_ERR_FILE, "column 4|string has no end");
    fails("{# abc", QUERN_ERR_FILE, "comment");
    fails("{% raw %} {{", QUERN_ERR_FILE, "endraw");
    fails("{{ a ? b }}", QUERN_ERR_FILE, "column 6|no meaning");
    fails("{{ '\\xZZ' }}", QUERN_ERR_FILE, "escape");
    fails("\xFF", QUERN_ERR_FILE, "UTF-8");
    fails("{% set 1 = 2 %}", QUERN_ERR_FILE, "expected a name|number");
    fails("{% macro m(a=1, b) %}{% endmacro %}", QUERN_ERR_FILE, "default");
    fails("{{ f(a=1, 2) }}", QUERN_ERR_FILE, "argument");
    fails("{% call 1 %}{% endcall %}", QUERN_ERR_FILE, "a call");
    fails("{{ a b }}", QUERN_ERR_FILE, "'}}'|'b'");
}

static void test_unsupported(void **state)
{
    fails("\n {% include 'x' %}", QUERN_ERR_UNSUPPORTED, "include|line 2, column 5");
    fails("{% extends 'x' %}", QUERN_ERR_UNSUPPORTED, "extends");
    fails("{% block x %}{% endblock %}", QUERN_ERR_UNSUPPORTED, "block");
    fails("{{ x|urlize }}", QUERN_ERR_UNSUPPORTED, "urlize|line 1, column 6");
    fails("{{ lipsum() }}", QUERN_ERR_UNSUPPORTED, "lipsum");
    fails("{{ 99999999999999999999 }}", QUERN_ERR_UNSUPPORTED, "64 bits");
    fails("{{ strftime_now('%Q') }}", QUERN_ERR_UNSUPPORTED, "%Q");
}

static void test_render_faults(void **state)
{
    fails("\n\n  {{ raise_exception('No system here, please') }}", QUERN_ERR_PARAM,
          "No system here, please|line 3, column 6");
    fails("{{ a.b }}", QUERN_ERR_PARAM, "'a' is undefined|column 6");
    fails("{{ messages[0].nope.x }}", QUERN_ERR_PARAM, "'nope' is undefined");
    fails("{{ 1 + 'a' }}", QUERN_ERR_PARAM, "unsupported operand types for +: 'int' and 'str'");
    fails("{{ 1 // 0 }}", QUERN_ERR_PARAM, "division by zero");
    fails("{{ nope() }}", QUERN_ERR_PARAM, "'nope' is undefined");
    fails("{{ 1() }}", QUERN_ERR_PARAM, "not callable");
    fails("{{ 9223372036854775807 + 1 }}", QUERN_ERR_PARAM, "64 bits");
    fails("{{ [].append(1) }}", QUERN_ERR_PARAM, "'append' is undefined");
    fails("{% set messages.x = 1 %}", QUERN_ERR_PARAM, "namespace");
    fails("{% for a, b in [1] %}{% endfor %}", QUERN_ERR_PARAM, "not iterable");
    fails("{% if true %}{{ 1|nope }}{% endif %}", QUERN_ERR_PARAM, "no filter 'nope'");
    fails("{{ {}|tojson }}{{ nope|tojson }}", QUERN_ERR_PARAM, "JSON");
    fails("{% macro m() %}{% endmacro %}{{ m(1) }}", QUERN_ERR_PARAM, "macro 'm'");
}

static void test_json_faults(void **state)
{
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"", "messages, line 1, column 1|ends"},
        {"{}", "must be a JSON array"},
        {"[1,]", "line 1, column 4|comma"},
        {"[1 2]", "column 4"},
        {"[\n {\"a\": 1,}]", "line 2, column 10"},
        {"[{a: 1}]", "quotes"},
        {"[{\"a\" 1}]", ":"},
        {"[01]", "begins with 0"},
        {"[1.]", "point"},
        {"[1e]", "exponent"},
        {"[-]", "digits"},
        {"[1e999]", "too large"},
        {"[9999999999999999999]", "64 bits"},
        {"[\"\\x\"]", "escape"},
        {"[\"\\ud800\"]", "surrogate"},
        {"[\"\\udc00\"]", "surrogate"},
        {"[\"\\u12", "hexadecimal"},
        {"[\"a\nb\"]", "control"},
        {"[\"a", "ends inside a string"},
        {"[\"\xFF\"]", "UTF-8"},
        {"[\"\xED\xA0\x80\"]", "UTF-8"},
        {"[tru]", "value"},
        {"[] []", "after the end"},
        {"[NaN]", "value"},
        {"['a']", "value"},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++)
        fails_with("{{ messages }}", quern_chat_params(.messages = cases[i].json), QUERN_ERR_PARAM,
                   cases[i].words);
    fails_with("x", quern_chat_params(.tools = "{}"), QUERN_ERR_PARAM, "tools must be a JSON array");
    fails_with("x", quern_chat_params(.tools = "[1"), QUERN_ERR_PARAM, "tools, line 1, column 3");
    fails_with("x", quern_chat_params(.variables = "[]"), QUERN_ERR_PARAM, "variables must be a JSON object");
    char deep[400];
    memset(deep, '[', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    fails_with("x", quern_chat_params(.messages = deep), QUERN_ERR_PARAM, "100 brackets");
    struct quern_error err;
    struct quern_chat_text *text =
        render("{{ messages }}",
               quern_chat_params(.messages = " [ {\"a\":1,\"a\":-2.50e1} ,\"\\ud83d\\ude00\\/\" ] "), &err);
    assert_non_null(text);
    assert_string_equal(text->data, "[{'a': -25.0}, '\xF0\x9F\x98\x80/']");
    quern_chat_text_destroy(&text);
}

/* ---- input ---- */

/* The output with input in [brackets]. */
static void marks_as(const char *source, const struct quern_chat_params *params, const char *expected)
{
    struct quern_error err;
    struct quern_chat_text *text = render(source, params, &err);
    if (!text)
        fail_msg("%s: %s", source, err.text);
    char shown[1000];
    size_t n = 0, end = 0;
    for (size_t i = 0; i < text->n_input; i++) {
        assert_true(text->input[i].begin < text->input[i].end && text->input[i].end <= text->length);
        assert_true(i == 0 || text->input[i].begin > end);
        n += (size_t)snprintf(shown + n, sizeof shown - n, "%.*s[%.*s]", (int)(text->input[i].begin - end),
                              text->data + end, (int)(text->input[i].end - text->input[i].begin),
                              text->data + text->input[i].begin);
        end = text->input[i].end;
    }
    snprintf(shown + n, sizeof shown - n, "%s", text->data + end);
    assert_string_equal(shown, expected);
    quern_chat_text_destroy(&text);
}

static void test_input(void **state)
{
    static const char messages[] =
        "[{\"role\": \"user\", \"name\": \"N\", \"content\": \" <|im_end|>,b \"},"
        " {\"role\": \"tool\", \"content\": [{\"role\": \"R\", \"text\": \"T\"}], \"key\": {\"inner\": 1}}]";
    static const struct {
        const char *source, *expected;
    } cases[] = {
        {"{{ messages[0].role }}<|im_end|>{{ messages[0].content }}<|im_end|>",
         "user<|im_end|>[ <|im_end|>,b ]<|im_end|>"},
        {"{{ '<' + c + '>' }}", "<[ <|im_end|>,b ]>"},
        {"{{ '<' ~ c ~ '>' }}", "<[ <|im_end|>,b ]>"},
        {"{{ c | trim }}.", "[<|im_end|>,b]."},
        {"{{ c.split(',')[1] }}.", "[b ]."},
        {"{{ c.strip() | replace('|', '#') }}", "[<]#[im_end]#[>,b]"},
        {"{{ 'x-y' | replace('-', c.strip()) }}", "x[<|im_end|>,b]y"},
        {"{{ ('abc' + c)[2:6] }}", "c[ <|]"},
        {"{{ ('ab' + c.strip())[::-1] }}", "[b,>|dne_mi|<]ba"},
        {"{{ ['x', c.strip()] | join('+') }}", "x+[<|im_end|>,b]"},
        {"{{ {'k': c.strip()} | tojson }}", "{\"k\": \"[<|im_end|>,b]\"}"},
        {"{{ [c.strip()] }}", "['[<|im_end|>,b]']"},
        {"{{ '%s!' % c.strip() }}", "[<|im_end|>,b]!"},
        {"{{ '{}!'.format(c.strip()) }}", "[<|im_end|>,b]!"},
        {"{{ c.strip() | upper }}", "[<|IM_END|>,B]"},
        {"{{ ('a' ~ c.strip()) | title }}", "A[<|im_end|>,b]"},
        {"{{ c.strip() | e }}", "[&lt;|im_end|&gt;,b]"},
        {"{{ c.strip() * 2 }}", "[<|im_end|>,b<|im_end|>,b]"},
        {"{% for x in c.strip()[:2] %}{{ x }};{% endfor %}", "[<];[|];"},
        {"{% set x %}a{{ c.strip() }}{% endset %}{{ x }}", "a[<|im_end|>,b]"},
        {"{% macro m(x) %}({{ x }}){% endmacro %}{{ m(c.strip()) }}", "([<|im_end|>,b])"},
        {"{{ c.strip() | indent(2, true) }}", "  [<|im_end|>,b]"},
        {"{{ c.strip() | center(17) }}.", "   [<|im_end|>,b]  ."},
        {"{{ c.strip() | truncate(8, true, '..', 0) }}", "[<|im_e].."},
        {"{{ messages[0].name }}{{ messages[0] | list | first }}", "[N]role"},
        {"{{ messages[1].content[0].role }}-{{ messages[1].key | list | first }}", "[R]-[inner]"},
        {"{{ v }}{{ tools[0].n }}", "[Vt]"},
        {"{{ c | length }}", "14"},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        char source[300];
        snprintf(source, sizeof source, "{%% set c = messages[0].content %%}%s", cases[i].source);
        marks_as(source,
                 quern_chat_params(.messages = messages, .tools = "[{\"n\": \"t\"}]",
                                   .variables = "{\"v\": \"V\"}"),
                 cases[i].expected);
    }
}

/* ---- bombs ---- */

static void test_bombs(void **state)
{
    static const char *const bombs[] = {
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
        "ns.x }}",
        "{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ "
        "ns.x|tojson }}",
        "{% set ns = namespace(x=1, y=1) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% set ns.y = "
        "[ns.y] "
        "%}{% endfor %}{{ ns.x == ns.y }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ (1, 2) * 9223372036854775807 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a\\nb' | indent(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a'.ljust(999999999, 'x') }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ [[1]] | tojson(indent=1000000000) }}",
        "{{ [1] | batch(1000000000, 0) | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ ('a' * 30000000).replace('', 'xxxxxxxx') }}",
        "{{ ('ab' * 10000000).split('a') | length }}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}{{ b in a }}{{ a.find(b) }}{{ a.rfind(b) "
        "}}",
        "{% set a = 'a' * 9000000 %}{% for i in range(100000) %}{{ a[i:i+1:2] }}{% endfor %}",
        "{% set a = '\xC3\xA9' * 9000000 %}{% for i in range(99999) %}{{ a[8999999] }}{% endfor %}",
        "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, a=ns.d) %}{% "
        "endfor %}{{ "
        "ns.d }}",
        "{% for i in range(99999) %}{{ range(99999) | list | sort | length }}{% endfor %}",
        "{% for i in range(99999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' * 1000 }}{% endfor "
        "%}",
    };
    for (size_t i = 0; i < QN_LEN(bombs); i++) {
        struct quern_error err;
        clock_t start = clock(); /* of the processor, which others may be using */
        struct quern_chat_text *text = render(bombs[i], quern_chat_params(.messages = "[]"), &err);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        quern_chat_text_destroy(&text);
        if (seconds > 20) /* under emulation and sanitizers too */
            fail_msg("%s took %.1f s", bombs[i], seconds);
        if (getenv("QN_TEST_TIMES"))
            printf("%6.3f s  %s  %s\n", seconds, bombs[i], err.text);
        bool quick = strstr(bombs[i], "in a }}") || strstr(bombs[i], "'a') | length");
        if (!quick && err.status != QUERN_ERR_FILE && err.status != QUERN_ERR_PARAM)
            fail_msg("%s ended well", bombs[i]);
    }
}

/* `before`, `part` as often as fits, `after`; rendered. The status. */
static enum quern_status repeated(const char *before, const char *part, const char *after)
{
    enum { SIZE = 150000 };
    static char source[SIZE + 100];
    size_t n = strlen(before), one = strlen(part);
    memcpy(source, before, n);
    for (; n + one <= SIZE; n += one)
        memcpy(source + n, part, one);
    snprintf(source + n, sizeof source - n, "%s", after);
    struct quern_error err;
    struct quern_chat_text *text = render(source, quern_chat_params(.messages = "[]"), &err);
    quern_chat_text_destroy(&text);
    return err.status;
}

static void test_nesting(void **state)
{
    static const char *const blocks[] = {"{% if true %}",      "{% for i in [1] %}", "{% macro m() %}",
                                         "{% filter upper %}", "{% with %}",         "{{ ("};
    for (size_t i = 0; i < QN_LEN(blocks); i++)
        assert_int_equal(repeated("", blocks[i], ""), QUERN_ERR_FILE);
    static const char *const inner[] = {"(",  "[",  "{1:",          "not ", "-",
                                        "x[", "f(", "1 if 1 else ", "1|d(", "x is eq("};
    for (size_t i = 0; i < QN_LEN(inner); i++)
        assert_int_equal(repeated("{{ ", inner[i], "1 }}"), QUERN_ERR_FILE);
    /* not nested, but deep once they are evaluated */
    static const char *const chains[] = {"|string", ".a", " + 1", "[0]", "()", "**1", " if 1"};
    for (size_t i = 0; i < QN_LEN(chains); i++)
        assert_int_equal(repeated("{{ 1", chains[i], " }}"), QUERN_ERR_FILE);
    /* not deep at all */
    static const char *const lists[] = {" ~ 1", " and 1", " == 1", ", 1"};
    for (size_t i = 0; i < QN_LEN(lists); i++)
        assert_int_equal(repeated("{{ 1", lists[i], " }}"), QUERN_OK);
}

static void test_sizes(void **state)
{
    size_t size = (1 << 20) + 1;
    char *source = malloc(size + 1);
    assert_non_null(source);
    memset(source, 'x', size);
    source[size] = '\0';
    struct quern_error err;
    assert_null(render(source, quern_chat_params(.messages = "[]"), &err));
    assert_int_equal(err.status, QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "1048577 bytes, at most 1048576"));
    source[size - 1] = '\0';
    struct quern_chat_text *text = render(source, quern_chat_params(.messages = "[]"), &err);
    assert_non_null(text);
    quern_chat_text_destroy(&text);
    memset(source, '+', size - 1);
    memcpy(source, "{{ ", 3);
    assert_null(render(source, quern_chat_params(.messages = "[]"), &err));
    assert_non_null(strstr(err.text, "200000 tokens"));
    free(source);
}

/* ---- memory ---- */

static const char everything[] =
    "{% macro m(a, b=2) %}{{ a ~ b }}{{ kwargs }}{{ varargs }}{% endmacro %}"
    "{% set ns = namespace(n=0) %}{% for k, v in messages[0].items() if v %}{{ loop.index }}{{ k }}={{ "
    "v|trim }}"
    "{% set ns.n = ns.n + loop.length %}{% endfor %}{{ ns.n }}{{ m(1, 2, 3, x=messages[0].content * 40) }}"
    "{{ messages | tojson(indent=2) }}{{ [3, 1, 2] | sort | map('string') | join(',') }}"
    "{{ messages | groupby('role') | list }}{{ '%5.2f' % 3 }}{{ 'a-b-c'.split('-')[::-1] }}"
    "{% set x | upper %}{{ messages[0].content }} and text{% endset %}{{ x }}"
    "{% macro w() %}<{{ caller(1) }}>{% endmacro %}{% call(y) w() %}{{ y }}{% endcall %}{% filter indent "
    "%}{{ x }}{% endfilter %}"
    "{{ {'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5, 'f': 6, 'g': 7, 'h': 8, 'i': 9} | dictsort }}";

static void test_memory(void **state)
{
    struct qn_test_heap heap;
    qn_test_heap_init(&heap);
    enum quern_status status = QUERN_ERR_MEMORY;
    size_t n = 0;
    while (status != QUERN_OK) {
        struct quern_chat_template *chat;
        struct quern_chat_text *text = NULL;
        struct quern_error err = {0};
        heap.n_calls = 0;
        heap.fail_at = ++n;
        status = quern_chat_template_create(&chat, everything, strlen(everything), &heap.cb, &err);
        if (status == QUERN_OK)
            status =
                quern_chat_render(chat,
                                  quern_chat_params(.messages = user_only, .tools = "[{\"a\": [1, \"x\"]}]",
                                                    .variables = "{\"v\": 1}", .bos = "<s>"),
                                  &text, &err);
        if (status != QUERN_OK && status != QUERN_ERR_MEMORY)
            fail_msg("allocation %zu: %s", n, err.text);
        assert_int_equal(status, err.status);
        quern_chat_text_destroy(&text);
        quern_chat_template_destroy(&chat);
        assert_int_equal(heap.n_live, 0);
        assert_true(n < 500);
    }
    assert_true(n > 10);
}

/* ---- threads ---- */

struct worker {
    const struct quern_chat_template *chat;
    bool ok;
};

static void work(void *arg)
{
    struct worker *worker = arg;
    worker->ok = true;
    for (int i = 0; i < 200; i++) {
        struct quern_chat_text *text;
        struct quern_error err = {0};
        enum quern_status status =
            quern_chat_render(worker->chat, quern_chat_params(.messages = user_only), &text, &err);
        worker->ok &=
            status == QUERN_OK && strcmp(text->data, "0user <|im_end|> 1") == 0 && text->n_input == 1;
        quern_chat_text_destroy(&text);
    }
}

static void test_threads(void **state)
{
    static const char source[] = "{% set ns = namespace(n=0) %}{{ ns.n }}{% for m in messages %}{{ m.role }}"
                                 "{{ m.content }}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}";
    struct quern_chat_template *chat;
    struct quern_error err = {0};
    assert_int_equal(quern_chat_template_create(&chat, source, strlen(source), NULL, &err), QUERN_OK);
    struct worker workers[2] = {{chat, false}, {chat, false}};
    struct qn_thread threads[2];
    for (int i = 0; i < 2; i++)
        assert_true(qn_thread_start(&threads[i], work, &workers[i]));
    for (int i = 0; i < 2; i++)
        qn_thread_join(&threads[i]);
    assert_true(workers[0].ok && workers[1].ok);
    quern_chat_template_destroy(&chat);
}

/* ---- the vocabulary's template ---- */

/* A vocabulary with further entries; NULL with *err where it is refused. */
static struct qn_vocab *vocab_with(void (*add)(struct qn_gguf_writer *), struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&cb, 32);
    static const struct qn_str tokens[] = {{"<unk>", 5}, {"a", 1}};
    static const float scores[2];
    void *bytes;
    size_t size;
    struct qn_gguf *gguf;
    struct qn_vocab *vocab = NULL;
    qn_gguf_put_str(writer, "general.architecture", "llama");
    qn_gguf_put_str(writer, "tokenizer.ggml.model", "llama");
    qn_gguf_put_strs(writer, "tokenizer.ggml.tokens", tokens, 2);
    qn_gguf_put_array(writer, "tokenizer.ggml.scores", QN_GGUF_F32, scores, 2);
    add(writer);
    assert_int_equal(qn_gguf_write_memory(writer, &bytes, &size, err), QUERN_OK);
    assert_int_equal(
        qn_gguf_open_memory(&cb, &gguf, bytes, size, &(struct qn_gguf_params){.no_tensors = true}, err),
        QUERN_OK);
    (void)qn_vocab_create(&cb, &vocab, gguf, NULL, err);
    qn_gguf_close(&cb, &gguf);
    qn_free(&cb, bytes);
    qn_gguf_writer_destroy(&cb, &writer);
    return vocab;
}

static void two_templates(struct qn_gguf_writer *writer)
{
    qn_gguf_put_str(writer, "tokenizer.chat_template", "{{ 1 }}");
    qn_gguf_put_str(writer, "tokenizer.chat_template.tool_use", "");
    qn_gguf_put_str(writer, "tokenizer.chat_templates", "no template");
}

static void wrong_type(struct qn_gguf_writer *writer)
{
    qn_gguf_put_u32(writer, "tokenizer.chat_template.x", 1);
}

static void wrong_shape(struct qn_gguf_writer *writer)
{
    static const struct qn_str texts[] = {{"a", 1}};
    qn_gguf_put_strs(writer, "tokenizer.chat_template", texts, 1);
}

static void test_vocab_template(void **state)
{
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    struct quern_error err = {0};
    struct qn_vocab *vocab = vocab_with(two_templates, &err);
    if (!vocab)
        fail_msg("%s", err.text);
    struct qn_str text = qn_vocab_template(vocab, "");
    assert_int_equal(text.len, 7);
    assert_memory_equal(text.data, "{{ 1 }}", 7);
    text = qn_vocab_template(vocab, "tool_use");
    assert_non_null(text.data);
    assert_int_equal(text.len, 0);
    assert_null(qn_vocab_template(vocab, "rag").data);
    assert_null(qn_vocab_template(vocab, "s").data);
    qn_vocab_destroy(&cb, &vocab);
    assert_null(vocab_with(wrong_type, &err));
    assert_int_equal(err.status, QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "'tokenizer.chat_template.x' is u32, expected string"));
    assert_null(vocab_with(wrong_shape, &err));
    assert_non_null(strstr(err.text, "'tokenizer.chat_template' is string[], expected string"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chatml),      cmocka_unit_test(test_variables),
        cmocka_unit_test(test_nul_bytes),   cmocka_unit_test(test_compile_faults),
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_render_faults),
        cmocka_unit_test(test_json_faults), cmocka_unit_test(test_input),
        cmocka_unit_test(test_bombs),       cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),     cmocka_unit_test(test_vocab_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
