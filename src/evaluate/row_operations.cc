#include "src/evaluate/row_operations.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/launch.h"
#include "kernels/vector_math.h"

namespace amalgam {
namespace {

AMALGAM_CLONES float sum_of_squares(const float* values, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += values[i] * values[i];
    return sum;
}

AMALGAM_CLONES void scaled_product(const float* from, const float* weights, int64_t count, float scale, float* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = from[i] * scale * weights[i];
}

AMALGAM_CLONES void silu_row(const float* gate, const float* up, int64_t count, float* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = gate[i] / (1 + vector_exp(-gate[i])) * up[i];
}

AMALGAM_CLONES void gelu_row(const float* gate, const float* up, int64_t count, float* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        const float x = gate[i];
        const float inner = 0.79788456f * (x + 0.044715f * x * x * x);
        to[i] = 0.5f * x * (1 + vector_tanh(inner)) * up[i];
    }
}

AMALGAM_CLONES float largest_of(const float* values, int64_t count) {
    float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
    return largest;
}

/// A NaN among the values makes the sum a NaN.
AMALGAM_CLONES float sum_of_powers(const float* values, int64_t count, float largest) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += vector_exp(values[i] - largest);
    return sum;
}

}  // namespace

void rms_norm(const float* from, int64_t rows, int64_t width, int64_t stride, const float* weights, float epsilon,
              float* to) {
    for (int64_t row = 0; row < rows; ++row) {
        const float mean = sum_of_squares(from + row * stride, width) / float(width);
        scaled_product(from + row * stride, weights, width, 1 / std::sqrt(mean + epsilon), to + row * stride);
    }
}

AMALGAM_CLONES void add(float* x, const float* y, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) x[i] += y[i];
}

void add_bias(float* x, int64_t rows, int64_t width, const float* bias) {
    for (int64_t row = 0; row < rows; ++row) add(x + row * width, bias, width);
}

AMALGAM_CLONES void multiply_by(float* x, int64_t count, float factor) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

void gated(const float* gate_up, int64_t rows, int64_t width, Activation activation, float* to) {
    for (int64_t row = 0; row < rows; ++row) {
        const float* gate = gate_up + row * 2 * width;
        if (activation == Activation::silu)
            silu_row(gate, gate + width, width, to + row * width);
        else
            gelu_row(gate, gate + width, width, to + row * width);
    }
}

AMALGAM_CLONES void softcap(float* x, int64_t count, float cap) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) x[i] = cap * vector_tanh(x[i] / cap);
}

AMALGAM_CLONES void round_to_bfloat16(const float* from, int64_t count, uint16_t* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = bf16_from_float(from[i]);
}

AMALGAM_CLONES void widen_bfloat16(const uint16_t* from, int64_t count, float* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = float_from_bf16(from[i]);
}

AMALGAM_CLONES void turn_heads(float* heads_begin, int64_t heads, int64_t head_dim, const float* cosines,
                               const float* sines) {
    const int64_t half = head_dim / 2;
    for (int64_t head = 0; head < heads; ++head) {
        float* first = heads_begin + head * head_dim;
        float* second = first + half;
#pragma omp simd
        for (int64_t pair = 0; pair < half; ++pair) {
            const float a = first[pair], b = second[pair];
            first[pair] = a * cosines[pair] - b * sines[pair];
            second[pair] = b * cosines[pair] + a * sines[pair];
        }
    }
}

RowPeak row_peak(const float* values, int64_t count) {
    RowPeak peak;
    peak.largest = largest_of(values, count);
    peak.sum = double(sum_of_powers(values, count, peak.largest));
    if (!std::isfinite(peak.sum)) {
        peak.largest = std::numeric_limits<float>::quiet_NaN();
        return peak;
    }
    peak.place = 0;
    while (values[peak.place] != peak.largest) ++peak.place;
    return peak;
}

}  // namespace amalgam
