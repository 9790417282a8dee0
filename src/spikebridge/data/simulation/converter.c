/* Photos to event counts, for converter.py, whose `_reference` says the same in PyTorch, bit for bit.

   A row of pixels is carried through all sub-frames before the next one, so that its state stays in
   the cache. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CAMERA 5 /* ON and OFF threshold, their spread, leak and dead time per sub-frame */

static inline uint32_t mixed(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

static inline uint32_t stream(uint32_t seed, uint32_t number) {
    return mixed(seed + number * 0x9e3779b9u);
}

/* Nearly normal: the sum of four uniform numbers. */
static inline float normal(uint32_t a, uint32_t b) {
    const int32_t sum = (a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16);
    return (float)(sum - 131070) * 2.6429e-5f;
}

static inline float threshold(float base, float sigma, float z) {
    const float least = base * 0.1f > 1e-3f ? base * 0.1f : 1e-3f, drawn = base + sigma * z;
    return drawn > least ? drawn : least;
}

/* The picture with its border repeated on every side. */
static void padded(const float *restrict picture, int64_t H, int64_t W, int64_t reach,
                   float *restrict wide) {
    const int64_t width = W + 2 * reach;
    for (int64_t y = 0; y < H + 2 * reach; y++) {
        int64_t row = y - reach;
        row = row < 0 ? 0 : row >= H ? H - 1 : row;
        const float *from = picture + row * W;
        float *to = wide + y * width;
        for (int64_t x = 0; x < reach; x++) to[x] = from[0], to[reach + W + x] = from[W - 1];
        memcpy(to + reach, from, W * sizeof(float));
    }
}

/* Codes of a row of the moved picture, from its two rows and the shares of the later pixel. */
static inline void moved(const float *restrict upper, const float *restrict lower, float right,
                         float below, int64_t W, int32_t *restrict code) {
    const float left = 1.0f - right, above = 1.0f - below;
    for (int64_t x = 0; x < W; x++) {
        const float a = upper[x] * left + upper[x + 1] * right;
        const float b = lower[x] * left + lower[x + 1] * right;
        code[x] = (int32_t)rintf(a * above + b * below);
    }
}

void convert(const float *picture, const float *path, const float *level, const float *gain,
             const float *camera, const int64_t *seed, int64_t B, int64_t H, int64_t W,
             int64_t steps, int64_t T, int64_t down, int64_t across, int64_t h, int64_t w,
             float *out) {
    _Pragma("omp parallel for schedule(dynamic)") for (int64_t b = 0; b < B; b++) {
        const float *way = path + b * (steps + 1) * 2, *fast = gain + b * 256;
        const float *of = camera + b * CAMERA;
        const float sigma = of[2], leak = of[3], dead = of[4];
        const uint32_t first = stream((uint32_t)seed[b], 0), second = stream((uint32_t)seed[b], 1);
        float farthest = 0;
        for (int64_t k = 0; k < 2 * (steps + 1); k++)
            farthest = fabsf(way[k]) > farthest ? fabsf(way[k]) : farthest;
        const int64_t reach = (int64_t)farthest + 2, width = W + 2 * reach;
        float *wide = malloc((H + 2 * reach) * width * sizeof(float));
        padded(picture + b * H * W, H, W, reach, wide);
        float *rows = malloc(9 * W * sizeof(float));
        float *ref = rows, *low = ref + W, *on = low + W, *off = on + W, *per_on = off + W,
              *per_off = per_on + W, *ready = per_off + W, *ups = ready + W, *downs = ups + W;
        int32_t *code = malloc(W * sizeof(int32_t));
        float *cells = out + b * T * 2 * h * w;
        for (int64_t y = 0; y < H; y++) {
            for (int64_t x = 0; x < W; x++) {
                const uint32_t place = (uint32_t)(y * W + x);
                const uint32_t a = mixed(first ^ (2 * place)), c = mixed(first ^ (2 * place + 1));
                const uint32_t d = mixed(second ^ (2 * place)), e = mixed(second ^ (2 * place + 1));
                on[x] = threshold(of[0], sigma, normal(a, c));
                off[x] = threshold(of[1], sigma, normal(d, e));
                per_on[x] = 1.0f / on[x];
                per_off[x] = 1.0f / off[x];
                ready[x] = dead;
                ups[x] = downs[x] = 0;
            }
            for (int64_t k = 0; k <= steps; k++) {
                const float left = -way[2 * k], top = -way[2 * k + 1];
                const float column = floorf(left), row = floorf(top);
                const float *from = wide + (y + reach + (int64_t)row) * width + reach + (int64_t)column;
                moved(from, from + width, left - column, top - row, W, code);
                if (k == 0) {
                    for (int64_t x = 0; x < W; x++) ref[x] = low[x] = level[code[x]];
                    continue;
                }
                if (dead > 0)
                    for (int64_t x = 0; x < W; x++) {
                        low[x] += fast[code[x]] * (level[code[x]] - low[x]);
                        ref[x] -= on[x] * leak;
                        const float delta = low[x] - ref[x], size = fabsf(delta);
                        const int up = delta > 0;
                        const float crossings = floorf(size * (up ? per_on[x] : per_off[x]));
                        const float step = up ? on[x] : off[x];
                        ref[x] += up ? crossings * step : -(crossings * step);
                        /* Crossings come every `apart` of a sub-frame; a pixel takes the first that
                           finds it ready, and then every `skip`-th. */
                        const float apart = crossings > 0 ? step / size : 1.0f;
                        float early = ceilf(ready[x] / apart), skip = ceilf(dead / apart);
                        early = early > 1 ? early : 1;
                        skip = skip > 1 ? skip : 1;
                        const float later = floorf((crossings - early) / skip);
                        const int fires = crossings >= early;
                        const float count = fires ? later + 1 : 0;
                        const float last = (early + later * skip) * apart + dead;
                        ready[x] = (fires ? last : ready[x]) - 1;
                        ups[x] += up ? count : 0;
                        downs[x] += up ? 0 : count;
                    }
                else
                    for (int64_t x = 0; x < W; x++) {
                        low[x] += fast[code[x]] * (level[code[x]] - low[x]);
                        ref[x] -= on[x] * leak;
                        const float delta = low[x] - ref[x];
                        const int up = delta > 0;
                        const float count = floorf(fabsf(delta) * (up ? per_on[x] : per_off[x]));
                        const float step = up ? on[x] : off[x];
                        ref[x] += up ? count * step : -(count * step);
                        ups[x] += up ? count : 0;
                        downs[x] += up ? 0 : count;
                    }
                const int64_t bin = (k - 1) * T / steps;
                if (k < steps && k * T / steps == bin) continue;
                float *downs_to = cells + (bin * 2 * h + y * h / down) * w, *ups_to = downs_to + h * w;
                for (int64_t x = 0; x < W; x++) {
                    const int64_t cell = x * w / across;
                    downs_to[cell] += downs[x];
                    ups_to[cell] += ups[x];
                    ups[x] = downs[x] = 0;
                }
            }
        }
        free(wide);
        free(rows);
        free(code);
    }
}

/* Add Poisson counts of `rate` (and exp(-rate), `none`) to B x T x N cells. */
void add_noise(const float *rate, const float *none, const int64_t *seed, int64_t B, int64_t T,
               int64_t N, float many, int64_t most, float *out) {
    _Pragma("omp parallel for schedule(static)") for (int64_t b = 0; b < B; b++) {
        const uint32_t first = stream((uint32_t)seed[b], 2), second = stream((uint32_t)seed[b], 3);
        for (int64_t t = 0; t < T; t++)
            for (int64_t i = 0; i < N; i++) {
                const float mean = rate[b * N + i];
                const uint32_t place = (uint32_t)(t * N + i), draw = mixed(first ^ place);
                float count = 0;
                if (mean > many) {
                    count = rintf(mean + sqrtf(mean) * normal(draw, mixed(second ^ place)));
                    count = count > 0 ? count : 0;
                } else {
                    const float u = (float)(draw >> 8) * 5.9604644775390625e-8f;
                    float share = none[b * N + i], below = share;
                    while (u >= below && count < most) {
                        count += 1;
                        share *= mean / count;
                        below += share;
                    }
                }
                out[(b * T + t) * N + i] += count;
            }
    }
}
