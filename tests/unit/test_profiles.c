/* The built-in profiles; which of them a device gets is in tests/profiles/devices.txt. */
#include "device/profile.h"
#include "test.h"

#include <string.h>

static struct quern_error err;

static bool has_profile(const struct quern_profiles *profiles, const char *name)
{
    struct quern_profile_desc desc;
    for (size_t i = 0; quern_profiles_at(profiles, i, &desc); i++)
        if (strcmp(desc.name, name) == 0)
            return true;
    return false;
}

/* A profile whose faults keep it out is there, and does nothing. */
static void test_none_is_faulty(void **state)
{
    struct quern_profiles *profiles;
    struct quern_profile_desc desc;
    if (quern_profiles_open(&profiles, NULL, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < qn_n_profile_texts; i++) {
        assert_int_equal(strlen(qn_profile_texts[i].text), qn_profile_texts[i].n);
        if (has_profile(profiles, "lavapipe") &&
            qn_profile_check_text(profiles, qn_profile_texts[i].name, qn_profile_texts[i].text,
                                  qn_profile_texts[i].n, NULL, NULL, &err))
            fail_msg("%s", err.text);
    }
    for (size_t i = 0; quern_profiles_at(profiles, i, &desc); i++)
        if (strcmp(desc.name, "generic") != 0 && strcmp(desc.about, "") == 0)
            fail_msg("%s says nothing of what it is for", desc.name);
    quern_profiles_close(&profiles);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none_is_faulty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
