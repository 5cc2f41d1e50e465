/* What the kernels of ATTENTION share. The keys of a sequence are taken in blocks of BLOCK at positions that are the
 * same for every token. Of a block and a query there is the largest score (top), the sum of exp(score - top), and the
 * sum of the values by these weights; `merge` adds one block after another (online softmax: Milakov, Gimelshein 2018,
 * arXiv 1805.02867). All sums in floats have one order in all kernels, so that they give the same bits:
 *
 *   score    SLICES sums over parts of the head, of SLICE vectors each, added in order
 *   weights  LANES sums over every LANES-th vector of four, added in order
 *   values   key after key
 *
 * A workgroup has HEADS of the query heads that share a KV head (GQA), so that its keys and values are read once.
 *
 * With -DCOOPMAT products are of half floats, summed in floats. None leaves their range: queries and keys are multiplied
 * by powers of two, and their products by the inverse. A value that is too large is made smaller in the same way; the
 * inverse goes into its weight before the top is taken, so that no weight is above 1, and comes out again where weights
 * are summed. What the cache has in half floats stays as it is. */
#include "softcap.glsl"
#include "step.glsl"
#include "pages.glsl"
#include "types.glsl"

layout(constant_id = 0) const uint HEAD_K = 128;
layout(constant_id = 1) const uint HEAD_V = 128;
layout(constant_id = 2) const uint K_FORMAT = KV_F16;
layout(constant_id = 3) const uint V_FORMAT = KV_F16;
layout(constant_id = 4) const uint PAGE = 32; /* tokens; a multiple of 4 that divides BLOCK */
layout(constant_id = 5) const uint HEADS = 4;
layout(constant_id = 6) const uint WIDE = 1; /* rows of keys and values begin at whole vectors */

#ifdef COOPMAT
const uint BLOCK = 64;  /* half of QN_VK_KEY_BLOCK */
#else
const uint BLOCK = 128; /* QN_VK_KEY_BLOCK */
#endif
const uint BLOCK4 = BLOCK / 4;
const uint K4 = (HEAD_K + 3) / 4, V4 = (HEAD_V + 3) / 4;
const uint SLICES = 8, SLICE = (K4 + SLICES - 1) / SLICES;
const uint LANES = 8;
const float LOWEST = -3.4e38;
const uint NONE = 0xffffffff;

layout(push_constant) uniform Push {
    uint n_head, n_head_kv, group, window;
    uint pages_per_pool, page_bytes, k_offset, v_offset;
    uint sink_at;    /* first element; NONE: there is none */
    uint max_tokens; /* of the segment */
    float scale, softcap;
};

/* ---- heads ---- */

/* A workgroup's x: which HEADS heads of which KV head. The last of them may have fewer. */
struct Heads {
    uint kv_head, first, n;
};

Heads heads_of(uint x)
{
    uint share = n_head / n_head_kv, parts = (share + HEADS - 1) / HEADS;
    uint begin = x % parts * HEADS;
    return Heads(x / parts, x / parts * share + begin, min(HEADS, share - begin));
}

/* First position that the token at `last` sees. */
uint first_seen(uint last)
{
    return window > 0 && last + 1 > window ? last + 1 - window : 0;
}

/* ---- keys and values ---- */

#ifdef POOL_BINDING
layout(set = 0, binding = POOL_BINDING) readonly buffer Pool { uint16_t half_word[]; } pool[POOLS];
layout(set = 0, binding = POOL_BINDING) readonly buffer Pool2 { uvec2 word2[]; } pool2[POOLS];
layout(set = 0, binding = POOL_BINDING) readonly buffer Pool4 { uvec4 word4[]; } pool4[POOLS];

/* A page's keys or values of one head: its pool and first byte. */
struct Rows {
    uint pool, at;
};

Rows rows_of(uint page, uint kv_head, uint offset, uint row_bytes)
{
    return Rows(page / pages_per_pool,
                page_byte(page, pages_per_pool, page_bytes, offset) + kv_head * PAGE * row_bytes);
}

