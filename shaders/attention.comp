/* ATTENTION for many tokens: a workgroup has ROWS queries, the HEADS heads of ROWS / HEADS tokens, and goes over the
 * blocks of keys that any of them sees, so that keys and values are read once for all. Keys pass through shared
 * memory a few elements of the head at a time; then the same place holds the weights.
 *
 * With -DCOOPMAT a workgroup has four subgroups, and each of them every fourth strip of N keys, or of N elements of the
 * values. Queries and keys, then weights and values pass through shared memory in half floats. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#ifdef COOPMAT
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#define STEP_BINDING 0
#define Q_BINDING    1
#define POOL_BINDING 4
#define WEIGHT_ROWS  ROWS
layout(constant_id = 7) const uint ROWS = 16;
#ifdef COOPMAT
#define WORKGROUP gl_WorkGroupSize.x
layout(local_size_x_id = 8) in;
layout(constant_id = 9) const uint SHAPE = 0x101010; /* of a cooperative matrix: M, N and K, a byte each */
#else
#define WORKGROUP 64
layout(local_size_x = WORKGROUP) in;
#endif
#include "lib/attention.glsl"

layout(set = 0, binding = 2) readonly buffer Sinks { float sink[]; };  // [n_head]
layout(set = 0, binding = 3) writeonly buffer Y { float y[]; };        // [HEAD_V, n_head, T]

const uint TOKENS = ROWS / HEADS;
#ifdef COOPMAT
const uint M = SHAPE & 255, N = SHAPE >> 8 & 255, K = SHAPE >> 16;
const uint SUBGROUPS = 4, TM = ROWS / M, TN = (BLOCK / N + SUBGROUPS - 1) / SUBGROUPS; /* matrices of a subgroup */
const uint CHUNK = BLOCK4; /* vectors of the head at a time */
/* The results of a chunk lie one after the other, and each invocation has every WORKGROUP-th. */
const uint V_ROWS = (ROWS * CHUNK + WORKGROUP - 1) / WORKGROUP, V_COLUMNS = (V4 + CHUNK - 1) / CHUNK;

shared f16vec4 tile[BLOCK * HALF_STRIDE];      // [BLOCK][CHUNK]: keys, then values
shared uint key_most[BLOCK], query_most[ROWS]; /* largest elements; see value_most */
#else
/* An invocation has the scores of four keys with SCORE_ROWS queries ... */
const uint SCORE_LANES = BLOCK4, SCORE_ROWS = ROWS * SCORE_LANES / WORKGROUP;
/* ... then every V_LANES-th vector of the results of V_ROWS queries. */
const uint V_LANES = V4 < WORKGROUP ? V4 : WORKGROUP, V_COLUMNS = (V4 + V_LANES - 1) / V_LANES;
const uint V_SHARES = WORKGROUP / V_LANES, V_ROWS = (ROWS + V_SHARES - 1) / V_SHARES;
const uint CHUNK = ROWS / 4; /* vectors of the head at a time: as many keys' as there are weights */

shared vec4 query[ROWS * CHUNK];              // [ROWS][CHUNK]
#endif

vec4 result[V_COLUMNS * V_ROWS];              // [V_COLUMNS][V_ROWS] of the blocks so far
shared uint row_begin[ROWS], row_end[ROWS];   /* positions that a row sees */
shared float top[ROWS], total[ROWS];          /* of the blocks so far */
shared float old_factor[ROWS], new_factor[ROWS];

/* What a workgroup's tokens of one sequence see of it: positions. */
struct Keys {
    uint sequence, first, last;
};

uint token_of(uint row)
{
    uint tiles = (max_tokens + TOKENS - 1) / TOKENS;
    return (tiles - 1 - gl_WorkGroupID.y) * TOKENS + row / HEADS; /* the longest begin first */
}

/* Row and vector of an invocation's result [c][r]; from row ROWS or vector V4 on it is none. */
uvec2 place_of(uint c, uint r)
{
    uint lane = gl_LocalInvocationIndex;
#ifdef COOPMAT
    uint n = r * WORKGROUP + lane;
    return uvec2(n / CHUNK, c * CHUNK + n % CHUNK);
#else
    return uvec2(lane / V_LANES * V_ROWS + r, c * V_LANES + lane % V_LANES);
#endif
}

/* Whether any token sees a page whose first position is `first`. */
bool has_page(Keys keys, uint first)
{
    return first <= keys.last && first + PAGE > keys.first;
}

/* ---- tiles ---- */

vec4 query4(Heads heads, uint row, uint i)
{
    bool there = row / HEADS < TOKENS && token_of(row) < step_n_tokens && row % HEADS < heads.n;
    return query_of(there, there ? token_of(row) * n_head + heads.first + row % HEADS : 0, i);
}

