/*
 * Kernels for any processor, in vectors of 128 bits, for GCC and clang.
 *
 * Every function gives the same bits as the scalar kernels in Rust. The Rust module that declares a
 * function checks the lengths of its arrays. No function depends on the byte order.
 *
 * Integers that may wrap are unsigned.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

/* Number of two-bit fields in a word of 16 bits. */
#define FIELDS 8

static inline i16x8 load(const void *from) {
    i16x8 vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

/* Loads from an address that is a multiple of 16. */
static inline i16x8 load_aligned(const void *from) {
    return load(__builtin_assume_aligned(from, 16));
}

/* Adds the products of two adjacent lanes to each sum. */
static inline u32x4 multiply_add(u32x4 sums, i16x8 a, i16x8 b) {
#ifdef __SSE2__
    return sums + (u32x4)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    u32x4 low = (u32x4)(((i32x4)((u32x4)a << 16) >> 16) * ((i32x4)((u32x4)b << 16) >> 16));
    return sums + low + (u32x4)(((i32x4)a >> 16) * ((i32x4)b >> 16));
#endif
}

static inline uint32_t total(u32x4 sums) {
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/*
 * The sums of a row's codes times the activations of one or two tokens, without the constant of each
 * token: see `i2_s/c.rs`, which arranges the activations.
 *
 * A word w has eight codes. That of field k is (w >> 2k) - 4 (w >> 2k + 2). The sum of code[k] x[k]
 * therefore equals that of (w >> 2k) (x[k] - 4 x[k - 1]), and fields need not be masked. Flipping the
 * upper bit of the last field gives a signed word in which that field is code - 2.
 */
static inline __attribute__((always_inline)) void
row(const uint8_t *w, size_t vectors, const int16_t *x, size_t tokens, uint32_t *out) {
    u32x4 sums[2][2] = {{{0}}};
    for (size_t v = 0; v < vectors; v++) {
        i16x8 words = load(w + v * 16) ^ (i16x8)((u16x8){0} + 0x8000);
        const int16_t *at = x + v * FIELDS * 8;
#pragma GCC unroll 8
        for (size_t k = 0; k < FIELDS; k++) {
            for (size_t t = 0; t < tokens; t++) {
                i16x8 factors = load_aligned(at + (t * vectors * FIELDS + k) * 8);
                sums[t][k % 2] = multiply_add(sums[t][k % 2], words, factors);
            }
            words >>= 2;
        }
    }
    for (size_t t = 0; t < tokens; t++) {
        out[t] = total(sums[t][0] + sums[t][1]);
    }
}

/*
 * Adds the sum of row r and token t, and the token's constant, to out[t * stride + r], for one or two
 * tokens. Rows start `row_bytes` bytes apart.
 */
void trilobite_c_i2_s(
    const uint8_t *packed, size_t row_bytes, size_t rows, size_t vectors, const int16_t *x,
    size_t tokens, const int32_t *constants, int32_t *out, size_t stride
) {
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *w = packed + r * row_bytes;
        uint32_t sums[2];
        if (tokens == 1) {
            row(w, vectors, x, 1, sums);
        } else {
            row(w, vectors, x, 2, sums);
        }
        for (size_t t = 0; t < tokens; t++) {
            int32_t *sum = &out[t * stride + r];
            *sum = (int32_t)((uint32_t)*sum + sums[t] + (uint32_t)constants[t]);
        }
    }
}

/* Number of packed bytes whose tables are in use at a time. */
#define GROUP 8

/* Tabulates the signed sums of each byte's four activations, indexed by the packed byte. */
static void build(const int16_t *x, u16x8 *tables) {
    for (size_t i = 0; i < GROUP; i++) {
        u16x8 terms[4][3], upper[9];
        for (size_t plane = 0; plane < 4; plane++) {
            u16x8 value = (u16x8)load(x + (i * 4 + plane) * 8);
            terms[plane][0] = -value;
            terms[plane][1] = (u16x8){0};
            terms[plane][2] = value;
        }
        for (size_t a = 0; a < 3; a++) {
            for (size_t b = 0; b < 3; b++) {
                upper[a * 3 + b] = terms[0][a] + terms[1][b];
            }
        }
        u16x8 *table = tables + i * 256;
        for (size_t c = 0; c < 3; c++) {
            for (size_t d = 0; d < 3; d++) {
                u16x8 lower = terms[2][c] + terms[3][d];
                for (size_t a = 0; a < 3; a++) {
                    for (size_t b = 0; b < 3; b++) {
                        table[a << 6 | b << 4 | c << 2 | d] = upper[a * 3 + b] + lower;
                    }
                }
            }
        }
    }
}

/*
 * Adds the products of a group of bytes with eight tokens to the sums of rows. Each lane is a token.
 *
 * `x` is [GROUP][4][8], `bytes` [rows][GROUP], `tables` [GROUP][256][8]. The sum of a row is
 * 256 * high + low. With `carry`, all but the lowest eight bits of low are moved to high.
 */
void trilobite_c_i2_s_lookup(
    const int16_t *x, const uint8_t *bytes, size_t rows, void *tables, void *low, void *high,
    int32_t carry
) {
    const u16x8 *table = tables;
    u16x8 *lows = low, *highs = high;
    build(x, tables);
    for (size_t r = 0; r < rows; r++, bytes += GROUP) {
        u16x8 even = lows[r], odd = table[bytes[0]];
#define ADD(to, i) to += table[(i) * 256 + bytes[i]];
        ADD(even, 1) ADD(odd, 2) ADD(even, 3) ADD(odd, 4) ADD(even, 5) ADD(odd, 6) ADD(even, 7)
#undef ADD
        u16x8 sum = even + odd;
        if (carry) {
            highs[r] += (u16x8)((i16x8)sum >> 8);
            sum &= 0xff;
        }
        lows[r] = sum;
    }
}

/* Number of lanes of a sum of floats. */
#define LANES 32

/* The lowest byte of each lane. */
static inline void narrow(const u32x4 from[4], int8_t *to) {
#ifdef __SSE2__
    const __m128i byte = _mm_set1_epi32(0xff);
    __m128i low = _mm_packs_epi32((__m128i)from[0] & byte, (__m128i)from[1] & byte);
    __m128i high = _mm_packs_epi32((__m128i)from[2] & byte, (__m128i)from[3] & byte);
    _mm_storeu_si128((__m128i *)to, _mm_packus_epi16(low, high));
#else
    uint32_t lanes[16];
    memcpy(lanes, from, sizeof lanes);
    for (size_t i = 0; i < 16; i++) {
        to[i] = (int8_t)lanes[i];
    }
#endif
}

/* The largest magnitude, ignoring NaN. */
static float largest(const float *x, size_t n) {
    float most[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            float magnitude = __builtin_fabsf(x[i + lane]);
            most[lane] = most[lane] < magnitude ? magnitude : most[lane];
        }
    }
    for (; i < n; i++) {
        float magnitude = __builtin_fabsf(x[i]);
        most[0] = most[0] < magnitude ? magnitude : most[0];
    }
    for (size_t lane = 1; lane < LANES; lane++) {
        most[0] = most[0] < most[lane] ? most[lane] : most[0];
    }
    return most[0];
}

