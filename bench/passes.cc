// Speed of the CPU's passes: a base and eight bf16 models that fit no cache, in work blocks, on one thread. `of_read`
// is the share of what a plain loop over the same bytes reads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/passes.h"
#include "kernels/element.h"

namespace {

using namespace amalgam;
using Clock = std::chrono::steady_clock;

constexpr int models = 8;
constexpr int64_t elements = int64_t(1) << 24;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The inputs, as fine-tuned models are: small steps from the base, on bf16's lattice.
class Data {
  public:
    static const Data& get() {
        static const Data data;
        return data;
    }
    Operand base(int64_t at) const { return {tensors_[models].data() + at, Dtype::bf16}; }
    std::vector<Operand> inputs(int64_t at) const {
        std::vector<Operand> operands;
        for (int m = 0; m < models; ++m) operands.push_back({tensors_[size_t(m)].data() + at, Dtype::bf16});
        return operands;
    }
    double read_rate() const { return read_rate_; }
    static double bytes(bool with_base) { return double(elements) * 2 * (models + with_base); }

  private:
    Data() : tensors_(models + 1, std::vector<uint16_t>(size_t(elements))) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::vector<float> noise(1 << 16);
        for (float& value : noise) value = normal(random);
        for (int64_t i = 0; i < elements; ++i) {
            const float base = 0.02f * noise[random() % noise.size()];
            tensors_[models][size_t(i)] = bf16_from_float(base);
            for (int m = 0; m < models; ++m)
                tensors_[size_t(m)][size_t(i)] = bf16_from_float(base + 0.001f * noise[random() % noise.size()]);
        }
        for (int trial = 0; trial < 5; ++trial) {
            const auto start = Clock::now();
            read();
            read_rate_ = std::max(read_rate_, bytes(true) / seconds_since(start));
        }
    }
    void read() const {
        for (const auto& tensor : tensors_) {
            uint64_t sums[8] = {};
            const unsigned char* bytes = reinterpret_cast<const unsigned char*>(tensor.data());
            for (int64_t at = 0; at < elements * 2; at += 64)
                for (int i = 0; i < 8; ++i) {
                    uint64_t word;
                    std::memcpy(&word, bytes + at + 8 * i, 8);
                    sums[i] += word;
                }
            benchmark::DoNotOptimize(sums);
        }
    }
    std::vector<std::vector<uint16_t>> tensors_;
    double read_rate_ = 0;
};

/// Calls `pass(first, count)` for each work block of the data, again and again.
template <class Pass>
void over_blocks(benchmark::State& state, bool with_base, const Pass& pass) {
    const Data& data = Data::get();
    const int64_t block = state.range(0);
    const auto start = Clock::now();
    for ([[maybe_unused]] auto _ : state)
        for (int64_t first = 0; first < elements; first += block) pass(first, std::min(block, elements - first));
    const double rate = Data::bytes(with_base) * double(state.iterations()) / seconds_since(start);
    state.SetBytesProcessed(int64_t(Data::bytes(with_base)) * state.iterations());
    state.counters["of_read"] = rate / data.read_rate();
}

void fold(benchmark::State& state, FoldKind kind, Sparsifier sparsifier) {
    const bool with_base = kind != FoldKind::average;
    std::vector<FoldModel> told(models);
    for (int m = 0; m < models; ++m) {
        told[size_t(m)].low = bits_of(0.0005f);
        told[size_t(m)].address = {1, 2, uint64_t(m)};
        told[size_t(m)].threshold = keep_threshold(0.5);
    }
    std::vector<uint16_t> out(size_t(state.range(0)));
    over_blocks(state, with_base, [&](int64_t first, int64_t count) {
        const auto inputs = Data::get().inputs(first);
        FoldArguments arguments;
        arguments.constants = {.factor = 1, .divisor = models, .normalize = true};
        if (with_base) arguments.base = Data::get().base(first);
        arguments.inputs = inputs.data();
        arguments.models = told.data();
        arguments.model_count = models;
        arguments.first = first;
        arguments.count = count;
        arguments.out = out.data();
        arguments.out_dtype = Dtype::bf16;
        benchmark::DoNotOptimize(cpu::fold(kind, sparsifier, false, arguments));
    });
}

