/* ATTENTION for few tokens: a workgroup has one block of keys for the heads of one token that share a KV head, and
 * leaves what attention_combine.comp merges. SLICES invocations share a key, later V4 an element of the values. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#define Q_BINDING    1
#define POOL_BINDING 3
#define WORKGROUP    64
#define WEIGHT_ROWS  HEADS
layout(local_size_x = WORKGROUP) in;
#include "lib/attention.glsl"

layout(set = 0, binding = 2) writeonly buffer Parts { vec4 part[]; };  // [1 + V4, n_head, max_tokens, blocks]

const uint V_LANES = V4 < WORKGROUP ? V4 : WORKGROUP, V_SHARES = WORKGROUP / V_LANES;
const uint V_HEADS = (HEADS + V_SHARES - 1) / V_SHARES; /* of an invocation */

vec4 query[HEADS * SLICE];                   // [HEADS][SLICE], this lane's slice of the queries
vec4 value_sum[V_HEADS];
shared float product[HEADS * PAGE * SLICES]; // [HEADS][PAGE][SLICES]

void load_queries(Heads heads, uint t)
{
    uint slice = gl_LocalInvocationIndex % SLICES;
    for (uint h = 0; h < HEADS; h++)
        for (uint r = 0; r < SLICE; r++)
            query[h * SLICE + r] =
                query_of(h < heads.n, t * n_head + min(heads.first + h, n_head - 1), slice * SLICE + r);
}

/* Products of the queries with the first n keys of a page. */
void multiply(Rows rows, uint n)
{
    uint lane = gl_LocalInvocationIndex, slice = lane % SLICES;
    [[dont_unroll]] for (uint j = lane / SLICES; j < n; j += WORKGROUP / SLICES) {
        float sum[HEADS];
        for (uint h = 0; h < HEADS; h++)
            sum[h] = 0.0;
        for (uint r = 0; r < SLICE; r++) {
            vec4 key = key4(rows, j, min(slice * SLICE + r, K4 - 1)); /* queries are 0 beyond */
            for (uint h = 0; h < HEADS; h++)
                sum[h] = add_dot(key, query[h * SLICE + r], sum[h]);
        }
        for (uint h = 0; h < HEADS; h++)
            product[(h * PAGE + j) * SLICES + slice] = sum[h];
    }
}

/* Scores of the page's keys, whose products the lanes of a key have left. */
void score(uint first, uint from, uint begin, uint last)
{
    [[dont_unroll]] for (uint n = gl_LocalInvocationIndex; n < HEADS * PAGE / 4; n += WORKGROUP) {
        uint h = n / (PAGE / 4), j = n % (PAGE / 4) * 4;
        vec4 scores = vec4(uintBitsToFloat(0xff800000u));
        [[dont_unroll]] for (uint e = 0; e < 4; e++)
            if (first + j + e >= begin && first + j + e <= last) {
                float sum = 0.0;
                for (uint s = 0; s < SLICES; s++)
                    sum += product[(h * PAGE + j + e) * SLICES + s];
                scores[e] = score_of(sum);
            }
        weight[h * BLOCK4 + (from + j) / 4] = scores;
    }
}

/* Vector d of the values of the block, by the weights of this lane's heads. */
void sum_values(uint sequence, uint kv_head, uint block, uint begin, uint last, uint d)
{
    uint share = gl_LocalInvocationIndex / V_LANES;
    for (uint h = 0; h < V_HEADS; h++)
        value_sum[h] = vec4(0.0);
    [[dont_unroll]] for (uint from = 0; from < BLOCK; from += PAGE) {
        uint first = block * BLOCK + from;
        if (first > last || first + PAGE <= begin)
            continue;
        Rows rows = value_rows(sequence, first, kv_head);
        uint end = min(PAGE, last + 1 - first);
        for (uint j = 0; j < end; j += 4) {
            mat4 v = values4(rows, j, end, d);
            for (uint h = 0; h < V_HEADS; h++)
                value_sum[h] = add_values(
                    weight[min(share + h * V_SHARES, HEADS - 1) * BLOCK4 + (from + j) / 4], v, value_sum[h]);
        }
    }
}

void main()
{
    Heads heads = heads_of(gl_WorkGroupID.x);
    uint t = gl_WorkGroupID.z, lane = gl_LocalInvocationIndex;
    if (t >= step_n_tokens)
        return;
    uint last = step_position(t), begin = first_seen(last), sequence = step_sequence(t);
    uint block = begin / BLOCK + gl_WorkGroupID.y;
    if (block > last / BLOCK)
        return;
    load_queries(heads, t);
    [[dont_unroll]] for (uint from = 0; from < BLOCK; from += PAGE) {
        uint first = block * BLOCK + from; /* position of the page's first key */
        if (first <= last && first + PAGE > begin)
            multiply(key_rows(sequence, first, heads.kv_head), min(PAGE, last + 1 - first));
        barrier();
        score(first, from, begin, last);
        barrier();
    }
    weigh();

    uint share = lane / V_LANES;
    uint row = ((gl_WorkGroupID.y * max_tokens + t) * n_head + heads.first) * (1 + V4);
    [[dont_unroll]] for (uint d = lane % V_LANES; d < V4 && share < V_SHARES; d += V_LANES) {
        sum_values(sequence, heads.kv_head, block, begin, last, d);
        for (uint h = 0; h < V_HEADS; h++)
            if (share + h * V_SHARES < heads.n)
                part[row + (share + h * V_SHARES) * (1 + V4) + 1 + d] = value_sum[h];
    }
    if (lane < heads.n)
        part[row + lane * (1 + V4)] = vec4(row_top[lane], row_sum[lane], 0.0, 0.0);
}
