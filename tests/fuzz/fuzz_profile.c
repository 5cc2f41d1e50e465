/* Device profiles: what is read from a file that anyone wrote, and matched with a device. */
#include "device/profile.h"

#include <stdlib.h>
#include <string.h>

static void on_fault(void *user, const char *text)
{
    if (!text[0] || strchr(text, '\n'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct quern_profiles *profiles;
    struct quern_error err;
    if (!profiles && quern_profiles_open(&profiles, NULL, &err) != QUERN_OK)
        abort();
    enum quern_status status =
        qn_profile_check_text(profiles, "profile.yaml", (const char *)data, size, on_fault, NULL, &err);
    if (status != QUERN_OK && status != QUERN_ERR_FILE && status != QUERN_ERR_MEMORY)
        abort();
    /* the same bytes as patterns, ranges and values of settings */
    char text[256];
    size_t n = size < sizeof text ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    char *half = text + strlen(text) / 2;
    (void)qn_glob(half, text);
    (void)qn_version_compare(half, text);
    return 0;
}
