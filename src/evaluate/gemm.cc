#include "src/evaluate/gemm.h"

#include <cstddef>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <vector>

#include "src/base/error.h"
#include "src/evaluate/row_operations.h"

// Of the OpenMP runtime that the library brings; its header is the compiler's affair.
extern "C" int omp_get_max_threads(void);
extern "C" void omp_set_num_threads(int);

namespace amalgam {
namespace {

using dnnl::memory;

/// The library shares each call out to an OpenMP team unless the caller's team has one thread. The setting is the calling
/// thread's own, and it gets it back.
class OneThread {
  public:
    OneThread() : before_(omp_get_max_threads()) {
        if (before_ != 1) omp_set_num_threads(1);
    }
    ~OneThread() {
        if (before_ != 1) omp_set_num_threads(before_);
    }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

  private:
    int before_;
};

const dnnl::engine& processor() {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

memory::data_type library_type(Dtype dtype) {
    return dtype == Dtype::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}
memory::data_type library_type(Compute compute) {
    return compute == Compute::bfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

dnnl::matmul::primitive_desc describe(int64_t count, int64_t rows, int64_t columns, Compute compute,
                                      const memory::desc& weights) {
    const memory::desc x({count, columns}, library_type(compute), memory::format_tag::ab);
    const memory::desc y({count, rows}, memory::data_type::f32, memory::format_tag::ab);
    return {dnnl::matmul::desc(x, weights, y), processor()};
}

/// The layout of weights is chosen once, for products of this many rows, and kept for all others.
constexpr int64_t usual_count = 256;

memory::desc weight_layout(int64_t rows, int64_t columns, Compute compute) {
    const memory::desc any({columns, rows}, library_type(compute), memory::format_tag::any);
    return describe(usual_count, rows, columns, compute, any).weights_desc();
}

/// What a thread keeps: its queue, and the programs for shapes it met.
struct ThreadState {
    dnnl::stream stream{processor()};
    std::map<std::tuple<int64_t, int64_t, int64_t, Compute>, dnnl::matmul> products;
    std::vector<uint16_t> rounded;
};

ThreadState& thread_state() {
    thread_local ThreadState state;
    return state;
}

/// Decoding shrinks its batches one by one, so shapes are many; they are cheap to make again.
constexpr size_t most_products = 1024;

}  // namespace

struct Matrix::Packed {
    Compute compute;
    memory values;  ///< empty: the matrix is plain
    std::vector<std::byte> plain;
};

std::string_view compute_name(Compute compute) { return compute == Compute::bfloat16 ? "bfloat16" : "float32"; }

bool has_fast_bfloat16() {
    const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
    return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

bool rows_are_independent(Compute compute) {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::avx512_core:
        case dnnl::cpu_isa::avx512_core_vnni:
        case dnnl::cpu_isa::avx512_core_bf16: return true;
        // Nobody has looked at products in tiles yet.
        case dnnl::cpu_isa::avx512_core_amx: return compute == Compute::float32;
        // Without AVX-512 the library has other sums for the last rows of a product.
        default: return false;
    }
}

namespace {

std::vector<std::byte> plain_copy(const void* values, int64_t count, Dtype dtype, Compute compute) {
    const bool half = compute == Compute::bfloat16;
    std::vector<std::byte> copy(size_t(count) * (half ? 2 : 4));
    if (half == (dtype == Dtype::bf16))
        std::memcpy(copy.data(), values, copy.size());
    else if (half)
        round_to_bfloat16(static_cast<const float*>(values), count, reinterpret_cast<uint16_t*>(copy.data()));
    else
        widen_bfloat16(static_cast<const uint16_t*>(values), count, reinterpret_cast<float*>(copy.data()));
    return copy;
}

}  // namespace

Matrix::Matrix(int64_t rows, int64_t columns, const void* values, Dtype dtype, Compute compute, MatrixLayout layout)
    : rows_(rows), columns_(columns) {
    check(dtype == Dtype::f32 || dtype == Dtype::bf16, "a weight matrix of {} (a bug in the program)",
          info(dtype).name);
    if (layout == MatrixLayout::plain) {
        packed_ =
            std::make_shared<const Packed>(Packed{compute, {}, plain_copy(values, rows * columns, dtype, compute)});
        return;
    }
    const OneThread one;
    try {
        memory plain({{columns, rows}, library_type(dtype), memory::format_tag::ba}, processor(),
                     const_cast<void*>(values));
        memory packed(weight_layout(rows, columns, compute), processor());
        dnnl::stream& stream = thread_state().stream;
        dnnl::reorder(plain, packed).execute(stream, plain, packed);
        stream.wait();
        packed_ = std::make_shared<const Packed>(Packed{compute, packed, {}});
    } catch (const dnnl::error& error) {
        fail("oneDNN cannot take a {} x {} matrix of {}: {}", rows, columns, compute_name(compute), error.what());
    }
}

uint64_t Matrix::bytes() const {
    if (!packed_) return 0;
    return packed_->plain.empty() ? packed_->values.get_desc().get_size() : packed_->plain.size();
}

Compute Matrix::compute() const { return packed_ ? packed_->compute : Compute::float32; }

const void* Matrix::values() const {
    check(packed_ && !packed_->plain.empty(), "the values of a matrix that is not plain (a bug in the program)");
    return packed_->plain.data();
}

void Matrix::multiply(const float* x, int64_t count, float* y) const {
    if (count == 0) return;
    check(packed_ && packed_->plain.empty(), "a product with no packed matrix (a bug in the program)");
    const OneThread one;
    ThreadState& state = thread_state();
    const Compute compute = packed_->compute;
    const memory::desc layout = packed_->values.get_desc();
    try {
        const auto key = std::tuple(count, rows_, columns_, compute);
        auto found = state.products.find(key);
        if (found == state.products.end()) {
            if (state.products.size() >= most_products) state.products.clear();
            found = state.products.emplace(key, dnnl::matmul(describe(count, rows_, columns_, compute, layout))).first;
        }
        void* factor = const_cast<float*>(x);
        if (compute == Compute::bfloat16) {
            state.rounded.resize(size_t(count * columns_));
            round_to_bfloat16(x, count * columns_, state.rounded.data());
            factor = state.rounded.data();
        }
        const memory left({{count, columns_}, library_type(compute), memory::format_tag::ab}, processor(), factor);
        const memory result({{count, rows_}, memory::data_type::f32, memory::format_tag::ab}, processor(), y);
        found->second.execute(state.stream,
                              {{DNNL_ARG_SRC, left}, {DNNL_ARG_WEIGHTS, packed_->values}, {DNNL_ARG_DST, result}});
        state.stream.wait();
    } catch (const dnnl::error& error) {
        fail("oneDNN cannot multiply {} rows with a {} x {} matrix of {}: {}", count, rows_, columns_,
             compute_name(compute), error.what());
    }
}

}  // namespace amalgam
