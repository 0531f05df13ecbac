/* simd/matmul.h: columns of inputs, each in pieces that lie in an image, times rows of int8 weights.
 *
 * Weights: for each block of 32 rows and each four values of depth, 128 bytes. A piece of a column is padded to a
 * multiple of four by zero weights. Where a machine multiplies unsigned inputs only, they are 128 more than they were,
 * which the table of channels makes good. */
#ifndef EAR_SIMD_MATMUL_H
#define EAR_SIMD_MATMUL_H

#include "image.h"

/* Where the columns lie; all distances are in elements of the image. */
struct ear_columns {
    int32_t count, per_line, step, line_step; /* columns in all and side by side, and from one to the next */
    int32_t rows, row_step, pieces, piece_step; /* of one column: rows of pieces */
    int32_t steps;                            /* of four values, in a piece */
};

/* Columns and groups of channels that are computed together; widened: from ear_group_widen. */
struct ear_tile {
    int32_t columns, group, groups, widened;
};

enum { EAR_PRODUCT_BIAS = EAR_PIXEL_PLUS ? EAR_BIAS : EAR_PLAIN };
enum { EAR_CHUNK = 60 }; /* columns that share what is worked out for them: whole tiles on every machine */

EAR_KERNEL int32_t ear_column_start(struct ear_columns s, int32_t column) {
    return column / s.per_line * s.line_step + column % s.per_line * s.step;
}

EAR_KERNEL int32_t ear_columns_steps(struct ear_columns s) {
    return s.rows * s.pieces * s.steps;
}

/* The weights of a group, which go on every EAR_STEP_BYTES. */
EAR_KERNEL const int8_t *ear_group_rows(struct ear_columns s, const int8_t *weights, int32_t group) {
    return weights + ear_group_start(group, ear_columns_steps(s) * EAR_STEP_BYTES, 4 * EAR_LANES);
}

/* The widened rows of a group: EAR_DEPTHS vectors of the low half, then of the high half, for each step. */
EAR_KERNEL const int8_t *ear_group_widen(const int8_t *rows, int32_t steps, int8_t *to) {
    if (EAR_DEPTHS == 1)
        return rows;
    int8_t *at = to;
    for (int32_t i = 0; i < steps; ++i, rows += EAR_STEP_BYTES)
        EAR_UNROLLED
        for (int32_t part = 0; part < 2 * EAR_DEPTHS; ++part, at += sizeof(ear_vector)) {
            const ear_vector wide = ear_row_load(rows + part / EAR_DEPTHS * (EAR_STEP_BYTES / 2), part % EAR_DEPTHS);
            memcpy(at, &wide, sizeof wide);
        }
    return to;
}

EAR_KERNEL ear_vector ear_group_load(const int8_t *rows, int widened, int32_t step, int32_t half, int32_t depth) {
    if (widened && EAR_DEPTHS > 1)
        return ear_load(rows + ((2 * step + half) * EAR_DEPTHS + depth) * (int32_t)sizeof(ear_vector));
    return ear_row_load(rows + step * EAR_STEP_BYTES + half * (EAR_STEP_BYTES / 2), depth);
}

/* Adds the products of four values of depth; sums: [group][half][column]. */
EAR_KERNEL void ear_tile_step(struct ear_tile t, int32_t step, const int8_t *const *rows, const ear_pixel *const *x,
                              int32_t at, ear_vector *sums) {
    EAR_UNROLLED
    for (int32_t depth = 0; depth < EAR_DEPTHS; ++depth) {
        ear_vector inputs[EAR_TILE_COLUMNS];
        EAR_UNROLLED
        for (int32_t c = 0; c < t.columns; ++c)
            inputs[c] = ear_spread(x[c] + at, depth);
        EAR_UNROLLED
        for (int32_t i = 0; i < 2 * t.groups; ++i) {
            const ear_vector row = ear_group_load(rows[i / 2], t.widened, step, i % 2, depth);
            EAR_UNROLLED
            for (int32_t c = 0; c < t.columns; ++c)
                sums[i * t.columns + c] = ear_multiply_add(sums[i * t.columns + c], row, inputs[c]);
        }
    }
}

/* The outputs of a tile; starts: of its columns in the image; rows: of each group; y: of the first column, `outputs`
 * apart. */
