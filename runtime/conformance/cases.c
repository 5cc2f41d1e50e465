/* The list of cases: picked ones, random ones, and those that are timed. */
#include "conformance/cases.h"

#include "formats/formats.h"

#include <string.h>
#include <strings.h>

const char *qn_op_name(enum quern_op op)
{
    return op < QUERN_OP_END ? qn_op_get(op)->name : NULL;
}

/* ---------------------------------------------------------------- the list */

#define FORMATS .any_format = true

static const struct qn_op_case embed_cases[] = {
    {QUERN_OP_EMBED, 7, FORMATS, .embed = {512, 37, 1}},
    {QUERN_OP_EMBED, 3, FORMATS, .embed = {1, 5, 9.5f}},
    {QUERN_OP_EMBED, 1, .format = QUERN_F16, .embed = {77, 1, 1}},
    {QUERN_OP_EMBED, 512, .format = QUERN_Q8_0, .embed = {96, 333, 2}},
    {QUERN_OP_EMBED, 2, .format = QUERN_Q4_K, .embed = {1 << 15, 20, 1}},
    {QUERN_OP_EMBED, 3, .format = QUERN_F32, .large = true, .embed = {4096, 9000, 1}}, /* above 128 MiB */
};

static const struct qn_op_case norm_cases[] = {
    {QUERN_OP_NORM, 1, .norm = {64, QUERN_NORM_RMS, 64, .weight = true}},
    {QUERN_OP_NORM, 5, .in_place = true, .norm = {4096, QUERN_NORM_RMS, 4096, true, false, true}},
    {QUERN_OP_NORM, 17, .in_place = true, .norm = {320, QUERN_NORM_RMS, 80, .weight = true}},
    {QUERN_OP_NORM, 3, .norm = {7, QUERN_NORM_RMS, 7}},
    {QUERN_OP_NORM, 2, .norm = {1, QUERN_NORM_RMS, 1, true, false, true}},
    {QUERN_OP_NORM, 9, .in_place = true, .norm = {768, QUERN_NORM_LAYER, 768, true, true}},
    {QUERN_OP_NORM, 4, .norm = {99, QUERN_NORM_LAYER, 33, false, true, true}},
    {QUERN_OP_NORM, 4, .outputs = true, .norm = {130, QUERN_NORM_RMS, 130, .weight = true}},
    {QUERN_OP_NORM, 1,
     .norm = {33000, QUERN_NORM_RMS, 1, .weight = true}}, /* more groups than a dispatch has */
    {QUERN_OP_NORM, 1, .norm = {65537, QUERN_NORM_RMS, 65537, .weight = true}},
    {QUERN_OP_NORM, 512, .norm = {128, QUERN_NORM_RMS, 64, .weight = true}},
    {QUERN_OP_NORM, 2, .fill = QN_FILL_ZERO, .norm = {96, QUERN_NORM_RMS, 96, .weight = true}},
    {QUERN_OP_NORM, 2, .fill = QN_FILL_OUTLIER, .norm = {97, QUERN_NORM_LAYER, 97, .weight = true}},
};