void norms(benchmark::State& state, Sparsifier sparsifier) {
    std::vector<FoldModel> told(models);
    for (int m = 0; m < models; ++m) {
        told[size_t(m)].address = {1, 2, uint64_t(m)};
        told[size_t(m)].threshold = keep_threshold(0.5);
    }
    std::vector<double> totals(2 * models);
    over_blocks(state, true, [&](int64_t first, int64_t count) {
        const auto inputs = Data::get().inputs(first);
        FoldArguments arguments;
        arguments.base = Data::get().base(first);
        arguments.inputs = inputs.data();
        arguments.models = told.data();
        arguments.model_count = models;
        arguments.first = first;
        arguments.count = count;
        cpu::norms(sparsifier, false, arguments, totals.data());
        benchmark::DoNotOptimize(totals.data());
    });
}

void gram(benchmark::State& state) {
    const auto scratch = std::make_unique<GramScratch>();
    std::vector<double> products(size_t(pair_count(models)));
    over_blocks(state, true, [&](int64_t first, int64_t count) {
        const auto inputs = Data::get().inputs(first);
        GramArguments arguments;
        arguments.base = Data::get().base(first);
        arguments.inputs = inputs.data();
        arguments.input_count = models;
        arguments.first = first;
        arguments.count = count;
        cpu::gram(false, arguments, *scratch, products.data());
        benchmark::DoNotOptimize(products.data());
    });
}

/// `wide` windows hold a tenth of the keys and fill bins; narrow ones prove one value by counting.
void count_keys(benchmark::State& state, bool wide) {
    std::vector<std::vector<uint32_t>> bins(models, std::vector<uint32_t>(8192));
    std::vector<KeyStream> streams;
    KeyWindow window{bits_of(0.0005f), bits_of(0.0005f) + 1, 0};
    if (wide) window = {bits_of(0.0005f), bits_of(0.00058f), 8};
    for (int m = 0; m < models; ++m) streams.push_back({m, window, wide ? bins[size_t(m)].data() : nullptr});
    std::vector<KeyCounts> counts(models);
    over_blocks(state, true, [&](int64_t first, int64_t count) {
        const auto inputs = Data::get().inputs(first);
        const KeyArguments arguments{Data::get().base(first), inputs.data(), models, nullptr, count};
        cpu::count_keys(KeyKind::distance, false, arguments, streams.data(), models, counts.data());
        benchmark::DoNotOptimize(counts.data());
    });
}

void blocks(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("block")->Arg(8192)->Arg(65536)->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(fold, linear, FoldKind::average, Sparsifier::none)->Apply(blocks);
BENCHMARK_CAPTURE(fold, task_arithmetic, FoldKind::sum, Sparsifier::none)->Apply(blocks);
BENCHMARK_CAPTURE(fold, ties, FoldKind::elect, Sparsifier::magnitude)->Apply(blocks);
BENCHMARK_CAPTURE(fold, dare, FoldKind::sum, Sparsifier::random)->Apply(blocks);
BENCHMARK_CAPTURE(norms, plain, Sparsifier::none)->Apply(blocks);
BENCHMARK_CAPTURE(norms, dare, Sparsifier::random)->Apply(blocks);
BENCHMARK(gram)->Apply(blocks);
BENCHMARK_CAPTURE(count_keys, proof, false)->Apply(blocks);
BENCHMARK_CAPTURE(count_keys, bins, true)->Apply(blocks);

}  // namespace

int main(int count, char** arguments) {
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
    benchmark::AddCustomContext("plain read, GB/s", std::to_string(Data::get().read_rate() / 1e9));
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
