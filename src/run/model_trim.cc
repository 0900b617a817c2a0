#include "src/run/model_trim.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "src/base/error.h"
#include "src/run/works.h"

namespace amalgam {

namespace {
constexpr int64_t sampled_blocks = 256, sample_of_block = 256;
}

ModelTrim::ModelTrim(const Merge& merge, const WorkSettings& settings) : settings_(settings) {
    std::map<int, std::pair<int64_t, const TaskInput*>> by_position;
    int64_t blocks = 0;
    bool narrow = false;
    for (const TensorTask& task : merge.tasks) {
        first_sample_.push_back(blocks);
        if (task.kind != TaskKind::merge) continue;
        blocks += block_count(task.elements());
        (computes_in_double(task) ? wide_ : narrow) = true;
        for (const TaskInput& input : task.inputs) {
            if (!settings.is_here(input)) continue;
            auto& entry = by_position[input.position];
            entry.first += task.elements();
            entry.second = &input;
        }
    }
    check(!(wide_ && narrow),
          "compat = \"paper\" trims over the whole model, but some tensors are float64 and others are not: their "
          "magnitudes cannot be ordered together; use compat = \"mergekit\"");
    stride_ = std::max<int64_t>(1, blocks / sampled_blocks);
    const MethodInfo& method = *settings.method;
    for (const auto& [position, entry] : by_position) {
        double density = model_field(method, *entry.second, "density", 1);
        if (density >= 1) continue;
        Counts counts = band_counts(entry.first, density,
                                    method.trim == Trim::band ? model_field(method, *entry.second, "gamma", 0) : 0);
        orders_.push_back({position, false, entry.first, counts.top + counts.keep});
        if (counts.top > 0) orders_.push_back({position, true, entry.first, counts.top});
    }
    for (const Order& order : orders_) searches_.emplace_back(order.elements, order.k, wide_ ? 63 : 31, false);
    samples_.assign(orders_.size(), std::vector<uint64_t>(size_t((blocks + stride_ - 1) / stride_ * sample_of_block)));
    if (done()) take_thresholds();
}

bool ModelTrim::done() const {
    return loaded_ ||
           std::all_of(searches_.begin(), searches_.end(), [](const ThresholdSearch& search) { return search.done(); });
}

void ModelTrim::begin_round() {
    by_thread_.assign(size_t(settings_.threads), {});
    for (Totals& totals : by_thread_) {
        totals.counts.resize(orders_.size());
        for (const ThresholdSearch& search : searches_)
            totals.bins.emplace_back(search.done() || sampling_ ? 0 : size_t(search.bins()));
    }
}

void ModelTrim::sample(int64_t task, const Window& window, Scratch& scratch) {
    const std::vector<const TaskInput*> inputs = inputs_here(*window.task, settings_);
    each_block(window, [&](int64_t first, int64_t count) {
        int64_t block = first_sample_[size_t(task)] + first / block_elements;
        if (block % stride_ != 0) return;
        KeyArguments what{at_element(window.base, first - window.input_first), nullptr, 1, nullptr,
                          std::min(count, sample_of_block)};
        for (size_t i = 0; i < orders_.size(); ++i) {
            for (size_t m = 0; m < window.inputs.size(); ++m) {
                if (inputs[m]->position != orders_[i].position) continue;
                Operand input = at_element(window.inputs[m], first - window.input_first);
                what.inputs = &input;
                scratch.keys.resize(size_t(what.count));
                scratch.lane->extract_keys(KeyKind::distance, wide_, what, 0, scratch.keys.data());
                // A key is stored as key + 1: what stays 0 was never taken.
                for (int64_t e = 0; e < what.count; ++e)
                    samples_[i][size_t(block / stride_ * sample_of_block + e)] = scratch.keys[size_t(e)] + 1;
            }
        }
    });
}

void ModelTrim::scan(int64_t task, const Window& window, Scratch& scratch) {
    if (window.task->kind != TaskKind::merge) return;
    if (sampling_) return sample(task, window, scratch);
    Totals& totals = by_thread_[size_t(scratch.thread)];
    std::vector<KeyStream> streams;
    std::vector<size_t> orders;
    std::vector<std::vector<uint32_t>> bins;
    const std::vector<const TaskInput*> inputs = inputs_here(*window.task, settings_);
    for (size_t i = 0; i < orders_.size(); ++i)
        for (size_t m = 0; m < window.inputs.size(); ++m) {
            if (searches_[i].done() || inputs[m]->position != orders_[i].position) continue;
            orders.push_back(i);
            bins.emplace_back(totals.bins[i].size());
            streams.push_back({int(m), searches_[i].window(), bins.back().empty() ? nullptr : bins.back().data()});
        }
    const KeyArguments what{base_from(window, window.first), scratch.inputs_from(window, window.first),
                            int(window.inputs.size()), nullptr, window.count};
    std::vector<KeyCounts> counts(size_t(window.blocks()) * streams.size());
    scratch.lane->count_keys(KeyKind::distance, wide_, what, streams, counts.data());
    for (size_t c = 0; c < counts.size(); ++c) {
        KeyCounts& total = totals.counts[orders[c % streams.size()]];
        total.from_low += counts[c].from_low;
        total.from_high += counts[c].from_high;
    }
    for (size_t s = 0; s < streams.size(); ++s)
        for (size_t b = 0; b < bins[s].size(); ++b) totals.bins[orders[s]][b] += bins[s][b];
}

void ModelTrim::exchange(Communicator& ranks) {
    if (sampling_) {
        for (auto& sample : samples_) ranks.all_reduce_sum(std::span<uint64_t>(sample));
        return;
    }
    Totals& sum = by_thread_[0];
    for (size_t thread = 1; thread < by_thread_.size(); ++thread) {
        Totals& part = by_thread_[thread];
        for (size_t i = 0; i < orders_.size(); ++i) {
            sum.counts[i].from_low += part.counts[i].from_low;
            sum.counts[i].from_high += part.counts[i].from_high;
            for (size_t b = 0; b < sum.bins[i].size(); ++b) sum.bins[i][b] += part.bins[i][b];
        }
    }
    by_thread_.resize(1);
    for (size_t i = 0; i < orders_.size(); ++i) {
        int64_t both[2] = {sum.counts[i].from_low, sum.counts[i].from_high};
        ranks.all_reduce_sum(std::span<int64_t>(both));
        sum.counts[i] = {both[0], both[1]};
        if (!sum.bins[i].empty()) ranks.all_reduce_sum(std::span<uint64_t>(sum.bins[i]));
    }
}

void ModelTrim::end_round() {
    if (sampling_) {
        for (size_t i = 0; i < orders_.size(); ++i) {
            std::vector<uint64_t> keys;
            for (uint64_t stored : samples_[i])
                if (stored) keys.push_back(stored - 1);
            if (int64_t(keys.size()) < orders_[i].elements || searches_[i].done()) searches_[i].guess(std::move(keys));
        }
        samples_ = {};
        sampling_ = false;
    } else {
        for (size_t i = 0; i < orders_.size(); ++i)
            if (!searches_[i].done()) searches_[i].absorb(by_thread_[0].counts[i], by_thread_[0].bins[i]);
    }
    by_thread_ = {};
    if (done()) take_thresholds();
}

void ModelTrim::take_thresholds() {
    thresholds_.clear();
    for (const ThresholdSearch& search : searches_)
        thresholds_.push_back(search.keeps_nothing() ? ~uint64_t(0) : search.threshold());
}

ModelTrim::Band ModelTrim::band(const TaskInput& input) const {
    Band band;
    for (size_t i = 0; i < orders_.size(); ++i)
        if (orders_[i].position == input.position) (orders_[i].top ? band.high : band.low) = thresholds_[i];
    return band;
}

int ModelTrim::emptied() const {
    int count = 0;
    for (const Order& order : orders_) count += !order.top && order.k == 0;
    return count;
}

std::string ModelTrim::save() const {
    return {reinterpret_cast<const char*>(thresholds_.data()), thresholds_.size() * sizeof(uint64_t)};
}

void ModelTrim::load(const std::string& bytes) {
    if (bytes.size() != orders_.size() * sizeof(uint64_t)) return;
    thresholds_.resize(orders_.size());
    std::memcpy(thresholds_.data(), bytes.data(), bytes.size());
    loaded_ = true;
}

}  // namespace amalgam
