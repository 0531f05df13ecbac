/* space_to_batch.h: the places of a grid dealt out to images, one for each place of a block, and back. */
#ifndef EAR_SPACE_TO_BATCH_H
#define EAR_SPACE_TO_BATCH_H

#include "../ear.h"

struct ear_blocks {
    int32_t images, rows, columns; /* of the whole */
    int32_t block[2];
    int32_t before[2];         /* border above and to the left: added to the whole, or cropped off it */
    int32_t part_rows, part_columns; /* of each part */
    int32_t run;               /* bytes of one place */
    int32_t value;             /* byte that fills the border */
};

EAR_KERNEL void ear_space_to_batch(const void *x, void *y, struct ear_blocks s) {
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.block[0]; ++i)
        for (int32_t j = 0; j < s.block[1]; ++j)
            for (int32_t image = 0; image < s.images; ++image)
                for (int32_t row = i - s.before[0], k = 0; k < s.part_rows; ++k, row += s.block[0])
                    for (int32_t column = j - s.before[1], l = 0; l < s.part_columns; ++l, column += s.block[1]) {
                        if (row >= 0 && row < s.rows && column >= 0 && column < s.columns)
                            memcpy(to, (const uint8_t *)x + ((image * s.rows + row) * s.columns + column) * s.run,
                                   (size_t)s.run);
                        else
                            memset(to, s.value, (size_t)s.run);
                        to += s.run;
                    }
}

EAR_KERNEL void ear_batch_to_space(const void *x, void *y, struct ear_blocks s) {
    const uint8_t *from = (const uint8_t *)x;
    for (int32_t i = 0; i < s.block[0]; ++i)
        for (int32_t j = 0; j < s.block[1]; ++j)
            for (int32_t image = 0; image < s.images; ++image)
                for (int32_t row = i - s.before[0], k = 0; k < s.part_rows; ++k, row += s.block[0])
                    for (int32_t column = j - s.before[1], l = 0; l < s.part_columns; ++l, column += s.block[1]) {
                        if (row >= 0 && row < s.rows && column >= 0 && column < s.columns)
                            memcpy((uint8_t *)y + ((image * s.rows + row) * s.columns + column) * s.run, from,
                                   (size_t)s.run);
                        from += s.run;
                    }
}

#endif
