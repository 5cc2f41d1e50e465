/* Plain single precision. */
#define BLOCK_LEN   1
#define BLOCK_BYTES 4
#define FORMAT_PLAIN

float decode(uint at, uint i)
{
    return uintBitsToFloat(weight_word(at + 4u * i));
}

vec4 decode4(uint at, uint i)
{
    at += 4u * i;
    return uintBitsToFloat(uvec4(weight_word(at), weight_word(at + 4u), weight_word(at + 8u), weight_word(at + 12u)));
}
