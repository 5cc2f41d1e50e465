/* Writes the first corpus of fuzz_gguf into the current folder: one small file for each thing that a file can
 * hold. */
#include "formats/formats.h"
#include "gguf/gguf.h"

#include <stdio.h>

static struct quern_callbacks cb;

static int finish(struct qn_gguf_writer *writer, const char *path)
{
    struct quern_error err;
    enum quern_status status = qn_gguf_write_path(writer, path, &err);
    if (status)
        fprintf(stderr, "%s\n", err.text);
    qn_gguf_writer_destroy(&cb, &writer);
    return status != QUERN_OK;
}

static int seed_types(void)
{
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&cb, 0);
    static const uint8_t bytes[64] = {1, 0, 1};
    const struct qn_str words[3] = {{"one", 3}, {"", 0}, {"three", 5}};
    qn_gguf_put_str(writer, "general.architecture", "llama");
    qn_gguf_put_u32(writer, "u32", 7);
    qn_gguf_put_u64(writer, "u64", 1ull << 40);
    qn_gguf_put_i32(writer, "i32", -7);
    qn_gguf_put_f32(writer, "f32", 0.5f);
    qn_gguf_put_bool(writer, "bool", true);
    qn_gguf_put_strs(writer, "strs", words, 3);
    for (int type = QN_GGUF_U8; type <= QN_GGUF_F64; type++) {
        char key[16];
        snprintf(key, sizeof key, "array.%d", type);
        if (type != QN_GGUF_STRING && type != QN_GGUF_ARRAY)
            qn_gguf_put_array(writer, key, (enum qn_gguf_type)type, bytes, 3);
    }
    return finish(writer, "types.gguf");
}

/* One block of every format. */
static int seed_formats(void)
{
    static const uint8_t zeros[512] = {0};
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&cb, 64);
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = qn_format_get((enum quern_format)id);
        if (format)
            qn_gguf_put_tensor(writer, format->name, (enum quern_format)id, 1 + id % 4,
                               (uint64_t[]){format->block_len, 1, 1, 1}, zeros);
    }
    return finish(writer, "formats.gguf");
}

static int seed_model(void)
{
    struct qn_gguf_writer *writer = qn_gguf_writer_create(&cb, 0);
    static const float weights[64] = {1, -2, 3};
    qn_gguf_put_str(writer, "general.architecture", "llama");
    qn_gguf_put_u32(writer, "llama.block_count", 1);
    qn_gguf_put_u32(writer, "split.count", 1);
    qn_gguf_put_tensor(writer, "token_embd.weight", QUERN_F32, 2, (uint64_t[]){8, 8}, weights);
    qn_gguf_put_tensor(writer, "output_norm.weight", QUERN_F32, 1, (uint64_t[]){8}, weights);
    return finish(writer, "model.gguf");
}

static int seed_empty(void)
{
    return finish(qn_gguf_writer_create(&cb, 8), "empty.gguf");
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    return seed_empty() + seed_types() + seed_formats() + seed_model();
}
