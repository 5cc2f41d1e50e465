/* A Vulkan driver that does not survive being loaded: BAD_ICD_HANG or a crash. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((visibility("default"))) int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version);
__attribute__((visibility("default"))) void *vk_icdGetInstanceProcAddr(void *instance, const char *name);

int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version)
{
    (void)version;
#ifdef BAD_ICD_HANG
    for (;;)
        pause();
#else
    abort();
#endif
}

void *vk_icdGetInstanceProcAddr(void *instance, const char *name)
{
    (void)instance;
    (void)name;
    return NULL;
}
