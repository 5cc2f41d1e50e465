/* What a kernel's source includes, and where from. */
#include "drivers/vulkan/sources.h"

#include "base/file.h"
#include "test.h"

static struct quern_callbacks cb;

/* A folder that is in memory. */
static void put(struct qn_vk_folder *folder, const char *name, const char *text)
{
    assert_true(qn_grow(&cb, &folder->files, &folder->cap, folder->n + 1, sizeof *folder->files));
    char *copy = qn_strndup(&cb, text, strlen(text));
    folder->files[folder->n++] =
        (struct qn_vk_source){qn_strndup(&cb, name, strlen(name)), copy, strlen(text)};
}

static bool in_unit(const struct qn_vk_unit *unit, const char *name)
{
    for (uint32_t i = 0; i < unit->n; i++)
        if (strcmp(unit->file[i].name, name) == 0)
            return true;
    return false;
}

static void test_includes(void **state)
{
    (void)state;
    static struct qn_vk_unit unit;
    struct qn_vk_folder folder = {.cb = &cb};
    struct quern_error err;
    put(&folder, "k.comp",
        "#version 450\n#include \"a/one.glsl\"\n  #\tinclude  \"three.glsl\" // x\nvoid main() {}");
    put(&folder, "a/one.glsl", "#include \"two.glsl\"\n#include \"../k2.glsl\"\n// #include \"not.glsl\"\n");
    put(&folder, "a/two.glsl", "#include \"one.glsl\"\n#include \"./two.glsl\"\n"); /* in a circle */
    put(&folder, "k2.glsl", "x \"include\"\n#include <system>\n#includes\n#include \"\"");
    put(&folder, "lib/three.glsl", "");
    assert_int_equal(qn_vk_unit_gather(&folder, "k.comp", &unit, &err), QUERN_OK);
    assert_int_equal(unit.n, 5);
    assert_string_equal(unit.file[0].name, "k.comp");
    assert_true(in_unit(&unit, "a/two.glsl") && in_unit(&unit, "k2.glsl") &&
                in_unit(&unit, "lib/three.glsl"));
    assert_string_equal(qn_vk_unit_find(&unit, "two.glsl", "a/one.glsl")->name, "a/two.glsl");
    assert_string_equal(qn_vk_unit_find(&unit, "three.glsl", "a/one.glsl")->name, "lib/three.glsl");
    assert_null(qn_vk_unit_find(&unit, "two.glsl", "k.comp"));
    qn_vk_folder_finish(&folder);
}

static void test_faults(void **state)
{
    (void)state;
    static struct qn_vk_unit unit;
    struct qn_vk_folder folder = {.cb = &cb};
    struct quern_error err;
    put(&folder, "k.comp", "\n\n#include \"lost.glsl\"\n");
    put(&folder, "out.comp", "#include \"../../etc/passwd\"\n");
    put(&folder, "dir.comp", "#include \"lib/\"\n");
    assert_int_equal(qn_vk_unit_gather(&folder, "k.comp", &unit, &err), QUERN_ERR_FILE);
    assert_string_equal(err.text, "k.comp:3: there is no lost.glsl");
    assert_int_equal(qn_vk_unit_gather(&folder, "out.comp", &unit, &err), QUERN_ERR_FILE);
    assert_int_equal(qn_vk_unit_gather(&folder, "dir.comp", &unit, &err), QUERN_ERR_FILE);
    assert_int_equal(qn_vk_unit_gather(&folder, "none.comp", &unit, &err), QUERN_ERR_FILE);
    assert_non_null(strstr(err.text, "none.comp"));
    qn_vk_folder_finish(&folder);
}

/* A folder wins over the program, file by file; every kernel of the program has all that it includes. */
static void test_program(void **state)
{
    (void)state;
    static struct qn_vk_unit unit;
    struct quern_error err = {0};
    struct qn_vk_folder folder = {.cb = &cb};
    for (size_t i = 0; i < qn_vk_n_sources; i++)
        if (strstr(qn_vk_sources[i].name, ".comp"))
            assert_int_equal(qn_vk_unit_gather(&folder, qn_vk_sources[i].name, &unit, &err), QUERN_OK);
    assert_int_equal(folder.n, 0);
    assert_int_equal(qn_dir_make(&cb, "test_sources.dir/lib", &err), QUERN_OK);
    assert_int_equal(qn_write_file(&cb, "test_sources.dir/lib/step.glsl", "mine", 4, &err), QUERN_OK);
    folder.path = "test_sources.dir";
    assert_int_equal(qn_vk_unit_gather(&folder, "rope.comp", &unit, &err), QUERN_OK);
    assert_int_equal(qn_vk_unit_find(&unit, "lib/step.glsl", "rope.comp")->bytes, 4);
    assert_int_equal(folder.n, 1);
    qn_vk_folder_finish(&folder);
    remove("test_sources.dir/lib/step.glsl");
    remove("test_sources.dir/lib");
    remove("test_sources.dir");
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_includes), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_program)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
