/* The GGUF reader against good, odd and damaged files, and the writer through the reader. */
#include "gguf/gguf.h"
#include "test.h"
#include "heap.h"

#include <fcntl.h>
#ifdef _WIN32
#include <io.h>
#define OPEN_FLAGS (O_RDONLY | O_BINARY)
#else
#include <unistd.h>
#define OPEN_FLAGS O_RDONLY
#endif

static struct qn_test_heap heap;
static struct quern_error err;

static const float weights[3][32] = {{1, 2, 3}, {4}, {5, 6}};
static const uint64_t shape[2] = {8, 4};

static struct qn_gguf_writer *new_writer(uint32_t alignment)
{
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&heap.cb, alignment);
    assert_non_null(writer);
    return writer;
}

/* Ends the writer; the file is the caller's. */
static uint8_t *finish(struct qn_gguf_writer *writer, size_t *size)
{
    void *file;
    assert_int_equal(qn_gguf_write_memory(writer, &file, size, &err), QUERN_OK);
    qn_gguf_writer_destroy(&heap.cb, &writer);
    return file;
}

/* Entries of every type and two tensors. */
static uint8_t *sample(uint32_t alignment, size_t *size)
{
    struct qn_gguf_writer *writer = new_writer(alignment);
    const int16_t shorts[3] = {-1, 0, 300};
    const double doubles[2] = {0.5, 1e300};
    const uint8_t bytes[2] = {7, 255};
    const struct qn_str words[3] = {{"one", 3}, {"", 0}, {"th\0ee", 5}};
    qn_gguf_put_str(writer, "general.architecture", "test");
    qn_gguf_put_u32(writer, "x.u32", 4000000000u);
    qn_gguf_put_u64(writer, "x.u64", UINT64_MAX);
    qn_gguf_put_i32(writer, "x.i32", -5);
    qn_gguf_put_f32(writer, "x.f32", 0.25f);
    qn_gguf_put_bool(writer, "x.bool", true);
    qn_gguf_put_strs(writer, "x.strs", words, 3);
    qn_gguf_put_array(writer, "x.i16s", QN_GGUF_I16, shorts, 3);
    qn_gguf_put_array(writer, "x.f64s", QN_GGUF_F64, doubles, 2);
    qn_gguf_put_array(writer, "x.u8s", QN_GGUF_U8, bytes, 2);
    qn_gguf_put_array(writer, "x.none", QN_GGUF_F32, NULL, 0);
    qn_gguf_put_tensor(writer, "second", QUERN_F32, 2, shape, weights[0]);
    qn_gguf_put_tensor(writer, "first", QUERN_F32, 1, &(uint64_t){5}, weights[1]);
    return finish(writer, size);
}

static enum quern_status open_bytes(struct qn_gguf **gguf, const void *data, size_t size)
{
    memset(&err, 0, sizeof err);
    return qn_gguf_open_memory(&heap.cb, gguf, data, size, NULL, &err);
}

static void assert_refused(const void *data, size_t size, const char *part)
{
    struct qn_gguf *gguf;
    assert_int_equal(open_bytes(&gguf, data, size), QUERN_ERR_FILE);
    assert_null(gguf);
    if (!strstr(err.text, part))
        fail_msg("expected '%s' in '%s'", part, err.text);
}

