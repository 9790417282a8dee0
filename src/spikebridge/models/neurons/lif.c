/* LIF neurons over a whole sequence, one pass forward and one backward, for native.py.

   Arrays are T x P x C with C innermost: P positions (batch, rows, columns) of C channels. A block
   of positions is carried through all time steps before the next one, so that its membrane
   potentials stay in the cache. Input is scaled and shifted by channel first (BatchNorm) unless
   scale is NULL. Potentials are float32; TYPE is float, or bfloat16 as its 16 bits. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 2048

typedef uint16_t bf16;

static inline float load_f32(float x) { return x; }
static inline float store_f32(float x) { return x; }
static inline float load_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline bf16 store_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bf16)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/* v + w (i - v) as torch.lerp rounds it. */
static inline float charge(float v, float i, float w) {
    return w < 0.5f ? v + w * (i - v) : i - (i - v) * (1.0f - w);
}

/* QGate: max(0, alpha - alpha^2 |x|). */
static inline float qgate(float x, float alpha) {
    const float y = (x < 0 ? -x : x) * -(alpha * alpha) + alpha;
    return y > 0 ? y : 0;
}

/* alpha / 2 / (1 + (pi / 2 alpha x)^2). */
static inline float atan_slope(float x, float alpha) {
    const float z = 1.5707963267948966f * alpha * x;
    return alpha / 2 / (1 + z * z);
}

/* Scale, shift and mean by channel, each repeated for all rows of a block. */
static float *repeated(const float *scale, const float *shift, const float *mean, int64_t rows,
                       int64_t C) {
    float *wide = calloc(3 * rows * C, sizeof(float));
    const float *parts[3] = {scale, shift, mean};
    for (int k = 0; k < 3; k++)
        for (int64_t r = 0; r < rows && parts[k]; r++)
            memcpy(wide + (k * rows + r) * C, parts[k], C * sizeof(float));
    return wide;
}

