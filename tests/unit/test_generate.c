/* Files, vocabularies and the loop of a generation through the public API, on a tiny model. */
#include <quern/chat.h>
#include <quern/quern.h>

#include "base/host.h"
#include "support/golden.h"
#include "test.h"

#ifndef _WIN32
#include <fcntl.h>
#include <unistd.h>
#endif

static struct quern_error err;

static const char *model_path(void)
{
    static char path[1024];
    qn_golden_path(path, sizeof path, "models", "llama.gguf");
    return path;
}

static void check(enum quern_status status)
{
    if (status != QUERN_OK)
        fail_msg("%s", err.text);
}

/* ---- memory that is counted, and that can run out ---- */

struct counted {
    long left; /* allocations that succeed; -1: all */
    long total, live;
    bool cancelled;
};

static void *counted_alloc(void *user, size_t size, size_t align)
{
    struct counted *c = user;
    if (c->left == 0)
        return NULL;
    c->left -= c->left > 0;
    c->total++;
    c->live++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void counted_free(void *user, void *ptr)
{
    struct counted *c = user;
    c->live--;
    free(ptr);
}

static bool counted_cancel(void *user)
{
    return ((struct counted *)user)->cancelled;
}

static struct quern_callbacks counting(struct counted *c)
{
    return (struct quern_callbacks){
        .user = c, .alloc = counted_alloc, .free = counted_free, .cancel = counted_cancel};
}

/* ---- files ---- */

static void test_file(void **state)
{
    (void)state;
    struct quern_file *file;
    check(quern_file_open(&file, quern_source_path(model_path()), NULL, &err));
    struct quern_file_info info;
    quern_file_info(file, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.type, "F32");
    uint64_t n_weights = 0;
    struct quern_tensor_info tensor;
    size_t n = 0;
    for (; quern_file_tensor(file, n, &tensor); n++)
        n_weights += tensor.dim[0] * tensor.dim[1] * tensor.dim[2] * tensor.dim[3];
    assert_int_equal(n, quern_file_tensor_count(file));
    assert_int_equal(n_weights, info.n_weights);

    char key[64], value[64], type[16];
    uint64_t count;
    assert_true(quern_file_meta(file, 0, key, sizeof key, value, sizeof value, type, sizeof type, &count));
    assert_string_equal(key, "general.architecture");
    assert_string_equal(value, "llama");
    assert_string_equal(type, "string");
    assert_int_equal(count, 1);
    assert_true(quern_file_meta(file, 0, key, 8, value, 3, type, 1, &count));
    assert_string_equal(key, "general");
    assert_string_equal(value, "ll");
    assert_string_equal(type, "");
    assert_true(quern_file_meta(file, 0, NULL, 0, NULL, 0, NULL, 0, &count));
    assert_false(quern_file_meta(file, quern_file_meta_count(file), key, sizeof key, value, sizeof value,
                                 type, sizeof type, &count));
    quern_file_destroy(&file);
    assert_null(file);
    quern_file_destroy(&file);
}

static void test_sources(void **state)
{
    (void)state;
    struct quern_file *file;
    struct quern_vocab *vocab;
    assert_int_equal(quern_file_open(&file, quern_source_path("not/here.gguf"), NULL, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "not/here.gguf"));
    assert_null(file);
    assert_int_equal(quern_file_open(&file, (struct quern_source){.fd = -1}, NULL, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_vocab_open(&vocab, quern_source_path("not/here.gguf"), NULL, &err),
                     QUERN_ERR_FILE);
    assert_null(vocab);
#ifndef _WIN32
    int fd = open(model_path(), O_RDONLY);
    assert_true(fd >= 0);
    struct quern_source source = {.fd = fd};
    check(quern_file_open(&file, source, NULL, &err));
    check(quern_vocab_open(&vocab, source, NULL, &err));
    close(fd); /* it was the caller's */
    struct quern_tensor_info tensor;
    assert_true(quern_file_tensor(file, 0, &tensor));
    assert_true(quern_vocab_size(vocab) > 0);
    quern_file_destroy(&file);
    quern_vocab_destroy(&vocab);
#endif
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    for (int vocabulary = 0; vocabulary < 2; vocabulary++) {
        bool done = false;
        for (long left = 0; !done; left++) {
            struct counted c = {.left = left};
            struct quern_callbacks cb = counting(&c);
            struct quern_file *file = NULL;
            struct quern_vocab *vocab = NULL;
            enum quern_status status =
                vocabulary ? quern_vocab_open(&vocab, quern_source_path(model_path()),
                                              quern_vocab_params(.callbacks = &cb), &err)
                           : quern_file_open(&file, quern_source_path(model_path()), &cb, &err);
            done = status == QUERN_OK;
            assert_true(done || (status == QUERN_ERR_MEMORY && !file && !vocab));
            quern_file_destroy(&file);
            quern_vocab_destroy(&vocab);
            assert_int_equal(c.live, 0);
            assert_true(!done || left > 0);
        }
    }
}

/* ---- vocabularies ---- */

/* A rendered prompt becomes what its text becomes, save for control tokens that its messages wrote out. */
static void test_chat_tokenize(void **state)
{
    (void)state;
    struct quern_vocab *vocab;
    check(quern_vocab_open(&vocab, quern_source_path(model_path()), NULL, &err));
    int32_t bos = quern_vocab_bos(vocab), eos = quern_vocab_eos(vocab);
    size_t n_bos, n_eos, n, expected;
    const char *bos_text = quern_vocab_token(vocab, bos, &n_bos),
               *eos_text = quern_vocab_token(vocab, eos, &n_eos);
    assert_true(quern_vocab_is_control(vocab, eos));
    assert_false(quern_vocab_is_control(vocab, -1));
    assert_null(quern_vocab_token(vocab, -1, &n));
    assert_null(quern_vocab_token(vocab, (int32_t)quern_vocab_size(vocab), &n));

    char text[128];
    snprintf(text, sizeof text, "Hello%.*s there%.*s", (int)n_eos, eos_text, (int)n_eos, eos_text);
    int32_t ids[128], plain[128];
    struct quern_chat_text chat = {.data = text, .length = strlen(text)};
    check(quern_tokenize(vocab, text, strlen(text), QUERN_ADD_SPECIAL | QUERN_PARSE_SPECIAL, plain, 128,
                         &expected, &err));
    check(quern_chat_tokenize(vocab, &chat, ids, 128, &n, &err));
    assert_int_equal(n, expected);
    assert_memory_equal(ids, plain, n * sizeof *ids);
    assert_int_equal(ids[n - 1], eos);
    check(quern_chat_tokenize(vocab, &chat, NULL, 0, &n, &err));
    assert_int_equal(n, expected);

    struct quern_range message = {0, 5 + n_eos + 6};
    chat.input = &message;
    chat.n_input = 1;
    check(quern_chat_tokenize(vocab, &chat, ids, 128, &n, &err));
    int ends = 0;
    for (size_t i = 0; i < n; i++)
        ends += ids[i] == eos;
    assert_int_equal(ends, 1);
    assert_int_equal(ids[n - 1], eos);

    snprintf(text, sizeof text, "%.*sHello", (int)n_bos, bos_text);
    chat = (struct quern_chat_text){.data = text, .length = strlen(text)};
    check(quern_chat_tokenize(vocab, &chat, ids, 128, &n, &err));
    assert_true(n > 1 && ids[0] == bos && ids[1] != bos);

    const struct quern_range wrong[][2] = {{{3, 2}, {4, 5}}, {{0, 4}, {3, 5}}, {{0, 1}, {2, sizeof text}}};
    for (size_t i = 0; i < 3; i++) {
        chat.input = wrong[i];
        chat.n_input = 2;
        assert_int_equal(quern_chat_tokenize(vocab, &chat, ids, 128, &n, &err), QUERN_ERR_PARAM);
        assert_non_null(strstr(err.text, i == 0 ? "span 0" : "span 1"));
    }
    quern_vocab_destroy(&vocab);
}

static void test_tokenize(void **state)
{
    (void)state;
    struct quern_vocab *vocab;
    check(quern_vocab_open(&vocab, quern_source_path(model_path()), NULL, &err));
    static const char text[] = "caf\xC3\xA9 \xF0\x9F\x98\x80!";
    int32_t ids[64], few[2] = {-7, -7};
    size_t n, again;
    check(quern_tokenize(vocab, text, strlen(text), 0, ids, 64, &n, &err));
    assert_true(n > 2 && n <= 64);
    check(quern_tokenize(vocab, text, strlen(text), 0, few, 1, &again, &err));
    assert_int_equal(again, n);
    assert_int_equal(few[0], ids[0]);
    assert_int_equal(few[1], -7);
    check(quern_tokenize(vocab, text, strlen(text), 0, NULL, 0, &again, &err));
    assert_int_equal(again, n);
    assert_int_equal(quern_tokenize(vocab, text, 1, 64, ids, 64, &n, &err), QUERN_ERR_PARAM);

    /* every piece is whole characters, all of them are the text */
    check(quern_tokenize(vocab, text, strlen(text), 0, ids, 64, &n, &err));
    struct quern_decoder *decoder;
    check(quern_decoder_create(&decoder, vocab, false, &err));
    for (int round = 0; round < 2; round++) {
        char whole[64];
        size_t length = 0, piece_length;
        const char *piece;
        for (size_t i = 0; i < n; i++) {
            check(quern_decoder_put(decoder, ids[i], &piece, &piece_length, &err));
            assert_true(piece_length == 0 || ((unsigned char)piece[0] & 0xC0) != 0x80);
            memcpy(whole + length, piece, piece_length);
            length += piece_length;
        }
        quern_decoder_flush(decoder, &piece, &piece_length);
        assert_int_equal(piece_length, 0);
        assert_int_equal(length, strlen(text));
        assert_memory_equal(whole, text, length);
        quern_decoder_reset(decoder);
    }
    const char *piece;
    size_t length;
    assert_int_equal(quern_decoder_put(decoder, -1, &piece, &length, &err), QUERN_ERR_PARAM);
    assert_int_equal(quern_decoder_put(decoder, INT32_MAX, &piece, &length, &err), QUERN_ERR_PARAM);
    assert_false(quern_vocab_is_end(vocab, -1));
    assert_false(quern_vocab_is_end(vocab, INT32_MAX));
    assert_true(quern_vocab_is_end(vocab, quern_vocab_eos(vocab)));
    quern_decoder_destroy(&decoder);
    assert_null(decoder);
    quern_vocab_destroy(&vocab);
}

/* ---- generations ---- */

struct setting {
    struct quern_model *model;
    struct quern_session *session;
    struct quern_sampler *sampler;
    struct counted memory;
    struct quern_callbacks callbacks;
    size_t n_texts; /* of cancel_third */
};

static void open_all(struct setting *s, uint32_t n_ctx)
{
    s->n_texts = 0;
    s->memory = (struct counted){.left = -1};
    s->callbacks = counting(&s->memory);
    check(quern_model_open(&s->model, quern_source_path(model_path()),
                           quern_model_params(.callbacks = &s->callbacks, .device = "cpu", .n_threads = 1),
                           &err));
    check(quern_session_create(&s->session, s->model, quern_session_params(.n_ctx = n_ctx), &err));
    check(quern_sampler_create(&s->sampler, quern_vocab_size(quern_model_vocab(s->model)),
                               quern_sampler_params(.temperature = 0), NULL, &err));
}

static void close_all(struct setting *s)
{
    quern_sampler_destroy(&s->sampler);
    quern_session_destroy(&s->session);
    quern_model_destroy(&s->model);
    assert_int_equal(s->memory.live, 0);
}

static void start_prompt(struct setting *s)
{
    int32_t ids[64];
    size_t n;
    check(
        quern_tokenize(quern_model_vocab(s->model), "Hello there", 11, QUERN_ADD_SPECIAL, ids, 64, &n, &err));
    check(quern_session_prompt(s->session, 0, ids, n, NULL, &err));
}

struct heard {
    char text[4096];
    size_t length, calls, stop_at; /* stop_at: call that says stop; 0: none */
    int32_t last;
};

static bool on_text(void *user, const char *text, size_t length, int32_t token)
{
    struct heard *h = user;
    assert_true(h->length + length < sizeof h->text);
    memcpy(h->text + h->length, text, length);
    h->length += length;
    h->text[h->length] = '\0';
    h->last = token;
    h->calls++;
    return h->calls != h->stop_at;
}

static struct quern_generate_result generate(struct setting *s, struct heard *h,
                                             struct quern_generate_params p)
{
    struct quern_generate_result result;
    p.sampler = s->sampler;
    p.user = h;
    p.on_text = on_text;
    check(quern_generate(s->session, &p, &result, &err));
    return result;
}

static void test_continues(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 128);
    start_prompt(&s);
    size_t begin = quern_session_length(s.session, 0);
    struct heard whole = {0}, parts = {0};
    struct quern_generate_result r =
        generate(&s, &whole, (struct quern_generate_params){.max_tokens = 30, .ignore_end = true});
    assert_int_equal(r.reason, QUERN_STOP_LENGTH);
    assert_int_equal(r.n_tokens, 30);
    assert_true(whole.calls == 30 || (whole.calls == 31 && whole.last == -1));
    assert_int_equal(quern_session_length(s.session, 0), begin + 30);
    int32_t tokens[30];
    memcpy(tokens, quern_session_tokens(s.session, 0) + begin, sizeof tokens);

    start_prompt(&s);
    for (int i = 0; i < 3; i++) {
        r = generate(&s, &parts, (struct quern_generate_params){.max_tokens = 10, .ignore_end = true});
        assert_int_equal(r.n_tokens, 10);
    }
    assert_memory_equal(tokens, quern_session_tokens(s.session, 0) + begin, sizeof tokens);
    assert_int_equal(parts.length, whole.length);
    assert_memory_equal(parts.text, whole.text, whole.length);

    struct heard none = {0};
    r = generate(&s, &none, (struct quern_generate_params){.max_tokens = 0});
    assert_int_equal(r.reason, QUERN_STOP_LENGTH);
    assert_int_equal(none.calls, 0);
    close_all(&s);
}

static void test_stops(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 128);
    start_prompt(&s);
    struct heard whole = {0};
    generate(&s, &whole, (struct quern_generate_params){.max_tokens = 30, .ignore_end = true});
    assert_true(whole.length > 20);
    for (size_t at = 0; at + 6 < whole.length; at += 3)
        for (size_t length = 1; length <= 6; length++) {
            char stop[8] = {0};
            memcpy(stop, whole.text + at, length);
            if (strlen(stop) != length)
                continue;
            /* a longer one that never completes, and that may hold text back */
            char longer[24];
            snprintf(longer, sizeof longer, "%s\x01never", stop);
            const char *const stops[] = {longer, stop};
            struct heard h = {0};
            start_prompt(&s);
            struct quern_generate_result r =
                generate(&s, &h,
                         (struct quern_generate_params){
                             .max_tokens = 30, .ignore_end = true, .stop = stops, .n_stop = 2});
            assert_int_equal(r.reason, QUERN_STOP_STRING);
            size_t first = (size_t)(strstr(whole.text, stop) - whole.text);
            assert_int_equal(h.length, first);
            assert_memory_equal(h.text, whole.text, first);
        }

    /* held text comes out at the end when the stop string did not */
    char tail[8] = {0};
    memcpy(tail, whole.text + whole.length - 1, 1);
    char beyond[16];
    snprintf(beyond, sizeof beyond, "%s\x01", tail);
    const char *const stops[] = {beyond};
    struct heard h = {0};
    start_prompt(&s);
    struct quern_generate_result r = generate(
        &s, &h,
        (struct quern_generate_params){.max_tokens = 30, .ignore_end = true, .stop = stops, .n_stop = 1});
    assert_int_equal(r.reason, QUERN_STOP_LENGTH);
    assert_int_equal(h.length, whole.length);
    assert_int_equal(h.last, -1);

    h = (struct heard){.stop_at = 4};
    start_prompt(&s);
    size_t begin = quern_session_length(s.session, 0);
    r = generate(&s, &h, (struct quern_generate_params){.max_tokens = 30, .ignore_end = true});
    assert_int_equal(r.reason, QUERN_STOP_CALLER);
    assert_int_equal(r.n_tokens, 4);
    assert_int_equal(quern_session_length(s.session, 0), begin + 3);
    close_all(&s);
}

