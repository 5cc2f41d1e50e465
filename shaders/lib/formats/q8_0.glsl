/* d, 32 signed bytes. q * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 34

vec4 decode4(uint at, uint i)
{
    precise vec4 v = vec4(signed_bytes4(weight_u32(at + 2u + i))) * weight_half(at);
    return v;
}
