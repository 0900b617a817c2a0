#include "src/evaluate/layer.h"

#include <cmath>

#include "src/evaluate/row_operations.h"

namespace amalgam {
namespace {

float* room(std::vector<float>& buffer, int64_t count) {
    if (int64_t(buffer.size()) < count) buffer.resize(size_t(count));
    return buffer.data();
}

void product(const Matrix& matrix, const std::vector<float>& bias, const float* from, int64_t rows, float* to) {
    matrix.multiply(from, rows, to);
    if (!bias.empty()) add_bias(to, rows, matrix.rows(), bias.data());
}

void norm(const DecoderConfig& config, const std::vector<float>& weights, const float* from, int64_t rows, float* to) {
    rms_norm(from, rows, config.hidden, config.hidden, weights.data(), config.norm_epsilon, to);
}

/// Norms over heads, and the rotation, on the queries and keys of a row.
void place_row(const DecoderConfig& config, const LayerWeights& weights, const RopeTable& rope, int64_t position,
               float* row) {
    float* keys = row + config.query_width();
    if (config.query_key_norm) {
        rms_norm(row, config.heads, config.head_dim, config.head_dim, weights.query_norm.data(), config.norm_epsilon,
                 row);
        rms_norm(keys, config.kv_heads, config.head_dim, config.head_dim, weights.key_norm.data(), config.norm_epsilon,
                 keys);
    }
    // Keys stand behind the queries.
    turn_heads(row, config.heads + config.kv_heads, config.head_dim, rope.cosines(position), rope.sines(position));
}

void attend_all(const DecoderConfig& config, const LayerWeights& weights, int64_t window, const RopeTable& rope,
                const std::vector<Run>& runs, float* query_key_value, float* mixed, LayerScratch& scratch) {
    const int64_t stride = config.query_width() + 2 * config.kv_width();
    for (const Run& run : runs) {
        float* first = query_key_value + run.first_row * stride;
        for (int64_t row = 0; row < run.count; ++row)
            place_row(config, weights, rope, run.first_position + row, first + row * stride);
        KeyValues* stored = run.stored;
        if (!stored) {
            stored = &scratch.stored;
            stored->reset(config, run.count);
        }
        const float* keys = first + config.query_width();
        stored->store(keys, keys + config.kv_width(), stride, run.first_position, run.count);
        attend(config, *stored, window, first, stride, run.first_position, run.count,
               mixed + run.first_row * config.query_width(), scratch.attention);
    }
}

}  // namespace

RopeTable::RopeTable(const Rope& rope, int64_t positions) : half_(int64_t(rope.frequencies.size())) {
    for (int64_t position = 0; position < positions; ++position)
        for (float frequency : rope.frequencies) {
            // The angle is rounded to float32 as everywhere else, so that far positions agree with other programs.
            const float angle = float(position) * frequency;
            cosines_.push_back(std::cos(angle) * rope.factor);
            sines_.push_back(std::sin(angle) * rope.factor);
        }
}

void run_layer(const DecoderConfig& config, const LayerWeights& weights, int64_t window, const RopeTable& rope,
               const std::vector<Run>& runs, int64_t rows, float* hidden, LayerScratch& scratch) {
    const int64_t stride = config.query_width() + 2 * config.kv_width();
    float* normed = room(scratch.normed, rows * config.hidden);
    float* wide = room(scratch.wide, rows * std::max(stride, 2 * config.mlp));
    float* mixed = room(scratch.mixed, rows * std::max(config.query_width(), config.mlp));
    norm(config, weights.input_norm, hidden, rows, normed);
    product(weights.query_key_value, weights.query_key_value_bias, normed, rows, wide);
    attend_all(config, weights, window, rope, runs, wide, mixed, scratch);
    product(weights.output, weights.output_bias, mixed, rows, normed);
    if (config.post_norms) norm(config, weights.post_attention_norm, normed, rows, normed);
    add(hidden, normed, rows * config.hidden);

    norm(config, weights.pre_mlp_norm, hidden, rows, normed);
    product(weights.gate_up, weights.gate_up_bias, normed, rows, wide);
    gated(wide, rows, config.mlp, config.activation, mixed);
    product(weights.down, weights.down_bias, mixed, rows, normed);
    if (config.post_norms) norm(config, weights.post_mlp_norm, normed, rows, normed);
    add(hidden, normed, rows * config.hidden);
}

}  // namespace amalgam