static const struct qn_op_case matmul_cases[] = {
    {QUERN_OP_MATMUL, 1, FORMATS, .matmul = {256, {1}}},
    {QUERN_OP_MATMUL, 1, FORMATS, .matmul = {1280, {67}, .bias = true, .residual = true}},
    {QUERN_OP_MATMUL, 3, FORMATS, .matmul = {256, {33}, .n[1] = 33, .act = QUERN_ACT_SILU, .glu = true}},
    {QUERN_OP_MATMUL, 8, FORMATS, .matmul = {512, {40, 24, 9}, .bias = true}},
    {QUERN_OP_MATMUL, 17, FORMATS, .matmul = {768, {70}, .act = QUERN_ACT_GELU_TANH, .residual = true}},
    {QUERN_OP_MATMUL, 70, FORMATS, .matmul = {256, {67, 67}, .act = QUERN_ACT_GELU_ERF, .glu = true}},
    {QUERN_OP_MATMUL, 66, FORMATS, .outputs = true, .matmul = {256, {65}, .scale = 0.1f, .softcap = 2}},
    {QUERN_OP_MATMUL, 3, FORMATS,
     .matmul = {256, {40}, .scale = 1e-6f, .softcap = 2}}, /* far below the cap */
    {QUERN_OP_MATMUL, 1, FORMATS,
     .matmul = {512, {2100}}}, /* rows enough for a kernel to take several at once */
    {QUERN_OP_MATMUL, 1, FORMATS, .matmul = {512, {1100, 600, 513}, .bias = true}}, /* the same */
    {QUERN_OP_MATMUL, 2, FORMATS, .fill = QN_FILL_ZERO, .matmul = {256, {20}}},
    {QUERN_OP_MATMUL, 19, FORMATS, .fill = QN_FILL_TINY, .matmul = {256, {20}}},
    {QUERN_OP_MATMUL, 2, FORMATS, .fill = QN_FILL_HUGE, .matmul = {256, {20}}},
    {QUERN_OP_MATMUL, 37, FORMATS, .fill = QN_FILL_EXTREME, .matmul = {256, {20}}},
    {QUERN_OP_MATMUL, 5, FORMATS, .fill = QN_FILL_OUTLIER, .matmul = {512, {20}}},
    {QUERN_OP_MATMUL, 1, .format = QUERN_F32, .matmul = {1, {1}}},
    {QUERN_OP_MATMUL, 5, .format = QUERN_F32, .matmul = {7, {5, 3}}},
    {QUERN_OP_MATMUL, 66, .format = QUERN_F16, .matmul = {67, {65}, .bias = true, .act = QUERN_ACT_RELU}},
    {QUERN_OP_MATMUL, 20, .format = QUERN_BF16, .matmul = {2051, {34}, .act = QUERN_ACT_RELU2}},
    {QUERN_OP_MATMUL, 4, .format = QUERN_Q5_0, .matmul = {32, {34}, .act = QUERN_ACT_GELU_QUICK}},
    {QUERN_OP_MATMUL, 512, .format = QUERN_Q4_0, .matmul = {64, {65}, .residual = true}},
    {QUERN_OP_MATMUL, 300, .format = QUERN_Q4_K, .large = true, .matmul = {1024, {257, 128}}},
    {QUERN_OP_MATMUL, 128, .format = QUERN_Q4_K, .matmul = {256, {128, 64}, .scale = 0.5f}},
    {QUERN_OP_MATMUL, 65, .format = QUERN_Q6_K, .matmul = {512, {64}, .residual = true}},
    {QUERN_OP_MATMUL, 21, .format = QUERN_Q4_0, .matmul = {96, {40, 24, 9}, .bias = true}},
    {QUERN_OP_MATMUL, 3, .format = QUERN_Q4_0,
     .matmul = {1056, {40, 24, 9}, .bias = true}}, /* 4 * 256 + 32 */
    {QUERN_OP_MATMUL, 8, .format = QUERN_F16, .matmul = {1027, {34}, .residual = true}},
    {QUERN_OP_MATMUL, 40, .format = QUERN_Q4_0,
     .matmul = {800, {33}, .n[1] = 33, .bias = true, .act = QUERN_ACT_SILU, .glu = true}},
    {QUERN_OP_MATMUL, 1, .format = QUERN_Q4_K, .matmul = {70 * 1024, {5}, .bias = true}}, /* a long row */
    {QUERN_OP_MATMUL, 20, .format = QUERN_Q8_0, .matmul = {70 * 1024, {3}}},
    {QUERN_OP_MATMUL, 1, .format = QUERN_Q8_0,
     .matmul = {32, {132000}}}, /* more rows than a dispatch has groups */
    {QUERN_OP_MATMUL, 33, .format = QUERN_Q4_0, .large = true, .matmul = {32, {270001}}},
    {QUERN_OP_MATMUL, 1, .format = QUERN_F32, .large = true, .matmul = {4096, {9000}}}, /* above 128 MiB */
    {QUERN_OP_MATMUL, 60, .format = QUERN_F32, .large = true, .matmul = {4096, {9000}}},
};

static const struct qn_op_case rope_cases[] = {
    {QUERN_OP_ROPE, 1, .rope = {{QUERN_ROPE_ADJACENT, 64, 64, 10000, 1, 0, 0, 0, 1, 0}, 4, 0, 1}},
    {QUERN_OP_ROPE, 5, .in_place = true,
     .rope = {{QUERN_ROPE_HALVES, 128, 128, 500000, 1, 0, 0, 0, 1, 0}, 3, 131071, 3, .factors = true}},
    {QUERN_OP_ROPE, 9, .rope = {{QUERN_ROPE_HALVES, 96, 48, 10000, 0.25f, 0, 0, 0, 1, 0}, 2, 4000, 3}},
    {QUERN_OP_ROPE, 33,
     .rope =
         {{QUERN_ROPE_ADJACENT, 80, 32, 10000, 0.125f, 1, 32, 1, 1.2f, 4096}, 2, 20000, 7, .factors = true}},
    {QUERN_OP_ROPE, 3, .in_place = true,
     .rope = {{QUERN_ROPE_HALVES, 64, 64, 1000000, 0.25f, 1, 32, 1, 1.1f, 32768}, 5, 1000000, 3}},
    {QUERN_OP_ROPE, 2, .rope = {{QUERN_ROPE_ADJACENT, 2, 2, 10000, 1, 0, 0, 0, 1, 0}, 1, 7, 1}},
    {QUERN_OP_ROPE, 512, .in_place = true,
     .rope = {{QUERN_ROPE_HALVES, 64, 32, 10000, 1, 0, 0, 0, 1, 0}, 1, 0, 1}},
    {QUERN_OP_ROPE, 2, .rope = {{QUERN_ROPE_ADJACENT, 512, 512, 10000, 1, 0, 0, 0, 1, 0}, 17, 999, 1}},
};

