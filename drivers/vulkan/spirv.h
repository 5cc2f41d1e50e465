/* SPIR-V of kernels: that of the program, or compiled while it runs. Settings: "vk-shaders" (a folder of GLSL
 * from which all kernels are compiled in place of the program's). */
#ifndef QN_VK_SPIRV_H
#define QN_VK_SPIRV_H

#include "base/thread.h"
#include "drivers/vulkan/kernels.h"
#include "drivers/vulkan/shaderc.h"

#include <quern/driver.h>

/* Where kernels come from. */
struct qn_vk_shaders {
    const struct quern_host *host;
    struct qn_mutex lock; /* of everything below */
    bool has_lock;
    struct qn_vk_folder folder;
    struct qn_shaderc *shaderc; /* loaded at first use */
    struct quern_error no_shaderc;
    uint32_t n_compiled;
    uint64_t compile_ns;
    /* Whether that compiler has what kernels need; as found out at the first question. */
    struct qn_vk_answer {
        bool known, yes;
        struct quern_error why_not;
    } answers[QN_VK_EXTENSION_END];
    /* Of optional kernels: which the device was found not to take. */
    bool given_up[QN_VK_KERNEL_END];
    uint32_t n_given_up;
};

struct qn_vk_spirv {
    const uint32_t *words;
    size_t bytes;
    uint32_t *heap;
};

/* `folder` is copied; NULL, "": the program's kernels. */
enum quern_status qn_vk_shaders_init(struct qn_vk_shaders *shaders, const struct quern_host *host,
                                     const char *folder, struct quern_error *err);
void qn_vk_shaders_finish(struct qn_vk_shaders *shaders);

/* Whether the kernel can be had: it is in the program, or the compiler has what it needs, which is tried in
 * little once for each compiler and kept in the cache; and it was not given up. Any number of threads may ask
 * at once. why: may be NULL. */
bool qn_vk_can_have(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel, struct quern_error *why);
/* From now on the kernel cannot be had. False: it was given up before. */
bool qn_vk_give_up(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel);

/* The kernel's SPIR-V. Any number of threads may ask at once. QUERN_ERR_UNSUPPORTED: it cannot be had, and
 * why; QUERN_ERR_PARAM: from the folder it cannot. */
enum quern_status qn_vk_spirv_get(struct qn_vk_shaders *shaders, enum qn_vk_kernel kernel,
                                  struct qn_vk_spirv *spirv, struct quern_error *err);
void qn_vk_spirv_finish(struct qn_vk_shaders *shaders, struct qn_vk_spirv *spirv);

#endif
