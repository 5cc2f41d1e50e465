/* 16 bytes with a scale (low nibble) and a minimum for each 16 weights; 64 bytes, of which each 32 hold 128 weights:
 * weight 32 * t + l at bits 2 * t of byte l; d, dmin. d * scale * q - dmin * minimum */
#define BLOCK_LEN   256
#define BLOCK_BYTES 84

vec4 decode4(uint at, uint i)
{
    uint packed = weight_u8(at + i / 16u);
    vec2 d = weight_half2(at + 80u);
    uint q = weight_word(at + 16u + i / 128u * 32u + i % 32u) >> i % 128u / 32u * 2u & 0x03030303u;
    precise float scale = d.x * float(packed & 15u), minimum = d.y * float(packed >> 4);
    precise vec4 v = scale * vec4(bytes4(q)) - minimum;
    return v;
}
