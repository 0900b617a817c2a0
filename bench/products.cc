// Speed of the products that a forward pass consists of: Matrix::multiply, on one thread.
#include <benchmark/benchmark.h>

#include <vector>

#include "src/evaluate/gemm.h"

namespace amalgam {
namespace {

/// range: rows of activations, rows and columns of the matrix, Compute
void products(benchmark::State& state) {
    const int64_t count = state.range(0), rows = state.range(1), columns = state.range(2);
    const std::vector<float> weights(size_t(rows * columns), 0.01F), x(size_t(count * columns), 0.5F);
    std::vector<float> y(size_t(count * rows));
    const Matrix matrix(rows, columns, weights.data(), Dtype::f32, Compute(state.range(3)));
    for (auto step : state) {
        matrix.multiply(x.data(), count, y.data());
        benchmark::ClobberMemory();
    }
    state.counters["FLOP/s"] = benchmark::Counter(2.0 * double(count) * double(rows) * double(columns),
                                                  benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
    std::vector<int64_t> kinds = {int64_t(Compute::float32)};
    if (has_fast_bfloat16()) kinds.push_back(int64_t(Compute::bfloat16));
    for (int64_t kind : kinds) {
        // The tiny zoo's layers and head, a 135 M model's, and a large one's.
        for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{192, 96},
                                            {512, 96},
                                            {96, 256},
                                            {232, 96},
                                            {1536, 576},
                                            {3072, 576},
                                            {4096, 4096}})
            bench->Args({256, rows, columns, kind});
        bench->Args({8, 1536, 576, kind});
    }
}
BENCHMARK(products)->Apply(shapes);

}  // namespace
}  // namespace amalgam

BENCHMARK_MAIN();
