/* What this driver needs of the system: a loader, drivers of GPUs and access to these. */
#include "base/file.h"
#include "base/library.h"
#include "base/machine.h"
#include "drivers/vulkan/device.h"
#include "drivers/vulkan/kernels.h"
#include "drivers/vulkan/manifests.h"
#include "drivers/vulkan/shaderc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct examination {
    const struct quern_host *host;
    const char *root;
    quern_finding_fn finding;
    void *user;
};

static void tell(const struct examination *e, const char *what, const char *found, uint32_t state,
                 const char *wrong, const char *fix)
{
    e->finding(e->user, &(struct quern_finding){.topic = "vulkan",
                                                .what = what,
                                                .found = found,
                                                .state = state,
                                                .wrong = state ? wrong : "",
                                                .fix = state ? fix : ""});
}

/* Kernels that are not in the program need a compiler. */
static void examine_compiler(const struct examination *e)
{
    struct qn_shaderc *shaderc;
    struct quern_error err = {0};
    enum quern_status status = qn_shaderc_open(e->host->callbacks, &shaderc, &err);
    bool whole = qn_vk_modules_whole();
    char found[600];
    snprintf(found, sizeof found, "%s", status ? "none that can be loaded" : qn_shaderc_version(shaderc));
    tell(e, "compiler", found, !status || whole ? QUERN_FINDING_GOOD : QUERN_FINDING_HINT,
         "this program was built without kernels in cooperative matrices, and cannot compile them while it "
         "runs",
         "install shaderc (Debian 13 or later: apt install libshaderc1), or build with a glslc that knows "
         "GL_KHR_cooperative_matrix");
    if (!status)
        qn_shaderc_close(&shaderc);
}

#if !defined(_WIN32) && !defined(__APPLE__)

/* ---- GPUs that the kernel has ---- */

static uint32_t examine_nodes(const struct examination *e)
{
    uint32_t n = 0;
    char path[600], group[64], wrong[128], fix[160];
    for (uint32_t i = 0; qn_vk_node(e->host->callbacks, e->root, &i, path, sizeof path); i++) {
        const char *refused = qn_file_refused(path, group, sizeof group);
        snprintf(wrong, sizeof wrong, "it cannot be opened: %s", refused ? refused : "");
        if (group[0])
            snprintf(fix, sizeof fix, "sudo usermod -aG %s \"$USER\", then log in again", group);
        else
            snprintf(fix, sizeof fix,
                     "let this user open it (ls -l %.80s); in a container, pass the device in", path);
        tell(e, "gpu", path, refused ? QUERN_FINDING_PROBLEM : QUERN_FINDING_GOOD, wrong, fix);
        n++;
    }
    return n;
}

/* ---- the loader and what it loads ---- */

static void examine_loader(const struct examination *e, bool has_gpu)
{
    const char *const *names = qn_vk_loader_names();
    char path[600];
    bool found = false;
    for (size_t i = 0; names[i] && !found; i++)
        found = qn_library_find(e->host->callbacks, names[i], path, sizeof path);
    void *library = found ? NULL : qn_library_open(names); /* elsewhere */
    if (library)
        snprintf(path, sizeof path, "%s", names[0]);
    qn_library_close(library);
    if (found || library)
        tell(e, "loader", path, QUERN_FINDING_GOOD, "", "");
    else
        tell(e, "loader", "none", has_gpu ? QUERN_FINDING_PROBLEM : QUERN_FINDING_HINT,
             has_gpu ? "there is a GPU, and no Vulkan loader to use it with"
                     : "without a Vulkan loader, GPUs cannot be used",
             "install it (Debian: apt install libvulkan1)");
}

/* What the environment tells the loader to load is there. */
static void examine_variable(const struct examination *e, const char *name)
{
    const char *list = getenv(name);
    char path[1024], wrong[1200], fix[200];
    snprintf(fix, sizeof fix, "unset %s, or name in it a file that there is", name);
    for (; list && *list; list += strspn(list, ":")) {
        size_t n = strcspn(list, ":");
        snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : sizeof path - 1), list);
        if (!qn_file_stat(e->host->callbacks, path, NULL, NULL)) {
            snprintf(wrong, sizeof wrong, "there is no %s", path);
            tell(e, name, getenv(name), QUERN_FINDING_PROBLEM, wrong, fix);
        }
        list += n;
    }
}

static void examine_drivers(const struct examination *e, bool has_gpu)
{
    struct quern_driver_identity *identity = qn_zalloc(e->host->callbacks, 1, sizeof *identity);
    char library[600], wrong[800];
    if (!identity || qn_vk_identify(e->host, identity, NULL)) {
        qn_free(e->host->callbacks, identity);
        return;
    }
    for (uint32_t i = 0; i < identity->n_parts; i++) {
        bool whole = qn_vk_part_library(&identity->part[i], library, sizeof library);
        snprintf(wrong, sizeof wrong, "it names %s, which is not there", library[0] ? library : "no library");
        tell(e, "driver", identity->part[i].path, whole ? QUERN_FINDING_GOOD : QUERN_FINDING_PROBLEM, wrong,
             "install the package that has the manifest again (Debian: dpkg -S FILE names it), or remove the "
             "file");
    }
    if (identity->n_parts == 0)
        tell(e, "driver", "none", has_gpu ? QUERN_FINDING_PROBLEM : QUERN_FINDING_HINT,
             has_gpu ? "there is a GPU, and no Vulkan driver for it"
                     : "without a Vulkan driver, GPUs cannot be used",
             "install the GPU's (Debian: apt install mesa-vulkan-drivers for those whose drivers are part of "
             "Mesa; else what the maker offers)");
    qn_free(e->host->callbacks, identity);
}

void qn_vk_examine(const struct quern_host *host, const char *root, quern_finding_fn finding, void *user)
{
    const struct examination e = {host, root, finding, user};
    static const char *const variables[] = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"};
    bool has_gpu = examine_nodes(&e) > 0;
    examine_loader(&e, has_gpu);
    for (size_t i = 0; i < QN_LEN(variables); i++)
        examine_variable(&e, variables[i]);
    examine_drivers(&e, has_gpu);
    examine_compiler(&e);
}

#else

void qn_vk_examine(const struct quern_host *host, const char *root, quern_finding_fn finding, void *user)
{
    const struct examination e = {host, root, finding, user};
    void *library = qn_library_open(qn_vk_loader_names());
    tell(&e, "loader", library ? "there" : "none", library ? QUERN_FINDING_GOOD : QUERN_FINDING_HINT,
         "without a Vulkan loader, GPUs cannot be used",
         "install the driver that the GPU's maker offers, or the Vulkan SDK");
    qn_library_close(library);
    examine_compiler(&e);
}

#endif