static void check_sample(const struct qn_gguf *gguf)
{
    const struct qn_gguf_kv *kv;
    struct qn_str str;
    uint32_t u32 = 0;
    float f32 = 0;
    bool flag = false;
    assert_int_equal(qn_gguf_version(gguf), 3);
    assert_int_equal(qn_gguf_n_tensors(gguf), 2);
    assert_int_equal(qn_gguf_u32(gguf, "x.u32", &u32, true, &err), QUERN_OK);
    assert_int_equal(u32, 4000000000u);
    assert_int_equal(qn_gguf_f32(gguf, "x.f32", &f32, true, &err), QUERN_OK);
    assert_true(f32 == 0.25f);
    assert_int_equal(qn_gguf_bool(gguf, "x.bool", &flag, true, &err), QUERN_OK);
    assert_true(flag);
    assert_int_equal(qn_gguf_str(gguf, "general.architecture", &str, true, &err), QUERN_OK);
    assert_true(str.len == 4 && memcmp(str.data, "test", 4) == 0);
    kv = qn_gguf_find(gguf, "x.i32");
    assert_int_equal(qn_gguf_int_at(kv, 0), -5);
    assert_int_equal(qn_gguf_array(gguf, "x.i16s", QN_GGUF_I32, &kv, true, &err), QUERN_OK);
    assert_true(kv->n == 3 && qn_gguf_int_at(kv, 0) == -1 && qn_gguf_int_at(kv, 2) == 300);
    assert_int_equal(qn_gguf_array(gguf, "x.f64s", QN_GGUF_F32, &kv, true, &err), QUERN_OK);
    assert_true(kv->n == 2 && qn_gguf_real_at(kv, 0) == 0.5 && qn_gguf_real_at(kv, 1) == 1e300);
    assert_int_equal(qn_gguf_array(gguf, "x.none", QN_GGUF_F32, &kv, true, &err), QUERN_OK);
    assert_int_equal(kv->n, 0);
    assert_int_equal(qn_gguf_array(gguf, "x.strs", QN_GGUF_STRING, &kv, true, &err), QUERN_OK);
    uint64_t cursor = 0;
    size_t n = 0;
    for (; qn_gguf_next_str(kv, &cursor, &str); n++)
        assert_int_equal(str.len, n == 0 ? 3 : n == 1 ? 0 : 5);
    assert_int_equal(n, 3);
    assert_memory_equal(str.data, "th\0ee", 5);

    const struct qn_gguf_tensor *tensor = qn_gguf_find_tensor(gguf, "second");
    assert_non_null(tensor);
    assert_true(tensor == qn_gguf_tensor_at(gguf, 0));
    assert_true(tensor->n_dims == 2 && tensor->dim[0] == 8 && tensor->dim[1] == 4 && tensor->dim[3] == 1);
    assert_int_equal(tensor->bytes, 128);
    assert_memory_equal(tensor->data, weights[0], 128);
    assert_int_equal(tensor->offset % qn_gguf_alignment(gguf), 0);
    tensor = qn_gguf_find_tensor(gguf, "first");
    assert_int_equal(tensor->bytes, 20);
    assert_memory_equal(tensor->data, weights[1], 20);
    assert_null(qn_gguf_find_tensor(gguf, "third"));
    assert_null(qn_gguf_find(gguf, "x"));
}

static void test_round_trip(void **state)
{
    (void)state;
    const uint32_t alignments[] = {0, 8, 64, 4096};
    qn_test_heap_init(&heap);
    for (size_t i = 0; i < QN_LEN(alignments); i++) {
        size_t size, size_again;
        uint8_t *file = sample(alignments[i], &size);
        struct qn_gguf *gguf;
        assert_int_equal(open_bytes(&gguf, file, size), QUERN_OK);
        assert_int_equal(qn_gguf_alignment(gguf), alignments[i] ? alignments[i] : 32);
        assert_int_equal(qn_gguf_file_bytes(gguf), size);
        check_sample(gguf);

        /* a copy, entry by entry, is the same file */
        struct qn_gguf_writer *writer = new_writer(alignments[i]);
        for (size_t k = 0; k < qn_gguf_n_kvs(gguf); k++)
            qn_gguf_put_kv(writer, qn_gguf_kv_at(gguf, k));
        qn_gguf_put_tensor(writer, "second", QUERN_F32, 2, shape, weights[0]);
        qn_gguf_put_tensor(writer, "first", QUERN_F32, 1, &(uint64_t){5}, weights[1]);
        uint8_t *again = finish(writer, &size_again);
        assert_int_equal(size, size_again);
        assert_memory_equal(file, again, size);
        qn_gguf_close(&heap.cb, &gguf);
        assert_null(gguf);
        qn_free(&heap.cb, file);
        qn_free(&heap.cb, again);
    }
    assert_int_equal(heap.n_warnings, 0);
    assert_int_equal(heap.n_live, 0);
}

