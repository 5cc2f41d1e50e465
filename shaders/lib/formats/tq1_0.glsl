/* Ternary digits, several a byte: 32 bytes hold weights 0 to 159 (digit t of byte m: weight 32 * t + m), 16 bytes 160
 * to 239, 4 bytes 240 to 255 likewise; d. A byte is a fraction of 256 in base 3: multiplying shifts digits out on top.
 * (digit - 1) * d */
#define BLOCK_LEN   256
#define BLOCK_BYTES 54

vec4 decode4(uint at, uint i)
{
    uint first = i < 160u ? 0u : i < 240u ? 160u : 240u;
    uint stride = i < 160u ? 32u : i < 240u ? 16u : 4u; /* bytes */
    uint bytes_at = i < 160u ? 0u : i < 240u ? 32u : 48u;
    uint t = (i - first) / stride, m = (i - first) % stride;
    uint power = t == 0u ? 1u : t == 1u ? 3u : t == 2u ? 9u : t == 3u ? 27u : 81u;
    uvec4 digits = (bytes4(weight_u32(at + bytes_at + m)) * power & 255u) * 3u >> 8;
    precise vec4 v = vec4(ivec4(digits) - 1) * weight_half(at + 52u);
    return v;
}
