/* Writes GGUF files, version 3. Metadata is encoded as it comes in; tensors are only noted until the write.
 * The finished header goes through the reader before anything is written, so that one place knows what a file
 * may hold. */
#include "gguf/internal.h"

#include "formats/formats.h"

#include <string.h>

struct pending_tensor {
    char *name;
    enum quern_format format;
    uint32_t n_dims;
    uint64_t dim[4];
    uint64_t bytes;
    const void *data;
};

/* Growing bytes. */
struct bytes {
    uint8_t *data;
    size_t n, cap;
};

struct qn_gguf_writer {
    const struct quern_callbacks *cb;
    uint32_t alignment;
    struct bytes kvs;
    uint64_t n_kvs;
    struct pending_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct quern_error fault; /* the first; nothing is taken after it */
};

static void put_bytes(struct qn_gguf_writer *writer, struct bytes *to, const void *data, uint64_t n)
{
    if (writer->fault.status || n == 0)
        return;
    if (n > SIZE_MAX - to->n || !qn_grow(writer->cb, &to->data, &to->cap, to->n + (size_t)n, 1)) {
        qn_fail_memory(&writer->fault, "a model file's header");
        return;
    }
    memcpy(to->data + to->n, data, (size_t)n);
    to->n += (size_t)n;
}

static void put_number(struct qn_gguf_writer *writer, struct bytes *to, uint64_t value, uint32_t n)
{
    uint8_t le[8];
    for (uint32_t i = 0; i < n; i++)
        le[i] = (uint8_t)(value >> 8 * i);
    put_bytes(writer, to, le, n);
}

static void put_text(struct qn_gguf_writer *writer, struct bytes *to, struct qn_str text)
{
    put_number(writer, to, text.len, 8);
    put_bytes(writer, to, text.data, text.len);
}

static struct qn_str str_of(const char *text)
{
    return (struct qn_str){text, strlen(text)};
}

static void put_key(struct qn_gguf_writer *writer, struct qn_str key, enum qn_gguf_type type)
{
    put_text(writer, &writer->kvs, key);
    put_number(writer, &writer->kvs, type, 4);
    writer->n_kvs++;
}

static void put_array_key(struct qn_gguf_writer *writer, struct qn_str key, enum qn_gguf_type type,
                          uint64_t n)
{
    put_key(writer, key, QN_GGUF_ARRAY);
    put_number(writer, &writer->kvs, type, 4);
    put_number(writer, &writer->kvs, n, 8);
}

/* ---- the pieces of a file ---- */

struct qn_gguf_writer *qn_gguf_writer_create(const struct quern_callbacks *cb, uint32_t alignment)
{
    struct qn_gguf_writer *writer = qn_zalloc(cb, 1, sizeof *writer);
    if (!writer)
        return NULL;
    writer->cb = cb;
    writer->alignment = alignment ? alignment : QN_GGUF_ALIGNMENT_DEFAULT;
    if (!qn_gguf_alignment_is_sane(writer->alignment))
        qn_fail(&writer->fault, QUERN_ERR_PARAM, "alignment %u, expected a power of two from %d to %d",
                alignment, QN_GGUF_ALIGNMENT_MIN, QN_GGUF_ALIGNMENT_MAX);
    if (writer->alignment != QN_GGUF_ALIGNMENT_DEFAULT)
        qn_gguf_put_u32(writer, "general.alignment", alignment);
    return writer;
}

void qn_gguf_writer_destroy(const struct quern_callbacks *cb, struct qn_gguf_writer **writer)
{
    struct qn_gguf_writer *old = *writer;
    *writer = NULL;
    if (!old)
        return;
    for (size_t i = 0; i < old->n_tensors; i++)
        qn_free(cb, old->tensors[i].name);
    qn_free(cb, old->tensors);
    qn_free(cb, old->kvs.data);
    qn_free(cb, old);
}

static void put_scalar(struct qn_gguf_writer *writer, const char *key, enum qn_gguf_type type, uint64_t value)
{
    put_key(writer, str_of(key), type);
    put_number(writer, &writer->kvs, value, qn_gguf_type_bytes(type));
}