/* Of the page whose first token is at position `first` of the sequence. */
Rows key_rows(uint sequence, uint first, uint kv_head)
{
    return rows_of(step_page(group, sequence, first / PAGE), kv_head, k_offset, kv_row_bytes(K_FORMAT, HEAD_K));
}

Rows value_rows(uint sequence, uint first, uint kv_head)
{
    return rows_of(step_page(group, sequence, first / PAGE), kv_head, v_offset, kv_row_bytes(V_FORMAT, HEAD_V));
}

uint half_at(uint which, uint byte)
{
    return uint(pool[which].half_word[byte / 2]);
}

float element(uint which, uint format, uint byte, uint i)
{
    if (format == KV_F16)
        return unpackHalf2x16(half_at(which, byte + 2 * i)).x;
    return uintBitsToFloat(half_at(which, byte + 4 * i) | half_at(which, byte + 4 * i + 2) << 16);
}

/* Elements 4 i to 4 i + 3 of the row of n that begins at `byte`; 0 beyond. */
vec4 elements(uint which, uint format, uint byte, uint i, uint n)
{
    if (format == KV_Q8_0) {
        uint block = byte + i / 8 * 34, at = block + 2 + i % 8 * 4;
        uint word = half_at(which, at) | half_at(which, at + 2) << 16;
        return unpackHalf2x16(half_at(which, block)).x * vec4(signed_bytes4(word));
    }
    if (WIDE != 0 && format == KV_F16) {
        uvec2 words = pool2[which].word2[byte / 8 + i];
        return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
    }
    if (WIDE != 0)
        return uintBitsToFloat(pool4[which].word4[byte / 16 + i]);
    vec4 v = vec4(0.0);
    for (uint e = 0; e < 4 && 4 * i + e < n; e++)
        v[e] = element(which, format, byte, 4 * i + e);
    return v;
}

/* Elements 4 i to 4 i + 3 of a token's key. */
vec4 key4(Rows rows, uint row, uint i)
{
    return elements(rows.pool, K_FORMAT, rows.at + row * kv_row_bytes(K_FORMAT, HEAD_K), i, HEAD_K);
}

/* The same of its value. */
vec4 value4(Rows rows, uint row, uint i)
{
    return elements(rows.pool, V_FORMAT, rows.at + row * kv_row_bytes(V_FORMAT, HEAD_V), i, HEAD_V);
}

/* The same of the values of four tokens from `row` on; those beyond `end` have no weight and are read as the last. */
mat4 values4(Rows rows, uint row, uint end, uint i)
{
    mat4 v;
    for (uint e = 0; e < 4; e++)
        v[e] = value4(rows, min(row + e, end - 1), i);
    return v;
}

#ifdef COOPMAT
float largest(vec4 v)
{
    return max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
}

/* The K_BOUNDS numbers of a token's key, and as many of its value, of which the largest is not below any element. */
const uint K_BOUNDS = K_FORMAT == KV_Q8_0 ? HEAD_K / 32 : K4, V_BOUNDS = V_FORMAT == KV_Q8_0 ? HEAD_V / 32 : V4;

float key_bound(Rows rows, uint row, uint i)
{
    if (K_FORMAT == KV_Q8_0)
        return 128.0 * abs(element(rows.pool, KV_F16, rows.at + row * kv_row_bytes(K_FORMAT, HEAD_K), 17 * i));
    return largest(key4(rows, row, i));
}

float value_bound(Rows rows, uint row, uint i)
{
    if (V_FORMAT == KV_Q8_0)
        return 128.0 * abs(element(rows.pool, KV_F16, rows.at + row * kv_row_bytes(V_FORMAT, HEAD_V), 17 * i));
    return largest(value4(rows, row, i));
}
#endif
#endif

#ifdef Q_BINDING
layout(set = 0, binding = Q_BINDING) readonly buffer Q { float q[]; }; // [HEAD_K, rows]
layout(set = 0, binding = Q_BINDING) readonly buffer Q4 { vec4 q4[]; };

