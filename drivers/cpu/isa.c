/* Which instruction sets the machine has, what people call them, and the kernel table for a choice of them.
 */
#include "drivers/cpu/device.h"

#include "base/machine.h"
#include "base/words.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

struct isa {
    uint32_t bit;
    const char *name;
    uint32_t needs; /* sets that its kernels use as well */
    void (*fill)(struct qn_kernels *kernels);
};

/* Weakest first: later rows overwrite what earlier ones have filled in. */
static const struct isa isas[] = {
#if defined(__x86_64__) && !defined(_WIN32)
    {QN_ISA_AVX2, "avx2", 0, qn_kernels_avx2},
    {QN_ISA_AVX512, "avx512", QN_ISA_AVX2, qn_kernels_avx512},
    {QN_ISA_AVX512_VNNI, "avx512-vnni", QN_ISA_AVX2 | QN_ISA_AVX512, qn_kernels_avx512_vnni},
    {QN_ISA_AMX_INT8, "amx-int8", QN_ISA_AVX2 | QN_ISA_AVX512 | QN_ISA_AVX512_VNNI, qn_kernels_amx_int8},
#elif defined(__aarch64__)
    {QN_ISA_NEON, "neon", 0, qn_kernels_neon},
    {QN_ISA_DOTPROD, "dotprod", QN_ISA_NEON, qn_kernels_dotprod},
    {QN_ISA_I8MM, "i8mm", QN_ISA_NEON | QN_ISA_DOTPROD, qn_kernels_i8mm},
#endif
    {0, NULL, 0, NULL},
};

/* ---------------------------------------------------------------- detection */

#if defined(__x86_64__)

/* Registers whose state the operating system saves, as a mask of XCR0. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has(uint32_t word, int bit)
{
    return word >> bit & 1;
}

uint32_t qn_isa_detect(void)
{
    enum { YMM = 0x6, ZMM = 0xe6, TILES = 0x60000 };
    uint32_t a, b, c, d, isa = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27)) /* OSXSAVE */
        return 0;
    bool fma = has(c, 12), f16c = has(c, 29);
    uint64_t saved = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((saved & YMM) == YMM && has(b, 5) && fma && f16c)
        isa |= QN_ISA_AVX2;
    if (isa && (saved & ZMM) == ZMM && has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31)) {
        isa |= QN_ISA_AVX512;
        if (has(c, 11))
            isa |= QN_ISA_AVX512_VNNI;
        if (has(c, 11) && has(d, 24) && has(d, 25) && (saved & TILES) == TILES && qn_tiles_allowed())
            isa |= QN_ISA_AMX_INT8;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, 5))
            isa |= QN_ISA_AVX512_BF16;
    }
    return isa;
}

void qn_cpu_name(char *text, size_t size)
{
    uint32_t words[13] = {0}; /* the brand string fills 12 */
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3]))
            words[0] = 0;
    const char *name = (const char *)words;
    while (*name == ' ')
        name++;
    snprintf(text, size, "%s", *name ? name : "x86-64 processor");
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' ';)
        text[--n] = '\0';
}

void qn_cpu_identity(char *text, size_t size)
{
    uint32_t a = 0, words[3] = {0}, b, c, d;
    text[0] = '\0';
    if (!__get_cpuid(0, &a, &words[0], &words[2], &words[1]) || !__get_cpuid(1, &a, &b, &c, &d))
        return;
    const uint32_t base = a >> 8 & 15;
    const uint32_t family = base == 15 ? base + (a >> 20 & 255) : base;
    const uint32_t model = (base == 15 || base == 6 ? a >> 12 & 0xf0 : 0) | (a >> 4 & 15);
    snprintf(text, size, "%.12s family %u model %u stepping %u", (const char *)words, family, model, a & 15);
}

#elif defined(__aarch64__)

uint32_t qn_isa_detect(void)
{
    uint32_t isa = QN_ISA_NEON;       /* part of the architecture */
#if defined(__linux__)
    enum { ASIMDDP = 20, I8MM = 13 }; /* bits of AT_HWCAP and AT_HWCAP2 */
    if (getauxval(AT_HWCAP) >> ASIMDDP & 1) {
        isa |= QN_ISA_DOTPROD;
        if (getauxval(AT_HWCAP2) >> I8MM & 1)
            isa |= QN_ISA_I8MM;
    }
#endif
    return isa;
}

void qn_cpu_name(char *text, size_t size)
{
    snprintf(text, size, "64-bit Arm processor");
}

#else

uint32_t qn_isa_detect(void)
{
    return 0;
}

void qn_cpu_name(char *text, size_t size)
{
    snprintf(text, size, "processor");
}

#endif

#if !defined(__x86_64__)
/* Cores of a phone differ: whichever was asked would speak for all. */
void qn_cpu_identity(char *text, size_t size)
{
    snprintf(text, size, "%s", "");
}
#endif

/* ---------------------------------------------------------------- names */

void qn_isa_names(uint32_t isa, char *text, size_t size)
{
    size_t used = 0;
    if (size > 0)
        text[0] = '\0';
    for (const struct isa *row = isas; row->name; row++) {
        if (!(isa & row->bit) || used + strlen(row->name) + 2 > size)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", row->name);
    }
}

int32_t qn_isa_parse(const char *text, uint32_t have, uint32_t *isa, struct quern_error *err)
{
    const char *word;
    size_t length;
    *isa = 0;
    while ((word = qn_word_next(&text, &length)) != NULL) {
        if (qn_word_place("all", word, length) == 0)
            *isa = have;
        else if (qn_word_place("none " QN_ISA_WORDS, word, length) == SIZE_MAX)
            return qn_fail(err, QUERN_ERR_PARAM,
                           "setting isa: \"%.*s\" is neither all, none nor an instruction set (" QN_ISA_WORDS
                           ")",
                           (int)length, word);
        for (const struct isa *row = isas; row->name; row++)
            if (qn_word_place(row->name, word, length) == 0)
                *isa |= row->bit & have;
    }
    return QUERN_OK;
}

uint32_t qn_isa_up_to(const char *name)
{
    uint32_t isa = 0;
    for (const struct isa *row = isas; row->name; row++) {
        isa |= row->bit;
        if (strcmp(row->name, name) == 0)
            return isa;
    }
    return UINT32_MAX;
}

/* ---------------------------------------------------------------- table */

void qn_kernels_init(struct qn_kernels *kernels, uint32_t isa)
{
    *kernels = (struct qn_kernels){.isa = 0};
    qn_kernels_ref(kernels);
    for (const struct isa *row = isas; row->name; row++) {
        if (!(isa & row->bit) || (row->needs & ~isa))
            continue;
        row->fill(kernels);
        kernels->isa |= row->bit;
    }
    /* A page ahead, where the processor does not look by itself. */
    static const struct qn_reading usual = {.cache_bytes = 512 << 10, .streams = 4, .ahead_bytes = 4096};
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++)
        for (uint32_t layout = 0; layout < QUERN_LAYOUT_END; layout++)
            kernels->fast[layout][f].reading = kernels->exact[f].reading = usual;
}
