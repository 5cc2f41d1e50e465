/* d, 16 bytes with a bit a weight, lowest first: d where it is set, else -d */
#define BLOCK_LEN   128
#define BLOCK_BYTES 18

vec4 decode4(uint at, uint i)
{
    precise vec4 v = -signs4(weight_u8(at + 2u + i / 8u) >> i % 8u) * weight_half(at);
    return v;
}
