/* ATTENTION: softmax(scale q k) v over the pages of the token's sequence, one page at a time with an online softmax
 * (Milakov, Gimelshein 2018, arXiv 1805.02867). One workgroup a head of a token: first its lanes share the keys of a
 * page among themselves, then the elements of the result. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define WORKGROUP    64
#define PAGE_MAX     64 /* tokens of a page */
#define HEAD_MAX     512
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/pages.glsl"

layout(set = 0, binding = 1) readonly buffer Q { float q[]; };         // [head_dim_k, n_head, T]
layout(set = 0, binding = 2) readonly buffer Sinks { float sink[]; };  // [n_head]
layout(set = 0, binding = 3) writeonly buffer Y { float y[]; };        // [head_dim_v, n_head, T]
layout(set = 0, binding = 4) readonly buffer Pool { uint word[]; } pool[POOLS];

layout(push_constant) uniform Push {
    uint head_dim_k, head_dim_v, n_head, n_head_kv;
    uint k_format, v_format, group, window;
    uint pages_per_pool, page_bytes, k_offset, v_offset;
    uint sink_at; /* first element; NONE: there is none */
    float scale, softcap;
};
const uint NONE = 0xffffffff;

shared float weight[PAGE_MAX];
shared float query[HEAD_MAX];

uint half_at(uint which, uint byte)
{
    return pool[which].word[byte / 4] >> 8 * (byte & 2) & 0xffff;
}

/* Element i of the row that begins at `byte`. */
float element(uint which, uint format, uint byte, uint i)
{
    if (format == KV_F32)
        return uintBitsToFloat(pool[which].word[byte / 4 + i]);
    if (format == KV_F16)
        return unpackHalf2x16(half_at(which, byte + 2 * i)).x;
    uint block = byte + i / 32 * 34, at = block + 2 + i % 32;
    int v = int(pool[which].word[at / 4] >> 8 * (at & 3) << 24) >> 24;
    return unpackHalf2x16(half_at(which, block)).x * float(v);
}

float score_of(uint which, uint row_at)
{
    float sum = 0.0;
    for (uint i = 0; i < head_dim_k; i++)
        sum += query[i] * element(which, k_format, row_at, i);
    sum *= scale;
    return softcap != 0.0 ? softcap * (1.0 - 2.0 / (exp(2.0 * sum / softcap) + 1.0)) : sum;
}

void main()
{
    uint head = gl_WorkGroupID.x, t = gl_WorkGroupID.y, lane = gl_LocalInvocationIndex;
    if (t >= step_n_tokens)
        return;
    uint kv_head = head / (n_head / n_head_kv), sequence = step_sequence(t), last = step_position(t);
    uint begin = window > 0 && last + 1 > window ? last + 1 - window : 0;
    uint k_row = kv_row_bytes(k_format, head_dim_k), v_row = kv_row_bytes(v_format, head_dim_v);
    for (uint i = lane; i < head_dim_k; i += WORKGROUP)
        query[i] = q[(t * n_head + head) * head_dim_k + i];
    float result[HEAD_MAX / WORKGROUP];
    for (uint i = 0; i < HEAD_MAX / WORKGROUP; i++)
        result[i] = 0.0;
    /* A sink takes part in the sum only. */
    float top = sink_at != NONE ? sink[sink_at + head] : uintBitsToFloat(0xff800000u);
    float total = sink_at != NONE ? 1.0 : 0.0;
    barrier();
    for (uint block = begin / step_page_tokens; block <= last / step_page_tokens; block++) {
        uint page = step_page(group, sequence, block), which = page / pages_per_pool;
        uint first_row = kv_head * step_page_tokens;
        uint k_at = page_byte(page, pages_per_pool, page_bytes, k_offset) + first_row * k_row;
        uint v_at = page_byte(page, pages_per_pool, page_bytes, v_offset) + first_row * v_row;
        uint from = max(begin, block * step_page_tokens) - block * step_page_tokens;
        uint to = min(last + 1 - block * step_page_tokens, step_page_tokens);
        for (uint j = from + lane; j < to; j += WORKGROUP)
            weight[j] = score_of(which, k_at + j * k_row);
        barrier();
        float new_top = top;
        for (uint j = from; j < to; j++)
            new_top = max(new_top, weight[j]);
        float shrink = exp(top - new_top);
        top = new_top;
        total *= shrink;
        barrier();
        for (uint j = from + lane; j < to; j += WORKGROUP)
            weight[j] = exp(weight[j] - top);
        barrier();
        for (uint j = from; j < to; j++)
            total += weight[j];
        for (uint r = 0, i = lane; i < head_dim_v; r++, i += WORKGROUP) {
            float sum = result[r] * shrink;
            for (uint j = from; j < to; j++)
                sum += weight[j] * element(which, v_format, v_at + j * v_row, i);
            result[r] = sum;
        }
        barrier();
    }
    for (uint r = 0, i = lane; i < head_dim_v; r++, i += WORKGROUP)
        y[(t * n_head + head) * head_dim_v + i] = result[r] / total;
}
