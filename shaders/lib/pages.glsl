/* The KV cache: pages of tokens in pools (struct quern_kv_binding in quern/driver.h). Elements are F32, F16 or Q8_0.
 * Which pool a page is in is the same for a whole workgroup. */
#define POOLS 16
const uint KV_F32 = 0, KV_F16 = 1, KV_Q8_0 = 8; /* enum quern_format */

/* Byte in its pool at which a page's part at `offset` begins. */
uint page_byte(uint page, uint pages_per_pool, uint page_bytes, uint offset)
{
    return page % pages_per_pool * page_bytes + offset;
}

uint kv_row_bytes(uint format, uint n)
{
    return format == KV_F32 ? 4 * n : format == KV_F16 ? 2 * n : n / 32 * 34;
}