static void test_paths_and_descriptors(void **state)
{
    (void)state;
    const char *path = "test_gguf.tmp";
    qn_test_heap_init(&heap);
    struct qn_gguf_writer *writer = new_writer(0);
    qn_gguf_put_str(writer, "general.architecture", "test");
    qn_gguf_put_tensor(writer, "w", QUERN_F32, 2, shape, weights[0]);
    qn_gguf_put_tensor(writer, "zero", QUERN_Q4_0, 2, (uint64_t[]){64, 100}, NULL);
    assert_int_equal(qn_gguf_write_path(writer, path, &err), QUERN_OK);
    for (int i = 0; i < 2; i++) {
        struct qn_gguf *gguf;
        const struct qn_gguf_params params = {.use_mmap = i == 0};
        assert_int_equal(qn_gguf_open(&heap.cb, &gguf, path, &params, &err), QUERN_OK);
        assert_string_equal(qn_gguf_name(gguf), path);
        assert_memory_equal(qn_gguf_find_tensor(gguf, "w")->data, weights[0], 128);
        const struct qn_gguf_tensor *zero = qn_gguf_find_tensor(gguf, "zero");
        assert_int_equal(zero->bytes, 2 * 18 * 100);
        for (uint64_t k = 0; k < zero->bytes; k++)
            assert_int_equal(zero->data[k], 0);
        qn_gguf_close(&heap.cb, &gguf);
    }
    assert_int_equal(qn_gguf_write_path(writer, "no/such/folder/x.gguf", &err), QUERN_ERR_FILE);
    qn_gguf_writer_destroy(&heap.cb, &writer);

    /* the same file in the middle of another */
    size_t size;
    uint8_t *file = sample(0, &size);
    uint8_t *wide = qn_alloc(&heap.cb, size + 5000, 1);
    assert_non_null(wide);
    memset(wide, 0x55, size + 5000);
    memcpy(wide + 4160, file, size);
    assert_int_equal(qn_write_file(&heap.cb, path, wide, size + 5000, &err), QUERN_OK);
    int fd = open(path, OPEN_FLAGS);
    assert_true(fd >= 0);
    for (int i = 0; i < 2; i++) {
        struct qn_gguf *gguf;
        const struct qn_gguf_params params = {.use_mmap = i == 0};
        assert_int_equal(qn_gguf_open_fd(&heap.cb, &gguf, fd, 4160, size, &params, &err), QUERN_OK);
        check_sample(gguf);
        assert_int_equal((uintptr_t)qn_gguf_find_tensor(gguf, "first")->data % 32, 0);
        qn_gguf_close(&heap.cb, &gguf);
        assert_int_equal(qn_gguf_open_fd(&heap.cb, &gguf, fd, 0, 0, &params, &err), QUERN_ERR_FILE);
        assert_int_equal(qn_gguf_open_fd(&heap.cb, &gguf, fd, 4160, size + 5000, &params, &err),
                         QUERN_ERR_FILE);
        assert_null(gguf);
    }
    close(fd);
    remove(path);
    qn_free(&heap.cb, file);
    qn_free(&heap.cb, wide);
    assert_int_equal(heap.n_live, 0);
}

