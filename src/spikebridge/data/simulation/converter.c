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

/* State of a row of pixels: level of the light, after the photoreceptor, and memorised; thresholds
   and their reciprocals; time until an event may come; events of the bin; of the light's code, what
   the photoreceptor takes of the level before and of its change. */
enum { LIGHT, LOW, REF, ON, OFF, PER_ON, PER_OFF, READY, UPS, DOWNS, BEFORE, GAIN, RISE, RATE, ROWS };

/* Thresholds of a row, from words that belong to its pixels. */
static __attribute__((noinline)) void draw(uint32_t first, uint32_t second, uint32_t place, const float *restrict camera,
                 int64_t W, float *restrict on, float *restrict off) {
    const float sigma = camera[2];
    for (int64_t x = 0; x < W; x++) {
        const uint32_t at = 2 * (place + (uint32_t)x);
        on[x] = threshold(camera[0], sigma, normal(mixed(first ^ at), mixed(first ^ (at + 1))));
        off[x] = threshold(camera[1], sigma, normal(mixed(second ^ at), mixed(second ^ (at + 1))));
    }
}

/* Codes of a row of the moved picture, from its two rows and the shares of the later pixel. */
static __attribute__((noinline)) void moved(const float *restrict upper, const float *restrict lower, float right,
                  float below, int64_t W, int32_t *restrict code) {
    const float left = 1.0f - right, above = 1.0f - below;
    for (int64_t x = 0; x < W; x++) {
        const float a = upper[x] * left + upper[x + 1] * right;
        const float b = lower[x] * left + lower[x + 1] * right;
        code[x] = (int32_t)rintf(a * above + b * below);
    }
}

/* Level, and the photoreceptor's two shares, of codes. */
static __attribute__((noinline)) void
look_up(int64_t W, const int32_t *restrict code, const float *restrict level,
        const float *restrict gains, float *restrict light, float *restrict gain,
        float *restrict rise) {
    for (int64_t x = 0; x < W; x++) {
        const uint32_t at = (uint32_t)code[x] & 255; /* whatever a photo may hold */
        light[x] = level[at];
        gain[x] = gains[at];
        rise[x] = gains[256 + at];
    }
}

/* One sub-frame of a row of pixels that are always ready. */
static __attribute__((noinline)) void
advance(int64_t W, float leak, const float *restrict light, float *restrict before,
        const float *restrict gain, const float *restrict rise, float *restrict low,
        float *restrict ref, const float *restrict on, const float *restrict off,
        const float *restrict per_on, const float *restrict per_off, float *restrict rate) {
    for (int64_t x = 0; x < W; x++) {
        const float slow = low[x] + gain[x] * (before[x] - low[x]) + rise[x] * (light[x] - before[x]);
        const float held = ref[x] - on[x] * leak, delta = slow - held;
        const float crossed = fabsf(delta) * (delta > 0 ? per_on[x] : per_off[x]);
        const float step = floorf(crossed) * (delta > 0 ? on[x] : off[x]);
        low[x] = slow;
        before[x] = light[x];
        ref[x] = held + (delta > 0 ? step : -step);
        rate[x] = delta > 0 ? crossed : -crossed;
    }
}

/* Count a row's crossings; they come `rate` times in the sub-frame, below 0 for OFF. */
static __attribute__((noinline)) void count_all(int64_t W, const float *restrict rate,
                                                float *restrict ups, float *restrict downs) {
    for (int64_t x = 0; x < W; x++) {
        const float count = floorf(fabsf(rate[x]));
        ups[x] += rate[x] > 0 ? count : 0.0f;
        downs[x] += rate[x] > 0 ? 0.0f : count;
    }
}

/* The same where a pixel is dead after an event: it takes the first that finds it ready, and then
   every `skip`-th. */