static const struct qn_op_case kv_store_cases[] = {
    {QUERN_OP_KV_STORE, 1, .kv = {{1, 64, 64, 0}, .page_tokens = 32, .n_seqs = 1, .fed = {1}}},
    {QUERN_OP_KV_STORE, 29, .v_format = QUERN_F16,
     .kv = {{3, 64, 32, 0}, .page_tokens = 8, .n_seqs = 3, .held = {0, 13, 7}, .fed = {17, 1, 11}}},
    {QUERN_OP_KV_STORE, 29, .format = QUERN_F16, .v_format = QUERN_Q8_0,
     .kv = {{3, 64, 32, 0}, .page_tokens = 8, .n_seqs = 3, .held = {0, 13, 7}, .fed = {17, 1, 11}}},
    {QUERN_OP_KV_STORE, 40, .format = QUERN_Q8_0, .v_format = QUERN_Q8_0,
     .kv = {{2, 128, 128, 0}, .page_tokens = 32, .n_seqs = 2, .held = {31, 64}, .fed = {33, 7}}},
    {QUERN_OP_KV_STORE, 3, .format = QUERN_F16, .v_format = QUERN_F32,
     .kv = {{5, 40, 7, 0}, .page_tokens = 16, .n_seqs = 1, .held = {15}, .fed = {3}}},
    {QUERN_OP_KV_STORE, 9, .format = QUERN_Q8_0, .v_format = QUERN_F16, .fill = QN_FILL_ZERO,
     .kv = {{2, 512, 256, 0}, .page_tokens = 4, .n_seqs = 1, .fed = {9}}},
    {QUERN_OP_KV_STORE, 300, .format = QUERN_F16, .v_format = QUERN_F16,
     .kv = {{8, 64, 64, 0}, .page_tokens = 32, .n_seqs = 1, .held = {100}, .fed = {300}}},
};

#define KV_FORMATS(k, v) .format = QUERN_##k, .v_format = QUERN_##v

static const struct qn_op_case attention_cases[] = {
    {QUERN_OP_ATTENTION, 1, .kv = {{1, 32, 32, 0}, 1, 16, 1, {0}, {1}, 0.2f}},
    {QUERN_OP_ATTENTION, 1, KV_FORMATS(F16, F16), .kv = {{4, 128, 128, 0}, 16, 32, 1, {31}, {1}, 0.1f}},
    {QUERN_OP_ATTENTION, 1, KV_FORMATS(F16, F16), .kv = {{4, 128, 128, 0}, 16, 32, 1, {32}, {1}, 0.1f}},
    {QUERN_OP_ATTENTION, 1, KV_FORMATS(Q8_0, Q8_0), .kv = {{2, 64, 64, 0}, 8, 32, 1, {2500}, {1}, 0.3f}},
    {QUERN_OP_ATTENTION, 1, KV_FORMATS(F16, F16), .kv = {{1, 64, 64, 0}, 1, 32, 1, {4099}, {1}, 1}},
    {QUERN_OP_ATTENTION, 33, .kv = {{2, 64, 64, 0}, 8, 16, 1, {0}, {33}, 0.125f}},
    {QUERN_OP_ATTENTION, 27, KV_FORMATS(F16, Q8_0),
     .kv = {{2, 64, 32, 0}, 6, 8, 3, {15, 0, 16}, {1, 9, 17}, 0.3f, .sinks = true}},
    {QUERN_OP_ATTENTION, 25, KV_FORMATS(Q8_0, F32),
     .kv = {{3, 96, 64, 10}, 3, 8, 2, {40, 3}, {5, 20}, 0.1f, .freed = true}},
    {QUERN_OP_ATTENTION, 16, KV_FORMATS(F16, F16),
     .kv = {{1, 128, 128, 16}, 4, 16, 1, {100}, {16}, 0.5f, 5, .sinks = true, .freed = true}},
    {QUERN_OP_ATTENTION, 4, .kv = {{4, 32, 64, 1}, 4, 4, 2, {7, 8}, {3, 1}, 1}},
    {QUERN_OP_ATTENTION, 2, KV_FORMATS(F16, F16), .kv = {{1, 256, 256, 0}, 2, 64, 1, {300}, {2}, 4, 30}},
    {QUERN_OP_ATTENTION, 9, KV_FORMATS(Q8_0, Q8_0), .kv = {{1, 512, 512, 0}, 3, 32, 1, {95}, {9}, 0.05f}},
    {QUERN_OP_ATTENTION, 70, KV_FORMATS(F16, F16), .kv = {{1, 80, 80, 0}, 3, 32, 1, {0}, {70}, 0.11f}},
    {QUERN_OP_ATTENTION, 5, .kv = {{3, 40, 24, 0}, 21, 32, 1, {63}, {5}, 0.2f}},
    {QUERN_OP_ATTENTION, 6, KV_FORMATS(F16, F32), .kv = {{1, 7, 5, 0}, 5, 32, 2, {0, 33}, {4, 2}, 0.4f}},
    {QUERN_OP_ATTENTION, 8, KV_FORMATS(F16, F16),
     .kv = {{1, 192, 128, 0}, 16, 32, 2, {64, 31}, {4, 4}, 0.07f}},
    {QUERN_OP_ATTENTION, 64, KV_FORMATS(F16, F16),
     .kv = {{1, 64, 64, 100}, 2, 32, 1, {300}, {64}, 0.2f, .freed = true}},
    {QUERN_OP_ATTENTION, 130, KV_FORMATS(Q8_0, Q8_0), .kv = {{1, 32, 32, 0}, 2, 32, 1, {70}, {130}, 0.2f}},
    {QUERN_OP_ATTENTION, 9, .many_rounds = true, .kv = {{1, 64, 64, 0}, 1, 64, 1, {50000}, {9}, 0.02f}},
    {QUERN_OP_ATTENTION, 130, KV_FORMATS(Q8_0, Q8_0), .large = true,
     .kv = {{4, 64, 64, 0}, 8, 32, 1, {200}, {130}, 0.2f}},
    {QUERN_OP_ATTENTION, 200, KV_FORMATS(F16, F16), .kv = {{1, 64, 64, 0}, 1, 32, 1, {0}, {200}, 0.2f}},
    {QUERN_OP_ATTENTION, 512, KV_FORMATS(F16, F16), .large = true,
     .kv = {{1, 64, 64, 0}, 2, 32, 1, {0}, {512}, 0.2f}},
    {QUERN_OP_ATTENTION, 3, .fill = QN_FILL_ZERO, .kv = {{2, 64, 64, 0}, 4, 32, 1, {40}, {3}, 0.2f}},
    {QUERN_OP_ATTENTION, 3, .fill = QN_FILL_OUTLIER,
     .kv = {{2, 64, 64, 0}, 4, 32, 1, {40}, {3}, 1}}, /* one key has it all */
    {QUERN_OP_ATTENTION, 33, .fill = QN_FILL_HUGE, .kv = {{2, 64, 80, 0}, 4, 32, 1, {40}, {33}, 1e-26f}},
    {QUERN_OP_ATTENTION, 33, KV_FORMATS(Q8_0, Q8_0), .fill = QN_FILL_HUGE,
     .kv = {{2, 96, 64, 30}, 4, 8, 2, {40, 0}, {21, 12}, 1e-26f, 2, .sinks = true}},
};

