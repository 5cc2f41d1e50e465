/* Fuzz target of the GGUF reader: opens the input, touches all that can be reached, and writes it again. */
#include "formats/formats.h"
#include "gguf/gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* so that no read is left out */

static void ignore_log(void *user, enum quern_log_level level, const char *text)
{
    sink += strlen(text) + level;
}

static void touch_kv(const struct quern_callbacks *cb, const struct qn_gguf *gguf,
                     const struct qn_gguf_kv *kv)
{
    if (kv->type == QN_GGUF_STRING) {
        struct qn_str str;
        uint64_t n = 0;
        for (uint64_t cursor = 0; qn_gguf_next_str(kv, &cursor, &str); n++)
            sink += str.len > 0 ? (uint64_t)(str.data[0] + str.data[str.len - 1]) : 0;
        if (n != kv->n)
            abort();
    } else {
        for (uint64_t i = 0; i < kv->n; i++)
            sink += (uint64_t)qn_gguf_int_at(kv, i) + (qn_gguf_real_at(kv, i) > 0);
    }
    char *key = qn_strndup(cb, kv->key.data, kv->key.len);
    const struct qn_gguf_kv *found = qn_gguf_find(gguf, key), *array;
    if (strlen(key) == kv->key.len && found != kv)
        abort();
    struct quern_error err;
    struct qn_str str;
    uint32_t u32;
    float f32;
    bool flag;
    sink += (uint64_t)qn_gguf_u32(gguf, key, &u32, true, &err) + qn_gguf_f32(gguf, key, &f32, true, &err) +
            qn_gguf_bool(gguf, key, &flag, true, &err) + qn_gguf_str(gguf, key, &str, true, &err) +
            qn_gguf_array(gguf, key, kv->type, &array, true, &err);
    qn_free(cb, key);
}

static void touch_tensor(const struct qn_gguf *gguf, const struct qn_gguf_tensor *tensor)
{
    const struct qn_format *format = qn_format_get(tensor->format);
    if (!tensor->data)
        return;
    sink += tensor->data[0] + tensor->data[tensor->bytes - 1];
    if (tensor->data != qn_gguf_part(gguf, tensor->part)->data + tensor->offset)
        abort();
    float out[256];
    if (format->dequantise)
        format->dequantise(tensor->data, out, format->block_len);
}

/* What the reader takes, the writer writes, and the reader takes that again. */
static void write_again(const struct quern_callbacks *cb, const struct qn_gguf *gguf)
{
    struct qn_gguf_writer *writer = qn_gguf_writer_create(cb, qn_gguf_alignment(gguf));
    for (size_t i = 0; i < qn_gguf_n_kvs(gguf); i++)
        qn_gguf_put_kv(writer, qn_gguf_kv_at(gguf, i));
    bool whole = true;
    for (size_t i = 0; i < qn_gguf_n_tensors(gguf); i++) {
        const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(gguf, i);
        char name[64] = {0};
        memcpy(name, tensor->name.data, tensor->name.len);
        whole = whole && strlen(name) == tensor->name.len; /* the writer's names are C strings */
        qn_gguf_put_tensor(writer, name, tensor->format, tensor->n_dims, tensor->dim, tensor->data);
    }
    void *file;
    size_t size;
    struct quern_error err;
    struct qn_gguf *again;
    enum quern_status status = qn_gguf_write_memory(writer, &file, &size, &err);
    if (status && whole)
        abort();
    if (!status && qn_gguf_open_memory(cb, &again, file, size, NULL, &err) != QUERN_OK)
        abort();
    if (!status)
        qn_gguf_close(cb, &again);
    qn_free(cb, file);
    qn_gguf_writer_destroy(cb, &writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct quern_callbacks user = {.log = ignore_log};
    struct quern_callbacks cb = qn_callbacks_resolve(&user);
    for (int i = 0; i < 2; i++) {
        const struct qn_gguf_params params = {.no_tensors = i == 1};
        struct qn_gguf *gguf;
        struct quern_error err = {0};
        if (qn_gguf_open_memory(&cb, &gguf, data, size, &params, &err) != QUERN_OK) {
            if (gguf || err.text[0] == '\0')
                abort();
            continue;
        }
        for (size_t k = 0; k < qn_gguf_n_kvs(gguf); k++)
            touch_kv(&cb, gguf, qn_gguf_kv_at(gguf, k));
        for (size_t k = 0; k < qn_gguf_n_tensors(gguf); k++)
            touch_tensor(gguf, qn_gguf_tensor_at(gguf, k));
        if (!params.no_tensors)
            write_again(&cb, gguf);
        qn_gguf_close(&cb, &gguf);
    }
    return 0;
}