/* 1.5 * 2^23. Adding it rounds to an integer, ties to even, and leaves the integer in the low bits. */
#define ROUND 12582912.0f
#define ROUND_BITS 0x4b400000u

/* Quantises one activation at a time. NaN becomes 0. Returns the sum of the codes. */
static uint32_t quantize(const float *x, size_t n, float scale, int8_t *codes) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        float scaled = x[i] * scale;
        float rounded = (scaled == scaled ? scaled : 0.0f) + ROUND;
        uint32_t bits;
        memcpy(&bits, &rounded, sizeof bits);
        codes[i] = (int8_t)(bits - ROUND_BITS);
        sum += bits - ROUND_BITS;
    }
    return sum;
}

/* See `Kernels::quantize_row`. */
float trilobite_c_quantize(const float *x, size_t n, int8_t *codes, int32_t *sum) {
    float max = largest(x, n);
    float scale = 127.0f / (max > 1e-5f ? max : 1e-5f);
    u32x4 sums = {0}, any = {0};
    size_t whole = n - n % 16;
    for (size_t i = 0; i < whole; i += 16) {
        u32x4 rounded[4];
#pragma GCC unroll 4
        for (size_t part = 0; part < 4; part++) {
            f32x4 values;
            memcpy(&values, x + i + part * 4, sizeof values);
            rounded[part] = (u32x4)(values * scale + ROUND);
            sums += rounded[part] - ROUND_BITS;
            any |= rounded[part];
        }
        narrow(rounded, codes + i);
    }
    /* After the addition only NaN has this bit set. */
    uint32_t nan = (any[0] | any[1] | any[2] | any[3]) & 1u << 28;
    if (nan) {
        *sum = (int32_t)quantize(x, n, scale, codes);
    } else {
        *sum = (int32_t)(total(sums) + quantize(x + whole, n - whole, scale, codes + whole));
    }
    return scale;
}

