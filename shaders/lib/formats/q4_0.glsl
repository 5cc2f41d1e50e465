/* d, 16 bytes: low nibbles are weights 0 to 15, high nibbles 16 to 31. (q - 8) * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 18

vec4 decode4(uint at, uint i)
{
    uint q = weight_u32(at + 2u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu;
    precise vec4 v = vec4(ivec4(bytes4(q)) - 8) * weight_half(at);
    return v;
}
