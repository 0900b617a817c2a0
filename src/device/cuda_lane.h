// A lane whose memory and passes are those of a GPU.
#pragma once
#include <vector>

#include "kernels/cuda/passes.h"
#include "src/device/cuda_queue.h"
#include "src/device/lane.h"

namespace amalgam {

/// Every pass has ended when it returns, so that its scratch memory can serve the next.
class CudaLane final : public Lane {
  public:
    explicit CudaLane(const CudaContext& context);
    ~CudaLane() override;

    bool on_host() const override { return false; }
    void begin_window() override;
    const void* bring(const void* host, uint64_t bytes) override;
    void* reserve(uint64_t bytes) override;
    void take(const void* from, void* host, uint64_t bytes) override;
    void finish() override;
    void* queue() override;

    FoldCounts fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments) override;
    FoldCounts fold_columns(bool wide, const FoldArguments& arguments, std::span<const double> coefficients,
                            int64_t columns, int64_t column) override;
    FoldCounts fold_rows(FoldKind kind, bool wide, const FoldArguments& arguments, std::span<const double> scales,
                         int64_t columns) override;
    void norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals) override;
    void gram(bool wide, const GramArguments& arguments, double* products) override;
    void gram_rows(bool wide, const GramArguments& arguments, int64_t columns, double* products) override;
    void column_products(bool wide, const GramArguments& arguments, int64_t columns, double* sums) override;
    void count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, std::span<const KeyStream> streams,
                    KeyCounts* counts) override;
    void extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* keys) override;
    void energies(bool wide, const SelectArguments& arguments, double* energies) override;
    FoldCounts sce(bool wide, const SelectArguments& arguments) override;
    FoldCounts fusion(bool wide, const SelectArguments& arguments) override;
    void changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique) override;
    void divergences(bool wide, const Operand& base, const Operand& other, int64_t row_first, int64_t rows,
                     int64_t columns, double* divergences) override;
    const double* ranked_factors(bool wide, const RankedArguments& arguments) override;
    const float* spread_rows(std::span<const float> values, int64_t columns, int64_t first, int64_t count) override;
    const double* bring_numbers(std::span<const double> numbers) override;
    int64_t count_nonfinite(const Operand& operand, int64_t count) override;

  private:
    struct Chunk {
        DeviceBuffer buffer;
        uint64_t used = 0;
    };
    /// Memory that is reserved while this lives is free again afterwards.
    class Call {
      public:
        explicit Call(CudaLane& lane);
        ~Call();
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;

      private:
        CudaLane& lane_;
        size_t chunk_;
        uint64_t used_ = 0;
    };

    template <class T>
    T* array(int64_t count) {
        return static_cast<T*>(reserve(uint64_t(count) * sizeof(T)));
    }
    template <class T>
    T* zeros(int64_t count) {
        return static_cast<T*>(reserve_zeros(uint64_t(count) * sizeof(T)));
    }
    /// Copies of caller's arrays; nullptr of nothing.
    template <class T>
    const T* upload(const T* values, int64_t count) {
        return count > 0 && values ? static_cast<const T*>(bring(values, uint64_t(count) * sizeof(T))) : nullptr;
    }
    template <class T>
    void download(const T* from, T* host, int64_t count) {
        take(from, host, uint64_t(count) * sizeof(T));
    }

    void* reserve_zeros(uint64_t bytes);
    cuda::Queue passes();
    FoldCounts read(const cuda::DeviceCounts* counts);
    FoldArguments with_lists(const FoldArguments& arguments);
    GramArguments with_lists(const GramArguments& arguments);
    KeyArguments with_lists(const KeyArguments& arguments);
    /// Calls body(first piece, products) for one piece after the other.
    template <class Body>
    void each_gram(bool wide, const GramArguments& arguments, const std::vector<cuda::Piece>& pieces, const Body& body);

    std::vector<Chunk> chunks_;
    size_t chunk_ = 0;
    uint64_t next_chunk_bytes_;
    CudaQueue work_;  // first to go: what it queued uses what is above
};

}  // namespace amalgam
