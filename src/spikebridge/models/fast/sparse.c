/* Convolution and LIF over a whole sequence where most of the input is 0, for sparse.py.

   Arrays are T x B x height x width x C. For each position the channels that are not 0 are listed
   first; a convolution then adds up the weights of those alone. It works on a block of output
   channels and a few rows of the picture at a time, kernel position by kernel position, so that the
   weights in use stay in the first cache, and carries the block through all time steps before the
   next one. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Floats of a vector of the processor: wider ones would be spilled to memory at every addition. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define SLICE 128 /* input channels whose weights are in use at a time */
#define PLACES 192 /* least positions that are in use at a time, over all T */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    int64_t T, B, H, W, C;     /* input */
    int64_t height, width, out; /* output; out is its number of channels */
    int64_t kernel, stride, padding;
} Shape;

/* LANES, for sparse.py. */
int64_t vector_lanes(void) { return LANES; }

/* Channels of each row that are not 0, SLICE by SLICE, and how many. */
void active(const float *restrict x, uint16_t *restrict channel, int32_t *restrict count,
            int64_t rows, int64_t C) {
    const int64_t slices = (C + SLICE - 1) / SLICE;
    _Pragma("omp parallel for schedule(static)")
    for (int64_t r = 0; r < rows; r++)
        for (int64_t s = 0; s < slices; s++) {
            const int64_t first = s * SLICE, last = first + SLICE < C ? first + SLICE : C;
            int32_t n = 0;
            for (int64_t c = first; c < last; c++) {
                channel[r * C + first + n] = (uint16_t)c;
                n += x[r * C + c] != 0.0f;
            }
            count[r * slices + s] = n;
        }
}

/* sum += x w over the listed channels; two sums, so that additions need not wait for each other. */
#define ADD_ROW(V)                                                                                \
    static inline void add_row_##V(lanes *restrict sum, const float *restrict x,                  \
                                   const uint16_t *restrict c, int32_t n,                         \
                                   const float *restrict w) {                                     \
        lanes even[V], odd[V];                                                                    \
        for (int q = 0; q < V; q++) even[q] = sum[q], odd[q] = (lanes){0};                        \
        int32_t e = 0;                                                                            \
        for (; e + 1 < n; e += 2) {                                                               \
            const float x0 = x[c[e]], x1 = x[c[e + 1]];                                           \
            const lanes *w0 = (const lanes *)(w + c[e] * LANES * V);                              \
            const lanes *w1 = (const lanes *)(w + c[e + 1] * LANES * V);                          \
            for (int q = 0; q < V; q++) even[q] += x0 * w0[q];                                    \
            for (int q = 0; q < V; q++) odd[q] += x1 * w1[q];                                     \
        }                                                                                         \
        if (e < n) {                                                                              \
            const lanes *w0 = (const lanes *)(w + c[e] * LANES * V);                              \
            for (int q = 0; q < V; q++) even[q] += x[c[e]] * w0[q];                               \
        }                                                                                         \
        for (int q = 0; q < V; q++) sum[q] = even[q] + odd[q];                                    \
    }

/* LIF of a vector: the current becomes spikes, v goes on. */
static inline void fire(lanes *current, lanes *v, float w, float theta) {
    const bits one = (bits)((lanes){0} + 1.0f);
    *v = w < 0.5f ? *v + w * (*current - *v) : *current - (*current - *v) * (1.0f - w);
    const bits spike = *v >= (lanes){0} + theta;
    *current = (lanes)(one & spike);
    *v = (lanes)((bits)*v & ~spike);
}

/* Spikes of LIF for convolution + bias + residual, or these themselves where theta is 0.

   weight is blocks x kernel x kernel x C x (LANES V), zero where there is no channel any more, and
   bias blocks x (LANES V). residual is as y, or NULL. */
#define CONVOLVE(V)                                                                               \
    void convolve_##V(const float *restrict x, const uint16_t *restrict channel,                  \
                      const int32_t *restrict count, const float *restrict weight,                \
                      const float *restrict bias, const float *restrict residual,                 \
                      float *restrict y, const Shape *shape, float w, float theta) {              \
        const Shape s = *shape;                                                                   \
        const int64_t block = LANES * V, blocks = (s.out + block - 1) / block;                    \
        const int64_t slices = (s.C + SLICE - 1) / SLICE, line = s.T * s.width;                   \
        const int64_t rows = (PLACES + line - 1) / line, tiles = (s.height + rows - 1) / rows;    \
        _Pragma("omp parallel for collapse(3) schedule(static)")                                  \
        for (int64_t k = 0; k < blocks; k++)                                                      \
            for (int64_t b = 0; b < s.B; b++)                                                     \
                for (int64_t tile = 0; tile < tiles; tile++) {                                    \
                    const int64_t top = tile * rows;                                              \
                    const int64_t end = top + rows < s.height ? top + rows : s.height;            \
                    const int64_t places = (end - top) * s.width, left = s.out - k * block;       \
                    const size_t bytes = (left < block ? left : block) * sizeof(float);           \
                    lanes *sum = malloc(s.T * places * V * sizeof(lanes));                        \
                    for (int64_t p = 0; p < s.T * places; p++)                                    \
                        memcpy(sum + p * V, bias + k * block, V * sizeof(lanes));                 \
                    for (int64_t slice = 0; slice < slices; slice++)                              \
                        for (int64_t tap = 0; tap < s.kernel * s.kernel; tap++) {                 \
                            const float *at =                                                     \
                                weight + (k * s.kernel * s.kernel + tap) * s.C * block;           \
                            for (int64_t t = 0; t < s.T; t++)                                     \
                                for (int64_t p = 0; p < places; p++) {                            \
                                    const int64_t i = (top + p / s.width) * s.stride +            \
                                                      tap / s.kernel - s.padding;                 \
                                    const int64_t j = p % s.width * s.stride +                    \
                                                      tap % s.kernel - s.padding;                 \
                                    if (i < 0 || i >= s.H || j < 0 || j >= s.W) continue;         \
                                    const int64_t r = ((t * s.B + b) * s.H + i) * s.W + j;        \
                                    add_row_##V(sum + (t * places + p) * V, x + r * s.C,          \
                                                channel + r * s.C + slice * SLICE,                \
                                                count[r * slices + slice], at);                   \
                                }                                                                 \
                        }                                                                         \
                    for (int64_t p = 0; p < places; p++) {                                        \
                        lanes v[V];                                                               \
                        memset(v, 0, sizeof v);                                                   \
                        for (int64_t t = 0; t < s.T; t++) {                                       \
                            const int64_t frame = (t * s.B + b) * s.height + top;                 \
                            const int64_t to = (frame * s.width + p) * s.out + k * block;         \
                            lanes *current = sum + (t * places + p) * V, more[V];                 \
                            if (residual) {                                                       \
                                memset(more, 0, sizeof more);                                     \
                                memcpy(more, residual + to, bytes);                               \
                                for (int q = 0; q < V; q++) current[q] += more[q];                \
                            }                                                                     \
                            for (int q = 0; q < V && theta > 0; q++)                              \
                                fire(current + q, v + q, w, theta);                               \
                            memcpy(y + to, current, bytes);                                       \
                        }                                                                         \
                    }                                                                             \
                    free(sum);                                                                    \
                }                                                                                 \
    }

ADD_ROW(1)
ADD_ROW(2)
ADD_ROW(4)
CONVOLVE(1)
CONVOLVE(2)
CONVOLVE(4)
