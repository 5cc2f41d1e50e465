/* KV_STORE: the keys or the values of the step's tokens into their pages. One invocation 32 elements of a head, which
 * is a block of Q8_0. Pools are written in halves of words: rows of Q8_0 begin at even addresses only. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"
#include "lib/pages.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; }; // [head_dim, n_head, T]
layout(set = 0, binding = 2) writeonly buffer Pool { uint16_t half_word[]; } pool[POOLS];

layout(push_constant) uniform Push {
    uint head_dim, n_head;
    uint format, group;
    uint pages_per_pool, page_bytes, offset;
};

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

void main()
{
    uint blocks = (head_dim + 31) / 32, t = gl_WorkGroupID.y, at = gl_GlobalInvocationID.x;
    if (t >= step_n_tokens || at >= blocks * n_head)
        return;
    uint head = at / blocks, first = at % blocks * 32, n = min(32u, head_dim - first);
    uint from = (t * n_head + head) * head_dim + first;
    uint slot = step_slot(group, t), page = slot / step_page_tokens, which = page / pages_per_pool;
    uint row = head * step_page_tokens + slot % step_page_tokens;
    uint to = page_byte(page, pages_per_pool, page_bytes, offset) + row * kv_row_bytes(format, head_dim);
    if (format == KV_Q8_0) {
        float top = 0.0;
        for (uint i = 0; i < 32; i++)
            top = max(top, abs(x[from + i]));
        float d = top / 127.0, inverse = d != 0.0 ? 1.0 / d : 0.0;
        to = (to + first / 32 * 34) / 2;
        pool[which].half_word[to] = uint16_t(to_half(d));
        for (uint i = 0; i < 32; i += 2) {
            /* halves away from zero, as the reference rounds */
            float a = x[from + i] * inverse, b = x[from + i + 1] * inverse;
            int qa = int(sign(a) * floor(abs(a) + 0.5)), qb = int(sign(b) * floor(abs(b) + 0.5));
            pool[which].half_word[to + 1 + i / 2] = uint16_t(uint(qa & 0xff) | uint(qb & 0xff) << 8);
        }
    } else if (format == KV_F16) {
        to = to / 2 + first;
        for (uint i = 0; i < n; i++)
            pool[which].half_word[to + i] = uint16_t(to_half(x[from + i]));
    } else {
        to = to / 2 + 2 * first;
        for (uint i = 0; i < n; i++) {
            uint bits = floatBitsToUint(x[from + i]);
            pool[which].half_word[to + 2 * i] = uint16_t(bits & 0xffff);
            pool[which].half_word[to + 2 * i + 1] = uint16_t(bits >> 16);
        }
    }
}
