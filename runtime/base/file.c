/* The part of file.h that is the same on every system. */
#include "base/file.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

enum quern_status qn_write_file(const struct quern_callbacks *cb, const char *path, const void *data,
                                size_t size, struct quern_error *err)
{
    return qn_write_pieces(cb, path, &(struct qn_piece){data, size}, 1, err);
}

/* ---- files that were not finished ---- */

static const int64_t PART_AGE_NS = 3600 * 1000000000ll; /* then nobody is writing it any more */

bool qn_part_is_left(const struct qn_dir_entry *entry)
{
    static const char end[] = ".part";
    const size_t n = strlen(entry->name), m = sizeof end - 1;
    return n > m && strcmp(entry->name + n - m, end) == 0 && qn_date_ns() - entry->written_ns > PART_AGE_NS;
}

struct parts {
    const struct quern_callbacks *cb;
    char *folder;
    const char *name; /* of what they are parts of */
};

static bool remove_part(void *user, const struct qn_dir_entry *entry)
{
    const struct parts *parts = user;
    const size_t n = strlen(parts->name), size = strlen(parts->folder) + strlen(entry->name) + 2;
    if (strncmp(entry->name, parts->name, n) != 0 || entry->name[n] != '.' || !qn_part_is_left(entry))
        return true;
    char *path = qn_alloc(parts->cb, size, 1);
    if (path) {
        snprintf(path, size, "%s/%s", parts->folder, entry->name);
        (void)qn_file_remove(parts->cb, path);
    }
    qn_free(parts->cb, path);
    return true;
}

void qn_parts_remove(const struct quern_callbacks *cb, const char *path)
{
    const char *name = path + strlen(path);
    while (name > path && name[-1] != '/' && name[-1] != '\\')
        name--;
    const bool bare = name == path;
    struct parts parts = {cb, qn_strndup(cb, bare ? "." : path, bare ? 1 : (size_t)(name - path)), name};
    if (parts.folder)
        (void)qn_dir_list(cb, parts.folder, remove_part, &parts, NULL);
    qn_free(cb, parts.folder);
}