#ifdef COOPMAT
float key_factor(uint key)
{
    return K_FORMAT == KV_F16 ? 1.0 : half_factor(uintBitsToFloat(key_most[key]));
}

float query_factor(uint row)
{
    return half_factor(uintBitsToFloat(query_most[row]));
}

/* Sets query_most. */
void measure_queries(Heads heads)
{
    uint lane = gl_LocalInvocationIndex;
    if (lane < ROWS)
        query_most[lane] = 0;
    barrier();
    [[dont_unroll]] for (uint n = lane; n < ROWS * K4; n += WORKGROUP)
        atomicMax(query_most[n / K4], floatBitsToUint(largest(query4(heads, n / K4, n % K4))));
    barrier();
}

/* Sets key_most and value_most where they are used. */
void measure_keys(Heads heads, Keys keys, uint block)
{
    if (K_FORMAT == KV_F16 && V_FORMAT == KV_F16)
        return;
    uint lane = gl_LocalInvocationIndex;
    [[dont_unroll]] for (uint key = lane; key < BLOCK; key += WORKGROUP)
        key_most[key] = value_most[key] = 0;
    barrier();
    [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
        uint first = block * BLOCK + at;
        if (!has_page(keys, first))
            continue;
        uint end = min(PAGE, keys.last + 1 - first);
        Rows k = key_rows(keys.sequence, first, heads.kv_head);
        Rows v = value_rows(keys.sequence, first, heads.kv_head);
        if (K_FORMAT != KV_F16)
            [[dont_unroll]] for (uint n = lane; n < end * K_BOUNDS; n += WORKGROUP)
                atomicMax(key_most[at + n / K_BOUNDS], floatBitsToUint(key_bound(k, n / K_BOUNDS, n % K_BOUNDS)));
        if (V_FORMAT != KV_F16)
            [[dont_unroll]] for (uint n = lane; n < end * V_BOUNDS; n += WORKGROUP)
                atomicMax(value_most[at + n / V_BOUNDS],
                          floatBitsToUint(value_bound(v, n / V_BOUNDS, n % V_BOUNDS)));
    }
    barrier();
}

/* Vectors `from` to from + CHUNK of the keys, or values, of a block into `tile`; 0 where there is none. */
void load_tile(Heads heads, Keys keys, uint block, uint from, bool values)
{
    uint lane = gl_LocalInvocationIndex, n_vectors = values ? V4 : K4;
    [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
        uint first = block * BLOCK + at;
        bool there = has_page(keys, first);
        Rows rows = Rows(0, 0);
        if (there)
            rows = values ? value_rows(keys.sequence, first, heads.kv_head)
                          : key_rows(keys.sequence, first, heads.kv_head);
        [[dont_unroll]] for (uint n = lane; n < PAGE * CHUNK; n += WORKGROUP) {
            uint i = n % CHUNK, j = n / CHUNK;
            vec4 v = vec4(0.0);
            if (there && first + j <= keys.last && from + i < n_vectors)
                v = values ? value_factor(at + j) * value4(rows, j, from + i)
                           : key_factor(at + j) * key4(rows, j, from + i);
            tile[(at + j) * HALF_STRIDE + i] = f16vec4(v);
        }
    }
}

/* Vectors `from` to from + CHUNK of the queries, into half_row. */
void load_queries(Heads heads, uint from)
{
    [[dont_unroll]] for (uint n = gl_LocalInvocationIndex; n < ROWS * CHUNK; n += WORKGROUP) {
        uint row = n / CHUNK, i = n % CHUNK;
        half_row[row * HALF_STRIDE + i] = f16vec4(query_factor(row) * query4(heads, row, from + i));
    }
}

/* Into `weight`, [ROWS][BLOCK]: the queries' products with the keys of a block, or the sums of CHUNK vectors, `from` on,
 * of its values by the weights in half_row. */