static const struct qn_op_case activation_cases[] = {
    {QUERN_OP_ACTIVATION, 11, .in_place = true, .activation = {100, QUERN_ACT_NONE}},
    {QUERN_OP_ACTIVATION, 1, .in_place = true, .activation = {101, QUERN_ACT_SILU, .up = true}},
    {QUERN_OP_ACTIVATION, 11, .activation = {102, QUERN_ACT_GELU_TANH, .split = true}},
    {QUERN_OP_ACTIVATION, 11, .activation = {103, QUERN_ACT_GELU_ERF, .up = true}},
    {QUERN_OP_ACTIVATION, 3, .activation = {1, QUERN_ACT_GELU_QUICK}},
    {QUERN_OP_ACTIVATION, 2, .activation = {70000, QUERN_ACT_RELU, .split = true}},
    {QUERN_OP_ACTIVATION, 512, .activation = {64, QUERN_ACT_RELU2, .up = true}},
    {QUERN_OP_ACTIVATION, 1, .activation = {2100000, QUERN_ACT_SILU}}, /* the same */
};

static const struct qn_op_case add_cases[] = {
    {QUERN_OP_ADD, 13, .in_place = true, .add = {515, 0.375f}},
    {QUERN_OP_ADD, 1, .add = {1, 1}},
    {QUERN_OP_ADD, 512, .add = {96, -2}},
};

static const struct qn_op_case rows_cases[] = {
    {QUERN_OP_ROWS, 9, .outputs = true, .rows = {33}},
    {QUERN_OP_ROWS, 1, .outputs = true, .rows = {1}},
    {QUERN_OP_ROWS, 512, .outputs = true, .rows = {2050}},
};

static const struct qn_op_case select_cases[] = {
    {QUERN_OP_SELECT, 1, .outputs = true, .select = {1, 1, 1}},
    {QUERN_OP_SELECT, 1, .outputs = true, .select = {150001, 64, 40}},
    {QUERN_OP_SELECT, 1, .outputs = true, .select = {32000, 64, 1}},
    {QUERN_OP_SELECT, 1, .outputs = true, .select = {32000, 64, 0}},
    {QUERN_OP_SELECT, 24, .outputs = true, .select = {5000, 64, 64, .ties = true}},
    {QUERN_OP_SELECT, 4, .outputs = true, .select = {2049, 64, 64, .ties = true}},
    {QUERN_OP_SELECT, 4, .outputs = true, .select = {64, 64, 64}},
    {QUERN_OP_SELECT, 7, .outputs = true, .select = {9000, 20, 20, .bad = true}},
    {QUERN_OP_SELECT, 2, .outputs = true, .select = {7, 3, 2, .ties = true, .bad = true}},
};

