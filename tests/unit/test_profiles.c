/* Which of the built-in profiles a device gets, by what real devices say of themselves, and what it then
 * says. */
#include "device/profile.h"
#include "test.h"

#include <string.h>

#define GPU    QUERN_DEVICE_DISCRETE_GPU
#define WITHIN QUERN_DEVICE_INTEGRATED_GPU

struct device {
    uint32_t vendor, device, type;
    const char *name, *driver;
    const char *profile;
    const char *says; /* "SETTING=VALUE", that it must say in the end; NULL: nothing is asked */
};

/* Names as drivers report them. */
static const struct device gpus[] = {
    {0x10de, 0x1e84, GPU, "NVIDIA GeForce RTX 2070 SUPER", "NVIDIA", "nvidia-turing", NULL},
    {0x10de, 0x21c4, GPU, "NVIDIA GeForce GTX 1660 SUPER", "NVIDIA", "nvidia-turing", NULL},
    {0x10de, 0x1eb8, GPU, "Tesla T4", "NVIDIA", "nvidia-turing", NULL},
    {0x10de, 0x2204, GPU, "NVIDIA GeForce RTX 3090", "NVIDIA", "nvidia-ampere-ada", NULL},
    {0x10de, 0x2684, GPU, "NVIDIA GeForce RTX 4090", "NVIDIA", "nvidia-ampere-ada", NULL},
    {0x10de, 0x2684, GPU, "NVIDIA GeForce RTX 4090 (NVK AD102)", "NVK", "nvidia-ampere-ada", NULL},
    {0x10de, 0x26b9, GPU, "NVIDIA L40S", "NVIDIA", "nvidia-ampere-ada", NULL},
    {0x10de, 0x2330, GPU, "NVIDIA H100 80GB HBM3", "NVIDIA", "nvidia-hopper", NULL},
    {0x10de, 0x2335, GPU, "NVIDIA H200", "NVIDIA", "nvidia-hopper", NULL},
    {0x10de, 0x1b80, GPU, "NVIDIA GeForce GTX 1080", "NVIDIA", "nvidia", NULL},
    {0x10de, 0x2c02, GPU, "NVIDIA GeForce RTX 5080", "NVIDIA", "nvidia", NULL},
    {0x1002, 0x67df, GPU, "AMD Radeon RX 580 Series (RADV POLARIS10)", "radv", "amd-gcn",
     "features.coopmat=0"},
    {0x1002, 0x67df, GPU, "Radeon RX 580 Series", "AMD proprietary driver", "amd-gcn", "features.coopmat=0"},
    {0x1002, 0x66af, GPU, "AMD Radeon VII (RADV VEGA20)", "radv", "amd-gcn", NULL},
    {0x1002, 0x1636, WITHIN, "AMD Radeon Graphics (RADV RENOIR)", "radv", "amd-gcn", "submit.budget=50000"},
    {0x1002, 0x73bf, GPU, "AMD Radeon RX 6800 XT (RADV NAVI21)", "radv", "amd-rdna1-2",
     "kernels.subgroup=32"},
    {0x1002, 0x731f, GPU, "AMD Radeon RX 5700 XT", "AMD proprietary driver", "amd-rdna1-2",
     "features.coopmat=0"},
    {0x1002, 0x1681, WITHIN, "AMD Radeon 680M (RADV REMBRANDT)", "radv", "amd-rdna1-2",
     "submit.budget=50000"},
    {0x1002, 0x744c, GPU, "AMD Radeon RX 7900 XTX (RADV NAVI31)", "radv", "amd-rdna3", "features.coopmat=1"},
    {0x1002, 0x7550, GPU, "AMD Radeon RX 9070 XT", "AMD proprietary driver", "amd-rdna3",
     "features.coopmat=1"},
    {0x1002, 0x15bf, WITHIN, "AMD Radeon 780M Graphics (RADV PHOENIX)", "radv", "amd-rdna3",
     "features.coopmat=1"},
    {0x1002, 0x1586, WITHIN, "AMD Radeon 8060S Graphics", "AMD proprietary driver", "amd-rdna3",
     "submit.budget=50000"},
    {0x8086, 0x9a49, WITHIN, "Intel(R) Iris(R) Xe Graphics (TGL GT2)", "Intel open-source Mesa driver",
     "intel-gen12", "kernels.matmul.rows=32"},
    {0x8086, 0x4680, WITHIN, "Intel(R) UHD Graphics 770", "Intel Corporation", "intel-gen12",
     "features.coopmat=0"},
    {0x8086, 0x56a0, GPU, "Intel(R) Arc(tm) A770 Graphics (DG2)", "Intel open-source Mesa driver",
     "intel-xe1", "features.coopmat=0"},
    {0x8086, 0x7d55, WITHIN, "Intel(R) Arc(tm) Graphics (MTL)", "Intel open-source Mesa driver", "intel-xe1",
     NULL},
    {0x8086, 0x7d51, WITHIN, "Intel(R) Arc(TM) 140T GPU (16GB)", "Intel Corporation", "intel-xe1-lpg-plus",
     "features.coopmat=1"},
    {0x8086, 0x7d51, WITHIN, "Intel(R) Graphics (ARL)", "Intel open-source Mesa driver", "intel-xe1-lpg-plus",
     "kernels.matmul.rows=32"},
    {0x8086, 0x64a0, WITHIN, "Intel(R) Arc(TM) 140V GPU (16GB)", "Intel Corporation", "intel-xe2",
     "kernels.subgroup=16"},
    {0x8086, 0xe20b, GPU, "Intel(R) Arc(tm) B580 Graphics (BMG G21)", "Intel open-source Mesa driver",
     "intel-xe2", "kernels.subgroup=16"},
    {0x8086, 0x3e92, WITHIN, "Intel(R) UHD Graphics 630 (CFL GT2)", "Intel open-source Mesa driver", "intel",
     NULL},
    {0x5143, 0x6050002, WITHIN, "Turnip Adreno (TM) 650", "turnip Mesa driver", "qualcomm-adreno-6xx",
     "kernels.matmul.rows=64"},
    {0x5143, 0x7000200, WITHIN, "Turnip Adreno (TM) 702", "turnip Mesa driver", "qualcomm-adreno-6xx", NULL},
    {0x5143, 0x43050a01, WITHIN, "Adreno (TM) 740", "Qualcomm Technologies Inc. Adreno Vulkan Driver",
     "qualcomm-adreno-7xx", "limits.shared-memory=32768"},
    {0x5143, 0x44050000, WITHIN, "Adreno (TM) 830", "Qualcomm Technologies Inc. Adreno Vulkan Driver",
     "qualcomm-adreno-8xx", "kernels.matmul.columns=64"},
    {0x5143, 0x36334330, WITHIN, "Qualcomm(R) Adreno(TM) X1-85 GPU",
     "Qualcomm Technologies Inc. Adreno Vulkan Driver", "qualcomm", NULL},
    {0x13b5, 0x92020010, WITHIN, "Mali-G78", "Mali-G78", "arm-mali-valhall", "features.host-import=0"},
    {0x13b5, 0xb8a21010, WITHIN, "Mali-G715-Immortalis MC11", "Mali-G715-Immortalis MC11", "arm-mali-valhall",
     NULL},
    {0x13b5, 0xa8670000, WITHIN, "Mali-G610 (Panfrost)", "panvk", "arm-mali-valhall", NULL},
    {0x13b5, 0xc8700000, WITHIN, "Mali-G720-Immortalis", "Mali-G720-Immortalis", "arm-mali-5th-gen",
     "limits.storage-buffer=134217728"},
    {0x13b5, 0xd8320000, WITHIN, "Mali-G1-Ultra MC12", "Mali-G1-Ultra MC12", "arm-mali-5th-gen", NULL},
    {0x13b5, 0x72120000, WITHIN, "Mali-G76", "Mali-G76", "arm", NULL},
    {0x106b, 0xd0203e6, WITHIN, "Apple M1 Pro", "MoltenVK", "apple", "features.host-import=0"},
    {0x1010, 0x71061212, WITHIN, "PowerVR D-Series DXT-48-1536 MC1", "PowerVR D-Series Vulkan Driver",
     "imagination", "features.float16=0"},
    {0x1010, 0x71061213, WITHIN, "PowerVR C-Series CXTP-48-1536 MC1", "PowerVR C-Series Vulkan Driver",
     "imagination-cxtp", "placement.decode=avoid"},
    {0x14e4, 0x55701c33, WITHIN, "V3D 7.1.7.0", "V3DV Mesa", "generic", NULL},
    {0x10005, 0, QUERN_DEVICE_SOFTWARE, "llvmpipe (LLVM 15.0.6, 256 bits)", "llvmpipe", "lavapipe",
     "limits.loop-rounds=65535"},
};

