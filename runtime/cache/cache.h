/* Blobs on disk, found again by a kind and a key, both opaque to the cache. Internal companion of
 * quern/cache.h.
 *
 * An entry is a file "KIND-<hash of kind and key>.qnc", in little-endian order:
 *     0  "QNCACHE\n"          16  kind, filled with zeros    56  data's bytes
 *     8  version of the form  48  key's bytes, u32           64  key, filled with zeros to 64 bytes
 *    12  zero                 52  zero                           data
 *   and the last 8 bytes: xxh3 of the data, seeded with that of the key, seeded with that of the 64 bytes. */
#ifndef QN_CACHE_H
#define QN_CACHE_H

#include "base/file.h"
#include <quern/cache.h>

/* ---- entry.c: one file ---- */

enum { QN_CACHE_VERSION = 1, QN_CACHE_HEAD = 64, QN_CACHE_TAIL = 8, QN_CACHE_MAX_KEY = 1 << 20 };

struct qn_cache_entry {
    const char *kind;
    const void *key;
    size_t key_bytes;
    const void *data;
    size_t data_bytes;
};

/* 'a' to 'z', digits and '-', from 1 to 31 of them. */
bool qn_cache_kind_good(const char *kind);
/* Bytes of an entry's file; 0: too many. */
uint64_t qn_cache_size(const struct qn_cache_entry *entry);
/* Head and tail of the entry's file. The key is at most QN_CACHE_MAX_KEY bytes. */
void qn_cache_write(const struct qn_cache_entry *entry, uint8_t head[QN_CACHE_HEAD],
                    uint8_t tail[QN_CACHE_TAIL]);
/* What is in a file's bytes; pointers into them. NULL, or what is wrong with it. */
const char *qn_cache_read(const void *file, size_t size, struct qn_cache_entry *entry);
/* Name of the entry's file. */
void qn_cache_name(const struct qn_cache_entry *entry, char name[80]);

/* ---- cache.c; a cache of NULL is one that is empty and takes nothing ---- */

struct qn_blob {
    const void *data; /* aligned to QN_ALIGN; NULL: not found */
    size_t bytes;
    void *heap;
};

/* False: not there, or not whole (then it is removed and that is logged). */
bool qn_cache_get(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                  struct qn_blob *blob);
void qn_blob_finish(const struct quern_cache *cache, struct qn_blob *blob);
/* Keeps the data, in place of what had the key before; a failure is logged and costs only the time to work it
 * out again. No secrets and nothing of prompts. */
void qn_cache_put(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes,
                  const void *data, size_t bytes);
/* For files that are too large to be copied in and out: they stand among the entries, and are counted, listed
 * and cleared as such, but are written and mapped by others in a form of their own. A kind has entries or
 * such files. */
/* Path of the file, to be freed; NULL: no cache, or no memory. */
char *qn_cache_path(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes);
/* Writes it, whole or not at all. */
enum quern_status qn_cache_write_pieces(const struct quern_cache *cache, const char *kind, const void *key,
                                        size_t key_bytes, const struct qn_piece *pieces, size_t n,
                                        struct quern_error *err);
/* The directory, for files beside the entries; NULL of a cache of NULL. */
const char *qn_cache_dir(const struct quern_cache *cache);
/* Removes the entry, if it is there. */
void qn_cache_drop(const struct quern_cache *cache, const char *kind, const void *key, size_t key_bytes);

#endif