static const struct qn_op_case route_cases[] = {
    {QUERN_OP_MOE_ROUTE, 23, .route = {{8, 2, QUERN_GATING_SOFTMAX, 1, 1}}},
    {QUERN_OP_MOE_ROUTE, 1, .route = {{60, 4, QUERN_GATING_SOFTMAX, 0, 1}}},
    {QUERN_OP_MOE_ROUTE, 70, .route = {{256, 8, QUERN_GATING_SIGMOID, 1, 2.5f}, .bias = true}},
    {QUERN_OP_MOE_ROUTE, 7, .route = {{32, 4, QUERN_GATING_SOFTMAX_SELECTED, 0, 1}}},
    {QUERN_OP_MOE_ROUTE, 5, .route = {{5, 5, QUERN_GATING_SOFTMAX_SELECTED, 1, 0.5f}, .bias = true}},
    {QUERN_OP_MOE_ROUTE, 3, .route = {{1, 1, QUERN_GATING_SOFTMAX, 1, 1}}},
    {QUERN_OP_MOE_ROUTE, 9, .route = {{1024, 64, QUERN_GATING_SIGMOID, 0, 1}, .bias = true}},
    {QUERN_OP_MOE_ROUTE, 512, .route = {{128, 8, QUERN_GATING_SOFTMAX, 1, 1}}},
};

static const struct qn_op_case moe_cases[] = {
    {QUERN_OP_MOE_MATMUL, 1, FORMATS, .moe = {256, 17, 4, 2}},
    {QUERN_OP_MOE_MATMUL, 1, .format = QUERN_Q4_K, .moe = {256, 1100, 4, 2}},
    {QUERN_OP_MOE_MATMUL, 2, .format = QUERN_Q4_0, .moe = {256, 2100, 4, 2, QUERN_ACT_SILU, .glu = true}},
    {QUERN_OP_MOE_MATMUL, 3, FORMATS, .moe = {512, 33, 6, 2, QUERN_ACT_SILU, .glu = true, .bias = true}},
    {QUERN_OP_MOE_MATMUL, 37, FORMATS,
     .moe = {256, 35, 8, 2, QUERN_ACT_NONE, QN_SPREAD_RANDOM, .per_slot = true}},
    {QUERN_OP_MOE_MATMUL, 1, .format = QUERN_F32, .moe = {5, 3, 2, 1}},
    {QUERN_OP_MOE_MATMUL, 7, .format = QUERN_Q4_0,
     .moe = {544, 40, 6, 3, QUERN_ACT_SILU, .glu = true, .bias = true}}, /* 2 * 256 + 32 */
    {QUERN_OP_MOE_MATMUL, 41, .format = QUERN_F16, .moe = {1027, 20, 8, 2, .per_slot = true, .bias = true}},
    {QUERN_OP_MOE_MATMUL, 40, .format = QUERN_F16,
     .moe = {77, 20, 16, 2, .glu = true, .act = QUERN_ACT_GELU_TANH}},
    {QUERN_OP_MOE_MATMUL, 33, .format = QUERN_Q4_K,
     .moe = {256, 40, 8, 2, QUERN_ACT_SILU, QN_SPREAD_ONE, .glu = true, .bias = true}},
    {QUERN_OP_MOE_MATMUL, 129, .format = QUERN_Q8_0, .moe = {64, 65, 128, 1, QUERN_ACT_NONE, QN_SPREAD_ONE}},
    {QUERN_OP_MOE_MATMUL, 3, .format = QUERN_Q4_0, .moe = {64, 64, 64, 2, .per_slot = true}},
    {QUERN_OP_MOE_MATMUL, 64, .format = QUERN_Q4_0, .moe = {64, 64, 32, 4, QUERN_ACT_NONE, QN_SPREAD_ROUNDS}},
    {QUERN_OP_MOE_MATMUL, 512, .format = QUERN_Q8_0, .moe = {64, 17, 8, 2, .per_slot = true, .bias = true}},
    {QUERN_OP_MOE_MATMUL, 9, .format = QUERN_Q8_0, .moe = {32, 16, 300, 6}},
    {QUERN_OP_MOE_MATMUL, 20, .format = QUERN_F32, .large = true,
     .moe = {4096, 512, 20, 2}}, /* above 128 MiB */
};