static struct quern_error err;

/* What counts in the end of a setting: what was said last; "": nothing. */
static const char *last_said(const struct qn_profile_values *values, const char *setting, size_t length)
{
    const char *value = "";
    for (size_t i = 0; i < values->n; i++)
        if (strncmp(values->value[i]->setting, setting, length) == 0 && !values->value[i]->setting[length])
            value = values->value[i]->value;
    return value;
}

static void check_device(const struct quern_profiles *profiles, const char *driver,
                         const struct quern_device_info *info, const char *profile, const char *says)
{
    struct qn_profile_values values;
    struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    if (qn_profiles_resolve(profiles, &cb, driver, info, &values, &err))
        fail_msg("%s", err.text);
    if (!values.profile || strcmp(values.profile->name, profile) != 0)
        fail_msg("%s (%s): has the profile %s, expected %s", info->name, info->driver_name,
                 values.profile ? values.profile->name : "(none)", profile);
    if (says) {
        size_t length = strcspn(says, "=");
        const char *value = last_said(&values, says, length);
        if (strcmp(value, says + length + 1) != 0)
            fail_msg("%s (%s): has \"%s\", expected %s", info->name, info->driver_name, value, says);
    }
    qn_profile_values_finish(&cb, &values);
}

static bool has_profile(const struct quern_profiles *profiles, const char *name)
{
    struct quern_profile_desc desc;
    for (size_t i = 0; quern_profiles_at(profiles, i, &desc); i++)
        if (strcmp(desc.name, name) == 0)
            return true;
    return false;
}