static void test_getters_refuse(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    size_t size;
    uint8_t *file = sample(0, &size);
    struct qn_gguf *gguf;
    assert_int_equal(open_bytes(&gguf, file, size), QUERN_OK);
    uint32_t u32 = 77;
    float f32;
    bool flag;
    struct qn_str str;
    const struct qn_gguf_kv *kv;
    assert_int_equal(qn_gguf_u32(gguf, "missing", &u32, false, &err), QUERN_OK);
    assert_int_equal(u32, 77);
    assert_int_equal(qn_gguf_u32(gguf, "missing", &u32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "missing"));
    assert_int_equal(qn_gguf_u32(gguf, "x.u64", &u32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "18446744073709551615"));
    assert_int_equal(qn_gguf_u32(gguf, "x.i32", &u32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "'x.i32' is -5"));
    assert_int_equal(qn_gguf_u32(gguf, "x.f32", &u32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "is f32, expected an integer"));
    assert_int_equal(qn_gguf_u32(gguf, "x.u8s", &u32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "is an array of u8, expected an integer"));
    assert_int_equal(qn_gguf_f32(gguf, "x.u32", &f32, true, &err), QUERN_ERR_FILE);
    assert_int_equal(qn_gguf_bool(gguf, "x.u32", &flag, true, &err), QUERN_ERR_FILE);
    assert_int_equal(qn_gguf_str(gguf, "x.strs", &str, true, &err), QUERN_ERR_FILE);
    assert_int_equal(qn_gguf_array(gguf, "x.strs", QN_GGUF_I32, &kv, true, &err), QUERN_ERR_FILE);
    assert_null(kv);
    assert_int_equal(qn_gguf_array(gguf, "x.u32", QN_GGUF_U32, &kv, true, &err), QUERN_ERR_FILE);
    assert_int_equal(u32, 77);
    qn_gguf_close(&heap.cb, &gguf);
    qn_free(&heap.cb, file);
    assert_int_equal(heap.n_live, 0);
}

/* Every number type, converted; and what a getter says of a real number that is too large. */
static void test_numbers(void **state)
{
    (void)state;
    static const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    static const struct {
        enum qn_gguf_type type;
        int64_t value; /* with all bits set */
    } cases[] = {
        {QN_GGUF_U8, 255},         {QN_GGUF_I8, -1},  {QN_GGUF_U16, 65535}, {QN_GGUF_I16, -1},
        {QN_GGUF_U32, 4294967295}, {QN_GGUF_I32, -1}, {QN_GGUF_U64, -1},    {QN_GGUF_I64, -1},
    };
    qn_test_heap_init(&heap);
    struct qn_gguf_writer *writer = new_writer(0);
    for (size_t i = 0; i < QN_LEN(cases); i++)
        qn_gguf_put_array(writer, qn_gguf_type_name(cases[i].type), cases[i].type, ones, 1);
    const double huge = 1e300;
    const struct qn_gguf_kv kv = {.key = {"huge", 4},
                                  .type = QN_GGUF_F64,
                                  .n = 1,
                                  .data = (const uint8_t *)&huge,
                                  .bytes = sizeof huge};
    qn_gguf_put_kv(writer, &kv);
    size_t size;
    uint8_t *file = finish(writer, &size);
    struct qn_gguf *gguf;
    assert_int_equal(open_bytes(&gguf, file, size), QUERN_OK);
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        const struct qn_gguf_kv *array;
        assert_int_equal(
            qn_gguf_array(gguf, qn_gguf_type_name(cases[i].type), QN_GGUF_I64, &array, true, &err), QUERN_OK);
        assert_true(qn_gguf_int_at(array, 0) == cases[i].value);
        assert_true(qn_gguf_real_at(array, 0) == (double)cases[i].value);
    }
    float f32;
    assert_int_equal(qn_gguf_f32(gguf, "huge", &f32, true, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "is 1e+300, expected a number that a float holds"));
    qn_gguf_close(&heap.cb, &gguf);
    qn_free(&heap.cb, file);
    assert_int_equal(heap.n_live, 0);
}

/* ---- damage ---- */

/* What each file of tests/golden/malformed does here: NULL loads quietly, "~..." loads with such a warning,
 * anything else is part of the refusal. Files that are not listed are sound as containers and load quietly.
 */