static const struct qn_op_case combine_cases[] = {
    {QUERN_OP_MOE_COMBINE, 6, .combine = {70, 3}},
    {QUERN_OP_MOE_COMBINE, 6, .combine = {70, 3, .shared = true}},
    {QUERN_OP_MOE_COMBINE, 1, .combine = {2048, 8, .shared = true, .gate = true}},
    {QUERN_OP_MOE_COMBINE, 70, .combine = {33, 1, .shared = true, .gate = true, .residual = true}},
    {QUERN_OP_MOE_COMBINE, 512, .combine = {64, 2, .residual = true}},
};

#define LIST(array)                               \
    {                                             \
        array, sizeof(array) / sizeof((array)[0]) \
    }
static const struct {
    const struct qn_op_case *cases;
    size_t n;
} lists[QUERN_OP_END] = {
    [QUERN_OP_EMBED] = LIST(embed_cases),
    [QUERN_OP_NORM] = LIST(norm_cases),
    [QUERN_OP_MATMUL] = LIST(matmul_cases),
    [QUERN_OP_ROPE] = LIST(rope_cases),
    [QUERN_OP_KV_STORE] = LIST(kv_store_cases),
    [QUERN_OP_ATTENTION] = LIST(attention_cases),
    [QUERN_OP_ACTIVATION] = LIST(activation_cases),
    [QUERN_OP_ADD] = LIST(add_cases),
    [QUERN_OP_ROWS] = LIST(rows_cases),
    [QUERN_OP_MOE_ROUTE] = LIST(route_cases),
    [QUERN_OP_MOE_MATMUL] = LIST(moe_cases),
    [QUERN_OP_MOE_COMBINE] = LIST(combine_cases),
    [QUERN_OP_SELECT] = LIST(select_cases),
};

void qn_op_cases(enum quern_op op, qn_op_visit visit, void *user)
{
    for (size_t i = 0; i < lists[op].n; i++)
        visit(&lists[op].cases[i], user);
}

bool qn_op_reads_weights(enum quern_op op)
{
    return op == QUERN_OP_EMBED || op == QUERN_OP_MATMUL || op == QUERN_OP_MOE_MATMUL;
}

bool qn_op_choose(struct qn_op_choice *choice, const char *name)
{
    for (int op = 0; op < QUERN_OP_END; op++)
        if (strcmp(name, qn_op_name((enum quern_op)op)) == 0)
            return choice->any_op = choice->op[op] = true;
    for (int f = 0; f < QUERN_FORMAT_END; f++) {
        const char *known = quern_format_name((enum quern_format)f);
        if (known && strcasecmp(name, known) == 0) {
            choice->formats |= (uint64_t)1 << f;
            return true;
        }
    }
    return false;
}

bool qn_op_is_chosen(const struct qn_op_choice *choice, enum quern_op op, enum quern_format format)
{
    return (!choice->any_op || choice->op[op]) &&
           (!qn_op_reads_weights(op) || choice->formats == 0 || (choice->formats >> format & 1));
}

/* ---------------------------------------------------------------- the benchmark's */

/* One token reads much, more tokens reuse it. */
static void bench_products(struct qn_op_case at, const struct qn_op_sizes *sizes, qn_op_visit visit,
                           void *user)
{
    const uint32_t some_tokens[] = {1, 8, sizes->many};
    const struct qn_format *format = qn_format_get(at.format);
    for (size_t i = 0; i < (sizes->tokens ? 1 : QN_LEN(some_tokens)); i++) {
        at.tokens = sizes->tokens ? sizes->tokens : some_tokens[i];
        uint64_t row_bytes = (uint64_t)sizes->k / format->block_len * format->block_bytes;
        uint32_t fitting = (uint32_t)(sizes->pool / row_bytes + 1);
        if (at.op == QUERN_OP_MATMUL) {
            at.matmul.k = sizes->k;
            at.matmul.n[0] = at.tokens > 8 ? sizes->rows : fitting;
        } else {
            at.moe.k = sizes->k, at.moe.n = sizes->rows / 4 + 1, at.moe.n_used = 8, at.moe.n_expert = 64;
            at.moe.spread = QN_SPREAD_RANDOM;
        }
        visit(&at, user);
    }
}

static void bench_attention(struct qn_op_case at, const struct qn_op_sizes *sizes, qn_op_visit visit,
                            void *user)
{
    const uint32_t some_tokens[] = {1, sizes->many};
    static const enum quern_format formats[] = {QUERN_F16, QUERN_Q8_0};
    for (size_t i = 0; i < (sizes->tokens ? 1 : QN_LEN(some_tokens)); i++)
        for (size_t f = 0; f < QN_LEN(formats); f++) {
            uint32_t n_head = sizes->rows >= 4096 ? 32 : 8;
            at.tokens = sizes->tokens ? sizes->tokens : some_tokens[i];
            at.format = at.v_format = formats[f];
            at.kv.layer = (struct quern_kv_layer){n_head / 4, 128, 128, 0};
            at.kv.n_head = n_head, at.kv.page_tokens = 32, at.kv.n_seqs = 1, at.kv.scale = 0.1f;
            at.kv.held[0] = at.tokens > 8 && at.op == QUERN_OP_ATTENTION ? 0 : sizes->held;
            at.kv.fed[0] = at.tokens;
            visit(&at, user);
        }
}