static void test_gpus(void **state)
{
    struct quern_profiles *profiles;
    if (quern_profiles_open(&profiles, NULL, &err))
        fail_msg("%s", err.text);
    bool have_vulkan = has_profile(profiles, "lavapipe");
    for (size_t i = 0; i < QN_LEN(gpus) && have_vulkan; i++) {
        const struct device *d = &gpus[i];
        struct quern_device_info info = {.struct_size = sizeof info,
                                         .type = d->type,
                                         .vendor_id = d->vendor,
                                         .device_id = d->device,
                                         .driver_version = "1.2.3",
                                         .features = "subgroup"};
        snprintf(info.name, sizeof info.name, "%s", d->name);
        snprintf(info.driver_name, sizeof info.driver_name, "%s", d->driver);
        check_device(profiles, "vulkan", &info, d->profile, d->says);
    }
    quern_profiles_close(&profiles);
    if (!have_vulkan)
        skip(); /* a build without the driver has none of its profiles */
}

static void test_processors(void **state)
{
    static const struct {
        const char *features, *profile;
    } cpus[] = {{"avx2 avx512 avx512-vnni", "x86-64-avx512"},
                {"avx2 avx512 avx512-vnni amx-int8", "x86-64-avx512"},
                {"avx2 avx512", "x86-64-avx2"},
                {"avx2", "x86-64-avx2"},
                {"", "generic"},
                {"neon dotprod i8mm", "arm64-phone"},
                {"neon", "generic"}};
    struct quern_profiles *profiles;
    if (quern_profiles_open(&profiles, NULL, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < QN_LEN(cpus); i++) {
        struct quern_device_info info = {
            .struct_size = sizeof info, .type = QUERN_DEVICE_CPU, .name = "a processor"};
        snprintf(info.features, sizeof info.features, "%s", cpus[i].features);
        check_device(profiles, "cpu", &info, cpus[i].profile, NULL);
    }
    quern_profiles_close(&profiles);
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
        cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_none_is_faulty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
