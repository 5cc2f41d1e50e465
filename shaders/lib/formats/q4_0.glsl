/* d, 16 bytes: low nibbles are weights 0 to 15, high nibbles 16 to 31. (q - 8) * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 18
#define SUB_LEN     32

uint quants4(uint at, uint i)
{
    return minus4(weight_u32(at + 2u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu, 0x08080808u);
}

vec2 scales(uint at, uint i)
{
    return vec2(weight_half(at), 0.0);
}
