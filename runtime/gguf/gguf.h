/* GGUF model files: reader and writer. Hostile input is the reader's normal case: whatever it hands out has
 * been checked, and points into the (mapped) file. Nothing here knows what a key or a tensor means to a
 * model. */
#ifndef QN_GGUF_H
#define QN_GGUF_H

#include "base/file.h"
#include <quern/format.h>

enum qn_gguf_type {
    QN_GGUF_U8 = 0,
    QN_GGUF_I8 = 1,
    QN_GGUF_U16 = 2,
    QN_GGUF_I16 = 3,
    QN_GGUF_U32 = 4,
    QN_GGUF_I32 = 5,
    QN_GGUF_F32 = 6,
    QN_GGUF_BOOL = 7,
    QN_GGUF_STRING = 8,
    QN_GGUF_ARRAY = 9,
    QN_GGUF_U64 = 10,
    QN_GGUF_I64 = 11,
    QN_GGUF_F64 = 12,
};

/* Bytes in the file; not NUL-terminated. */
struct qn_str {
    const char *data;
    size_t len;
};

/* One metadata entry. */
struct qn_gguf_kv {
    struct qn_str key;
    enum qn_gguf_type type; /* of the elements where is_array */
    bool is_array;
    uint64_t n; /* elements; 1 for a scalar */
    const uint8_t
        *data; /* first element, little-endian, unaligned; strings: u64 length, bytes, one after another */
    uint64_t bytes; /* of all elements */
};

struct qn_gguf_tensor {
    struct qn_str name;
    enum quern_format format;
    uint32_t n_dims; /* 1 to 4 */
    uint64_t dim[4]; /* innermost first; the rest is 1 */
    uint64_t bytes;
    uint32_t part;       /* which file of a split model */
    uint64_t offset;     /* of the data, from the start of that part */
    const uint8_t *data; /* aligned as the file says (at least 8) when mapped */
};

struct qn_gguf; /* immutable once open: any number of threads may read it */

struct qn_gguf_params {
    bool use_mmap;   /* false: read the file into memory */
    bool no_tensors; /* vocabulary only: tensor data and further parts need not be present; data is NULL then
                      */
};

/* Opens a file, or all parts of a split model when `path` names its first ("-00001-of-0000N.gguf").
 * On failure *out is NULL and err names the file, the field and what was expected. Oddities that do no harm
 * are logged as warnings. */
enum quern_status qn_gguf_open(const struct quern_callbacks *cb, struct qn_gguf **out, const char *path,
                               const struct qn_gguf_params *params, struct quern_error *err);
/* The same from `length` bytes (0: to the end) at `offset` of a descriptor that stays the caller's; never
 * split. Where `offset` is no multiple of the file's alignment, tensor data is not aligned either. */
enum quern_status qn_gguf_open_fd(const struct quern_callbacks *cb, struct qn_gguf **out, int fd,
                                  uint64_t offset, uint64_t length, const struct qn_gguf_params *params,
                                  struct quern_error *err);
/* The same from memory that outlives the reader (tests, fuzzing). */
enum quern_status qn_gguf_open_memory(const struct quern_callbacks *cb, struct qn_gguf **out,
                                      const void *data, size_t size, const struct qn_gguf_params *params,
                                      struct quern_error *err);
void qn_gguf_close(const struct quern_callbacks *cb, struct qn_gguf **gguf);

const char *qn_gguf_name(const struct qn_gguf *gguf); /* file name for messages */
uint32_t qn_gguf_version(const struct qn_gguf *gguf);
uint32_t qn_gguf_alignment(const struct qn_gguf *gguf);
uint32_t qn_gguf_n_parts(const struct qn_gguf *gguf);
uint64_t qn_gguf_file_bytes(const struct qn_gguf *gguf); /* of all parts */
size_t qn_gguf_n_kvs(const struct qn_gguf *gguf);
const struct qn_gguf_kv *qn_gguf_kv_at(const struct qn_gguf *gguf,
                                       size_t index); /* in file order, first part */
size_t qn_gguf_n_tensors(const struct qn_gguf *gguf);
const struct qn_gguf_tensor *qn_gguf_tensor_at(const struct qn_gguf *gguf, size_t index);
/* The bytes of part `part`, so that a driver may import or prefetch them. */
const struct qn_view *qn_gguf_part(const struct qn_gguf *gguf, uint32_t part);

