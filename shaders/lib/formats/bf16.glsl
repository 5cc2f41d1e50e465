/* bfloat16: the upper half of a single. */
#define BLOCK_LEN   1
#define BLOCK_BYTES 2
#define FORMAT_PLAIN

float decode(uint at, uint i)
{
    return uintBitsToFloat(weight_u16(at + 2u * i) << 16);
}

vec4 decode4(uint at, uint i)
{
    uint low = weight_u32(at + 2u * i), high = weight_u32(at + 2u * i + 4u);
    return uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u, high << 16, high & 0xffff0000u));
}