void qn_op_bench(enum quern_op op, enum quern_format format, const struct qn_op_sizes *sizes,
                 qn_op_visit visit, void *user)
{
    struct qn_op_case at = {
        .op = op, .format = format, .tokens = sizes->tokens ? sizes->tokens : sizes->many};
    uint32_t d = sizes->k;
    switch (op) {
    case QUERN_OP_EMBED:
        at.embed.d = d, at.embed.n_vocab = 32000, at.embed.scale = 1;
        break;
    case QUERN_OP_NORM:
        at.norm.d = at.norm.group = d, at.norm.weight = at.norm.addend = true;
        break;
    case QUERN_OP_MATMUL:
    case QUERN_OP_MOE_MATMUL:
        bench_products(at, sizes, visit, user);
        return;
    case QUERN_OP_ROPE:
        at.rope.attr = (struct quern_rope_attr){QUERN_ROPE_HALVES, 128, 128, 10000, 1, 0, 0, 0, 1, 0};
        at.rope.n_head = d / 128 + 1, at.rope.stride = 1;
        break;
    case QUERN_OP_KV_STORE:
    case QUERN_OP_ATTENTION:
        bench_attention(at, sizes, visit, user);
        return;
    case QUERN_OP_ACTIVATION:
        at.activation.n = 3 * d, at.activation.act = QUERN_ACT_SILU, at.activation.up = true;
        break;
    case QUERN_OP_ADD:
        at.add.d = d, at.add.scale = 1;
        break;
    case QUERN_OP_ROWS:
        at.rows.d = d, at.outputs = true;
        break;
    case QUERN_OP_SELECT:
        at.select.n = 40 * d, at.select.k = 64, at.select.wanted = 40, at.outputs = true;
        break;
    case QUERN_OP_MOE_ROUTE:
        at.route.attr = (struct quern_moe_route_attr){128, 8, QUERN_GATING_SOFTMAX, 1, 1};
        break;
    default:
        at.combine.n = d, at.combine.n_used = 8, at.combine.residual = true;
    }
    visit(&at, user);
}

/* ---------------------------------------------------------------- random cases */

/* 1 to n, small numbers as often as large ones. */
static uint32_t up_to(uint64_t *state, uint32_t n)
{
    uint32_t bits = 0;
    while (bits < 31 && n >> bits > 1)
        bits++;
    uint32_t most = 2u << qn_fill_random(state) % (bits + 1);
    return 1 + (uint32_t)(qn_fill_random(state) % (most < n ? most : n));
}

static bool coin(uint64_t *state)
{
    return qn_fill_random(state) & 1;
}

static void random_kv(struct qn_op_case *at, uint64_t *state)
{
    static const enum quern_format formats[] = {QUERN_F32, QUERN_F16, QUERN_Q8_0};
    static const uint32_t page_tokens[] = {4, 16, 32, 64};
    uint32_t group = 1 + qn_fill_below(state, 8), left = 2000;
    at->format = formats[qn_fill_below(state, 3)];
    at->v_format = formats[qn_fill_below(state, 3)];
    at->kv.layer =
        (struct quern_kv_layer){1 + qn_fill_below(state, 4), 32 * (1 + qn_fill_below(state, 8)),
                                32 * (1 + qn_fill_below(state, 8)), coin(state) ? 0 : up_to(state, 300)};
    if (at->format != QUERN_Q8_0 && coin(state))
        at->kv.layer.head_dim_k = up_to(state, 512);
    if (at->v_format != QUERN_Q8_0 && coin(state))
        at->kv.layer.head_dim_v = up_to(state, 512);
    at->kv.n_head = at->kv.layer.n_head_kv * group;
    at->kv.page_tokens = page_tokens[qn_fill_below(state, 4)];
    at->kv.n_seqs = 1 + qn_fill_below(state, 3);
    at->tokens = 0;
    if (at->kv.page_tokens < 16)
        left = 500;
    for (uint32_t s = 0; s < at->kv.n_seqs; s++) {
        at->kv.held[s] = up_to(state, left / 3) - 1;
        at->kv.fed[s] = up_to(state, 60);
        at->tokens += at->kv.fed[s];
    }
    at->kv.scale = 0.25f;
    at->kv.softcap = qn_fill_below(state, 4) == 0 ? 20 : 0;
    at->kv.sinks = at->op == QUERN_OP_ATTENTION && coin(state);
    at->kv.freed = at->kv.layer.window > 0 && coin(state);
}

