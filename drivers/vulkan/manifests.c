/* Which drivers the Vulkan loader would load, found out without it: their manifests, as the loader looks for
 * them (Vulkan-Loader, docs/LoaderDriverInterface.md). The environment is read here because the loader reads
 * it. */
#include "drivers/vulkan/manifests.h"

#include "base/file.h"
#include "base/library.h"
#include "drivers/vulkan/kernels.h"
#include "drivers/vulkan/shaderc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(_WIN32) && !defined(__APPLE__)

struct search {
    const struct quern_callbacks *cb;
    struct quern_driver_identity *identity;
    const char *folder;
    size_t folder_length;
};

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* ---- one manifest ---- */

/* The value of "library_path", which is text without escapes on the systems that come here; false: there is
 * none. */
static bool library_of(const struct quern_callbacks *cb, const char *path, char *library, size_t size)
{
    static const char key[] = "\"library_path\"";
    struct qn_view view;
    bool found = false;
    if (qn_view_path(cb, &view, path, false, NULL))
        return false;
    const char *at = (const char *)view.data, *end = at + view.size;
    while (end - at > (ptrdiff_t)sizeof key && memcmp(at, key, sizeof key - 1) != 0)
        at++;
    if (end - at > (ptrdiff_t)sizeof key) {
        at += sizeof key - 1;
        while (at < end && *at != '"')
            at++;
        const char *first = at < end ? ++at : at;
        while (at < end && *at != '"')
            at++;
        size_t n = (size_t)(at - first);
        found = at < end && n > 0 && n < size;
        if (found) {
            memcpy(library, first, n);
            library[n] = '\0';
        }
    }
    qn_view_finish(cb, &view);
    return found;
}

static bool version_of(const struct quern_callbacks *cb, const char *path, char *text, size_t size)
{
    uint64_t bytes = 0;
    int64_t written_ns = 0;
    bool there = qn_file_stat(cb, path, &bytes, &written_ns);
    if (there)
        snprintf(text, size, "%llu@%lld", (unsigned long long)bytes, (long long)written_ns);
    return there;
}

/* Size and date of the library that a manifest names: beside the manifest, or where the system's are. */
static void library_version(const struct quern_callbacks *cb, const char *manifest, const char *library,
                            char *text, size_t size)
{
    char path[1024];
    snprintf(text, size, "?");
    if (library[0] == '/') {
        version_of(cb, library, text, size);
        return;
    }
    if (strchr(library, '/')) {
        int folder = (int)(strrchr(manifest, '/') - manifest) + 1;
        snprintf(path, sizeof path, "%.*s%s", folder, manifest, library);
        version_of(cb, path, text, size);
        return;
    }
    if (qn_library_find(cb, library, path, sizeof path))
        version_of(cb, path, text, size);
}

static bool is_manifest(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".json") == 0;
}

static void add(struct search *search, const char *path)
{
    struct quern_driver_identity *identity = search->identity;
    struct quern_driver_part *part = &identity->part[identity->n_parts];
    char own[64] = "", library[512] = "", of_library[64] = "?";
    if (identity->n_parts == QUERN_MAX_PARTS || strlen(path) >= sizeof part->path || !strchr(path, '/'))
        return;
    for (uint32_t i = 0; i < identity->n_parts; i++)
        if (strcmp(identity->part[i].path, path) == 0)
            return;
    if (!version_of(search->cb, path, own, sizeof own))
        return;
    if (library_of(search->cb, path, library, sizeof library))
        library_version(search->cb, path, library, of_library, sizeof of_library);
    snprintf(part->path, sizeof part->path, "%s", path);
    snprintf(part->version, sizeof part->version, "%s %.120s %s", own, library, of_library);
    identity->n_parts++;
}

bool qn_vk_part_library(const struct quern_driver_part *part, char *library, size_t size)
{
    const char *first = strchr(part->version, ' '), *last = strrchr(part->version, ' ');
    snprintf(library, size, "%.*s", first && last > first ? (int)(last - first - 1) : 0,
             first ? first + 1 : "");
    return last && strcmp(last, " ?") != 0;
}

/* ---- where they are ---- */

static bool add_entry(void *user, const struct qn_dir_entry *entry)
{
    struct search *search = user;
    char path[1024];
    int n = snprintf(path, sizeof path, "%.*s/%s", (int)search->folder_length, search->folder, entry->name);
    if (is_manifest(entry->name) && n > 0 && (size_t)n < sizeof path)
        add(search, path);
    return true;
}

/* All manifests in FOLDER + tail. */
static void add_folder(struct search *search, const char *folder, size_t length, const char *tail)
{
    char path[1024];
    int n = snprintf(path, sizeof path, "%.*s%s", (int)length, folder, tail);
    if (length == 0 || n <= 0 || (size_t)n >= sizeof path)
        return;
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    search->folder = path;
    search->folder_length = (size_t)n;
    if (qn_file_stat(search->cb, path, NULL, NULL))
        (void)qn_dir_list(search->cb, path, add_entry, search, NULL);
}