static __attribute__((noinline)) void count_ready(int64_t W, float dead, const float *restrict rate,
                                                  float *restrict ready, float *restrict ups,
                                                  float *restrict downs) {
    for (int64_t x = 0; x < W; x++) {
        const float size = fabsf(rate[x]), crossings = floorf(size);
        const float first = ceilf(ready[x] * size), pause = ceilf(dead * size);
        const float early = first > 1.0f ? first : 1.0f, skip = pause > 1.0f ? pause : 1.0f;
        const float later = floorf((crossings - early) / skip);
        const float last = (early + later * skip) / size + dead;
        const float count = crossings >= early ? later + 1.0f : 0.0f;
        ready[x] = (crossings >= early ? last : ready[x]) - 1.0f;
        ups[x] += rate[x] > 0 ? count : 0.0f;
        downs[x] += rate[x] > 0 ? 0.0f : count;
    }
}

void convert(const float *picture, const float *path, const float *level, const float *receptor,
             const float *camera, const int64_t *seed, int64_t B, int64_t H, int64_t W,
             int64_t steps, int64_t T, int64_t top_crop, int64_t side_crop, int64_t down,
             int64_t across, int64_t h, int64_t w, float *out) {
    _Pragma("omp parallel for schedule(dynamic)") for (int64_t b = 0; b < B; b++) {
        const float *way = path + b * (steps + 1) * 2, *gains = receptor + b * 2 * 256;
        const float *of = camera + b * CAMERA;
        const uint32_t first = stream((uint32_t)seed[b], 0), second = stream((uint32_t)seed[b], 1);
        float farthest = 0;
        for (int64_t k = 0; k < 2 * (steps + 1); k++)
            farthest = fabsf(way[k]) > farthest ? fabsf(way[k]) : farthest;
        const int64_t reach = (int64_t)farthest + 2, width = W + 2 * reach;
        float *wide = malloc((H + 2 * reach) * width * sizeof(float));
        padded(picture + b * H * W, H, W, reach, wide);
        float *rows = malloc(ROWS * W * sizeof(float)), *row[ROWS];
        for (int k = 0; k < ROWS; k++) row[k] = rows + k * W;
        int32_t *code = malloc(2 * W * sizeof(int32_t)), *cell = code + W;
        for (int64_t x = side_crop; x < W - side_crop; x++)
            cell[x] = (int32_t)((x - side_crop) * w / across);
        float *cells = out + b * T * 2 * h * w;
        for (int64_t y = top_crop; y < H - top_crop; y++) {
            draw(first, second, (uint32_t)(y * W), of, W, row[ON], row[OFF]);
            for (int64_t x = 0; x < W; x++) {
                row[PER_ON][x] = 1.0f / row[ON][x];
                row[PER_OFF][x] = 1.0f / row[OFF][x];
                row[READY][x] = of[4];
                row[UPS][x] = row[DOWNS][x] = 0;
            }
            for (int64_t k = 0; k <= steps; k++) {
                const float left = -way[2 * k], top = -way[2 * k + 1];
                const float column = floorf(left), line = floorf(top);
                const float *from = wide + (y + reach + (int64_t)line) * width + reach + (int64_t)column;
                moved(from, from + width, left - column, top - line, W, code);
                look_up(W, code, level, gains, row[LIGHT], row[GAIN], row[RISE]);
                if (k == 0) {
                    for (int state = LOW; state <= REF; state++)
                        memcpy(row[state], row[LIGHT], W * sizeof(float));
                    memcpy(row[BEFORE], row[LIGHT], W * sizeof(float));
                    continue;
                }
                advance(W, of[3], row[LIGHT], row[BEFORE], row[GAIN], row[RISE], row[LOW], row[REF],
                        row[ON], row[OFF], row[PER_ON], row[PER_OFF], row[RATE]);
                if (of[4] > 0)
                    count_ready(W, of[4], row[RATE], row[READY], row[UPS], row[DOWNS]);
                else
                    count_all(W, row[RATE], row[UPS], row[DOWNS]);
                const int64_t bin = (k - 1) * T / steps;
                if (k < steps && k * T / steps == bin) continue;
                float *downs = cells + (bin * 2 * h + (y - top_crop) * h / down) * w;
                float *ups = downs + h * w;
                for (int64_t x = side_crop; x < W - side_crop; x++) {
                    downs[cell[x]] += row[DOWNS][x];
                    ups[cell[x]] += row[UPS][x];
                }
                memset(row[UPS], 0, W * sizeof(float));
                memset(row[DOWNS], 0, W * sizeof(float));
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