static const struct {
    const char *file, *want;
} verdicts[] = {
    {"02-empty", "not a GGUF file"},
    {"04-trunc-header", "the file ends inside its header"},
    {"05-trunc-kv", "key 'tokenizer.ggml.tokens' claims 288 values"},
    {"07-trunc-data", "the data of tensor 'blk.0.ffn_down.weight' is at bytes 31360 to 32384"},
    {"08-bad-magic", "does not start with the bytes 'GGUF'"},
    {"09-version-0", "version 0 is not known"},
    {"10-version-1", "version 1 is no longer read"},
    {"11-version-99", "version 99 is not known"},
    {"12-big-endian-version", "big-endian"},
    {"14-nkv-plus-1", "at byte 7006"},
    {"17-huge-strlen", "a metadata key claims a length of 18446744073709551615 bytes"},
    {"19-huge-array", "key 'tokenizer.ggml.tokens' claims 1152921504606846976 values"},
    {"20-nested-array", "key 'x.nested' is an array of arrays"},
    {"21-bad-kv-type", "key 'x.bad' has value type 77"},
    {"22-bad-array-type", "key 'x.bad' has value type 50"},
    {"23-dup-key", "key 'llama.block_count' is there twice"},
    {"24-empty-key", "metadata entry 18 has an empty key"},
    {"26-offset-out-of-file", "the data of tensor 'blk.0.attn_q.weight' is at bytes"},
    {"27-offset-overflow", "tensor 'blk.0.attn_q.weight' has offset 18446744073709551584, which overflows"},
    {"30-dims-overflow", "tensor 'blk.0.ffn_up.weight' of type F32 has dimensions whose product overflows"},
    {"31-dims-negative", "tensor 'blk.0.ffn_up.weight' of type F32 has a negative dimension"},
    {"33-n-dims-0", "tensor 'blk.0.ffn_up.weight' has 0 dimensions"},
    {"34-n-dims-9", "tensor 'blk.0.ffn_up.weight' has 9 dimensions"},
    {"35-bad-tensor-type", "tensor 'blk.0.ffn_up.weight' has type 200"},
    {"36-removed-type", "tensor 'blk.0.ffn_up.weight' has type 4"},
    {"38-long-tensor-name", "has a name of 200 bytes"},
    {"40-alignment-24", "key 'general.alignment' is 24, expected a power of two"},
    {"41-alignment-u64", "key 'general.alignment' is string, expected u32"},
    {"42-alignment-huge", "key 'general.alignment' is 2147483648"},
    {"88-trailing-garbage", "~4096 bytes after the last tensor"},
    {"89-bool-2", "~key 'x.bool' holds a bool that is neither 0 nor 1"},
    {"91-key-long", "~is longer than 65535 bytes"},
};

static void check_malformed(const char *folder, const char *file)
{
    char path[1400];
    const char *want = NULL;
    for (size_t i = 0; i < QN_LEN(verdicts); i++) {
        size_t n = strlen(verdicts[i].file);
        if (strncmp(file, verdicts[i].file, n) == 0 && file[n] == '.')
            want = verdicts[i].want;
    }
    snprintf(path, sizeof path, "%s/%s", folder, file);
    for (int i = 0; i < 2; i++) {
        struct qn_gguf *gguf;
        const struct qn_gguf_params params = {.use_mmap = i == 0};
        qn_test_heap_init(&heap);
        memset(&err, 0, sizeof err);
        enum quern_status status = qn_gguf_open(&heap.cb, &gguf, path, &params, &err);
        if (status != (want && *want != '~' ? QUERN_ERR_FILE : QUERN_OK))
            fail_msg("%s: status %d: %s", file, status, err.text);
        if (status && (!strstr(err.text, want) || !strstr(err.text, file)))
            fail_msg("%s: expected '%s' in '%s'", file, want, err.text);
        if (heap.n_warnings != (want && *want == '~'))
            fail_msg("%s: %d warnings: %s", file, heap.n_warnings, heap.warning);
        if (want && *want == '~' && !strstr(heap.warning, want + 1))
            fail_msg("%s: expected '%s' in '%s'", file, want + 1, heap.warning);
        if (params.use_mmap)
            assert_true(heap.peak < 16384);
        qn_gguf_close(&heap.cb, &gguf);
        assert_int_equal(heap.n_live, 0);
    }
}

static void test_malformed(void **state)
{
    (void)state;
    char folder[1024], path[1100], line[256];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(folder, sizeof folder, "%s/tests/golden/malformed", root ? root : ".");
    snprintf(path, sizeof path, "%s/INDEX.tsv", folder);
    FILE *index = fopen(path, "r");
    assert_non_null(index);
    size_t n = 0;
    while (fgets(line, sizeof line, index)) {
        line[strcspn(line, "\t\r\n")] = '\0';
        if (!strstr(line, ".gguf"))
            continue;
        check_malformed(folder, line);
        n++;
    }
    fclose(index);
    assert_int_equal(n, 62);
}