static void test_context_and_end(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 16);
    start_prompt(&s);
    size_t begin = quern_session_length(s.session, 0);
    struct heard h = {0};
    struct quern_generate_result r =
        generate(&s, &h, (struct quern_generate_params){.max_tokens = -1, .ignore_end = true});
    assert_int_equal(r.reason, QUERN_STOP_CONTEXT);
    assert_int_equal(quern_session_length(s.session, 0), 16);
    assert_int_equal(r.n_tokens, 16 - begin + 1); /* the last one found no room */

    /* a bias makes the end token certain */
    struct quern_logit_bias bias = {quern_vocab_eos(quern_model_vocab(s.model)), 1000};
    quern_sampler_destroy(&s.sampler);
    check(quern_sampler_create(&s.sampler, quern_vocab_size(quern_model_vocab(s.model)),
                               quern_sampler_params(.temperature = 0, .bias = &bias, .n_bias = 1), NULL,
                               &err));
    h = (struct heard){0};
    start_prompt(&s);
    r = generate(&s, &h, (struct quern_generate_params){.max_tokens = 5});
    assert_int_equal(r.reason, QUERN_STOP_END);
    assert_int_equal(r.n_tokens, 0);
    assert_int_equal(h.length, 0);
    r = generate(&s, &h, (struct quern_generate_params){.max_tokens = 2, .ignore_end = true});
    assert_int_equal(r.n_tokens, 2);
    close_all(&s);
}

