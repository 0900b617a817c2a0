// The CPU as a lane: passes run on the calling thread.
#pragma once
#include <memory>
#include <vector>

#include "src/device/device.h"
#include "src/device/lane.h"

namespace amalgam {

class CpuLane final : public Lane {
  public:
    explicit CpuLane(const LaneSettings& settings) : block_(settings.block) {}

    bool on_host() const override { return true; }
    void begin_window() override;
    const void* bring(const void* host, uint64_t) override { return host; }
    void* reserve(uint64_t bytes) override;
    void take(const void* from, void* host, uint64_t bytes) override;
    void finish() override {}
    void* queue() override { return nullptr; }

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
    const double* bring_numbers(std::span<const double> numbers) override { return numbers.data(); }
    int64_t count_nonfinite(const Operand& operand, int64_t count) override;

  private:
    const Operand* inputs_from(const Operand* inputs, int count, int64_t at);
    FoldArguments piece_of(const FoldArguments& arguments, int64_t at, int64_t count);

    int64_t block_;
    std::unique_ptr<GramScratch> gram_;
    std::vector<double> numbers_;
    std::vector<Operand> operands_;
    std::vector<FoldModel> models_;
    /// What passes of the window were given, each in memory of its own; kept from window to window.
    template <class T>
    class Pool {
      public:
        T* take(size_t count);
        void restart() { next_ = 0; }

      private:
        std::vector<std::vector<T>> buffers_;
        size_t next_ = 0;
    };
    Pool<std::byte> reserved_;
    Pool<double> doubles_;
    Pool<float> floats_;
};

}  // namespace amalgam
