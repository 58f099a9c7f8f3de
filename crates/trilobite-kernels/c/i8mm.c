/*
 * Ternary products for 64-bit ARM with the extensions dotprod and i8mm. Stable Rust lacks the
 * intrinsics.
 */

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_BYTES 32
#define BLOCK 128
/* Number of vectors of codes in a block. */
#define VECTORS 8

/* Decodes a block. The codes are in the order of the weights. */
static inline void decode(const uint8_t *block, int8x16_t codes[VECTORS]) {
    uint8x16_t mask = vdupq_n_u8(3);
    for (size_t half = 0; half < 2; half++) {
        uint8x16_t bytes = vld1q_u8(block + 16 * half);
        codes[half] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 6));
        codes[2 + half] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 4), mask));
        codes[4 + half] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 2), mask));
        codes[6 + half] = vreinterpretq_s8_u8(vandq_u8(bytes, mask));
    }
}

/* The lower (or upper) eight bytes of both vectors. */
static inline int8x16_t lower(int8x16_t a, int8x16_t b) {
    return vcombine_s8(vget_low_s8(a), vget_low_s8(b));
}

static inline int8x16_t upper(int8x16_t a, int8x16_t b) {
    return vcombine_s8(vget_high_s8(a), vget_high_s8(b));
}

/* One token: one sdot computes 16 products. */
static inline __attribute__((always_inline)) void single(
    const uint8_t *const *w, const int8_t *const *ahead, size_t rows, const int8_t *x,
    size_t blocks, int32_t *sums
) {
    int32x4_t even[4], odd[4];
    for (size_t r = 0; r < rows; r++) {
        even[r] = odd[r] = vdupq_n_s32(0);
    }
    for (size_t b = 0; b < blocks; b++) {
        for (size_t r = 0; r < rows; r++) {
            int8x16_t codes[VECTORS];
            __builtin_prefetch(ahead[r] + b * BLOCK_BYTES);
            decode(w[r] + b * BLOCK_BYTES, codes);
            for (size_t v = 0; v < VECTORS; v += 2) {
                const int8_t *at = x + b * BLOCK + 16 * v;
                even[r] = vdotq_s32(even[r], codes[v], vld1q_s8(at));
                odd[r] = vdotq_s32(odd[r], codes[v + 1], vld1q_s8(at + 16));
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        sums[r] = vaddvq_s32(vaddq_s32(even[r], odd[r]));
    }
}

/* Pairs of rows and of tokens: one smmla computes 32 products. A single row or token is paired with itself. */
static inline __attribute__((always_inline)) void pairs(
    const uint8_t *const *w, const int8_t *const *ahead, size_t rows, const int8_t *const *x,
    size_t tokens, size_t blocks, int32_t *sums
) {
    int32x4_t products[2][4];
    size_t row_pairs = (rows + 1) / 2, token_pairs = (tokens + 1) / 2;
    for (size_t r = 0; r < row_pairs; r++) {
        for (size_t t = 0; t < token_pairs; t++) {
            products[r][t] = vdupq_n_s32(0);
        }
    }
    for (size_t b = 0; b < blocks; b++) {
        for (size_t r = 0; r < row_pairs; r++) {
            size_t first = 2 * r, second = 2 * r + 1 < rows ? 2 * r + 1 : first;
            int8x16_t codes[2][VECTORS];
            __builtin_prefetch(ahead[first] + b * BLOCK_BYTES);
            __builtin_prefetch(ahead[second] + b * BLOCK_BYTES);
            decode(w[first] + b * BLOCK_BYTES, codes[0]);
            decode(w[second] + b * BLOCK_BYTES, codes[1]);
            for (size_t v = 0; v < VECTORS; v++) {
                int8x16_t low = lower(codes[0][v], codes[1][v]);
                int8x16_t high = upper(codes[0][v], codes[1][v]);
                for (size_t t = 0; t < token_pairs; t++) {
                    size_t at = b * BLOCK + 16 * v;
                    int8x16_t a = vld1q_s8(x[2 * t] + at);
                    int8x16_t c = vld1q_s8(x[2 * t + 1 < tokens ? 2 * t + 1 : 2 * t] + at);
                    products[r][t] = vmmlaq_s32(products[r][t], low, lower(a, c));
                    products[r][t] = vmmlaq_s32(products[r][t], high, upper(a, c));
                }
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++) {
            int32_t square[4];
            vst1q_s32(square, products[r / 2][t / 2]);
            sums[r * tokens + t] = square[r % 2 * 2 + t % 2];
        }
    }
}

/*
 * Writes the sums of codes times activations over some blocks to sums[r * tokens + t], for 1 to 4
 * rows and 1 to 8 tokens.
 */
void trilobite_i8mm_tile(
    const uint8_t *const *w, const int8_t *const *ahead, size_t rows, const int8_t *const *x,
    size_t tokens, size_t blocks, int32_t *sums
) {
    /* The sizes in use. With constants the compiler unrolls the loops over rows and tokens. */
    switch (rows * 16 + tokens) {
    case 0x11: single(w, ahead, 1, x[0], blocks, sums); break;
    case 0x41: single(w, ahead, 4, x[0], blocks, sums); break;
    case 0x12: pairs(w, ahead, 1, x, 2, blocks, sums); break;
    case 0x13: pairs(w, ahead, 1, x, 3, blocks, sums); break;
    case 0x14: pairs(w, ahead, 1, x, 4, blocks, sums); break;
    case 0x18: pairs(w, ahead, 1, x, 8, blocks, sums); break;
    case 0x42: pairs(w, ahead, 4, x, 2, blocks, sums); break;
    case 0x23: pairs(w, ahead, 2, x, 3, blocks, sums); break;
    case 0x24: pairs(w, ahead, 2, x, 4, blocks, sums); break;
    case 0x28: pairs(w, ahead, 2, x, 8, blocks, sums); break;
    default: pairs(w, ahead, rows, x, tokens, blocks, sums); break;
    }
}
