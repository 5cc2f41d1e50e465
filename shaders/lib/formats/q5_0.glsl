/* d, a word with the fifth bit of each weight, 16 bytes as in Q4_0. (q - 16) * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 22
#define SUB_LEN     32

uint quants4(uint at, uint i)
{
    uint fifth = spread4(weight_u32(at + 2u) >> i) << 4;
    return minus4(weight_u32(at + 6u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu | fifth, 0x10101010u);
}

vec2 scales(uint at, uint i)
{
    return vec2(weight_half(at), 0.0);
}