/* Cancels with the third text. */
static bool cancel_third(void *user, const char *text, size_t length, int32_t token)
{
    struct setting *s = user;
    (void)text, (void)length, (void)token;
    s->memory.cancelled = ++s->n_texts == 3;
    return true;
}

/* A generation can be cancelled between tokens, and what was passed on stays. */
static void test_cancelled(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 64);
    start_prompt(&s);
    size_t begin = quern_session_length(s.session, 0);
    struct quern_generate_result result;
    assert_int_equal(quern_generate(s.session,
                                    quern_generate_params(.sampler = s.sampler, .ignore_end = true,
                                                          .user = &s, .on_text = cancel_third),
                                    &result, &err),
                     QUERN_ERR_CANCELLED);
    assert_int_equal(result.n_tokens, 3);
    assert_int_equal(quern_session_length(s.session, 0), begin + 3);
    s.memory.cancelled = false;
    struct heard h = {0};
    result = generate(&s, &h, (struct quern_generate_params){.max_tokens = 2, .ignore_end = true});
    assert_int_equal(result.n_tokens, 2);
    close_all(&s);
}

static void test_refused(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 64);
    struct quern_generate_result result;
    assert_int_equal(quern_generate(s.session, quern_generate_params(.sampler = s.sampler), &result, &err),
                     QUERN_ERR_PARAM); /* nothing evaluated */
    start_prompt(&s);
    assert_int_equal(quern_generate(s.session, quern_generate_params(), NULL, &err), QUERN_ERR_PARAM);
    const char *const empty[] = {"x", ""};
    assert_int_equal(quern_generate(s.session,
                                    quern_generate_params(.sampler = s.sampler, .stop = empty, .n_stop = 2),
                                    NULL, &err),
                     QUERN_ERR_PARAM);
    close_all(&s);
}