/* Files and folders of a list with colons; `tail` is appended to each. */
static void add_list(struct search *search, const char *list, const char *tail)
{
    while (*list) {
        size_t n = strcspn(list, ":");
        char path[1024];
        snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : 0), list);
        if (!tail[0] && is_manifest(path))
            add(search, path);
        else
            add_folder(search, list, n, tail);
        list += n + (list[n] == ':');
    }
}

static void add_of_home(struct search *search, const char *name, const char *under_home)
{
    const char *set = variable(name), *home = variable("HOME");
    char path[1024];
    if (set) {
        add_folder(search, set, strlen(set), "/vulkan/icd.d");
    } else if (home) {
        snprintf(path, sizeof path, "%s%s", home, under_home);
        add_folder(search, path, strlen(path), "/vulkan/icd.d");
    }
}

static void add_all(struct search *search)
{
    const char *only =
        variable("VK_DRIVER_FILES") ? variable("VK_DRIVER_FILES") : variable("VK_ICD_FILENAMES");
    if (only) {
        add_list(search, only, "");
        return;
    }
    const char *more = variable("VK_ADD_DRIVER_FILES"), *dirs = variable("XDG_CONFIG_DIRS");
    if (more)
        add_list(search, more, "");
    add_of_home(search, "XDG_CONFIG_HOME", "/.config");
    add_list(search, dirs ? dirs : "/etc/xdg", "/vulkan/icd.d");
    add_list(search, "/etc", "/vulkan/icd.d");
    add_of_home(search, "XDG_DATA_HOME", "/.local/share");
    dirs = variable("XDG_DATA_DIRS");
    add_list(search, dirs ? dirs : "/usr/local/share:/usr/share", "/vulkan/icd.d");
}

/* ---- what else there is ---- */

bool qn_vk_node(const struct quern_callbacks *cb, const char *root, uint32_t *index, char *path, size_t size)
{
    static const char *const nodes[] = {"/dev/dri/renderD", "/dev/nvidia", "/dev/mali", "/dev/kgsl-3d"};
    enum { OF_A_KIND = 16 };
    for (; *index < QN_LEN(nodes) * OF_A_KIND; ++*index) {
        uint32_t kind = *index / OF_A_KIND, k = *index % OF_A_KIND;
        int n = snprintf(path, size, "%s%s%u", root, nodes[kind], kind == 0 ? 128 + k : k);
        if (n > 0 && (size_t)n < size && qn_file_stat(cb, path, NULL, NULL))
            return true;
    }
    return false;
}

/* Settings of the loader that change what devices show, the kernel's nodes of GPUs, and the compiler where
 * it decides which features can be used. */
static void describe_machine(const struct quern_callbacks *cb, char *text, size_t size)
{
    static const char *const variables[] = {"VK_INSTANCE_LAYERS", "VK_LOADER_LAYERS_ENABLE",
                                            "VK_LOADER_LAYERS_DISABLE", "VK_LOADER_DRIVERS_SELECT",
                                            "VK_LOADER_DRIVERS_DISABLE"};
    char path[64];
    size_t n = 0;
    for (size_t i = 0; i < QN_LEN(variables) && n < size; i++)
        if (variable(variables[i]))
            n += (size_t)snprintf(text + n, size - n, "%s=%s ", variables[i], variable(variables[i]));
    for (uint32_t i = 0; n < size && qn_vk_node(cb, "", &i, path, sizeof path); i++)
        n += (size_t)snprintf(text + n, size - n, "%s ", path);
    if (n < size && !qn_vk_modules_whole())
        qn_shaderc_find(cb, text + n, size - n);
}

int32_t qn_vk_identify(const struct quern_host *host, struct quern_driver_identity *identity,
                       struct quern_error *err)
{
    struct search search = {.cb = host->callbacks, .identity = identity};
    identity->n_parts = 0;
    identity->machine[0] = '\0';
    snprintf(identity->build, sizeof identity->build, "%s-%s", qn_vk_modules_hash, qn_vk_sources_hash);
    add_all(&search);
    describe_machine(host->callbacks, identity->machine, sizeof identity->machine);
    return QUERN_OK;
}

int32_t qn_vk_confine(const struct quern_host *host, const struct quern_driver_identity *identity,
                      uint32_t parts, char *environment, size_t size, struct quern_error *err)
{
    static const char *const names[] = {"VK_DRIVER_FILES=", "VK_ICD_FILENAMES="}; /* of new and old loaders */
    size_t n = 0;
    (void)host;
    for (size_t v = 0; v < QN_LEN(names); v++) {
        n += (size_t)snprintf(environment + n, n < size ? size - n : 0, "%s", names[v]);
        bool first = true;
        for (uint32_t p = 0; p < identity->n_parts && n < size; p++)
            if (parts >> p & 1) {
                n += (size_t)snprintf(environment + n, size - n, "%s%s", first ? "" : ":",
                                      identity->part[p].path);
                first = false;
            }
        n++; /* its NUL */
        if (n + 1 >= size)
            return qn_fail(err, QUERN_ERR_PARAM, "the paths of the Vulkan drivers are too long");
    }
    environment[n] = '\0';
    return QUERN_OK;
}

#endif
