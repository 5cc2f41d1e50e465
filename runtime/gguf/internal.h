/* What reader, access functions and writer share. */
#ifndef QN_GGUF_INTERNAL_H
#define QN_GGUF_INTERNAL_H

#include "gguf/gguf.h"

enum {
    QN_GGUF_HEADER_BYTES = 24,
    QN_GGUF_ALIGNMENT_DEFAULT = 32,
    QN_GGUF_ALIGNMENT_MIN = 8,
    QN_GGUF_ALIGNMENT_MAX = 1 << 20,
    QN_GGUF_NAME_MAX = 63,   /* bytes of a tensor name */
    QN_GGUF_KEY_MAX = 65535, /* bytes of a key; longer ones are odd, not wrong */
};

/* One file: a whole model, or a part of a split one. */
struct qn_gguf_part {
    struct qn_view view;
    char *path;
    uint32_t alignment;
};

struct qn_gguf {
    const char *name; /* for messages: the end of the first part's path */
    uint32_t version;
    struct qn_gguf_part *parts;
    size_t n_parts, cap_parts;
    struct qn_gguf_kv *kvs; /* of the first part, in file order */
    size_t n_kvs, cap_kvs;
    uint32_t *kv_order; /* kvs by key */
    struct qn_gguf_tensor *tensors;
    size_t n_tensors, cap_tensors;
    uint32_t *tensor_order; /* tensors by name */
};

static inline uint16_t qn_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t qn_le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t qn_le64(const uint8_t *p)
{
    return qn_le32(p) | (uint64_t)qn_le32(p + 4) << 32;
}

static inline bool qn_gguf_alignment_is_sane(uint32_t alignment)
{
    return alignment >= QN_GGUF_ALIGNMENT_MIN && alignment <= QN_GGUF_ALIGNMENT_MAX &&
           (alignment & (alignment - 1)) == 0;
}

/* Bytes of one value; 0 for strings, arrays and numbers that no type has. */
uint32_t qn_gguf_type_bytes(enum qn_gguf_type type);

/* Sign of a - b as bytes. */
int qn_str_compare(struct qn_str a, struct qn_str b);

/* Bytes of a tensor, or 0 and a reason (a clause such as "has a dimension of 0") when its shape cannot be. */
uint64_t qn_gguf_tensor_bytes(enum quern_format format, uint32_t n_dims, const uint64_t *dim,
                              const char **reason);

/* A piece of a file made fit for a message: clipped, and what is not printable ASCII as a question mark. */
struct qn_shown {
    char text[96];
};
struct qn_shown qn_show(struct qn_str str);

/* The end of a long path, so that the rest of a message has room. */
const char *qn_gguf_short_path(const char *path);

#endif
