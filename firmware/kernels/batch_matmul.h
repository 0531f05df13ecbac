/* batch_matmul.h: y = a b for stacks of int8 matrices: (a - za)(b - zb) summed in 32 bits, requantised. */
#ifndef EAR_BATCH_MATMUL_H
#define EAR_BATCH_MATMUL_H

#include "../ear.h"

struct ear_stack {
    int32_t batch[3], a_step[3], b_step[3]; /* matrices, and the elements from one to the next (0 repeats) */
};

struct ear_batch_matmul {
    int32_t rows, depth, columns;
    int32_t a_upright; /* 1: a is rows x depth, 0: depth x rows */
    int32_t b_upright; /* 1: b is columns x depth, 0: depth x columns */
    int32_t zero_a, zero_b, zero_y, multiplier, shift;
};

/* to[j][i] = from[i][j], of `outer` rows with `inner` elements */
EAR_KERNEL const int8_t *ear_upright(const int8_t *from, int8_t *to, int32_t outer, int32_t inner) {
    for (int32_t i = 0; i < outer; ++i)
        for (int32_t j = 0; j < inner; ++j)
            to[j * outer + i] = *from++;
    return to;
}

/* Two columns of one row at a time: sums[0] += a . b, sums[1] += a . (b + depth). */
EAR_KERNEL void ear_dot_pair(const int8_t *a, const int8_t *b, int32_t depth, int32_t less_a, int32_t less_b,
                             int32_t *sums) {
    const int8_t *c = b + depth;
    int32_t first = 0, second = 0, k = 0;
#if EAR_DSP
    const int32_t both_a = (int32_t)((uint32_t)less_a << 16 | ((uint32_t)less_a & 0xFFFFu));
    const int32_t both_b = (int32_t)((uint32_t)less_b << 16 | ((uint32_t)less_b & 0xFFFFu));
    for (; k + 4 <= depth; k += 4) {
        uint32_t a4, b4, c4;
        memcpy(&a4, a + k, 4);
        memcpy(&b4, b + k, 4);
        memcpy(&c4, c + k, 4);
        const int32_t even = __sxtab16(both_a, (int32_t)a4), odd = __sxtab16(both_a, (int32_t)__ror(a4, 8));
        first = __smlad(even, __sxtab16(both_b, (int32_t)b4), first);
        first = __smlad(odd, __sxtab16(both_b, (int32_t)__ror(b4, 8)), first);
        second = __smlad(even, __sxtab16(both_b, (int32_t)c4), second);
        second = __smlad(odd, __sxtab16(both_b, (int32_t)__ror(c4, 8)), second);
    }
#endif
    for (; k < depth; ++k) {
        first += (a[k] + less_a) * (b[k] + less_b);
        second += (a[k] + less_a) * (c[k] + less_b);
    }
    sums[0] = first;
    sums[1] = second;
}

EAR_KERNEL int32_t ear_dot_one(const int8_t *a, const int8_t *b, int32_t depth, int32_t less_a, int32_t less_b) {
    int32_t sum = 0;
    for (int32_t k = 0; k < depth; ++k)
        sum += (a[k] + less_a) * (b[k] + less_b);
    return sum;
}

EAR_KERNEL int8_t ear_matmul_result(int32_t sum, const struct ear_batch_matmul *p) {
    return (int8_t)ear_clamp(ear_requantise(sum, p->multiplier, p->shift) + p->zero_y, -128, 127);
}

/* a: rows x depth, b: columns x depth */
EAR_KERNEL void ear_matmul(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p) {
    for (int32_t row = 0; row < p->rows; ++row, a += p->depth) {
        int32_t column = 0;
        for (; column + 2 <= p->columns; column += 2) {
            int32_t sums[2];
            ear_dot_pair(a, b + column * p->depth, p->depth, -p->zero_a, -p->zero_b, sums);
            *y++ = ear_matmul_result(sums[0], p);
            *y++ = ear_matmul_result(sums[1], p);
        }
        if (column < p->columns)
            *y++ = ear_matmul_result(ear_dot_one(a, b + column * p->depth, p->depth, -p->zero_a, -p->zero_b), p);
    }
}

/* scratch: the matrices that are not upright, turned: a then b */
EAR_KERNEL void ear_batch_matmul(const int8_t *a, const int8_t *b, int8_t *y, void *scratch,
                                 struct ear_stack s, struct ear_batch_matmul p) {
    int8_t *const turned_a = scratch, *const turned_b = turned_a + (p.a_upright ? 0 : p.rows * p.depth);
    for (int32_t i = 0; i < s.batch[0]; ++i)
        for (int32_t j = 0; j < s.batch[1]; ++j)
            for (int32_t k = 0; k < s.batch[2]; ++k) {
                const int8_t *a_now = a + i * s.a_step[0] + j * s.a_step[1] + k * s.a_step[2];
                const int8_t *b_now = b + i * s.b_step[0] + j * s.b_step[1] + k * s.b_step[2];
                if (!p.a_upright)
                    a_now = ear_upright(a_now, turned_a, p.depth, p.rows);
                if (!p.b_upright)
                    b_now = ear_upright(b_now, turned_b, p.depth, p.columns);
                ear_matmul(a_now, b_now, y, &p);
                y += p.rows * p.columns;
            }
}

#endif