/* By name (binary search); NULL: there is none. */
const struct qn_gguf_kv *qn_gguf_find(const struct qn_gguf *gguf, const char *key);
const struct qn_gguf_tensor *qn_gguf_find_tensor(const struct qn_gguf *gguf, const char *name);

/* Scalars by key. Any integer type is accepted where the value fits; F32 also from F64 and back.
 * Missing: an error when `required`, else *out keeps what the caller put there.
 * Wrong type or range: QUERN_ERR_FILE naming file, key, what it is and what was expected. */
enum quern_status qn_gguf_u32(const struct qn_gguf *gguf, const char *key, uint32_t *out, bool required,
                              struct quern_error *err);
enum quern_status qn_gguf_f32(const struct qn_gguf *gguf, const char *key, float *out, bool required,
                              struct quern_error *err);
enum quern_status qn_gguf_bool(const struct qn_gguf *gguf, const char *key, bool *out, bool required,
                               struct quern_error *err);
enum quern_status qn_gguf_str(const struct qn_gguf *gguf, const char *key, struct qn_str *out, bool required,
                              struct quern_error *err);
/* Array whose elements are `type` (integers: any integer type); *out NULL when missing and not required. */
enum quern_status qn_gguf_array(const struct qn_gguf *gguf, const char *key, enum qn_gguf_type type,
                                const struct qn_gguf_kv **out, bool required, struct quern_error *err);

/* Element i of a fixed-size numeric entry, converted. The caller has checked type and n. */
int64_t qn_gguf_int_at(const struct qn_gguf_kv *kv, uint64_t i);
double qn_gguf_real_at(const struct qn_gguf_kv *kv, uint64_t i);
/* Strings one after another: `cursor` starts at 0; false at the end. */
bool qn_gguf_next_str(const struct qn_gguf_kv *kv, uint64_t *cursor, struct qn_str *out);

/* "u32", "string", ...; NULL for a number that no type has. */
const char *qn_gguf_type_name(enum qn_gguf_type type);

/* ---- writer ---- */

/* Collects entries and tensors, then writes a file (version 3) in one go. Errors are sticky: check at the
 * end. `cb` must stay until it is destroyed; create returns NULL when memory is out; alignment 0 is 32. */
struct qn_gguf_writer;

struct qn_gguf_writer *qn_gguf_writer_create(const struct quern_callbacks *cb, uint32_t alignment);
void qn_gguf_writer_destroy(const struct quern_callbacks *cb, struct qn_gguf_writer **writer);
void qn_gguf_put_u32(struct qn_gguf_writer *writer, const char *key, uint32_t value);
void qn_gguf_put_u64(struct qn_gguf_writer *writer, const char *key, uint64_t value);
void qn_gguf_put_i32(struct qn_gguf_writer *writer, const char *key, int32_t value);
void qn_gguf_put_f32(struct qn_gguf_writer *writer, const char *key, float value);
void qn_gguf_put_bool(struct qn_gguf_writer *writer, const char *key, bool value);
void qn_gguf_put_str(struct qn_gguf_writer *writer, const char *key, const char *value);
void qn_gguf_put_strs(struct qn_gguf_writer *writer, const char *key, const struct qn_str *values, size_t n);
/* n elements of a fixed-size type, as they lie in memory. */
void qn_gguf_put_array(struct qn_gguf_writer *writer, const char *key, enum qn_gguf_type type,
                       const void *values, size_t n);
/* Copies an entry of another file as it is; leaves "general.alignment" out, since the writer has its own. */
void qn_gguf_put_kv(struct qn_gguf_writer *writer, const struct qn_gguf_kv *kv);
/* `data` (bytes as the format says; NULL: zeros) must stay until the write. */
void qn_gguf_put_tensor(struct qn_gguf_writer *writer, const char *name, enum quern_format format,
                        uint32_t n_dims, const uint64_t *dim, const void *data);
/* The file's bytes in memory of the caller (free with qn_free). */
enum quern_status qn_gguf_write_memory(struct qn_gguf_writer *writer, void **out, size_t *size,
                                       struct quern_error *err);
/* To `path`, streamed; replaces what is there only when all went well. */
enum quern_status qn_gguf_write_path(struct qn_gguf_writer *writer, const char *path,
                                     struct quern_error *err);

#endif