static uint8_t *find_bytes(uint8_t *data, size_t size, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= size; i++)
        if (memcmp(data + i, text, n) == 0)
            return data + i;
    fail_msg("'%s' is not in the file", text);
    return data;
}

static void test_refusals(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    size_t size;
    uint8_t *file = sample(0, &size);
    uint8_t *copy = qn_alloc(&heap.cb, size, 1);
    assert_non_null(copy);
    /* where to poke, relative to a text, and what is said then */
    const struct {
        const char *text;
        int at;
        uint8_t value;
        const char *want;
    } pokes[] = {
        {"second", 0, 0, NULL},                            /* a control character in a name is odd */
        {"GGUF", 8, 200, "the header claims 200 tensors"}, /* more than the file has room for */
        {"GGUF", 23, 1, "metadata entries, more than fit"},
        {"x.u64", 2, 'i', NULL},                                              /* x.i64: another free name */
        {"first", 5 + 4 + 8 + 4, 1, "tensor 'first' has offset 1, expected"}, /* unaligned */
        {"first", 5 + 4 + 8 + 4, 96, "overlap at byte"},                      /* inside "second" */
        {"first", 5 + 4, 0, "has a dimension of 0"},
        {"first", 5 + 4 + 8, QUERN_Q4_0, "no whole number of blocks"},
        {"second", 6 + 4 + 7, 128, "negative dimension"},
        {"second", 6 + 4 + 7, 127, "whose product overflows"},
        {"x.bool", 6 + 4, 9, NULL},
        {"x.f32", 5, QN_GGUF_STRING, "string 0 of key 'x.f32' reaches beyond the end"},
    };
    for (size_t i = 0; i < QN_LEN(pokes); i++) {
        memcpy(copy, file, size);
        find_bytes(copy, size, pokes[i].text)[pokes[i].at] = pokes[i].value;
        struct qn_gguf *gguf = NULL;
        if (pokes[i].want)
            assert_refused(copy, size, pokes[i].want);
        else
            assert_int_equal(open_bytes(&gguf, copy, size), QUERN_OK);
        qn_gguf_close(&heap.cb, &gguf);
    }

    /* every length but that without the last padding is too short */
    memcpy(copy, file, size);
    for (size_t n = 0; n < size - 12; n++) {
        struct qn_gguf *gguf;
        uint8_t *exact = malloc(n ? n : 1); /* so that a sanitizer sees a byte too far */
        memcpy(exact, file, n);
        assert_int_equal(open_bytes(&gguf, exact, n), QUERN_ERR_FILE);
        free(exact);
    }
    /* any byte changed: a verdict, and nothing out of bounds */
    for (size_t i = 0; i < size; i++) {
        for (int change = 1; change < 256; change += 127) {
            struct qn_gguf *gguf;
            copy[i] = (uint8_t)(file[i] + change);
            (void)open_bytes(&gguf, copy, size);
            qn_gguf_close(&heap.cb, &gguf);
        }
        copy[i] = file[i];
    }
    assert_true(heap.peak < 65536);
    qn_free(&heap.cb, file);
    qn_free(&heap.cb, copy);
    assert_int_equal(heap.n_live, 0);
}

