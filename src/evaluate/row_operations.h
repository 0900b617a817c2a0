// What a decoder does to rows of activations besides products: all on the calling thread, vectorised.
#pragma once
#include <cstdint>

#include "src/evaluate/decoder_config.h"

namespace amalgam {

/// to = from / sqrt(mean of squares + epsilon) * weights, a row at a time; `from` may be `to`. Rows are `width` values
/// that start `stride` apart in both.
void rms_norm(const float* from, int64_t rows, int64_t width, int64_t stride, const float* weights, float epsilon,
              float* to);

/// x += y
void add(float* x, const float* y, int64_t count);
/// Adds one row to every row.
void add_bias(float* x, int64_t rows, int64_t width, const float* bias);
void multiply_by(float* x, int64_t count, float factor);

/// Rows of 2 x `width` values, gates then ups, to rows of `width`: activation(gate) * up.
void gated(const float* gate_up, int64_t rows, int64_t width, Activation activation, float* to);

/// c tanh(x / c)
void softcap(float* x, int64_t count, float cap);

/// Nearest, ties to even; NaN stays NaN.
void round_to_bfloat16(const float* from, int64_t count, uint16_t* to);
void widen_bfloat16(const uint16_t* from, int64_t count, float* to);

/// Turns `heads` heads of one row by the row's angles: head_dim / 2 cosines and sines, each already times Rope::factor.
void turn_heads(float* heads_begin, int64_t heads, int64_t head_dim, const float* cosines, const float* sines);

/// Largest of `count` values (its first place if there are several; -1 and NaN if any is NaN) and the sum of
/// exp(value - largest).
struct RowPeak {
    int64_t place = -1;
    float largest = 0;
    double sum = 0;
};
RowPeak row_peak(const float* values, int64_t count);

}  // namespace amalgam
