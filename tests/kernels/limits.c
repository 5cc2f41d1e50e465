/* See limits.h. */
#include "limits.h"

#include "base/clock.h"
#include "base/host.h"
#include "base/thread.h"
#include "drivers/cpu/kernels.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__) && !defined(_WIN32)
#include <immintrin.h>
#endif

/* ---------------------------------------------------------------- rounds */

struct rounds {
    qn_bench_work work;
    void *arg;
    int threads;
    _Atomic uint64_t round; /* number of the round that may run */
    _Atomic int busy;       /* threads still in it */
    _Atomic int stop;
};

struct member {
    struct rounds *rounds;
    int index;
};

static void run_member(void *arg)
{
    struct member *member = arg;
    struct rounds *rounds = member->rounds;
    for (uint64_t next = 1;; next++) {
        while (atomic_load(&rounds->round) < next)
            if (atomic_load(&rounds->stop))
                return;
        rounds->work(rounds->arg, member->index, rounds->threads, next);
        atomic_fetch_sub(&rounds->busy, 1);
    }
}

static void one_round(struct rounds *rounds, uint64_t number)
{
    atomic_store(&rounds->busy, rounds->threads - 1);
    atomic_store(&rounds->round, number);
    rounds->work(rounds->arg, 0, rounds->threads, number);
    while (atomic_load(&rounds->busy) > 0) {}
}

double qn_time_rounds(qn_bench_work work, void *arg, int threads, double seconds)
{
    struct rounds rounds = {.work = work, .arg = arg, .threads = threads};
    struct qn_thread thread[QN_BENCH_THREADS];
    struct member member[QN_BENCH_THREADS];
    int started = 1;
    for (; started < threads; started++) {
        member[started] = (struct member){&rounds, started};
        if (!qn_thread_start(&thread[started], run_member, &member[started]))
            break;
    }
    rounds.threads = started;
    uint64_t number = 1, best = UINT64_MAX;
    one_round(&rounds, number++); /* warms up */
    const uint64_t start = qn_now_ns();
    for (uint64_t before = start, now = start; (double)(now - start) < seconds * 1e9; before = now) {
        one_round(&rounds, number++);
        now = qn_now_ns();
        best = now - before < best ? now - before : best;
    }
    atomic_store(&rounds.stop, 1);
    for (int i = 1; i < started; i++)
        qn_thread_join(&thread[i]);
    return (double)(best > 0 ? best : 1) * 1e-9;
}

/* ---------------------------------------------------------------- reading */

enum {
    MOST_STREAMS = 4,
    READ_BYTES = 256 << 20, /* of each thread */
};

struct reading {
    const uint64_t *data;
    _Atomic uint64_t result; /* keeps the loop alive */
};

/* Reads a thread's part from several places by turns, and asks for what comes later. The two are constants.
 */
static inline __attribute__((always_inline)) void read_streams(struct reading *reading, int thread,
                                                               size_t streams, size_t ahead_bytes)
{
    const size_t words = READ_BYTES / streams / sizeof(uint64_t), ahead = ahead_bytes / sizeof(uint64_t);
    const uint64_t *data = reading->data + (size_t)thread * words * streams;
    uint64_t sum[MOST_STREAMS] = {0};
    for (size_t i = 0; i < words; i += 8) /* a line of the caches: one word of it brings all */
        for (size_t s = 0; s < streams; s++) {
            __builtin_prefetch(data + s * words + i + ahead, 0, 2);
            sum[s] += data[s * words + i];
        }
    for (size_t s = 0; s < streams; s++)
        atomic_fetch_add(&reading->result, sum[s]);
}

static void read_one(void *arg, int thread, int threads, uint64_t round)
{
    read_streams(arg, thread, 1, 12 << 10);
}

static void read_four(void *arg, int thread, int threads, uint64_t round)
{
    read_streams(arg, thread, MOST_STREAMS, 4 << 10);
}

/* By the way of reading that this processor is faster with. */
static double measure_reading(int threads)
{
    struct reading reading = {.data = NULL};
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    uint64_t *data = qn_alloc(&cb, (size_t)threads, READ_BYTES);
    if (!data)
        return 0;
    memset(data, 1, (size_t)threads * READ_BYTES);
    reading.data = data;
    const double one = qn_time_rounds(read_one, &reading, threads, 0.4);
    const double four = qn_time_rounds(read_four, &reading, threads, 0.4);
    qn_free(&cb, data);
    return (double)threads * READ_BYTES / (one < four ? one : four);
}

/* ---------------------------------------------------------------- arithmetic */