static void test_no_tensors(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    size_t size;
    uint8_t *file = sample(0, &size);
    struct qn_gguf *gguf;
    const struct qn_gguf_params params = {.no_tensors = true};
    assert_int_equal(open_bytes(&gguf, file, size - 20), QUERN_ERR_FILE);
    assert_int_equal(qn_gguf_open_memory(&heap.cb, &gguf, file, size - 20, &params, &err), QUERN_OK);
    assert_null(qn_gguf_find_tensor(gguf, "first")->data);
    assert_non_null(qn_gguf_find_tensor(gguf, "second")->data);
    qn_gguf_close(&heap.cb, &gguf);
    qn_free(&heap.cb, file);
    assert_int_equal(heap.n_live, 0);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    for (int i = 0; i < 7; i++) {
        struct qn_gguf_writer *writer = new_writer(i == 0 ? 24 : 0);
        const char *want = "alignment 24";
        qn_gguf_put_u32(writer, "a", 1);
        qn_gguf_put_tensor(writer, "t", QUERN_F32, 1, shape, weights[0]);
        if (i == 1)
            qn_gguf_put_u32(writer, "a", 2), want = "key 'a' is there twice";
        if (i == 2)
            qn_gguf_put_tensor(writer, "t", QUERN_F32, 1, shape, weights[0]),
                want = "tensor 't' is there twice";
        if (i == 3)
            qn_gguf_put_tensor(writer, "u", QUERN_Q4_0, 1, shape, weights[0]),
                want = "no whole number of blocks";
        if (i == 4)
            qn_gguf_put_tensor(writer, "u", (enum quern_format)5, 1, shape, NULL),
                want = "type that no format has";
        if (i == 5)
            qn_gguf_put_array(writer, "b", QN_GGUF_STRING, weights, 1), want = "expected numbers";
        if (i == 6)
            qn_gguf_put_u32(writer, "", 1), want = "empty key";
        void *file;
        size_t size;
        assert_int_equal(qn_gguf_write_memory(writer, &file, &size, &err), QUERN_ERR_PARAM);
        assert_null(file);
        if (!strstr(err.text, want))
            fail_msg("expected '%s' in '%s'", want, err.text);
        qn_gguf_writer_destroy(&heap.cb, &writer);
    }
    assert_int_equal(heap.n_live, 0);
}

/* ---- split models ---- */

static const char *const part_path[3] = {"test_gguf-00001-of-00003.gguf", "test_gguf-00002-of-00003.gguf",
                                         "test_gguf-00003-of-00003.gguf"};

static void write_part(uint32_t file, uint32_t no, uint32_t count, uint32_t n_tensors, const char *tensor)
{
    struct qn_gguf_writer *writer = new_writer(file == 1 ? 128 : 0);
    if (file == 0)
        qn_gguf_put_str(writer, "general.architecture", "test");
    qn_gguf_put_array(writer, "x.any", QN_GGUF_U32, weights, file + 1);
    qn_gguf_put_u32(writer, "split.no", no);
    qn_gguf_put_u32(writer, "split.count", count);
    qn_gguf_put_i32(writer, "split.tensors.count", (int32_t)n_tensors);
    qn_gguf_put_tensor(writer, tensor, QUERN_F32, 2, shape, weights[file]);
    assert_int_equal(qn_gguf_write_path(writer, part_path[file], &err), QUERN_OK);
    qn_gguf_writer_destroy(&heap.cb, &writer);
}

static void write_split(void)
{
    write_part(0, 0, 3, 3, "zero");
    write_part(1, 1, 3, 3, "one");
    write_part(2, 2, 3, 3, "two");
}

static void assert_open_fails(const char *path, const char *want)
{
    struct qn_gguf *gguf;
    assert_int_equal(qn_gguf_open(&heap.cb, &gguf, path, NULL, &err), QUERN_ERR_FILE);
    assert_null(gguf);
    if (!strstr(err.text, want))
        fail_msg("expected '%s' in '%s'", want, err.text);
}