/* The number of allocations does not depend on the number of tokens. */
static void test_no_allocation_per_token(void **state)
{
    (void)state;
    struct setting s;
    open_all(&s, 256);
    const char *const stops[] = {"\x01\x02\x03"};
    long made[2];
    for (int i = 0; i < 2; i++) {
        start_prompt(&s);
        struct heard h = {0};
        if (i == 0) /* pages of the context and plans of the buckets are made once */
            generate(&s, &h, (struct quern_generate_params){.max_tokens = 200, .ignore_end = true});
        start_prompt(&s);
        h = (struct heard){0};
        long before = s.memory.total;
        generate(&s, &h,
                 (struct quern_generate_params){
                     .max_tokens = i == 0 ? 2 : 100, .ignore_end = true, .stop = stops, .n_stop = 1});
        made[i] = s.memory.total - before;
    }
    assert_int_equal(made[0], made[1]);

    /* and where there is none, the generation says so */
    start_prompt(&s);
    s.memory.left = 0;
    assert_int_equal(
        quern_generate(s.session, quern_generate_params(.sampler = s.sampler, .max_tokens = 3), NULL, &err),
        QUERN_ERR_MEMORY);
    s.memory.left = -1;
    close_all(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_chat_tokenize),
        cmocka_unit_test(test_continues),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_context_and_end),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_allocation_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
