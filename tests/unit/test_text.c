/* Tokenizers: vectors of real vocabularies (when the reference data is here), round trips, hostile input. */
#include "base/clock.h"
#include "test.h"
#include "text/text.h"
#include "text/vocab.h"

#include <dirent.h>

static struct quern_callbacks cb;

/* ---- reference vectors ---- */

static char *read_stream(FILE *f, size_t *size)
{
    size_t cap = 1 << 16, n = 0;
    char *data = malloc(cap + 1);
    for (size_t got = 1; data && got > 0; n += got) {
        if (n == cap) {
            char *more = realloc(data, 2 * cap + 1);
            if (!more)
                break;
            data = more;
            cap *= 2;
        }
        got = fread(data + n, 1, cap - n, f);
    }
    assert_non_null(data);
    data[n] = '\0';
    *size = n;
    return data;
}

static char *read_file(const char *folder, const char *name, size_t *size)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *data = read_stream(f, size);
    fclose(f);
    return data;
}

/* A vocabulary of the reference data, unpacked into memory. */
struct packed {
    char *bytes;
    struct qn_gguf *gguf;
};

static void packed_open(struct packed *packed, const char *folder, const char *name)
{
    char command[1300];
    size_t size;
    snprintf(command, sizeof command, "xz -dc '%s/ggml-vocab-%s.gguf.xz'", folder, name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    packed->bytes = read_stream(pipe, &size);
    if (pclose(pipe) != 0 || size == 0) {
        free(packed->bytes);
        fprintf(stderr, "SKIPPED: cannot unpack with xz: %s\n", command);
        skip();
    }
    struct quern_error err;
    const struct qn_gguf_params params = {.no_tensors = true};
    if (qn_gguf_open_memory(&cb, &packed->gguf, packed->bytes, size, &params, &err) != QUERN_OK)
        fail_msg("%s: %s", name, err.text);
}

static void packed_close(struct packed *packed)
{
    qn_gguf_close(&cb, &packed->gguf);
    free(packed->bytes);
}

static struct qn_vocab *vocab_make(const struct qn_gguf *gguf, const char *pre)
{
    struct quern_error err;
    struct qn_vocab *vocab;
    const struct qn_vocab_params params = {.pre = pre};
    if (qn_vocab_create(&cb, &vocab, gguf, &params, &err) != QUERN_OK)
        fail_msg("%s", err.text);
    return vocab;
}

/* All of the text that the ids stand for. The caller frees it. */
static char *decode_all(const struct qn_vocab *vocab, const struct qn_ids *ids, size_t *len)
{
    size_t cap = 16, n = 0;
    char *text = malloc(cap);
    struct qn_decoder decoder;
    qn_decoder_init(&decoder, vocab, false);
    for (size_t i = 0; i <= ids->n; i++) {
        size_t need;
        while ((need = i < ids->n ? qn_decode(&decoder, ids->id[i], text + n, cap - n)
                                  : qn_decode_flush(&decoder, text + n, cap - n)) > cap - n) {
            cap = 2 * cap + need;
            text = realloc(text, cap);
            assert_non_null(text);
        }
        n += need;
    }
    *len = n;
    return text;
}

static const char separator[] = "\n__ggml_vocab_test__\n";

static int count_wrong(const struct qn_ids *ids, const char *expected, const char *expected_end)
{
    size_t i = 0;
    for (;;) {
        while (expected < expected_end && *expected == ' ')
            expected++;
        if (expected >= expected_end)
            return i != ids->n;
        char *next;
        long id = strtol(expected, &next, 10);
        if (next == expected || i >= ids->n || ids->id[i++] != id)
            return 1;
        expected = next;
    }
}

/* Whether decoding gives the text back: no literal space mark in SPM, and no byte that the vocabulary lacks.
 */
static bool can_express(const struct qn_vocab *vocab, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (vocab->byte_token[(uint8_t)text[i]] < 0 ||
            (vocab->kind == QN_VOCAB_SPM && len - i >= 3 && memcmp(text + i, QN_SPACE_MARK, 3) == 0))
            return false;
    return true;
}

/* Runs each case of `inputs` and compares with its line of `outputs`; counts what fails. */
static int run_cases(const struct qn_vocab *vocab, const char *what, const char *inputs, const char *outputs,
                     unsigned flags, bool round_trip)
{
    int wrong = 0, index = 0;
    for (const char *at = inputs, *line = outputs; at && *at;
         index++) { /* the last separator ends the file */
        const char *end = strstr(at, separator), *line_end = strchr(line, '\n');
        size_t len = end ? (size_t)(end - at) : strlen(at);
        if (!line_end)
            line_end = line + strlen(line);
        struct qn_ids ids = {0};
        struct quern_error err;
        if (qn_encode(&cb, vocab, at, len, flags, &ids, &err) != QUERN_OK)
            fail_msg("%s case %d: %s", what, index, err.text);
        if (count_wrong(&ids, line, line_end)) {
            fprintf(stderr, "%s case %d: '%.*s'\n  expected%.*s\n  got     ", what, index,
                    (int)(len < 200 ? len : 200), at, (int)(line_end - line), line);
            for (size_t i = 0; i < ids.n; i++)
                fprintf(stderr, " %d", ids.id[i]);
            fprintf(stderr, "\n");
            wrong++;
        }
        if (round_trip && can_express(vocab, at, len)) {
            size_t n;
            char *text = decode_all(vocab, &ids, &n);
            if (n != len || memcmp(text, at, n) != 0) {
                fprintf(stderr, "%s case %d: decoding gives '%.*s'\n", what, index, (int)n, text);
                wrong++;
            }
            free(text);
        }
        qn_ids_finish(&cb, &ids);
        line = *line_end ? line_end + 1 : line_end;
        at = end ? end + strlen(separator) : NULL;
    }
    return wrong;
}

static int run_files(const struct qn_vocab *vocab, const char *inputs_in, const char *inputs,
                     const char *outputs_in, const char *outputs, unsigned flags, bool round_trip)
{
    size_t n;
    char *in = read_file(inputs_in, inputs, &n), *out = read_file(outputs_in, outputs, &n);
    if (!in || !out)
        fail_msg("%s or %s is missing", inputs, outputs);
    int wrong = run_cases(vocab, outputs, in, out, flags, round_trip);
    free(in);
    free(out);
    return wrong;
}

static void folder_of(const char *what, char *folder, size_t size)
{
    char file[64];
    snprintf(file, sizeof file, "goldens/%s", what);
    snprintf(folder, size, "%s", qn_test_shared(file));
    *strrchr(folder, '/') = '\0';
}

static void test_reference_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *pre;
        bool round_trip;
    } vocabs[] = {
        {"llama-spm", NULL, true}, {"baichuan", NULL, true},       {"phi-3", NULL, true},
        {"bert-bge", NULL, false}, {"deepseek-coder", NULL, true}, {"deepseek-llm", NULL, true},
        {"falcon", NULL, true},    {"gpt-2", NULL, true},          {"gpt-neox", "default", true},
        {"mpt", NULL, true},       {"refact", NULL, true},         {"starcoder", NULL, true},
    };
    char folder[1024];
    folder_of("vocab/extra.inp", folder, sizeof folder);
    int wrong = 0;
    for (size_t i = 0; i < QN_LEN(vocabs); i++) {
        struct packed packed;
        packed_open(&packed, folder, vocabs[i].name);
        struct qn_vocab *vocab = vocab_make(packed.gguf, vocabs[i].pre);
        char in[128], out[128];
        snprintf(in, sizeof in, "ggml-vocab-%s.gguf.inp", vocabs[i].name);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.out", vocabs[i].name);
        wrong += run_files(vocab, folder, in, folder, out, 0, vocabs[i].round_trip);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.extra.out", vocabs[i].name);
        wrong += run_files(vocab, folder, "extra.inp", folder, out, 0, vocabs[i].round_trip);
        snprintf(out, sizeof out, "ggml-vocab-%s.gguf.extra.special.out", vocabs[i].name);
        wrong += run_files(vocab, folder, "extra.inp", folder, out,
                           QN_ENCODE_ADD_SPECIAL | QN_ENCODE_PARSE_SPECIAL, false);
        qn_vocab_destroy(&cb, &vocab);
        packed_close(&packed);
    }
    assert_int_equal(wrong, 0);
}