static void test_split(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    write_split();
    struct qn_gguf *gguf;
    assert_int_equal(qn_gguf_open(&heap.cb, &gguf, part_path[0], NULL, &err), QUERN_OK);
    assert_int_equal(qn_gguf_n_parts(gguf), 3);
    assert_int_equal(qn_gguf_n_tensors(gguf), 3);
    const char *const names[3] = {"zero", "one", "two"};
    for (uint32_t i = 0; i < 3; i++) {
        const struct qn_gguf_tensor *tensor = qn_gguf_find_tensor(gguf, names[i]);
        assert_int_equal(tensor->part, i);
        assert_memory_equal(tensor->data, weights[i], 128);
        assert_ptr_equal(tensor->data, qn_gguf_part(gguf, i)->data + tensor->offset);
    }
    assert_int_equal(qn_gguf_find(gguf, "x.any")->n, 1);
    qn_gguf_close(&heap.cb, &gguf);

    assert_open_fails(part_path[1], "part 2 of 3 of a split model: open the first");
    int fd = open(part_path[0], OPEN_FLAGS);
    assert_int_equal(qn_gguf_open_fd(&heap.cb, &gguf, fd, 0, 0, NULL, &err), QUERN_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "opens by path only"));
    close(fd);
    write_part(1, 2, 3, 3, "one");
    assert_open_fails(part_path[0], "says it is part 3 of 3 with 3 tensors, expected part 2 of 3");
    write_part(1, 1, 4, 3, "one");
    assert_open_fails(part_path[0], "says it is part 2 of 4");
    write_part(1, 1, 3, 3, "two");
    assert_open_fails(part_path[0], "tensor 'two' is there twice");
    for (uint32_t i = 0; i < 3; i++)
        write_part(i, i, 3, 9, names[i]);
    assert_open_fails(part_path[0], "the 3 parts hold 3 tensors, but key 'split.tensors.count' is 9");
    write_split();
    remove(part_path[2]);
    assert_open_fails(part_path[0], part_path[2]);
    const struct qn_gguf_params params = {.no_tensors = true};
    assert_int_equal(qn_gguf_open(&heap.cb, &gguf, part_path[0], &params, &err), QUERN_OK);
    assert_int_equal(qn_gguf_n_parts(gguf), 1);
    qn_gguf_close(&heap.cb, &gguf);
    assert_int_equal(rename(part_path[0], "test_gguf_part.tmp"), 0);
    assert_open_fails("test_gguf_part.tmp", "expected a name that ends in -00001-of-00003.gguf");
    remove("test_gguf_part.tmp");
    remove(part_path[1]);
    assert_int_equal(heap.n_live, 0);
}

/* ---- memory that runs out ---- */

static void test_allocation_failures(void **state)
{
    (void)state;
    qn_test_heap_init(&heap);
    write_split();
    size_t n_open = 0, n_write = 0;
    enum quern_status status = QUERN_ERR_MEMORY;
    for (size_t fail_at = 1; status; fail_at++) {
        struct qn_gguf *gguf;
        const struct qn_gguf_params params = {.use_mmap = fail_at % 2 == 0};
        qn_test_heap_init(&heap);
        heap.fail_at = fail_at;
        status = qn_gguf_open(&heap.cb, &gguf, part_path[0], &params, &err);
        if (heap.n_calls >= fail_at) {
            assert_int_equal(status, QUERN_ERR_MEMORY);
            assert_non_null(strstr(err.text, "out of memory"));
            n_open++;
        }
        qn_gguf_close(&heap.cb, &gguf);
        assert_int_equal(heap.n_live, 0);
    }
    status = QUERN_ERR_MEMORY;
    for (size_t fail_at = 1; status; fail_at++) {
        qn_test_heap_init(&heap);
        heap.fail_at = fail_at;
        struct qn_gguf_writer *writer = qn_gguf_writer_create(&heap.cb, 64);
        if (writer) {
            void *file;
            size_t size;
            qn_gguf_put_str(writer, "general.architecture", "test");
            qn_gguf_put_tensor(writer, "w", QUERN_F32, 2, shape, weights[0]);
            status = qn_gguf_write_memory(writer, &file, &size, &err);
            qn_free(&heap.cb, file);
        }
        if (heap.n_calls >= fail_at) {
            assert_int_equal(status, QUERN_ERR_MEMORY);
            n_write++;
        }
        qn_gguf_writer_destroy(&heap.cb, &writer);
        assert_int_equal(heap.n_live, 0);
    }
    assert_true(n_open >= 15 && n_write >= 8);
    for (int i = 0; i < 3; i++)
        remove(part_path[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_paths_and_descriptors),
        cmocka_unit_test(test_getters_refuse), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_malformed),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_tensors),     cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_split),          cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
