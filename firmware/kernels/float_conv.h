/* float_conv.h: convolutions of floats, grouped down to depthwise. Two loads, a product and a sum a MAC. */
#ifndef EAR_FLOAT_CONV_H
#define EAR_FLOAT_CONV_H

#include "float_math.h"

struct ear_float_conv {
    int32_t batches, in_rows, in_columns, in_channels;
    int32_t out_rows, out_columns, outputs, outputs_of_group;
    int32_t depth; /* channels that one output sees */
    int32_t size_rows, size_columns, stride_rows, stride_columns, dilation_rows, dilation_columns;
    int32_t before_rows, before_columns; /* padding */
};

/* The sum of one output at the window whose first element is (row, column) of x; what lies outside counts 0. */
EAR_KERNEL float ear_float_window(const float *x, const float *w, int32_t row, int32_t column,
                                  const struct ear_float_conv *s) {
    float sum = 0.0f;
    for (int32_t i = 0; i < s->size_rows; ++i)
        for (int32_t j = 0; j < s->size_columns; ++j, w += s->depth) {
            const int32_t r = row + i * s->dilation_rows, c = column + j * s->dilation_columns;
            if (r < 0 || r >= s->in_rows || c < 0 || c >= s->in_columns)
                continue;
            const float *from = x + (r * s->in_columns + c) * s->in_channels;
            EAR_FLOAT_LOOP
            for (int32_t k = 0; k < s->depth; ++k)
                sum += from[k] * w[k];
        }
    return sum;
}

EAR_KERNEL void ear_float_conv(const float *x, const float *weights, const float *bias, float *y,
                               struct ear_float_conv s, float low, float high) {
    const int32_t filter = s.size_rows * s.size_columns * s.depth;
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column)
                for (int32_t o = 0; o < s.outputs; ++o) {
                    const float *of_group = x + o / s.outputs_of_group * s.depth;
                    const float sum =
                        ear_float_window(of_group, weights + o * filter, row * s.stride_rows - s.before_rows,
                                         column * s.stride_columns - s.before_columns, &s);
                    *y++ = ear_float_clamp(sum + bias[o], low, high);
                }
}

#endif
