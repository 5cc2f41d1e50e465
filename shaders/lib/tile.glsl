/* The tile of a workgroup of MATMUL or MOE_MATMUL for many columns: which rows and columns of the result it has, and
 * what becomes of its sums. Before it, the kernel includes product.glsl and says how many COLUMNS a tile has. MOE: these
 * are slots of one expert, as moe_sort.comp put them in order. */
#ifndef QN_TILE_GLSL
#define QN_TILE_GLSL

shared uint x_begin[COLUMNS]; /* first element of each column; NONE: there is no such column */
shared uint y_begin[COLUMNS]; /* of the result; SPLIT > 1: number of the column */

struct Tile {
    uint row, n_rows; /* the first, and how many the product (MOE: the expert) has of what is bound */
    uint weight_row;  /* of the expert's first row in what is bound */
    uint first_row;   /* of the first that is bound in the product */
    uint expert;
};

/* Where the columns of this workgroup are, and its expert. False: it has nothing to do. */
bool find_columns(out uint expert)
{
    expert = 0;
#ifdef MOE
    uint tile = 4 + 3 * column_group(), list_at = extra[3]; /* as moe_sort.comp writes them */
    if (gl_WorkGroupID.y >= extra[1])
        return false;
    expert = extra[tile];
    uint begin = list_at + extra[tile + 1], n_columns = extra[tile + 2];
    if (expert - first >= count)
        return false;
#else
    uint begin = column_group() * COLUMNS, all = step_rows(per_output != 0);
    if (begin >= all)
        return false;
    uint n_columns = all - begin;
#endif
    for (uint c = gl_LocalInvocationIndex; c < COLUMNS; c += gl_WorkGroupSize.x) {
#ifdef MOE
        uint slot = c < n_columns ? extra[begin + c] : 0, from = per_slot != 0 ? slot : slot / n_used;
#else
        uint slot = begin + c, from = slot;
#endif
        x_begin[c] = c < n_columns ? from * column_stride() : NONE;
        y_begin[c] = SPLIT == 1 ? slot * n[product] : slot;
    }
    barrier();
    return true;
}

/* The tile of this workgroup, of `rows` rows, and its `product`. False: it has nothing to do. */
bool find_tile(uint rows, out Tile tile)
{
    uint group = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z;
#ifndef MOE
    group = choose_product(group, rows);
#endif
    if (!find_columns(tile.expert))
        return false;
#ifdef MOE
    tile.weight_row = (tile.expert - first) * n[0];
    tile.n_rows = n[0];
    tile.first_row = 0;
#else
    tile.weight_row = 0;
    tile.n_rows = product == 0 ? count : n[product];
    tile.first_row = first;
#endif
    tile.row = group * rows;
    return tile.row < tile.n_rows;
}

/* Whether row r and column c of the tile are there. */
bool is_in_tile(Tile tile, uint r, uint c)
{
    return tile.row + r < tile.n_rows && x_begin[c] != NONE;
}

/* What is stored in row r and column c of the tile, whose products with one weight, or with both, are v and v1. */
float result_of(Tile tile, uint r, uint c, float v, float v1)
{
    float factor = column_scale(x_begin[c]);
    uint row = tile.first_row + tile.row + r;
    return finished(factor * v, factor * v1, row, y_begin[c] + row, tile.expert);
}

void store_result(Tile tile, uint r, uint c, float v)
{
    store(y_begin[c] + tile.first_row + tile.row + r, v);
}

/* Stores the products of part number `part` of k instead. */
void store_part(Tile tile, uint r, uint c, uint part, float v, float v1)
{
    float factor = column_scale(x_begin[c]);
    store_sums(y_begin[c], part, tile.first_row + tile.row + r, factor * v, factor * v1);
}

#endif
