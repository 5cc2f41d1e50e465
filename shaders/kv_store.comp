/* KV_STORE: the keys and values of the step's tokens into their pages; and, where the graph has them before it, the
 * norms (RMS) of queries and keys over each head and the rope of both. One workgroup has a head of one token: first
 * come the heads of the queries, which are written to QueryOut, then those of the keys, then of the values. Pools are
 * written in halves of words, or whole words for F32: rows of other formats begin at even addresses only. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : require
#define STEP_BINDING  0
#define RATES_BINDING 5
#define WORKGROUP     64
layout(local_size_x = WORKGROUP) in;
layout(constant_id = 0) const uint HEAD_K = 128;
layout(constant_id = 1) const uint HEAD_V = 128;
layout(constant_id = 2) const uint K_FORMAT = 1;
layout(constant_id = 3) const uint V_FORMAT = 1;
#include "lib/step.glsl"
#include "lib/pages.glsl"
#include "lib/reduce.glsl"
#include "lib/rope.glsl"

layout(set = 0, binding = 1) readonly buffer Query { float q[]; };             // [HEAD_K, n_head, T]
layout(set = 0, binding = 2) writeonly buffer QueryOut { float q_out[]; };     // [HEAD_K, n_head, T]; may be Query
layout(set = 0, binding = 3) readonly buffer Key { float k[]; };               // [HEAD_K, n_head_kv, T]
layout(set = 0, binding = 4) readonly buffer Value { float v[]; };             // [HEAD_V, n_head_kv, T]
layout(set = 0, binding = 6) readonly buffer QueryWeight { float q_weight[]; }; // [HEAD_K]
layout(set = 0, binding = 7) readonly buffer KeyWeight { float k_weight[]; };  // [HEAD_K]
layout(set = 0, binding = 8) writeonly buffer Pool { uint16_t half_word[]; } pool[POOLS];
layout(set = 0, binding = 8) writeonly buffer Pool1 { uint word[]; } pool1[POOLS];

layout(push_constant) uniform Push {
    uint n_head; /* of the queries; 0: they are not taken along */
    uint n_head_kv;
    uint q_weight_at, k_weight_at; /* of the norms, first element; NONE: there is none */
    uint n_dims;                   /* that are rotated; 0: no rope */
    uint halves;                   /* pairs (i, i + n_dims / 2) in place of (2 i, 2 i + 1) */
    uint group, pages_per_pool, page_bytes, k_offset, v_offset;
    float q_eps, k_eps, mscale;
};
const uint NONE = 0xffffffff, QUERY = 0, KEY = 1, VALUE = 2;

shared float room[HEAD_K > HEAD_V ? HEAD_K : HEAD_V];

/* To half, to nearest and even: what packHalf2x16 rounds to is up to the driver. */
uint to_half(float f)
{
    uint bits = floatBitsToUint(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest >= 0x7f800000)
        return sign | (rest > 0x7f800000 ? 0x7e00 : 0x7c00);
    if (rest >= 0x477ff000)
        return sign | 0x7c00;
    if (rest < 0x33000000)
        return sign;
    uint exponent = rest >> 23, mantissa = rest & 0x7fffff | 0x800000;
    uint drop = exponent < 113 ? 126 - exponent : 13; /* bits of the mantissa that a half has not */
    uint kept = mantissa >> drop, lost = mantissa & (1u << drop) - 1, middle = 1u << drop - 1;
    kept += uint(lost > middle || (lost == middle && (kept & 1) == 1));
    return sign | (exponent < 113 ? kept : kept + ((exponent - 113) << 10));
}

/* Half away from zero, as the reference rounds. */
uint to_byte(float f)
{
    return uint(int(sign(f) * floor(abs(f) + 0.5))) & 0xff;
}

/* Elements i and i + 1 of a row that begins at byte `at`; i is even. */
void store_block_pair(uint which, uint at, uint i)
{
    float top = 0.0;
    for (uint e = i / 32 * 32; e < i / 32 * 32 + 32; e++)
        top = max(top, abs(room[e]));
    float d = top / 127.0, inverse = d != 0.0 ? 1.0 / d : 0.0;
    uint block = (at + i / 32 * 34) / 2;
    if (i % 32 == 0)
        pool[which].half_word[block] = uint16_t(to_half(d));
    pool[which].half_word[block + 1 + i % 32 / 2] =
        uint16_t(to_byte(room[i] * inverse) | to_byte(room[i + 1] * inverse) << 8);
}

/* The row in `room` to its page. */
void store(uint format, uint head, uint n, uint t, uint offset)
{
    uint slot = step_slot(group, t), page = slot / step_page_tokens, which = page / pages_per_pool;
    uint row = head * step_page_tokens + slot % step_page_tokens;
    uint at = page_byte(page, pages_per_pool, page_bytes, offset) + row * kv_row_bytes(format, n);
    for (uint i = gl_LocalInvocationIndex; i < n; i += WORKGROUP)
        if (format == KV_F32)
            pool1[which].word[at / 4 + i] = floatBitsToUint(room[i]);
        else if (format == KV_F16)
            pool[which].half_word[at / 2 + i] = uint16_t(to_half(room[i]));
        else if (2 * i < n)
            store_block_pair(which, at, 2 * i);
}

float norm_scale(float eps)
{
    float square = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < HEAD_K; i += WORKGROUP)
        square = fma(room[i], room[i], square);
    return 1.0 / sqrt(reduce_add(square) / float(HEAD_K) + eps);
}

void rope(uint position)
{
    for (uint i = gl_LocalInvocationIndex; i < n_dims / 2; i += WORKGROUP) {
        uint one = halves != 0 ? i : 2 * i, two = one + (halves != 0 ? n_dims / 2 : 1);
        vec2 turned = rotate(vec2(room[one], room[two]), angle(i, position) * mscale);
        room[one] = turned.x;
        room[two] = turned.y;
    }
}

void main()
{
    uint t = gl_WorkGroupID.y, x = gl_WorkGroupID.x, lane = gl_LocalInvocationIndex;
    if (t >= step_n_tokens)
        return;
    uint part = x < n_head ? QUERY : x < n_head + n_head_kv ? KEY : VALUE;
    uint head = x - (part == QUERY ? 0 : part == KEY ? n_head : n_head + n_head_kv);
    uint n = part == VALUE ? HEAD_V : HEAD_K;
    uint first = (t * (part == QUERY ? n_head : n_head_kv) + head) * n;
    for (uint i = lane; i < n; i += WORKGROUP)
        room[i] = part == QUERY ? q[first + i] : part == KEY ? k[first + i] : v[first + i];
    if (part != VALUE && (part == QUERY ? q_weight_at : k_weight_at) != NONE) {
        float scale = norm_scale(part == QUERY ? q_eps : k_eps);
        for (uint i = lane; i < HEAD_K; i += WORKGROUP) /* those that it has brought */
            room[i] = room[i] * scale * (part == QUERY ? q_weight[q_weight_at + i] : k_weight[k_weight_at + i]);
    }
    barrier();
    if (part != VALUE)
        rope(step_position(t));
    barrier();
    if (part == QUERY)
        for (uint i = lane; i < HEAD_K; i += WORKGROUP)
            q_out[first + i] = room[i];
    else if (part == KEY)
        store(K_FORMAT, head, HEAD_K, t, k_offset);
    else
        store(V_FORMAT, head, HEAD_V, t, v_offset);
}