static void test_reference_rules(void **state)
{
    (void)state;
    char vocab_folder[1024], pre_folder[1024];
    folder_of("vocab/extra.inp", vocab_folder, sizeof vocab_folder);
    folder_of("pre/gpt-2.out", pre_folder, sizeof pre_folder);
    struct packed packed;
    packed_open(&packed, vocab_folder, "gpt-2");
    DIR *dir = opendir(pre_folder);
    assert_non_null(dir);
    int wrong = 0, rules = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[128], out[256];
        snprintf(name, sizeof name, "%.100s", entry->d_name);
        char *tail = strstr(name, ".extra.out");
        if (!tail)
            continue;
        *tail = '\0';
        struct qn_vocab *vocab = vocab_make(packed.gguf, name);
        assert_string_equal(qn_vocab_pre(vocab), name);
        bool round_trip = strcmp(name, "gemma4") != 0; /* this vocabulary has no bytes in its sense */
        snprintf(out, sizeof out, "%s.out", name);
        wrong += run_files(vocab, vocab_folder, "ggml-vocab-gpt-2.gguf.inp", pre_folder, out, 0, round_trip);
        snprintf(out, sizeof out, "%s.extra.out", name);
        wrong += run_files(vocab, vocab_folder, "extra.inp", pre_folder, out, 0, round_trip);
        qn_vocab_destroy(&cb, &vocab);
        rules++;
    }
    closedir(dir);
    packed_close(&packed);
    assert_true(rules >= 30);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_vocabularies),
        cmocka_unit_test(test_reference_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
