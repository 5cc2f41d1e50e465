/* ATTENTION for many tokens: a workgroup has ROWS queries, the HEADS heads of ROWS / HEADS tokens, and goes over the
 * blocks of keys that any of them sees, so that keys and values are read once for all. Keys pass through shared
 * memory a few elements of the head at a time; then the same place holds the weights. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#define Q_BINDING    1
#define POOL_BINDING 4
#define WORKGROUP    64
#define WEIGHT_ROWS  ROWS
layout(local_size_x = WORKGROUP) in;
layout(constant_id = 7) const uint ROWS = 16;
#include "lib/attention.glsl"

layout(set = 0, binding = 2) readonly buffer Sinks { float sink[]; };  // [n_head]
layout(set = 0, binding = 3) writeonly buffer Y { float y[]; };        // [HEAD_V, n_head, T]

const uint TOKENS = ROWS / HEADS;
/* An invocation has the scores of four keys with SCORE_ROWS queries ... */
const uint SCORE_LANES = BLOCK4, SCORE_ROWS = ROWS * SCORE_LANES / WORKGROUP;
/* ... then every V_LANES-th vector of the results of V_ROWS queries. */
const uint V_LANES = V4 < WORKGROUP ? V4 : WORKGROUP, V_COLUMNS = (V4 + V_LANES - 1) / V_LANES;
const uint V_SHARES = WORKGROUP / V_LANES, V_ROWS = (ROWS + V_SHARES - 1) / V_SHARES;
const uint CHUNK = ROWS / 4; /* vectors of the head at a time: as many keys' as there are weights */

vec4 result[V_COLUMNS * V_ROWS];              // [V_COLUMNS][V_ROWS] of the blocks so far
shared vec4 query[ROWS * CHUNK];              // [ROWS][CHUNK]
shared uint row_begin[ROWS], row_end[ROWS];   /* positions that a row sees */
shared float top[ROWS], total[ROWS];          /* of the blocks so far */
shared float old_factor[ROWS], new_factor[ROWS];

uint token_of(uint row)
{
    uint tiles = (max_tokens + TOKENS - 1) / TOKENS;
    return (tiles - 1 - gl_WorkGroupID.y) * TOKENS + row / HEADS; /* the longest begin first */
}

vec4 query4(Heads heads, uint row, uint i)
{
    bool there = row / HEADS < TOKENS && token_of(row) < step_n_tokens && row % HEADS < heads.n;
    return query_of(there, there ? token_of(row) * n_head + heads.first + row % HEADS : 0, i);
}

/* Vectors `from` to from + CHUNK of the keys of a block, into `weight`: [CHUNK][4][BLOCK4], and of the queries. */
void load_chunk(Heads heads, uint sequence, uint block, uint first_key, uint last_key, uint from)
{
    uint lane = gl_LocalInvocationIndex;
    [[dont_unroll]] for (uint n = lane; n < ROWS * CHUNK; n += WORKGROUP)
        query[n] = query4(heads, n / CHUNK, from + n % CHUNK);
    [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
        uint first = block * BLOCK + at;
        if (first > last_key || first + PAGE <= first_key)
            continue;
        Rows rows = key_rows(sequence, first, heads.kv_head);
        [[dont_unroll]] for (uint n = lane; n < PAGE * CHUNK; n += WORKGROUP) {
            uint i = n % CHUNK, j = n / CHUNK, key = at + j;
            if (from + i < K4)
                weight[(i * 4 + key % 4) * BLOCK4 + key / 4] = key4(rows, j, from + i);
        }
    }
}

/* Scores of the block, into `weight`. */
void score(Heads heads, uint sequence, uint block, uint first_key, uint last_key)
{
    uint lane = gl_LocalInvocationIndex, j = lane % SCORE_LANES;
    uint first_row = lane / SCORE_LANES * SCORE_ROWS;
    vec4 sum[SCORE_ROWS], slice[SCORE_ROWS];
    for (uint r = 0; r < SCORE_ROWS; r++)
        sum[r] = slice[r] = vec4(0.0);
    [[dont_unroll]] for (uint from = 0; from < K4; from += CHUNK) {
        load_chunk(heads, sequence, block, first_key, last_key, from);
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
    uvec4 position = block * BLOCK + 4 * j + uvec4(0, 1, 2, 3);
    for (uint r = 0; r < SCORE_ROWS; r++) {
        uint row = first_row + r;
        for (uint e = 0; e < 4; e++) {
            bool seen = position[e] >= row_begin[row] && position[e] < row_end[row];
            sum[r][e] = seen ? score_of(sum[r][e]) : uintBitsToFloat(0xff800000u);
        }
        weight[row * BLOCK4 + j] = sum[r];
    }
    barrier();
}

/* Adds the block to what the rows have. */
void add_block(Heads heads, uint sequence, uint block, uint first_key, uint last_key)
{
    uint lane = gl_LocalInvocationIndex, first_row = lane / V_LANES * V_ROWS;
    if (lane < ROWS) {
        float new_top = max(top[lane], row_top[lane]);
        old_factor[lane] = shrink(top[lane], new_top);
        new_factor[lane] = shrink(row_top[lane], new_top);
        top[lane] = new_top;
        total[lane] = fma(total[lane], old_factor[lane], row_sum[lane] * new_factor[lane]);
    }
    barrier();
    for (uint c = 0; c < V_COLUMNS; c++) {
        uint d = min(c * V_LANES + lane % V_LANES, V4 - 1);
        vec4 sum[V_ROWS];
        for (uint r = 0; r < V_ROWS; r++)
            sum[r] = vec4(0.0);
        [[dont_unroll]] for (uint at = 0; at < BLOCK; at += PAGE) {
            uint first = block * BLOCK + at;
            if (first > last_key || first + PAGE <= first_key)
                continue;
            uint end = min(PAGE, last_key + 1 - first);
            Rows rows = value_rows(sequence, first, heads.kv_head);
            for (uint j = 0; j < end; j += 4) {
                mat4 v = values4(rows, j, end, d);
                for (uint r = 0; r < V_ROWS; r++)
                    sum[r] = add_values(weight[min(first_row + r, ROWS - 1) * BLOCK4 + (at + j) / 4], v, sum[r]);
            }
        }
        for (uint r = 0; r < V_ROWS; r++) {
            uint row = min(first_row + r, ROWS - 1);
            result[c * V_ROWS + r] =
                fma(result[c * V_ROWS + r], vec4(old_factor[row]), sum[r] * new_factor[row]);
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
    for (uint t = token_of(0); t < end;) {
        uint run_end = begin_run(t, end), sequence = step_sequence(t);
        uint first_key = first_seen(step_position(t)), last_key = step_position(run_end - 1);
        for (uint block = first_key / BLOCK; block <= last_key / BLOCK; block++) {
            score(heads, sequence, block, first_key, last_key);
            weigh();
            add_block(heads, sequence, block, first_key, last_key);
        }
        t = run_end;
    }
    for (uint c = 0; c < V_COLUMNS; c++)
        for (uint r = 0; r < V_ROWS; r++) {
            uint d = 4 * (c * V_LANES + lane % V_LANES), row = lane / V_LANES * V_ROWS + r;
            if (row >= ROWS || row / HEADS >= TOKENS || token_of(row) >= end || row % HEADS >= heads.n ||
                lane / V_LANES >= V_SHARES)
                continue;
            vec4 v = result[c * V_ROWS + r] / total[row];
            for (uint e = 0; e < 4 && d + e < HEAD_V; e++)
                y[(token_of(row) * n_head + heads.first + row % HEADS) * HEAD_V + d + e] = v[e];
        }
}