/* Elements 4 i to 4 i + 3 of a query; 0 beyond its end, or where it is not there. */
vec4 query_of(bool there, uint row, uint i)
{
    vec4 v = vec4(0.0);
    if (HEAD_K % 4 == 0)
        return mix(v, q4[row * K4 + min(i, K4 - 1)], bvec4(there && i < K4));
    for (uint e = 0; e < 4; e++)
        if (there && 4 * i + e < HEAD_K)
            v[e] = q[row * HEAD_K + 4 * i + e];
    return v;
}
#endif

/* ---- arithmetic ---- */

float add_dot(vec4 a, vec4 b, float sum)
{
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

/* The values of four keys, v[key], by their weights. */
vec4 add_values(vec4 weights, mat4 v, vec4 sum)
{
    return fma(vec4(weights.w), v[3],
               fma(vec4(weights.z), v[2], fma(vec4(weights.y), v[1], fma(vec4(weights.x), v[0], sum))));
}

float score_of(float product)
{
    return soft_cap(product * scale, softcap);
}

/* By what a sum of the weights below `top` is multiplied when a block raises it to new_top. */
float shrink(float top, float new_top)
{
    return top == new_top ? 1.0 : exp(top - new_top);
}

#ifdef COOPMAT
const uint HALF_STRIDE = BLOCK4 + 2; /* vectors */
shared f16vec4 half_row[WEIGHT_ROWS * HALF_STRIDE]; // [WEIGHT_ROWS][BLOCK]
shared uint value_most[BLOCK]; /* largest element of a value, as a float's bits; not used of half floats */

/* What the value of a key is multiplied by to be in half floats. */
float value_factor(uint key)
{
    return V_FORMAT == KV_F16 ? 1.0 : min(half_factor(uintBitsToFloat(value_most[key])), 1.0);
}

vec4 value_factors(uint key)
{
    return vec4(value_factor(key), value_factor(key + 1), value_factor(key + 2), value_factor(key + 3));
}
#endif

#ifdef WEIGHT_ROWS
shared vec4 weight[WEIGHT_ROWS * BLOCK4]; // [WEIGHT_ROWS][BLOCK]: scores, -infinity where a key is not seen
shared float row_top[WEIGHT_ROWS], row_sum[WEIGHT_ROWS];
shared float lane_room[WORKGROUP];

/* The block's scores become weights, with -DCOOPMAT in half_row. WEIGHT_ROWS rows, LANES invocations each. */
void weigh()
{
    uint lane = gl_LocalInvocationIndex, first_lane = lane / LANES * LANES;
    [[dont_unroll]] for (uint first = 0; first < WEIGHT_ROWS; first += WORKGROUP / LANES) {
        uint row = first + lane / LANES;
        bool has_row = row < WEIGHT_ROWS;
        float top = LOWEST, sum = 0.0;
        for (uint j = lane % LANES; has_row && j < BLOCK4; j += LANES) {
            vec4 s = weight[row * BLOCK4 + j];
            top = max(top, max(max(s.x, s.y), max(s.z, s.w)));
        }
        lane_room[lane] = top;
        barrier();
        for (uint i = 0; i < LANES; i++)
            top = max(top, lane_room[first_lane + i]);
        barrier();
        for (uint j = lane % LANES; has_row && j < BLOCK4; j += LANES) {
            vec4 e = exp(weight[row * BLOCK4 + j] - top);
#ifdef COOPMAT
            half_row[row * HALF_STRIDE + j] = f16vec4(e);
            e *= value_factors(4 * j);
#else
            weight[row * BLOCK4 + j] = e;
#endif
            sum += e.x;
            sum += e.y;
            sum += e.z;
            sum += e.w;
        }
        lane_room[lane] = sum;
        barrier();
        if (has_row && lane == first_lane) {
            sum = 0.0;
            for (uint i = 0; i < LANES; i++)
                sum += lane_room[first_lane + i];
            row_top[row] = top;
            row_sum[row] = sum;
        }
        barrier();
    }
}
#endif