static void random_matmul(struct qn_op_case *at, uint64_t *state)
{
    uint32_t n_weights = 1 + qn_fill_below(state, 3);
    at->matmul.k = up_to(state, 2048);
    for (uint32_t i = 0; i < n_weights; i++)
        at->matmul.n[i] = up_to(state, 300);
    at->matmul.glu = n_weights == 2 && coin(state);
    if (at->matmul.glu)
        at->matmul.n[1] = at->matmul.n[0];
    at->matmul.act = qn_fill_below(state, QUERN_ACT_RELU);
    at->matmul.bias = coin(state);
    at->outputs = coin(state);
    at->matmul.residual = !at->outputs && (n_weights == 1 || at->matmul.glu) && coin(state);
    if (!at->matmul.glu && coin(state)) {
        at->matmul.scale = 0.25f;
        at->matmul.softcap = coin(state) ? 3 : 0;
    }
}

static void random_rope(struct qn_op_case *at, uint64_t *state)
{
    uint32_t head_dim = 2 * up_to(state, 128),
             n_dims = coin(state) ? head_dim : 2 * up_to(state, head_dim / 2);
    bool yarn = coin(state) && n_dims > 4;
    at->rope.attr =
        (struct quern_rope_attr){qn_fill_below(state, 2), head_dim, n_dims, coin(state) ? 10000 : 500000,
                                 yarn ? 0.25f : 1,        yarn,     32,     1,
                                 yarn ? 1.1f : 1,         4096};
    at->rope.n_head = up_to(state, 40);
    at->rope.first = qn_fill_below(state, 200000);
    at->rope.stride = 1 + qn_fill_below(state, 9);
    at->rope.factors = coin(state);
    at->in_place = coin(state);
}

static void random_moe(struct qn_op_case *at, uint64_t *state)
{
    at->tokens = up_to(state, 130);
    at->moe.k = up_to(state, 600);
    at->moe.n = up_to(state, 140);
    at->moe.n_expert = up_to(state, 40);
    at->moe.n_used = 1 + qn_fill_below(state, at->moe.n_expert < 8 ? at->moe.n_expert : 8);
    at->moe.glu = coin(state);
    at->moe.act = at->moe.glu ? QUERN_ACT_SILU : QUERN_ACT_NONE;
    at->moe.spread = qn_fill_below(state, 3);
    at->moe.bias = coin(state);
    at->moe.per_slot = coin(state);
}

struct qn_op_case qn_op_random(enum quern_op op, enum quern_format format, uint64_t *state)
{
    struct qn_op_case at = {.op = op, .format = format, .tokens = up_to(state, 200)};
    uint32_t n_expert = up_to(state, 300), d = up_to(state, 3000);
    switch (op) {
    case QUERN_OP_EMBED:
        at.embed.d = d, at.embed.n_vocab = up_to(state, 500), at.embed.scale = 2;
        break;
    case QUERN_OP_NORM:
        at.norm.group = d, at.norm.d = d * (1 + qn_fill_below(state, 4)),
        at.norm.kind = qn_fill_below(state, 2);
        at.norm.weight = coin(state), at.norm.bias = coin(state), at.norm.addend = coin(state);
        at.in_place = coin(state);
        break;
    case QUERN_OP_MATMUL:
        random_matmul(&at, state);
        break;
    case QUERN_OP_ROPE:
        random_rope(&at, state);
        break;
    case QUERN_OP_KV_STORE:
    case QUERN_OP_ATTENTION:
        random_kv(&at, state);
        break;
    case QUERN_OP_ACTIVATION:
        at.activation.n = d, at.activation.act = qn_fill_below(state, QUERN_ACT_RELU2 + 1);
        at.activation.split = coin(state), at.activation.up = !at.activation.split && coin(state);
        break;
    case QUERN_OP_ADD:
        at.add.d = d, at.add.scale = 0.5f, at.in_place = coin(state);
        break;
    case QUERN_OP_ROWS:
        at.rows.d = d, at.outputs = true;
        break;
    case QUERN_OP_SELECT:
        at.tokens = 1 + at.tokens % 24;
        at.select.n = 1 + qn_fill_below(state, 30000);
        at.select.k = 1 + qn_fill_below(state, at.select.n < 64 ? at.select.n : 64);
        at.select.wanted = qn_fill_below(state, at.select.k + 1), at.select.ties = coin(state),
        at.outputs = true;
        break;
    case QUERN_OP_MOE_ROUTE:
        at.route.attr =
            (struct quern_moe_route_attr){n_expert, 1 + qn_fill_below(state, n_expert < 16 ? n_expert : 16),
                                          qn_fill_below(state, 3), qn_fill_below(state, 2), 1};
        at.route.bias = coin(state);
        break;
    case QUERN_OP_MOE_MATMUL:
        random_moe(&at, state);
        break;
    default:
        at.combine.n = d, at.combine.n_used = 1 + qn_fill_below(state, 8), at.combine.residual = coin(state);
        at.combine.shared = coin(state), at.combine.gate = at.combine.shared && coin(state);
    }
    return at;
}
