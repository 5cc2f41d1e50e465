/* Activations as products read them that read no floats; the kernel says where they are bound by ROUNDED_BINDING.
 *
 * In 8 bits, for integer dot products: each block of 32 becomes d * q with d = max |x| / 127. A column is k / 4 words of
 * four q each, then four floats a block: d, d times the sums of q 0 to 15 and 16 to 31, and nothing.
 *
 * In half floats, for cooperative matrices: a column is k / 2 words, rounded up to whole quads, and the float that the
 * halves are to be multiplied by: a power of two, so that neither large nor small columns leave the range of halves. */
#include "types.glsl"

layout(set = 0, binding = ROUNDED_BINDING) writeonly buffer Rounded { uint rounded[]; }; // [a column's words, columns]

void store_block(float v[32], uint column, uint block, uint k)
{
    float most = 0.0;
    [[unroll]] for (uint i = 0; i < 32; i++)
        most = max(most, abs(v[i]));
    float d = most / 127.0, scale = most > 0.0 ? 127.0 / most : 0.0;
    uint to = column * (k / 8 * 3);
    ivec2 sum = ivec2(0);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        ivec4 q = ivec4(floor(vec4(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]) * scale + 0.5));
        sum[i / 4] += q.x + q.y + q.z + q.w;
        uvec4 low = uvec4(q) & 255u;
        rounded[to + block * 8 + i] = low.x | low.y << 8 | low.z << 16 | low.w << 24;
    }
    to += k / 4 + block * 4;
    rounded[to] = floatBitsToUint(d);
    rounded[to + 1] = floatBitsToUint(d * float(sum.x));
    rounded[to + 2] = floatBitsToUint(d * float(sum.y));
}

/* Words of halves of a column. */
uint half_words(uint k)
{
    return (k + 3) / 4 * 2;
}

/* Elements 2 word and 2 word + 1 of a column whose factor is half_factor of its largest one. */
void store_halves(vec2 v, float factor, uint column, uint word, uint k)
{
    rounded[column * (half_words(k) + 1) + word] = packHalf2x16(v * factor);
}

void store_factor(float factor, uint column, uint k)
{
    rounded[column * (half_words(k) + 1) + half_words(k)] = floatBitsToUint(1.0 / factor);
}