void qn_gguf_put_u32(struct qn_gguf_writer *writer, const char *key, uint32_t value)
{
    put_scalar(writer, key, QN_GGUF_U32, value);
}

void qn_gguf_put_u64(struct qn_gguf_writer *writer, const char *key, uint64_t value)
{
    put_scalar(writer, key, QN_GGUF_U64, value);
}

void qn_gguf_put_i32(struct qn_gguf_writer *writer, const char *key, int32_t value)
{
    put_scalar(writer, key, QN_GGUF_I32, (uint32_t)value);
}

void qn_gguf_put_f32(struct qn_gguf_writer *writer, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_scalar(writer, key, QN_GGUF_F32, bits);
}

void qn_gguf_put_bool(struct qn_gguf_writer *writer, const char *key, bool value)
{
    put_scalar(writer, key, QN_GGUF_BOOL, value);
}

void qn_gguf_put_str(struct qn_gguf_writer *writer, const char *key, const char *value)
{
    put_key(writer, str_of(key), QN_GGUF_STRING);
    put_text(writer, &writer->kvs, str_of(value));
}

void qn_gguf_put_strs(struct qn_gguf_writer *writer, const char *key, const struct qn_str *values, size_t n)
{
    put_array_key(writer, str_of(key), QN_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_text(writer, &writer->kvs, values[i]);
}

void qn_gguf_put_array(struct qn_gguf_writer *writer, const char *key, enum qn_gguf_type type,
                       const void *values, size_t n)
{
    uint32_t size = qn_gguf_type_bytes(type);
    if (size == 0 || n > SIZE_MAX / size) {
        if (!writer->fault.status)
            qn_fail(&writer->fault, QUERN_ERR_PARAM, "key '%s': elements of type %d, expected numbers",
                    qn_show(str_of(key)).text, (int)type);
        return;
    }
    put_array_key(writer, str_of(key), type, n);
    put_bytes(writer, &writer->kvs, values, (uint64_t)n * size);
}

void qn_gguf_put_kv(struct qn_gguf_writer *writer, const struct qn_gguf_kv *kv)
{
    if (qn_str_compare(kv->key, str_of("general.alignment")) == 0)
        return; /* that of the other file; this one has its own */
    if (kv->is_array)
        put_array_key(writer, kv->key, kv->type, kv->n);
    else
        put_key(writer, kv->key, kv->type);
    put_bytes(writer, &writer->kvs, kv->data, kv->bytes);
}

void qn_gguf_put_tensor(struct qn_gguf_writer *writer, const char *name, enum quern_format format,
                        uint32_t n_dims, const uint64_t *dim, const void *data)
{
    if (writer->fault.status)
        return;
    struct pending_tensor tensor = {.format = format, .n_dims = n_dims, .data = data};
    const char *reason = !qn_format_get(format)     ? "has a type that no format has"
                         : n_dims < 1 || n_dims > 4 ? "has too few or too many dimensions"
                                                    : NULL;
    if (!reason) {
        memcpy(tensor.dim, dim, n_dims * sizeof *dim);
        tensor.bytes = qn_gguf_tensor_bytes(format, n_dims, dim, &reason);
    }
    if (reason) {
        qn_fail(&writer->fault, QUERN_ERR_PARAM, "tensor '%s' %s", qn_show(str_of(name)).text, reason);
        return;
    }
    tensor.name = qn_strndup(writer->cb, name, strlen(name));
    if (!tensor.name ||
        !qn_grow(writer->cb, &writer->tensors, &writer->cap_tensors, writer->n_tensors + 1, sizeof tensor)) {
        qn_free(writer->cb, tensor.name);
        qn_fail_memory(&writer->fault, "a model file's tensors");
        return;
    }
    writer->tensors[writer->n_tensors++] = tensor;
}

/* ---- the file ---- */

static uint64_t padding(uint64_t n, uint32_t alignment)
{
    return (alignment - n % alignment) % alignment;
}

/* Everything before the data, padded; what fails is in writer->fault. */
static void encode_header(struct qn_gguf_writer *writer, struct bytes *header)
{
    put_bytes(writer, header, "GGUF", 4);
    put_number(writer, header, 3, 4);
    put_number(writer, header, writer->n_tensors, 8);
    put_number(writer, header, writer->n_kvs, 8);
    put_bytes(writer, header, writer->kvs.data, writer->kvs.n);
    uint64_t offset = 0;
    for (size_t i = 0; i < writer->n_tensors; i++) {
        const struct pending_tensor *tensor = &writer->tensors[i];
        put_text(writer, header, str_of(tensor->name));
        put_number(writer, header, tensor->n_dims, 4);
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            put_number(writer, header, tensor->dim[k], 8);
        put_number(writer, header, tensor->format, 4);
        put_number(writer, header, offset, 8);
        offset += tensor->bytes + padding(tensor->bytes, writer->alignment);
    }
    while (header->n % writer->alignment != 0 && !writer->fault.status)
        put_number(writer, header, 0, 1);
}

/* The whole file as 1 + 2 * n_tensors pieces: header; each tensor and its padding. */
static enum quern_status make_pieces(struct qn_gguf_writer *writer, struct bytes *header,
                                     struct qn_piece **pieces, size_t *n, struct quern_error *err)
{
    *n = 1 + 2 * writer->n_tensors;
    *pieces = NULL;
    encode_header(writer, header);
    if (writer->fault.status) {
        if (err)
            *err = writer->fault;
        return writer->fault.status;
    }
    struct quern_callbacks quiet = *writer->cb;
    quiet.log = NULL;
    struct qn_gguf *check;
    struct quern_error why;
    const struct qn_gguf_params params = {.no_tensors = true};
    enum quern_status status = qn_gguf_open_memory(&quiet, &check, header->data, header->n, &params, &why);
    qn_gguf_close(&quiet, &check);
    if (status)
        return qn_fail(err, status == QUERN_ERR_FILE ? QUERN_ERR_PARAM : status,
                       "model file to be written: %s", why.text);
    *pieces = qn_alloc(writer->cb, *n, sizeof **pieces);
    if (!*pieces)
        return qn_fail_memory(err, "a model file's tensors");
    (*pieces)[0] = (struct qn_piece){header->data, header->n};
    for (size_t i = 0; i < writer->n_tensors; i++) {
        const struct pending_tensor *tensor = &writer->tensors[i];
        (*pieces)[1 + 2 * i] = (struct qn_piece){tensor->data, tensor->bytes};
        (*pieces)[2 + 2 * i] = (struct qn_piece){NULL, padding(tensor->bytes, writer->alignment)};
    }
    return QUERN_OK;
}

static enum quern_status join(struct qn_gguf_writer *writer, const struct qn_piece *pieces, size_t n,
                              void **out, size_t *size, struct quern_error *err)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].size > SIZE_MAX - total)
            return qn_fail_memory(err, "a model file");
        total += pieces[i].size;
    }
    uint8_t *to = qn_alloc(writer->cb, (size_t)total, 1);
    if (!to)
        return qn_fail_memory(err, "a model file");
    *out = to;
    *size = (size_t)total;
    for (size_t i = 0; i < n; to += pieces[i++].size) {
        if (pieces[i].data)
            memcpy(to, pieces[i].data, (size_t)pieces[i].size);
        else
            memset(to, 0, (size_t)pieces[i].size);
    }
    return QUERN_OK;
}

enum quern_status qn_gguf_write_memory(struct qn_gguf_writer *writer, void **out, size_t *size,
                                       struct quern_error *err)
{
    struct bytes header = {0};
    struct qn_piece *pieces;
    size_t n;
    *out = NULL;
    *size = 0;
    enum quern_status status = make_pieces(writer, &header, &pieces, &n, err);
    if (!status)
        status = join(writer, pieces, n, out, size, err);
    qn_free(writer->cb, pieces);
    qn_free(writer->cb, header.data);
    return status;
}

enum quern_status qn_gguf_write_path(struct qn_gguf_writer *writer, const char *path, struct quern_error *err)
{
    struct bytes header = {0};
    struct qn_piece *pieces;
    size_t n;
    enum quern_status status = make_pieces(writer, &header, &pieces, &n, err);
    if (!status)
        status = qn_write_pieces(writer->cb, path, pieces, n, err);
    qn_free(writer->cb, pieces);
    qn_free(writer->cb, header.data);
    return status;
}