EAR_KERNEL void ear_tile(struct ear_columns s, struct ear_tile t, struct ear_output out, const ear_pixel *image,
                         const int32_t *starts, const int8_t *const *rows, const int32_t *channels, int32_t outputs,
                         int8_t *y) {
    const int32_t *table[EAR_TILE_GROUPS];
    const ear_pixel *x[EAR_TILE_COLUMNS];
    ear_vector sums[2 * EAR_TILE_COLUMNS * EAR_TILE_GROUPS];
    EAR_UNROLLED
    for (int32_t c = 0; c < t.columns; ++c)
        x[c] = image + starts[c];
    EAR_UNROLLED
    for (int32_t g = 0; g < t.groups; ++g)
        table[g] = channels + ear_group_start(t.group + g, EAR_BLOCK_CHANNELS, EAR_LANES);
    EAR_UNROLLED
    for (int32_t i = 0; i < 2 * t.groups * t.columns; ++i)
        sums[i] = ear_load(table[i / (2 * t.columns)] + EAR_PRODUCT_BIAS + i / t.columns % 2 * (EAR_BLOCK / 2));
    int32_t step = 0;
    for (int32_t i = 0; i < s.rows; ++i)
        for (int32_t j = 0; j < s.pieces; ++j)
            for (int32_t k = 0; k < s.steps; ++k, ++step)
                ear_tile_step(t, step, rows, x, i * s.row_step + j * s.piece_step + 4 * k, sums);
    EAR_UNROLLED
    for (int32_t i = 0; i < t.groups * t.columns; ++i) {
        const int32_t g = i / t.columns, c = i % t.columns, first = (t.group + g) * EAR_GROUP;
        const ear_vector *const low = sums + 2 * g * t.columns + c;
        ear_group_finish(out, table[g], low[0], low[t.columns], outputs - first, y + c * outputs + first);
    }
}

/* Groups that share the registers with so many columns. */
EAR_KERNEL int32_t ear_groups_beside(int32_t columns) {
    return (EAR_TILE_GROUPS + columns - 1) / columns;
}

/* All columns there are, no more than a tile has: side by side, so that the weights are read once. */
EAR_KERNEL void ear_product_few(struct ear_columns s, int32_t together, struct ear_output out, const ear_pixel *image,
                                const int8_t *weights, const int32_t *channels, int32_t outputs, int8_t *y) {
    const int32_t groups = (outputs + EAR_GROUP - 1) / EAR_GROUP;
    const int8_t *rows[EAR_TILE_GROUPS];
    int32_t starts[EAR_TILE_COLUMNS], group = 0;
    for (int32_t i = 0; i < s.count; ++i)
        starts[i] = ear_column_start(s, i);
    for (; group + together <= groups; group += together) {
        for (int32_t g = 0; g < together; ++g)
            rows[g] = ear_group_rows(s, weights, group + g);
        const struct ear_tile tile = { s.count, group, together, 0 };
        ear_tile(s, tile, out, image, starts, rows, channels, outputs, y);
    }
    for (; group < groups; ++group) {
        rows[0] = ear_group_rows(s, weights, group);
        const struct ear_tile tile = { s.count, group, 1, 0 };
        ear_tile(s, tile, out, image, starts, rows, channels, outputs, y);
    }
}

/* As few columns as make the same number of tiles. */
EAR_KERNEL int32_t ear_tile_columns(int32_t columns) {
    const int32_t tiles = (columns + EAR_TILE_COLUMNS - 1) / EAR_TILE_COLUMNS;
    return columns > EAR_CHUNK ? EAR_TILE_COLUMNS : (columns + tiles - 1) / tiles;
}

/* `count` columns in tiles of `beside`; the last one starts early enough. */
EAR_KERNEL void ear_product_chunk(struct ear_columns s, int32_t beside, struct ear_output out, const ear_pixel *image,
                                  int32_t first, int32_t count, const int8_t *weights, const int32_t *channels,
                                  int32_t outputs, int8_t *y, int8_t *room) {
    const int32_t groups = (outputs + EAR_GROUP - 1) / EAR_GROUP;
    int32_t starts[EAR_CHUNK];
    for (int32_t i = 0; i < count; ++i)
        starts[i] = ear_column_start(s, first + i);
    for (int32_t group = 0; group < groups; ++group) {
        const int8_t *const rows = ear_group_widen(ear_group_rows(s, weights, group), ear_columns_steps(s), room);
        const struct ear_tile tile = { beside, group, 1, 1 };
        for (int32_t i = 0; i < count; i += beside) {
            const int32_t column = ear_min(i, count - beside);
            ear_tile(s, tile, out, image, starts + column, &rows, channels, outputs, y + column * outputs);
        }
    }
}

/* y: (columns, outputs); room: for a group of widened rows. */
EAR_KERNEL void ear_product(struct ear_columns s, struct ear_output out, const ear_pixel *image,
                            const int8_t *weights, const int32_t *channels, int32_t outputs, int8_t *y, int8_t *room) {
    const int32_t beside = ear_tile_columns(s.count);
    if (beside == s.count) {
        ear_product_few(s, ear_groups_beside(s.count), out, image, weights, channels, outputs, y);
        return;
    }
    for (int32_t i = 0; i < s.count; i += EAR_CHUNK) {
        const int32_t first = ear_min(i, s.count - beside), count = ear_min(EAR_CHUNK, s.count - first);
        ear_product_chunk(s, beside, out, image, first, count, weights, channels, outputs, y + first * outputs, room);
    }
}

#endif
