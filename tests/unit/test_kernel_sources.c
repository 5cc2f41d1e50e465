/* What a kernel's source includes, and where from; which kernels can be had. */
#include "drivers/vulkan/sources.h"

#include "base/file.h"
#include "device/registry.h"
#include "drivers/vulkan/spirv.h"
#include "test.h"

#include <unistd.h>

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
    for (size_t i = 0; i < qn_vk_n_sources; i++) {
        assert_int_equal(strlen(qn_vk_sources[i].text), qn_vk_sources[i].bytes);
        if (strstr(qn_vk_sources[i].name, ".comp"))
            assert_int_equal(qn_vk_unit_gather(&folder, qn_vk_sources[i].name, &unit, &err), QUERN_OK);
    }
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

/* The folder has nothing in it: all is as in the program, and is to be compiled. */
static void open_shaders(struct qn_vk_shaders *shaders, const struct quern_host *host, const char *folder)
{
    assert_int_equal(qn_vk_shaders_init(shaders, host, folder, NULL), QUERN_OK);
}

/* Kernels that not every compiler can compile: what is said of them is so, the compiler is asked once, and by
 * later processes not at all. */
static void test_compiler(void **state)
{
    (void)state;
    static const enum qn_vk_kernel optional[] = {QN_VK_ATTENTION_COOPMAT, QN_VK_MATMUL_COOPMAT2 + QUERN_F16};
    char folder[] = "/tmp/quern-kernels-XXXXXX", command[64], found[640];
    struct quern_cache *cache;
    struct qn_vk_shaders shaders;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(quern_cache_open(&cache, folder, 0, &cb, NULL), QUERN_OK);
    const struct quern_host host = qn_device_host(&cb, cache);
    qn_shaderc_find(&cb, found, sizeof found);
    for (size_t i = 0; i < QN_LEN(optional); i++) {
        struct quern_error why = {0}, err = {0};
        struct qn_vk_spirv spirv;
        open_shaders(&shaders, &host, folder);
        bool yes = qn_vk_can_have(&shaders, optional[i], &why);
        uint32_t n = shaders.n_compiled;
        printf("%s: %s\n", qn_vk_kernel_info(optional[i]).name, yes ? "yes" : why.text);
        assert_true(yes || why.text[0]);
        assert_true(n == 1 || (n == 0 && shaders.no_shaderc.status));
        assert_int_equal(qn_vk_can_have(&shaders, optional[i], NULL), yes);
        assert_int_equal(shaders.n_compiled, n);
        assert_int_equal(qn_vk_spirv_get(&shaders, optional[i], &spirv, &err) == QUERN_OK, yes);
        qn_vk_spirv_finish(&shaders, &spirv);
        qn_vk_shaders_finish(&shaders);

        open_shaders(&shaders, &host, folder);
        assert_int_equal(qn_vk_can_have(&shaders, optional[i], &err), yes);
        assert_string_equal(yes ? why.text : err.text, why.text);
        assert_int_equal(shaders.n_compiled, 0);
        assert_true(!found[0] || (!shaders.shaderc && !shaders.no_shaderc.status)); /* it was not loaded */
        qn_vk_shaders_finish(&shaders);

        open_shaders(&shaders, &host, NULL); /* what is in the program needs no compiler */
        if (qn_vk_module_find(optional[i]))
            assert_true(qn_vk_can_have(&shaders, optional[i], NULL) && !shaders.answers[1 + i].known);
        else
            assert_int_equal(qn_vk_can_have(&shaders, optional[i], NULL), yes);
        qn_vk_shaders_finish(&shaders);
    }
    open_shaders(&shaders, &host, NULL);
    assert_true(qn_vk_can_have(&shaders, QN_VK_MATVEC + QUERN_Q4_0, NULL));
    struct quern_error why;
    assert_false(qn_vk_can_have(&shaders, QN_VK_MATVEC8 + QUERN_F16, &why));
    assert_string_equal(why.text, "there is no kernel matvec8_f16");
    assert_false(qn_vk_can_have(&shaders, QN_VK_MATMUL_COOPMAT + QUERN_BF16, &why)); /* whatever compiler */
    assert_string_equal(why.text, "there is no kernel matmul_coopmat_bf16");
    assert_true(qn_vk_can_have(&shaders, QN_VK_MATVEC8 + QUERN_Q4_0, NULL));
    assert_true(qn_vk_give_up(&shaders, QN_VK_MATVEC8 + QUERN_Q4_0));
    assert_false(qn_vk_give_up(&shaders, QN_VK_MATVEC8 + QUERN_Q4_0));
    assert_false(qn_vk_can_have(&shaders, QN_VK_MATVEC8 + QUERN_Q4_0, &why));
    assert_string_equal(why.text, "the device does not take it");
    assert_true(qn_vk_can_have(&shaders, QN_VK_MATVEC8 + QUERN_Q4_1, NULL));
    qn_vk_shaders_finish(&shaders);
    quern_cache_close(&cache);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* Every kernel that a device or its profile can select is in the program: nothing is compiled on a phone.
 * Those that the build's compiler cannot compile are named. */
static void test_baseline(void **state)
{
    (void)state;
    bool here[QN_VK_EXTENSION_END] = {[QN_VK_PLAIN_GLSL] = true};
    for (int k = 0; k < QN_VK_KERNEL_END; k++)
        here[qn_vk_kernel_info((enum qn_vk_kernel)k).extension] |=
            qn_vk_module_find((enum qn_vk_kernel)k) != NULL;
    for (int k = 0; k < QN_VK_KERNEL_END; k++) {
        const struct qn_vk_kernel_info info = qn_vk_kernel_info((enum qn_vk_kernel)k);
        bool found = qn_vk_module_find((enum qn_vk_kernel)k) != NULL;
        if (info.for_format && here[info.extension] && !found)
            fail_msg("%s is not in the program", info.name);
        if (!info.for_format && found)
            fail_msg("%s is in the program, and its row does not ask for it", info.name);
    }
    if (!here[QN_VK_GLSL_COOPMAT] || !here[QN_VK_GLSL_COOPMAT2])
        printf("not in this program, whose compiler lacks them: kernels in cooperative matrices%s\n",
               here[QN_VK_GLSL_COOPMAT] ? " of the second version" : "");
}

int main(void)
{
    cb = qn_callbacks_resolve(NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_includes), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_program), cmocka_unit_test(test_compiler),
                                       cmocka_unit_test(test_baseline)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
