/* The GLSL of the kernels: that in the program, or a folder's in its place. */
#ifndef QN_VK_SOURCES_H
#define QN_VK_SOURCES_H

#include "base/host.h"

struct qn_vk_source {
    const char *name; /* "lib/step.glsl" */
    const char *text;
    size_t bytes;
};

/* Made by shaders/embed.py, sorted by name. */
extern const struct qn_vk_source qn_vk_sources[];
extern const size_t qn_vk_n_sources;
/* Changes when any of them does. */
extern const char qn_vk_sources_hash[];

/* Files of the folder, read at first use. */
struct qn_vk_folder {
    const struct quern_callbacks *cb;
    const char *path; /* NULL: none, all comes from the program */
    struct qn_vk_source *files;
    size_t n, cap;
};

enum { QN_VK_MAX_INCLUDED = 256 };

/* A kernel's source and all that it includes, directly or not, under any condition. */
struct qn_vk_unit {
    uint32_t n;
    struct qn_vk_source file[QN_VK_MAX_INCLUDED]; /* the kernel's first */
};

void qn_vk_folder_finish(struct qn_vk_folder *folder);
/* Gathers the unit of a source. QUERN_ERR_FILE names the file that is missing and the line that wants it. The
 * unit is valid as long as the folder. */
enum quern_status qn_vk_unit_gather(struct qn_vk_folder *folder, const char *name, struct qn_vk_unit *unit,
                                    struct quern_error *err);
/* The file that `wanted` in an #include of the file `by` stands for; NULL: it is not in the unit. */
const struct qn_vk_source *qn_vk_unit_find(const struct qn_vk_unit *unit, const char *wanted, const char *by);

#endif