void multiply(Heads heads, Keys keys, uint block, uint from, bool values)
{
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[TN * TM];
    [[unroll]] for (uint i = 0; i < TN * TM; i++)
        sum[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    uint end = values ? from + CHUNK : K4;
    [[dont_unroll]] for (; from < end; from += CHUNK) {
        if (!values)
            load_queries(heads, from);
        load_tile(heads, keys, block, from, values);
        barrier();
        [[dont_unroll]] for (uint i = 0; i < CHUNK && from + i < end; i += K / 4) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[TM];
            [[unroll]] for (uint m = 0; m < TM; m++)
                coopMatLoad(a[m], half_row, m * M * HALF_STRIDE + i, HALF_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint c = 0; c < TN; c++) {
                uint column = (c * SUBGROUPS + gl_SubgroupID) * N;
                if (column >= BLOCK)
                    continue;
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                if (values)
                    coopMatLoad(b, tile, 4 * i * HALF_STRIDE + column / 4, HALF_STRIDE,
                                gl_CooperativeMatrixLayoutRowMajor);
                else
                    coopMatLoad(b, tile, column * HALF_STRIDE + i, HALF_STRIDE,
                                gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint m = 0; m < TM; m++)
                    sum[c * TM + m] = coopMatMulAdd(a[m], b, sum[c * TM + m]);
            }
        }
        barrier();
    }
    [[unroll]] for (uint c = 0; c < TN; c++) {
        uint column = (c * SUBGROUPS + gl_SubgroupID) * N;
        [[unroll]] for (uint m = 0; m < TM; m++)
            if (column < BLOCK)
                coopMatStore(sum[c * TM + m], weight, m * M * BLOCK4 + column / 4, BLOCK4,
                             gl_CooperativeMatrixLayoutRowMajor);
    }
    barrier();
}
#else
/* Vectors `from` to from + CHUNK of the keys of a block, into `weight`: [CHUNK][4][BLOCK4], and of the queries. */
void load_chunk(Heads heads, Keys keys, uint block, uint from)
{
    uint lane = gl_LocalInvocationIndex;
    [[dont_unroll]] for (uint n = lane; n < ROWS * CHUNK; n += WORKGROUP)
        query[n] = query4(heads, n / CHUNK, from + n % CHUNK);
    [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
        uint first = block * BLOCK + at;
        if (!has_page(keys, first))
            continue;
        Rows rows = key_rows(keys.sequence, first, heads.kv_head);
        [[dont_unroll]] for (uint n = lane; n < PAGE * CHUNK; n += WORKGROUP) {
            uint i = n % CHUNK, j = n / CHUNK, key = at + j;
            if (from + i < K4)
                weight[(i * 4 + key % 4) * BLOCK4 + key / 4] = key4(rows, j, from + i);
        }
    }
}
#endif

/* ---- a block of keys ---- */

/* Scores of four keys with a row, -infinity where it does not see them. */
vec4 scores_of(uint row, uint key, uint position, vec4 products)
{
#ifdef COOPMAT
    products /= query_factor(row);
#endif
    for (uint e = 0; e < 4; e++) {
        bool seen = position + e >= row_begin[row] && position + e < row_end[row];
#ifdef COOPMAT
        products[e] = score_of(products[e] / key_factor(key + e)) - log(value_factor(key + e));
#else
        products[e] = score_of(products[e]);
#endif
        products[e] = seen ? products[e] : uintBitsToFloat(0xff800000u);
    }
    return products;
}

/* Scores of the block, into `weight`. */
void score(Heads heads, Keys keys, uint block)
{
    uint lane = gl_LocalInvocationIndex;
#ifdef COOPMAT
    measure_keys(heads, keys, block);
    multiply(heads, keys, block, 0, false);
    [[dont_unroll]] for (uint n = lane; n < ROWS * BLOCK4; n += WORKGROUP) {
        uint key = n % BLOCK4 * 4;
        weight[n] = scores_of(n / BLOCK4, key, block * BLOCK + key, weight[n]);
    }
#else
    uint j = lane % SCORE_LANES, first_row = lane / SCORE_LANES * SCORE_ROWS;
    vec4 sum[SCORE_ROWS], slice[SCORE_ROWS];
    for (uint r = 0; r < SCORE_ROWS; r++)
        sum[r] = slice[r] = vec4(0.0);
    [[dont_unroll]] for (uint from = 0; from < K4; from += CHUNK) {
        load_chunk(heads, keys, block, from);
        barrier();
        [[dont_unroll]] for (uint i = 0; i < CHUNK && from + i < K4; i++) {
            uint at = i * 4 * BLOCK4 + j;
            vec4 k0 = weight[at], k1 = weight[at + BLOCK4], k2 = weight[at + 2 * BLOCK4],
                 k3 = weight[at + 3 * BLOCK4];
            for (uint r = 0; r < SCORE_ROWS; r++) {
                vec4 a = query[(first_row + r) * CHUNK + i];
                slice[r] = vec4(add_dot(k0, a, slice[r].x), add_dot(k1, a, slice[r].y),
                                add_dot(k2, a, slice[r].z), add_dot(k3, a, slice[r].w));
            }
            if ((from + i + 1) % SLICE == 0 || from + i + 1 == K4)
                for (uint r = 0; r < SCORE_ROWS; r++) {
                    sum[r] += slice[r];
                    slice[r] = vec4(0.0);
                }
        }
        barrier();
    }
    for (uint r = 0; r < SCORE_ROWS; r++)
        weight[(first_row + r) * BLOCK4 + j] =
            scores_of(first_row + r, 4 * j, block * BLOCK + 4 * j, sum[r]);
#endif
    barrier();
}

