/* The part of file.h that is the same on every system. */
#include "base/file.h"

enum quern_status qn_write_file(const struct quern_callbacks *cb, const char *path, const void *data,
                                size_t size, struct quern_error *err)
{
    return qn_write_pieces(cb, path, &(struct qn_piece){data, size}, 1, err);
}
