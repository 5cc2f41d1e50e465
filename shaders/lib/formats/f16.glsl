/* Plain half precision. */
#define BLOCK_LEN   1
#define BLOCK_BYTES 2
#define FORMAT_PLAIN

float decode(uint at, uint i)
{
    return weight_half(at + 2u * i);
}

vec4 decode4(uint at, uint i)
{
    uint low = weight_u32(at + 2u * i), high = weight_u32(at + 2u * i + 4u);
    return vec4(half_to_float(low & 0xffffu), half_to_float(low >> 16), half_to_float(high & 0xffffu),
                half_to_float(high >> 16));
}
