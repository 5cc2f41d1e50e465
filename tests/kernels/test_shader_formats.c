/* Decoding in shaders (shaders/lib): for every format that the runtime decodes, a small kernel runs on every
 * Vulkan device that is here, and what it writes is compared bit for bit with reference data and with the
 * runtime. With the validation layer, where that is installed: a message of it is a fault.
 *
 * usage: test_shader_formats FOLDER   where decode_<NAME>.spv are */
#include "formats/formats.h"
#include "support/dequant.h"
#include "support/gpu.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>

enum {
    N_GOLDEN = 1024,
    N_BLOCKS = 1000,
    MAX_DEVICES = 4,
    IN_BYTES = 1 << 20,
    OUT_BYTES = 1 << 21,
    SKIPPED = 77
};

static struct qn_gpu gpus[MAX_DEVICES];
static uint32_t n_gpus;
static const char *spirv_folder;

static const uint32_t grid_words[] = {
#include "iq_grid_words.inc"
};

struct push {
    uint32_t n, at, by_four; /* as in decode_test.comp */
};

/* ---- the cases ---- */

/* The same bits; what is not a number has no bits to keep. */
static bool same(uint32_t got, const float *want)
{
    uint32_t bits;
    memcpy(&bits, want, sizeof bits);
    return got == bits || (isnan(*want) && (got & 0x7fffffffu) > 0x7f800000u);
}

/* Decodes n weights on every device, both ways. */
static void check(const struct qn_format *format, const void *blocks, const float *want, uint32_t n)
{
    /* where blocks begin: as little aligned as a file may have them */
    uint32_t at = format->block_bytes % 4 == 0 ? 4 : format->block_bytes % 2 == 0 ? 2 : 1;
    size_t bytes = (size_t)n / format->block_len * format->block_bytes;
    assert_true(at + bytes <= IN_BYTES && n * sizeof(float) <= OUT_BYTES);
    for (uint32_t g = 0; g < n_gpus; g++) {
        struct qn_gpu *gpu = &gpus[g];
        char path[1024];
        snprintf(path, sizeof path, "%s/decode_%s.spv", spirv_folder, format->name);
        VkPipeline pipeline = qn_gpu_pipeline(gpu, path, NULL, 0); /* shaders/meson.build lists the formats */
        assert_true(pipeline != VK_NULL_HANDLE);
        memset(gpu->storage[0].mapped, 0xa5, IN_BYTES);
        memcpy((uint8_t *)gpu->storage[0].mapped + at, blocks, bytes);
        int n_faults = 0;
        for (uint32_t by_four = 0; by_four < 2; by_four++) {
            memset(gpu->storage[1].mapped, 0x5a, OUT_BYTES);
            const struct push push = {.n = n, .at = at, .by_four = by_four};
            qn_gpu_run(gpu, pipeline, &push, sizeof push, (n / 4 + 63) / 64, 1);
            const uint32_t *got = gpu->storage[1].mapped;
            for (uint32_t i = 0; i < n; i++) {
                if (same(got[i], &want[i]) || n_faults++ >= 5)
                    continue;
                float value;
                memcpy(&value, &got[i], sizeof value);
                fprintf(stderr, "%s: %s by %s: weight %u of block %u is %.9g, expected %.9g\n", gpu->name,
                        format->name, by_four ? "decode4" : "decode", i % format->block_len,
                        i / format->block_len, value, want[i]);
            }
        }
        qn_gpu_pipeline_destroy(gpu, pipeline);
        if (n_faults)
            fail_msg("%s: %d of %u weights differ", format->name, n_faults, 2 * n);
    }
}

/* Formats of weights; the 8-bit formats of activations are decoded nowhere but in the runtime. */
static const struct qn_format *weight_format(int id)
{
    const struct qn_format *format = qn_format_get((enum quern_format)id);
    return format && format->dequantise && id != QUERN_Q8_1 && id != QUERN_Q8_K ? format : NULL;
}