#ifndef COOPMAT
/* Column c of an invocation's sums of the block's values. */
void add_columns(Heads heads, Keys keys, uint block, uint c, out vec4 sum[V_ROWS])
{
    uint first_row = place_of(c, 0).x, d = min(place_of(c, 0).y, V4 - 1);
    for (uint r = 0; r < V_ROWS; r++)
        sum[r] = vec4(0.0);
    [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
        uint first = block * BLOCK + at;
        if (!has_page(keys, first))
            continue;
        uint end = min(PAGE, keys.last + 1 - first);
        Rows rows = value_rows(keys.sequence, first, heads.kv_head);
        for (uint j = 0; j < end; j += 4) {
            mat4 v = values4(rows, j, end, d);
            for (uint r = 0; r < V_ROWS; r++)
                sum[r] = add_values(weight[min(first_row + r, ROWS - 1) * BLOCK4 + (at + j) / 4], v, sum[r]);
        }
    }
}
#endif

/* Adds the block to what the rows have. */
void add_block(Heads heads, Keys keys, uint block)
{
    uint lane = gl_LocalInvocationIndex;
    if (lane < ROWS) {
        float new_top = max(top[lane], row_top[lane]);
        old_factor[lane] = shrink(top[lane], new_top);
        new_factor[lane] = shrink(row_top[lane], new_top);
        top[lane] = new_top;
        total[lane] = fma(total[lane], old_factor[lane], row_sum[lane] * new_factor[lane]);
    }
    barrier();
    for (uint c = 0; c < V_COLUMNS; c++) {
#ifdef COOPMAT
        multiply(heads, keys, block, c * CHUNK, true);
#else
        vec4 sum[V_ROWS];
        add_columns(heads, keys, block, c, sum);
#endif
        for (uint r = 0; r < V_ROWS; r++) {
            uint row = min(place_of(c, r).x, ROWS - 1);
#ifdef COOPMAT
            vec4 added = weight[row * BLOCK4 + place_of(c, r).y % CHUNK];
#else
            vec4 added = sum[r];
#endif
            result[c * V_ROWS + r] =
                fma(result[c * V_ROWS + r], vec4(old_factor[row]), added * new_factor[row]);
        }
    }
    barrier();
}

/* The tokens from t to the result are of one sequence. Sets what the rows see of it. */
uint begin_run(uint t, uint end)
{
    uint lane = gl_LocalInvocationIndex, run_end = t + 1;
    while (run_end < end && step_sequence(run_end) == step_sequence(t))
        run_end++;
    barrier();
    if (lane < ROWS) {
        uint token = token_of(lane);
        bool in_run = lane / HEADS < TOKENS && token >= t && token < run_end;
        uint last = in_run ? step_position(token) : 0;
        row_begin[lane] = in_run ? first_seen(last) : 0;
        row_end[lane] = in_run ? last + 1 : 0;
    }
    barrier();
    return run_end;
}

void main()
{
    Heads heads = heads_of(gl_WorkGroupID.x);
    uint lane = gl_LocalInvocationIndex, end = min(token_of(0) + TOKENS, step_n_tokens);
    if (token_of(0) >= end)
        return;
    for (uint r = 0; r < V_COLUMNS * V_ROWS; r++)
        result[r] = vec4(0.0);
    if (lane < ROWS) {
        bool has_sink = sink_at != NONE && lane % HEADS < heads.n; /* it takes part in the sum only */
        top[lane] = has_sink ? sink[sink_at + heads.first + lane % HEADS] : LOWEST;
        total[lane] = has_sink ? 1.0 : 0.0;
    }
#ifdef COOPMAT
    measure_queries(heads);
#endif
    for (uint t = token_of(0); t < end;) {
        uint run_end = begin_run(t, end);
        Keys keys = Keys(step_sequence(t), first_seen(step_position(t)), step_position(run_end - 1));
        for (uint block = keys.first / BLOCK; block <= keys.last / BLOCK; block++) {
            score(heads, keys, block);
            weigh();
            add_block(heads, keys, block);
        }
        t = run_end;
    }
    for (uint c = 0; c < V_COLUMNS; c++)
        for (uint r = 0; r < V_ROWS; r++) {
            uint row = place_of(c, r).x, d = 4 * place_of(c, r).y;
            if (row >= ROWS || row / HEADS >= TOKENS || token_of(row) >= end || row % HEADS >= heads.n)
                continue;
            vec4 v = result[c * V_ROWS + r] / total[row];
            for (uint e = 0; e < 4 && d + e < HEAD_V; e++)
                y[(token_of(row) * n_head + heads.first + row % HEADS) * HEAD_V + d + e] = v[e];
        }
}
