/* Files: mapped or read whole, from a path or from a range of an open descriptor. Directories of them. */
#ifndef QN_BASE_FILE_H
#define QN_BASE_FILE_H

#include "base/host.h"

/* A read-only view of bytes. `data` is valid until qn_view_finish(). */
struct qn_view {
    const uint8_t *data;
    uint64_t size;
    int64_t written_ns; /* the file's date, since 1970; 0: no file */
    /* how it must be undone */
    void *map_base;
    size_t map_size;
    void *heap;
};

/* Maps the file, or reads it where mapping is refused or `use_mmap` is false. On failure *view is zero. */
enum quern_status qn_view_path(const struct quern_callbacks *cb, struct qn_view *view, const char *path,
                               bool use_mmap, struct quern_error *err);
/* The same for `length` bytes (0: to the end) from `offset` of a descriptor, which stays the caller's.
 * `name` is used in errors. */
enum quern_status qn_view_fd(const struct quern_callbacks *cb, struct qn_view *view, int fd, uint64_t offset,
                             uint64_t length, bool use_mmap, const char *name, struct quern_error *err);
void qn_view_finish(const struct quern_callbacks *cb, struct qn_view *view);
/* Tells the system that the range will be read soon (a hint). */
void qn_view_prefetch(const struct qn_view *view, uint64_t offset, uint64_t length);
/* Tells the system that what is mapped there need not stay in memory (a hint): it is read again when it is
 * used. */
void qn_view_drop(const struct qn_view *view, uint64_t offset, uint64_t length);

/* Replaces `path` by `size` bytes: written beside it as "PATH.*.part", flushed, renamed; the old file
 * survives a failure. */
enum quern_status qn_write_file(const struct quern_callbacks *cb, const char *path, const void *data,
                                size_t size, struct quern_error *err);

/* The same from n pieces, one after another. */
struct qn_piece {
    const void *data; /* NULL: zeros */
    uint64_t size;
};
enum quern_status qn_write_pieces(const struct quern_callbacks *cb, const char *path,
                                  const struct qn_piece *pieces, size_t n, struct quern_error *err);

/* ---- directories ---- */

struct qn_dir_entry {
    const char *name; /* of a regular file, without the directory */
    uint64_t bytes;
    int64_t written_ns; /* since 1970 */
};

/* Makes the directory and those above it, for this user alone; that it is there already is no fault. */
enum quern_status qn_dir_make(const struct quern_callbacks *cb, const char *path, struct quern_error *err);
/* Calls `each` for every regular file in the directory, in no order; false ends it. The entry is valid during
 * the call. */
enum quern_status qn_dir_list(const struct quern_callbacks *cb, const char *path,
                              bool (*each)(void *user, const struct qn_dir_entry *entry), void *user,
                              struct quern_error *err);
/* Bytes and date of a file or directory (either may be NULL); false: there is none. */
bool qn_file_stat(const struct quern_callbacks *cb, const char *path, uint64_t *bytes, int64_t *written_ns);
/* False: it is still there. */
bool qn_file_remove(const struct quern_callbacks *cb, const char *path);
/* Whether the file is one that qn_write_pieces() had no time to finish, and that nobody writes any more. */
bool qn_part_is_left(const struct qn_dir_entry *entry);
/* Removes those that are left of `path`. */
void qn_parts_remove(const struct quern_callbacks *cb, const char *path);
/* Marks the file as written now; false: it cannot. */
bool qn_file_touch(const struct quern_callbacks *cb, const char *path);

size_t qn_page_size(void);
/* Asks for larger pages of memory that all will be used (a hint): reading it then waits less for addresses.
 */
void qn_memory_large_pages(void *data, uint64_t bytes);

#endif