static void test_goldens(void **state)
{
    static uint8_t blocks[8192];
    static float want[N_GOLDEN];
    int n_checked = 0;
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = weight_format(id);
        size_t bytes = format ? qn_dequant_read(format->name, ".bin", blocks, sizeof blocks) : 0;
        if (bytes == 0)
            continue;
        assert_int_equal(bytes, qn_format_row_bytes((enum quern_format)id, N_GOLDEN));
        assert_int_equal(qn_dequant_read(format->name, ".f32", want, sizeof want), sizeof want);
        check(format, blocks, want, N_GOLDEN);
        n_checked++;
    }
    assert_int_equal(n_checked, 26);
}

/* Random bytes: all scales occur, subnormal, infinite and no numbers too. */
static void test_random(void **state)
{
    static uint8_t blocks[IN_BYTES];
    static float want[OUT_BYTES / sizeof(float)];
    uint32_t random = 1;
    int n_checked = 0;
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = weight_format(id);
        if (!format)
            continue;
        uint32_t n_blocks = format->block_len == 1 ? 64 * N_BLOCKS : N_BLOCKS,
                 n = n_blocks * format->block_len;
        for (uint32_t i = 0; i < n_blocks * format->block_bytes; i++) {
            random = random * 1664525u + 1013904223u;
            blocks[i] = (uint8_t)(random >> 24);
        }
        format->dequantise(blocks, want, n);
        check(format, blocks, want, n);
        n_checked++;
    }
    assert_int_equal(n_checked, 28);
}

/* Every half float, and every E8M0 and UE4M3 scale with every element. */
static void test_every_scale(void **state)
{
    static uint16_t halves[65536];
    static float want[65536];
    for (int i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    const struct qn_format *f16 = qn_format_get(QUERN_F16), *bf16 = qn_format_get(QUERN_BF16);
    f16->dequantise(halves, want, 65536);
    check(f16, halves, want, 65536);
    bf16->dequantise(halves, want, 65536);
    check(bf16, halves, want, 65536);

    static uint8_t blocks[256 * 36];
    const struct qn_format *mxfp4 = qn_format_get(QUERN_MXFP4), *nvfp4 = qn_format_get(QUERN_NVFP4);
    for (int b = 0; b < 256; b++) {
        blocks[17 * b] = (uint8_t)b;
        for (int i = 0; i < 16; i++)
            blocks[17 * b + 1 + i] = (uint8_t)(i * 0x11);
    }
    mxfp4->dequantise(blocks, want, 256 * 32);
    check(mxfp4, blocks, want, 256 * 32);
    for (int b = 0; b < 256; b++) {
        memset(blocks + 36 * b, b, 4);
        for (int i = 0; i < 32; i++)
            blocks[36 * b + 4 + i] = (uint8_t)(i % 16 * 0x11);
    }
    nvfp4->dequantise(blocks, want, 256 * 64);
    check(nvfp4, blocks, want, 256 * 64);
}

static void test_validation_is_silent(void **state)
{
    assert_int_equal(qn_gpu_messages(), 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    spirv_folder = argv[1];
    if (!qn_gpu_start(true))
        return SKIPPED;
    VkPhysicalDevice physical[MAX_DEVICES];
    const uint64_t bytes[QN_GPU_STORAGES] = {IN_BYTES, OUT_BYTES, sizeof grid_words};
    uint32_t n = qn_gpu_list(physical, MAX_DEVICES);
    for (uint32_t i = 0; i < n; i++) {
        if (!qn_gpu_open(&gpus[n_gpus], physical[i], bytes, true, NULL, NULL))
            continue;
        memcpy(gpus[n_gpus].storage[2].mapped, grid_words, sizeof grid_words);
        printf("device: %s\n", gpus[n_gpus].name);
        n_gpus++;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_every_scale),
        cmocka_unit_test(test_validation_is_silent),
    };
    int failed = SKIPPED;
    if (n_gpus > 0)
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    else
        fprintf(stderr, "SKIPPED: no Vulkan 1.2 device\n");
    for (uint32_t i = 0; i < n_gpus; i++)
        qn_gpu_close(&gpus[i]);
    /* the instance stays: drivers that are unloaded with it leave memory behind that nothing points to any
     * more */
    return failed;
}