/* a * b + c, rounded once. */
static float fused(float a, float b, float c) {
    /* The product is exact. If the addition is inexact, its result is rounded to odd. The second
     * rounding, to fewer bits, then gives the same result as a single one. */
    double p = (double)a * b, s = p + c, part = s - p;
    double error = (p - (s - part)) + (c - part);
    if (error < 0 || error > 0) {
        int64_t bits;
        memcpy(&bits, &s, sizeof bits);
        bits -= (error < 0) != (s < 0);
        bits |= 1;
        memcpy(&s, &bits, sizeof s);
    }
    return (float)s;
}

/* c += a * b in up to LANES lanes, a multiple of eight, rounded once. */
void trilobite_c_multiply_add(const float *a, const float *b, float *c, size_t lanes) {
    /* Rounding to double and then to float equals rounding once, except in two cases: the double is
     * halfway between two floats (its lower 29 bits are 1 and zeros), or the float is subnormal. */
    float sums[LANES];
    int twice;
#ifdef __SSE2__
    u32x4 halfway = {0}, subnormal = {0};
    for (size_t i = 0; i < lanes; i += 4) {
        __m128 x = _mm_loadu_ps(a + i), y = _mm_loadu_ps(b + i), z = _mm_loadu_ps(c + i);
        __m128d low = _mm_cvtps_pd(x) * _mm_cvtps_pd(y) + _mm_cvtps_pd(z);
        x = _mm_movehl_ps(x, x), y = _mm_movehl_ps(y, y), z = _mm_movehl_ps(z, z);
        __m128d high = _mm_cvtps_pd(x) * _mm_cvtps_pd(y) + _mm_cvtps_pd(z);
        u32x4 lower = (u32x4)_mm_shuffle_ps((__m128)low, (__m128)high, 0x88);
        halfway |= (u32x4)((lower & 0x1fffffff) == 0x10000000);
        u32x4 bits = (u32x4)_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
        /* The upper bit is set if the exponent is zero and the number is nonzero. */
        subnormal |= ((2 * bits - 1) >> 24) - 1;
        memcpy(sums + i, &bits, sizeof bits);
    }
    twice = _mm_movemask_ps((__m128)(halfway | subnormal));
#else
    uint64_t halfway = 0;
    uint32_t subnormal = 0;
    for (size_t i = 0; i < lanes; i++) {
        double sum = (double)a[i] * b[i] + c[i];
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        halfway |= (bits & 0x1fffffff) == 0x10000000;
        sums[i] = (float)sum;
        uint32_t low;
        memcpy(&low, &sums[i], sizeof low);
        subnormal |= (2 * low - 1) >> 24 == 0;
    }
    twice = halfway || subnormal;
#endif
    for (size_t i = 0; twice && i < lanes; i++) {
        sums[i] = fused(a[i], b[i], c[i]);
    }
    memcpy(c, sums, lanes * sizeof *sums);
}

/* Half precision to single, for LANES numbers. A NaN becomes quiet. */
void trilobite_c_widen(const uint16_t *from, float *to) {
    for (size_t i = 0; i < LANES; i += 4) {
        u32x4 bits = {from[i], from[i + 1], from[i + 2], from[i + 3]};
        u32x4 magnitude = bits & 0x7fff;
        /* The exponent biases differ by 112. The product is exact, also for subnormal numbers. */
        u32x4 value = (u32x4)((f32x4)(magnitude << 13) * 0x1p112f);
        u32x4 infinite = (u32x4)((i32x4)magnitude > 0x7bff), nan = (u32x4)((i32x4)magnitude > 0x7c00);
        value |= (infinite & 0x7f800000) | (nan & 0x400000) | (bits & 0x8000) << 16;
        memcpy(to + i, &value, sizeof value);
    }
}
