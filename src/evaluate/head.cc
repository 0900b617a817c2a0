#include "src/evaluate/head.h"

#include <algorithm>
#include <cmath>

#include "src/evaluate/row_operations.h"

namespace amalgam {
namespace {

/// Calls visit(first id, ids, logits) with rows x ids logits, tile by tile of the vocabulary.
template <class Visit>
void each_tile(const DecoderConfig& config, const HeadWeights& head, const float* hidden, int64_t rows,
               const Visit& visit) {
    std::vector<float> normed(size_t(rows * config.hidden)), logits;
    rms_norm(hidden, rows, config.hidden, config.hidden, head.norm.data(), config.norm_epsilon, normed.data());
    int64_t first = 0;
    for (const Matrix& tile : head.tiles) {
        logits.resize(size_t(rows * tile.rows()));
        tile.multiply(normed.data(), rows, logits.data());
        if (config.logit_softcap > 0) softcap(logits.data(), rows * tile.rows(), config.logit_softcap);
        visit(first, tile.rows(), logits.data());
        first += tile.rows();
    }
}

/// What is known of a row after some tiles.
struct RowState {
    double largest = -INFINITY;
    double sum = 0;  ///< of exp(logit - largest)
    int64_t best = 0;
    double target = 0;

    void take(int64_t first, const RowPeak& peak) {
        if (peak.place < 0) {
            sum = NAN;
            return;
        }
        if (double(peak.largest) > largest) {
            sum = sum * std::exp(largest - double(peak.largest)) + peak.sum;
            largest = double(peak.largest);
            best = first + peak.place;
        } else {
            sum += peak.sum * std::exp(double(peak.largest) - largest);
        }
    }
};

}  // namespace

std::vector<TargetScore> judge_rows(const DecoderConfig& config, const HeadWeights& head, const float* hidden,
                                    int64_t rows, const std::vector<int32_t>& targets) {
    std::vector<RowState> states(static_cast<size_t>(rows));
    each_tile(config, head, hidden, rows, [&](int64_t first, int64_t count, const float* logits) {
        for (int64_t row = 0; row < rows; ++row) {
            RowState& state = states[size_t(row)];
            state.take(first, row_peak(logits + row * count, count));
            if (targets.empty()) continue;
            const int64_t place = targets[size_t(row)] - first;
            if (place >= 0 && place < count) state.target = double(logits[row * count + place]);
        }
    });
    std::vector<TargetScore> scores;
    for (const RowState& state : states) {
        TargetScore score;
        score.finite = std::isfinite(state.sum) && std::isfinite(state.largest) && std::isfinite(state.target);
        score.best = int32_t(state.best);
        if (!targets.empty()) score.log_likelihood = state.target - state.largest - std::log(state.sum);
        scores.push_back(score);
    }
    return scores;
}

std::vector<float> all_logits(const DecoderConfig& config, const HeadWeights& head, const float* hidden, int64_t rows) {
    std::vector<float> result(size_t(rows * config.vocabulary));
    each_tile(config, head, hidden, rows, [&](int64_t first, int64_t count, const float* logits) {
        for (int64_t row = 0; row < rows; ++row)
            std::copy_n(logits + row * count, count, result.data() + row * config.vocabulary + first);
    });
    return result;
}

}  // namespace amalgam
