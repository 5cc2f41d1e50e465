/* d, m, 16 bytes as in Q4_0. q * d + m */
#define BLOCK_LEN   32
#define BLOCK_BYTES 20
#define SUB_LEN     32

uint quants4(uint at, uint i)
{
    return weight_word(at + 4u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu;
}

vec2 scales(uint at, uint i)
{
    vec2 d_m = weight_half2(at);
    return vec2(d_m.x, -d_m.y);
}
