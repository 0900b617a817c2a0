// Speed of passes on a device, over a base and eight bf16 models in its memory, and whether their results are the CPU's.
//
//     bench_lane [cpu|cuda] [elements] [GB/s of the device's memory]
//
// One line a pass: name, GB/s of inputs read, share of the given limit, "same" or "DIFFERENT".
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/device/device.h"

namespace {

using namespace amalgam;
using Clock = std::chrono::steady_clock;

constexpr int models = 8;

/// A base and models at small steps from it, in ordinary memory.
std::vector<std::vector<uint16_t>> make_models(int64_t elements) {
    std::vector<std::vector<uint16_t>> tensors(models + 1, std::vector<uint16_t>(size_t(elements)));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> noise(1 << 16);
    for (float& value : noise) value = normal(random);
    for (int64_t i = 0; i < elements; ++i) {
        const float base = 0.02f * noise[random() % noise.size()];
        tensors[0][size_t(i)] = bf16_from_float(base);
        for (size_t m = 1; m <= models; ++m)
            tensors[m][size_t(i)] = bf16_from_float(base + 0.001f * noise[random() % noise.size()]);
    }
    return tensors;
}

/// The passes of one device, on the same data.
class Passes {
  public:
    Passes(Device& device, const std::vector<std::vector<uint16_t>>& tensors, int64_t elements)
        : lane_(device.make_lane({})), elements_(elements), folds_(models) {
        lane_->begin_window();
        for (const auto& tensor : tensors)
            operands_.push_back({lane_->bring(tensor.data(), uint64_t(elements) * 2), Dtype::bf16});
        out_ = lane_->reserve(uint64_t(elements) * 2);
        for (size_t m = 0; m < models; ++m) {
            folds_[m].low = bits_of(0.001f);
            folds_[m].address = {0, 12345, m};
            folds_[m].threshold = keep_threshold(0.2);
            folds_[m].scale = 0.7;
        }
    }

    /// Name, and what to time; each leaves bytes in `result`.
    std::vector<std::pair<std::string, std::function<void(std::vector<std::byte>&)>>> all() {
        auto fold = [this](FoldKind kind, Sparsifier sparsifier) {
            return [this, kind, sparsifier](std::vector<std::byte>& result) {
                FoldArguments arguments = fold_arguments();
                lane_->fold(kind, sparsifier, false, arguments);
                result.clear();
            };
        };
        return {{"linear", fold(FoldKind::average, Sparsifier::none)},
                {"ties fold", fold(FoldKind::elect, Sparsifier::magnitude)},
                {"dare fold", fold(FoldKind::sum, Sparsifier::random)},
                {"threshold count", [this](std::vector<std::byte>& result) { count(result); }},
                {"dare norms", [this](std::vector<std::byte>& result) { norms(result); }},
                {"gram matrix", [this](std::vector<std::byte>& result) { gram(result); }}};
    }
    /// Of the last fold.
    std::vector<std::byte> folded() {
        std::vector<std::byte> bytes(size_t(elements_) * 2);
        lane_->take(out_, bytes.data(), bytes.size());
        return bytes;
    }

  private:
    FoldArguments fold_arguments() const {
        FoldArguments arguments;
        arguments.base = operands_[0];
        arguments.inputs = operands_.data() + 1;
        arguments.models = folds_.data();
        arguments.model_count = models;
        arguments.count = elements_;
        arguments.out = out_;
        arguments.out_dtype = Dtype::bf16;
        return arguments;
    }
    int64_t blocks() const { return (elements_ + sum_block - 1) / sum_block; }
    template <class T>
    static void keep(std::vector<std::byte>& result, const std::vector<T>& values) {
        result.resize(values.size() * sizeof(T));
        std::memcpy(result.data(), values.data(), result.size());
    }
    void count(std::vector<std::byte>& result) {
        std::vector<KeyStream> streams;
        for (int m = 0; m < models; ++m) streams.push_back({m, {bits_of(0.00125f), bits_of(0.00130f), 0}, nullptr});
        std::vector<KeyCounts> counts(size_t(blocks()) * models);
        const KeyArguments keys{operands_[0], operands_.data() + 1, models, nullptr, elements_};
        lane_->count_keys(KeyKind::distance, false, keys, streams, counts.data());
        keep(result, counts);
    }
    void norms(std::vector<std::byte>& result) {
        std::vector<double> totals(size_t(blocks()) * 2 * models);
        lane_->norms(Sparsifier::random, false, fold_arguments(), totals.data());
        keep(result, totals);
    }
    void gram(std::vector<std::byte>& result) {
        std::vector<double> products(size_t(blocks() * pair_count(models)));
        lane_->gram(false, {operands_[0], operands_.data() + 1, models, 0, elements_}, products.data());
        keep(result, products);
    }

    std::unique_ptr<Lane> lane_;
    int64_t elements_;
    std::vector<Operand> operands_;
    std::vector<FoldModel> folds_;
    void* out_ = nullptr;
};

int run(int count, char** words) {
    const std::string kind = count > 1 ? words[1] : "cuda";
    const int64_t elements = count > 2 ? std::stoll(words[2]) : int64_t(1) << 26;
    const double limit = count > 3 ? std::stod(words[3]) : 0;
    const auto tensors = make_models(elements);
    const std::unique_ptr<Device> cpu = make_cpu_device();
    const std::unique_ptr<Device> device = kind == "cuda" ? make_cuda_device(0, 1) : make_cpu_device();
    Passes expected(*cpu, tensors, elements), measured(*device, tensors, elements);
    auto wanted = expected.all(), passes = measured.all();
    bool all_same = true;
    for (size_t p = 0; p < passes.size(); ++p) {
        std::vector<std::byte> want, have;
        wanted[p].second(want);
        double best = 1e30;
        for (int trial = 0; trial < 5; ++trial) {
            const auto start = Clock::now();
            passes[p].second(have);
            best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
        }
        const bool same = want == have && (!want.empty() || expected.folded() == measured.folded());
        all_same &= same;
        const bool with_base = passes[p].first != "linear";
        const double rate = double(elements) * 2 * (models + with_base) / best / 1e9;
        fmt::print("| {} | {} | {:.1f} | {} | {} |\n", device->name(), passes[p].first, rate,
                   limit > 0 ? fmt::format("{:.0f} %", 100 * rate / limit) : "", same ? "same" : "DIFFERENT");
    }
    return all_same ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(count, words);
    } catch (const std::exception& error) {
        fmt::print(stderr, "bench_lane: {}\n", error.what());
        return 1;
    }
}
