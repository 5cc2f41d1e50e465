/* Sources of kernels and what they include. */
#include "drivers/vulkan/sources.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 256 };

/* ---- files ---- */

static int compare_name(const void *name, const void *source)
{
    return strcmp(name, ((const struct qn_vk_source *)source)->name);
}

/* Reads the file of the folder, if it has it. */
static const struct qn_vk_source *read_file(struct qn_vk_folder *folder, const char *name)
{
    const struct quern_callbacks *cb = folder->cb;
    char path[4096];
    struct qn_view view;
    int n = snprintf(path, sizeof path, "%s/%s", folder->path, name);
    if (n < 0 || n >= (int)sizeof path || qn_view_path(cb, &view, path, false, NULL))
        return NULL;
    struct qn_vk_source *file = NULL;
    char *copy = qn_strndup(cb, (const char *)view.data, (size_t)view.size);
    char *its_name = qn_strndup(cb, name, strlen(name));
    if (copy && its_name && qn_grow(cb, &folder->files, &folder->cap, folder->n + 1, sizeof *folder->files)) {
        file = &folder->files[folder->n++];
        *file = (struct qn_vk_source){its_name, copy, (size_t)view.size};
    } else {
        qn_free(cb, copy);
        qn_free(cb, its_name);
    }
    qn_view_finish(cb, &view);
    return file;
}

static const struct qn_vk_source *file_named(struct qn_vk_folder *folder, const char *name)
{
    for (size_t i = 0; i < folder->n; i++)
        if (strcmp(folder->files[i].name, name) == 0)
            return &folder->files[i];
    const struct qn_vk_source *file = folder->path ? read_file(folder, name) : NULL;
    return file ? file : bsearch(name, qn_vk_sources, qn_vk_n_sources, sizeof *qn_vk_sources, compare_name);
}

void qn_vk_folder_finish(struct qn_vk_folder *folder)
{
    for (size_t i = 0; i < folder->n; i++) {
        qn_free(folder->cb, (void *)(uintptr_t)folder->files[i].name);
        qn_free(folder->cb, (void *)(uintptr_t)folder->files[i].text);
    }
    qn_free(folder->cb, folder->files);
    *folder = (struct qn_vk_folder){.cb = folder->cb};
}

/* ---- names ---- */

/* Where an #include may lead, in this order: beside the including file, at the top, in lib/. */
enum { PLACES = 3 };

/* Name of the file at a place, without "." and ".."; false: it lies outside. */
static bool place(int which, const char *wanted, const char *by, char name[NAME])
{
    const char *slash = strrchr(by, '/');
    int n = snprintf(name, NAME, "%.*s%s", which == 0 && slash ? (int)(slash + 1 - by) : 0, by,
                     which == 2 ? "lib/" : "");
    if (n < 0 || n >= NAME)
        return false;
    for (const char *at = wanted; *at;) {
        size_t part = strcspn(at, "/");
        bool up = part == 2 && memcmp(at, "..", 2) == 0;
        if (up && n == 0)
            return false;
        if (up) {
            while (n > 1 && name[n - 2] != '/')
                n--;
            n = n > 1 ? n - 1 : 0;
        } else if (part > 0 && !(part == 1 && *at == '.')) {
            if ((size_t)n + part + 2 > NAME)
                return false;
            memcpy(name + n, at, part);
            n += (int)part;
            if (at[part] == '/')
                name[n++] = '/';
        }
        at += part + (at[part] == '/');
    }
    name[n] = '\0';
    return n > 0 && name[n - 1] != '/';
}

const struct qn_vk_source *qn_vk_unit_find(const struct qn_vk_unit *unit, const char *wanted, const char *by)
{
    char name[NAME];
    for (int p = 0; p < PLACES; p++)
        for (uint32_t i = 0; i < unit->n && place(p, wanted, by, name); i++)
            if (strcmp(unit->file[i].name, name) == 0)
                return &unit->file[i];
    return NULL;
}

/* ---- units ---- */

/* What the line of `length` bytes includes: false where it includes nothing. */
static bool included(const char *line, size_t length, char wanted[NAME])
{
    static const char word[] = "include";
    const char *at = line, *end = line + length;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    if (at == end || *at++ != '#')
        return false;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    if ((size_t)(end - at) < sizeof word - 1 || memcmp(at, word, sizeof word - 1) != 0)
        return false;
    at += sizeof word - 1;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    if (at == end || *at++ != '"')
        return false;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote || quote == at || quote - at >= NAME)
        return false;
    memcpy(wanted, at, (size_t)(quote - at));
    wanted[quote - at] = '\0';
    return true;
}

static enum quern_status add(struct qn_vk_folder *folder, struct qn_vk_unit *unit, const char *wanted,
                             const struct qn_vk_source *by, uint32_t line, struct quern_error *err)
{
    char name[NAME];
    const struct qn_vk_source *file = NULL;
    for (int p = 0; p < PLACES && !file; p++)
        if (place(p, wanted, by->name, name))
            file = file_named(folder, name);
    if (!file)
        return qn_fail(err, QUERN_ERR_FILE, "%s:%u: there is no %s%s%s", by->name, line, wanted,
                       folder->path ? " in " : "", folder->path ? folder->path : "");
    for (uint32_t i = 0; i < unit->n; i++)
        if (strcmp(unit->file[i].name, file->name) == 0)
            return QUERN_OK;
    if (unit->n == QN_VK_MAX_INCLUDED)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s includes more than %d files", unit->file[0].name,
                       QN_VK_MAX_INCLUDED);
    unit->file[unit->n++] = *file;
    return QUERN_OK;
}

enum quern_status qn_vk_unit_gather(struct qn_vk_folder *folder, const char *name, struct qn_vk_unit *unit,
                                    struct quern_error *err)
{
    unit->n = 0;
    const struct qn_vk_source *first = file_named(folder, name);
    if (!first)
        return qn_fail(err, QUERN_ERR_FILE, "there is no %s%s%s", name, folder->path ? " in " : "",
                       folder->path ? folder->path : "");
    unit->file[unit->n++] = *first;
    enum quern_status status = QUERN_OK;
    for (uint32_t i = 0; i < unit->n; i++) {
        const struct qn_vk_source by = unit->file[i];
        uint32_t number = 1;
        for (const char *line = by.text, *end = by.text + by.bytes; line < end && !status; number++) {
            const char *next = memchr(line, '\n', (size_t)(end - line));
            size_t length = next ? (size_t)(next - line) : (size_t)(end - line);
            char wanted[NAME];
            if (included(line, length, wanted))
                status = add(folder, unit, wanted, &by, number, err);
            line += length + 1;
        }
    }
    return status;
}