#define KERNELS(TYPE, NAME)                                                                       \
    /* Sums over all rows of x - x[0] and its square, by channel. */                              \
    void moments_##NAME(const TYPE *restrict x, int64_t rows, int64_t C, double *sum,             \
                        double *square) {                                                         \
        memset(sum, 0, C * sizeof(double));                                                       \
        memset(square, 0, C * sizeof(double));                                                    \
        const int64_t chunk = 512, chunks = (rows + chunk - 1) / chunk;                           \
        double *parts = calloc(chunks * 2 * C, sizeof(double));                                   \
        _Pragma("omp parallel for schedule(static)") for (int64_t k = 0; k < chunks; k++) {       \
            float *a = calloc(2 * C, sizeof(float)), *b = a + C;                                  \
            int64_t last = (k + 1) * chunk < rows ? (k + 1) * chunk : rows;                       \
            for (int64_t r = k * chunk; r < last; r++)                                            \
                for (int64_t c = 0; c < C; c++) {                                                 \
                    float d = load_##NAME(x[r * C + c]) - load_##NAME(x[c]);                      \
                    a[c] += d;                                                                    \
                    b[c] += d * d;                                                                \
                }                                                                                 \
            for (int64_t c = 0; c < 2 * C; c++) parts[k * 2 * C + c] = a[c];                      \
            free(a);                                                                              \
        }                                                                                         \
        for (int64_t k = 0; k < chunks; k++)                                                      \
            for (int64_t c = 0; c < C; c++) {                                                     \
                sum[c] += parts[k * 2 * C + c];                                                   \
                square[c] += parts[k * 2 * C + C + c];                                            \
            }                                                                                     \
        free(parts);                                                                              \
    }                                                                                             \
                                                                                                  \
    /* Spikes, and the potentials before reset unless membrane is NULL. */                        \
    void forward_##NAME(const TYPE *restrict x, const float *scale, const float *shift,           \
                        TYPE *restrict spikes, float *restrict membrane, int64_t T, int64_t P,    \
                        int64_t C, float w, float theta) {                                        \
        const int64_t rows = C < BLOCK ? BLOCK / C : 1, width = rows * C;                         \
        const int64_t blocks = (P + rows - 1) / rows;                                             \
        float *wide = repeated(scale, shift, NULL, rows, C);                                      \
        const float *a = wide, *b = wide + width;                                                 \
        _Pragma("omp parallel for schedule(static)")                                              \
        for (int64_t k = 0; k < blocks; k++) {                                                    \
            const int64_t first = k * width, n = first + width < P * C ? width : P * C - first;   \
            float *v = calloc(n, sizeof(float));                                                  \
            for (int64_t t = 0; t < T; t++) {                                                     \
                const int64_t at = t * P * C + first;                                             \
                const TYPE *restrict xt = x + at;                                                 \
                TYPE *restrict st = spikes + at;                                                  \
                if (scale)                                                                        \
                    _Pragma("omp simd")                                                           \
                    for (int64_t i = 0; i < n; i++)                                               \
                        v[i] = charge(v[i], load_##NAME(xt[i]) * a[i] + b[i], w);                 \
                else                                                                              \
                    _Pragma("omp simd")                                                           \
                    for (int64_t i = 0; i < n; i++) v[i] = charge(v[i], load_##NAME(xt[i]), w);   \
                if (membrane) memcpy(membrane + at, v, n * sizeof(float));                        \
                _Pragma("omp simd")                                                               \
                for (int64_t i = 0; i < n; i++) {                                                 \
                    const int32_t spike = v[i] >= theta;                                          \
                    st[i] = store_##NAME((float)spike);                                           \
                    v[i] = spike ? 0.0f : v[i];                                                   \
                }                                                                                 \
            }                                                                                     \
            free(v);                                                                              \
        }                                                                                         \
        free(wide);                                                                               \
    }                                                                                             \
                                                                                                  \
    /* Gradient with respect to the scaled input; potentials are computed again. Sums over all    \
       rows of the gradient, and of the gradient times x - mean, go to sum and product unless     \
       scale is NULL. spikes_grad or membrane_grad may be NULL. */                                \
    void backward_##NAME(const TYPE *restrict x, const float *scale, const float *shift,          \
                         const float *mean, const TYPE *restrict spikes_grad,                     \
                         const float *restrict membrane_grad, TYPE *restrict grad, int64_t T,     \
                         int64_t P, int64_t C, float w, float theta, int surrogate, float alpha,  \
                         double *sum, double *product) {                                          \
        const int64_t rows = C < BLOCK ? BLOCK / C : 1, width = rows * C;                         \
        const int64_t blocks = (P + rows - 1) / rows;                                             \
        const int64_t group = 16, groups = (blocks + group - 1) / group;                          \
        float *wide = repeated(scale, shift, mean, rows, C);                                      \
        const float *a = wide, *b = wide + width, *m = wide + 2 * width;                          \
        double *parts = scale ? calloc(groups * 2 * C, sizeof(double)) : NULL;                    \
        _Pragma("omp parallel for schedule(static)")                                              \
        for (int64_t q = 0; q < groups; q++) {                                                    \
            float *v = malloc((T + 3) * width * sizeof(float));                                   \
            float *carried = v + T * width, *sums = carried + width, *products = sums + width;    \
            for (int64_t k = q * group; k < blocks && k < (q + 1) * group; k++) {                 \
                const int64_t first = k * width, n = first + width < P * C ? width : P * C - first;\
                for (int64_t t = 0; t < T; t++) {                                                 \
                    const TYPE *restrict xt = x + t * P * C + first;                              \
                    float *vt = v + t * width;                                                    \
                    _Pragma("omp simd")                                                           \
                    for (int64_t i = 0; i < n; i++) {                                             \
                        const float before = t ? vt[i - width] : 0.0f;                            \
                        const float input = load_##NAME(xt[i]);                                   \
                        vt[i] = charge(before >= theta ? 0.0f : before,                           \
                                       scale ? input * a[i] + b[i] : input, w);                   \
                    }                                                                             \
                }                                                                                 \
                memset(carried, 0, 3 * width * sizeof(float));                                    \
                for (int64_t t = T - 1; t >= 0; t--) {                                            \
                    const int64_t at = t * P * C + first;                                         \
                    const float *vt = v + t * width;                                              \
                    const TYPE *restrict xt = x + at, *restrict gt = spikes_grad + at;            \
                    TYPE *restrict out = grad + at;                                               \
                    _Pragma("omp simd")                                                           \
                    for (int64_t i = 0; i < n; i++)                                               \
                        carried[i] = vt[i] < theta ? carried[i] : 0.0f;                           \
                    if (membrane_grad)                                                            \
                        _Pragma("omp simd")                                                       \
                        for (int64_t i = 0; i < n; i++) carried[i] += membrane_grad[at + i];      \
                    if (spikes_grad && surrogate == 0)                                            \
                        _Pragma("omp simd")                                                       \
                        for (int64_t i = 0; i < n; i++)                                           \
                            carried[i] += load_##NAME(gt[i]) * qgate(vt[i] - theta, alpha);       \
                    else if (spikes_grad)                                                         \
                        _Pragma("omp simd")                                                       \
                        for (int64_t i = 0; i < n; i++)                                           \
                            carried[i] += load_##NAME(gt[i]) * atan_slope(vt[i] - theta, alpha);  \
                    if (scale)                                                                    \
                        _Pragma("omp simd")                                                       \
                        for (int64_t i = 0; i < n; i++) {                                         \
                            const float g = carried[i] * w;                                       \
                            out[i] = store_##NAME(g);                                             \
                            carried[i] -= g;                                                      \
                            sums[i] += g;                                                         \
                            products[i] += g * (load_##NAME(xt[i]) - m[i]);                       \
                        }                                                                         \
                    else                                                                          \
                        _Pragma("omp simd")                                                       \
                        for (int64_t i = 0; i < n; i++) {                                         \
                            const float g = carried[i] * w;                                       \
                            out[i] = store_##NAME(g);                                             \
                            carried[i] -= g;                                                      \
                        }                                                                         \
                }                                                                                 \
                if (parts)                                                                        \
                    for (int64_t r = 0; r < rows; r++)                                            \
                        for (int64_t c = 0; c < C; c++) {                                         \
                            parts[q * 2 * C + c] += sums[r * C + c];                              \
                            parts[q * 2 * C + C + c] += products[r * C + c];                      \
                        }                                                                         \
            }                                                                                     \
            free(v);                                                                              \
        }                                                                                         \
        free(wide);                                                                               \
        if (!parts) return;                                                                       \
        memset(sum, 0, C * sizeof(double));                                                       \
        memset(product, 0, C * sizeof(double));                                                   \
        for (int64_t q = 0; q < groups; q++)                                                      \
            for (int64_t c = 0; c < C; c++) {                                                     \
                sum[c] += parts[q * 2 * C + c];                                                   \
                product[c] += parts[q * 2 * C + C + c];                                           \
            }                                                                                     \
        free(parts);                                                                              \
    }                                                                                             \
                                                                                                  \
    /* grad = a grad + b x + d, by channel. */                                                    \
    void affine_##NAME(TYPE *restrict grad, const TYPE *restrict x, const float *a,               \
                       const float *b, const float *d, int64_t rows, int64_t C) {                 \
        _Pragma("omp parallel for schedule(static)") for (int64_t r = 0; r < rows; r++)           \
            for (int64_t c = 0; c < C; c++)                                                       \
                grad[r * C + c] = store_##NAME(a[c] * load_##NAME(grad[r * C + c]) +              \
                                               b[c] * load_##NAME(x[r * C + c]) + d[c]);          \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
