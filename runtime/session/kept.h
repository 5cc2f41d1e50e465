/* Laid out weights that are kept on disk beside the model, so that the next start maps them instead of laying
 * them out. A file that does not fit the model, or is not whole, is never used.
 *
 * The file "MODEL.layouts", in little-endian order:
 *     0  "QNLAYOUT"                   40  bytes of the weights, u64
 *     8  version of the form, u32     48  xxh3 of the table, seeded with that of the 48 bytes before
 *    12  tensors, u32                 56  the table, 32 bytes a tensor, in the order of their places:
 *    16  bytes of the model, u64              0  its number in the model, u32   16  its bytes, u64
 *    24  the model's date, ns, i64            4  enum quern_layout, u32         24  its sum (qn_kept_sum)
 *    32  hash of what the model               8  its place in the weights, u64
 *        holds before its tensors
 *   and from the next multiple of 64 KiB, to the file's end, the weights as devices read them. */
#ifndef QN_SESSION_KEPT_H
#define QN_SESSION_KEPT_H

#include "base/file.h"

/* The version counts up when a layout of formats/ changes, too. */
enum { QN_KEPT_VERSION = 1, QN_KEPT_HEAD = 56, QN_KEPT_ENTRY = 32, QN_KEPT_ALIGN = 1 << 16 };

/* ---- kept_form.c: the form of the file, for any bytes ---- */

/* What tells one model from another. */
struct qn_kept_model {
    uint64_t bytes;
    int64_t written_ns;
    uint64_t hash;
};

struct qn_kept_tensor {
    uint32_t tensor, layout;
    uint64_t offset, bytes, sum; /* offset: a multiple of QN_ALIGN, from the start of the weights */
};

struct qn_kept_form {
    struct qn_kept_model model;
    uint32_t n;
    const uint8_t *table, *weights;
    uint64_t bytes; /* of the weights */
};

/* Bytes before the weights of n tensors. */
uint64_t qn_kept_begin(uint32_t n);
/* Writes them; tensors: [n]. */
void qn_kept_write_form(const struct qn_kept_model *model, const struct qn_kept_tensor *tensors, uint32_t n,
                        uint64_t bytes, uint8_t *out);
/* What is in a file's bytes; pointers into them. The weights are not looked at. NULL, or what is wrong. */
const char *qn_kept_read(const void *file, uint64_t size, struct qn_kept_form *form);
struct qn_kept_tensor qn_kept_at(const struct qn_kept_form *form, uint32_t i);

/* The sum of a tensor: over pieces of so many bytes, one after another, from 0 on. */
enum { QN_KEPT_PIECE = 4 << 20 };
uint64_t qn_kept_sum(uint64_t sum, const void *piece, size_t bytes);
uint64_t qn_kept_sum_all(const void *data, uint64_t bytes);

/* ---- kept.c: the file of a model ---- */

struct quern_model;

/* A mapped file; path NULL: none. */
struct qn_kept {
    struct qn_view view;
    struct qn_kept_form form;
    char *path;
};

/* Maps the file that has just what is to be laid out on the device; false: there is none. One that is of no
 * use is left, with a line that says why. */
bool qn_kept_open(struct quern_model *model, uint32_t device);
/* Throws away a file whose weights are not what its sums say; it stays mapped. Writes a line about that. */
enum quern_status qn_kept_remove(struct quern_model *model, uint32_t device, struct quern_error *err);
void qn_kept_close(struct quern_model *model, uint32_t device);
/* Writes what is laid out on the device beside the model, or into the cache where that cannot be. Without the
 * lock, as long as the weights stay. */
void qn_kept_write(struct quern_model *model, uint32_t device);

#endif
