/* d, 32 signed bytes. q * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 34
#define SUB_LEN     32

uint quants4(uint at, uint i)
{
    return weight_u32(at + 2u + i);
}

vec2 scales(uint at, uint i)
{
    return vec2(weight_half(at), 0.0);
}