enum { STEPS = 200000, CHAINS = 10, TILES = 4 };

#if defined(__x86_64__) && !defined(_WIN32)

/* The values are unknown to the compiler and the result is used, so that nothing is computed ahead. */
#define KEEP(v) __asm__ volatile("" : "+v"(v))

#define CHAIN_LOOP(name, features, type, zero, one, step, add)                                             \
    __attribute__((target(features))) static void name(void *arg, int thread, int threads, uint64_t round) \
    {                                                                                                      \
        type a = one, acc0 = zero, acc1 = zero, acc2 = zero, acc3 = zero, acc4 = zero, acc5 = zero;        \
        type acc6 = zero, acc7 = zero, acc8 = zero, acc9 = zero;                                           \
        KEEP(acc0);                                                                                        \
        KEEP(acc1);                                                                                        \
        KEEP(acc2);                                                                                        \
        KEEP(acc3);                                                                                        \
        KEEP(acc4);                                                                                        \
        KEEP(acc5);                                                                                        \
        KEEP(acc6);                                                                                        \
        KEEP(acc7);                                                                                        \
        KEEP(acc8);                                                                                        \
        KEEP(acc9);                                                                                        \
        for (int i = 0; i < STEPS; i++) {                                                                  \
            KEEP(a);                                                                                       \
            acc0 = step(acc0, a), acc1 = step(acc1, a), acc2 = step(acc2, a), acc3 = step(acc3, a);        \
            acc4 = step(acc4, a), acc5 = step(acc5, a), acc6 = step(acc6, a), acc7 = step(acc7, a);        \
            acc8 = step(acc8, a), acc9 = step(acc9, a);                                                    \
        }                                                                                                  \
        acc0 = add(add(acc0, acc1), add(add(acc2, acc3), add(acc4, acc5)));                                \
        acc0 = add(acc0, add(add(acc6, acc7), add(acc8, acc9)));                                           \
        KEEP(acc0);                                                                                        \
    }

#define DOT_512(acc, a) _mm512_dpbusd_epi32(acc, a, a)
#define FMA_512(acc, a) _mm512_fmadd_ps(acc, a, a)
#define FMA_256(acc, a) _mm256_fmadd_ps(acc, a, a)
/* Multiply pairs, join pairs, add: what a product of bytes takes there. */
#define DOT_256(acc, a) _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(acc, a), a))

CHAIN_LOOP(int8_vnni, "avx512f,avx512bw,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(1),
           DOT_512, _mm512_add_epi32)
CHAIN_LOOP(float_avx512, "avx512f", __m512, _mm512_setzero_ps(), _mm512_set1_ps(0.5f), FMA_512, _mm512_add_ps)
CHAIN_LOOP(int8_avx2, "avx2", __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(1), DOT_256, _mm256_add_epi32)
CHAIN_LOOP(float_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_set1_ps(0.5f), FMA_256, _mm256_add_ps)

/* Sums of 16 x 16 elements over 64 bytes each, in four tile registers; threads set theirs up for a round. */
__attribute__((target("amx-tile,amx-int8"))) static void int8_amx(void *arg, int thread, int threads,
                                                                  uint64_t round)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16}};
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    for (int i = 0; i < STEPS / TILES; i++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_release();
}

static void measure_arithmetic(uint32_t isa, int threads, struct qn_limits *limits)
{
    const double steps = (double)STEPS * CHAINS * threads;
    if (isa & QN_ISA_AVX512_VNNI)
        limits->int8_ops = steps * 128 / qn_time_rounds(int8_vnni, NULL, threads, 0.2);
    else if (isa & QN_ISA_AVX2)
        limits->int8_ops = steps * 64 / qn_time_rounds(int8_avx2, NULL, threads, 0.2);
    if (isa & QN_ISA_AMX_INT8)
        limits->tile_ops =
            (double)STEPS * threads * 2 * 16 * 16 * 64 / qn_time_rounds(int8_amx, NULL, threads, 0.2);
    if (isa & QN_ISA_AVX512)
        limits->float_ops = steps * 32 / qn_time_rounds(float_avx512, NULL, threads, 0.2);
    else if (isa & QN_ISA_AVX2)
        limits->float_ops = steps * 16 / qn_time_rounds(float_avx2, NULL, threads, 0.2);
}

#else

static void measure_arithmetic(uint32_t isa, int threads, struct qn_limits *limits)
{
}

#endif

void qn_measure_limits(uint32_t isa, int threads, struct qn_limits *limits)
{
    *limits = (struct qn_limits){.read_bytes = measure_reading(threads)};
    measure_arithmetic(isa, threads, limits);
}
