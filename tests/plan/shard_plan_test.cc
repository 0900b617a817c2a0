// What every rank is given, for up to 4,096 of them: all of it, once, in equal shares.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "src/plan/plan.h"

namespace amalgam {
namespace {

/// Tasks of a merge nobody has on disk, and where their outputs go.
struct Made {
    std::vector<TensorTask> tasks;
    std::vector<OutputTensor> outputs;
    OutputLayout layout;

    void add(Dtype dtype, std::vector<int64_t> shape, int inputs, Dtype input_dtype, bool base) {
        TensorTask task;
        task.name = "t" + std::to_string(tasks.size());
        task.dtype = dtype;
        task.shape = shape;
        TaskInput input;
        input.tensor.dtype = input_dtype;
        input.tensor.shape = shape;
        task.inputs.assign(size_t(inputs), input);
        if (base) task.base = input;
        outputs.push_back({task.name, dtype, std::move(shape)});
        tasks.push_back(std::move(task));
    }
    void lay_out(uint64_t shard_bytes) { layout = layout_output(outputs, shard_bytes); }

    long double traffic(size_t t) const {
        const TensorTask& task = tasks[t];
        long double bits = info(task.dtype).bits;
        for (const TaskInput& input : task.inputs) bits += info(input.tensor.dtype).bits;
        if (task.base) bits += info(task.base->tensor.dtype).bits;
        return bits / 8 * static_cast<long double>(task.elements());
    }
};

/// What must hold of one plan. Counts what is wrong, and says the first things.
class Inspection {
  public:
    Inspection(const Made& made, int ranks) : made_(made), ranks_(ranks), plan_(made.tasks, made.layout, ranks) {
        const size_t tasks = made.tasks.size();
        owned_.assign(tasks, 0);
        first_owner_.assign(tasks, -1);
        last_owner_.assign(tasks, -1);
        announced_.assign(tasks, {-1, -1});
        joined_.assign(tasks, 0);
        for (const auto& place : made.layout.places) written_.push_back(place.begin);
        last_page_.assign(made.layout.files.size(), {-1, -1});
    }

    void run() {
        long double total = 0, slack = 0;
        for (size_t t = 0; t < made_.tasks.size(); ++t) {
            const long double bytes = made_.traffic(t);
            expect(static_cast<long double>(plan_.traffic(int64_t(t))) == bytes, "traffic", -1, int64_t(t));
            total += bytes;
            // A border lies at most half a block from where it should, or a whole tensor that is smaller than that.
            if (bytes > 0) slack = std::max(slack, std::min(bytes, bytes * (block_elements / 2) / elements(t)));
        }
        for (int rank = 0; rank < ranks_; ++rank) {
            const long double share = inspect_rank(rank);
            expect(std::abs(share - total / ranks_) <= 2 * slack + 1e-6L * total / ranks_, "balance", rank, -1);
        }
        for (size_t t = 0; t < made_.tasks.size(); ++t) inspect_task(t);
        EXPECT_EQ(wrong_, 0) << made_.tasks.size() << " tasks over " << ranks_ << " ranks";
    }

  private:
    long double elements(size_t t) const { return static_cast<long double>(made_.tasks[t].elements()); }

    void expect(bool good, const char* what, int rank, int64_t task) {
        if (good) return;
        if (++wrong_ <= 5) ADD_FAILURE() << what << ": rank " << rank << " of " << ranks_ << ", task " << task;
    }

    /// Parts in order; the traffic a rank owns.
    long double inspect_rank(int rank) {
        long double share = 0;
        uint64_t owned_bytes = 0, written_bytes = 0;
        int64_t previous = -1;
        for (const TaskPart& part : plan_.parts(rank)) {
            expect(part.task > previous, "order", rank, part.task);
            previous = part.task;
            const size_t t = size_t(part.task);
            expect(made_.tasks[t].elements() > 0, "empty tensor", rank, part.task);
            const int64_t own_end = std::min(part.own_last * block_elements, made_.tasks[t].elements());
            const int64_t own_elements = std::max<int64_t>(0, own_end - part.own_first * block_elements);
            share += made_.traffic(t) * static_cast<long double>(own_elements) / elements(t);
            owned_bytes += uint64_t(own_elements) * uint64_t(info(made_.tasks[t].dtype).bits) / 8;
            written_bytes += part.write_end - part.write_begin;
            inspect_part(rank, part);
        }
        // Borders of what is written are borders of blocks, moved to the next page.
        expect(written_bytes < owned_bytes + page_bytes && owned_bytes < written_bytes + page_bytes, "bytes", rank, -1);
        return share;
    }

    void inspect_part(int rank, const TaskPart& part) {
        const size_t t = size_t(part.task);
        const auto& place = made_.layout.places[t];
        const bool owns = part.own_first < part.own_last, writes = part.write_begin < part.write_end;
        // Ranks come in ascending order, and so do what they own and write: each goes on where the last one stopped.
        if (owns) {
            expect(part.own_first == owned_[t], "blocks", rank, part.task);
            owned_[t] = part.own_last;
        }
        if (writes) {
            expect(part.write_begin == written_[t], "bytes", rank, part.task);
            written_[t] = part.write_end;
            auto& [page, writer] = last_page_[size_t(place.file)];
            expect(int64_t(part.write_begin / page_bytes) > page || writer == rank, "page", rank, part.task);
            page = int64_t((part.write_end - 1) / page_bytes);
            writer = rank;
            const uint64_t block = uint64_t(block_elements) * uint64_t(info(made_.tasks[t].dtype).bits) / 8;
            const uint64_t begin = part.write_begin - place.begin, end = part.write_end - place.begin;
            expect(uint64_t(part.first) == begin / block, "first block", rank, part.task);
            expect(uint64_t(part.last) == (end + block - 1) / block, "last block", rank, part.task);
            expect(part.last <= block_count(made_.tasks[t].elements()), "blocks beyond the end", rank, part.task);
        } else {
            expect(part.first >= part.last, "computes what it does not write", rank, part.task);
        }
        if (owns || writes) {
            if (first_owner_[t] < 0) first_owner_[t] = rank;
            last_owner_[t] = rank;
        }
        const std::pair announced{part.first_rank, part.last_rank};
        expect(joined_[t] == 0 || announced_[t] == announced, "participants differ", rank, part.task);
        announced_[t] = announced;
        expect(rank >= part.first_rank && rank < part.last_rank, "not a participant", rank, part.task);
        expect(part.shared() == (part.last_rank - part.first_rank > 1), "shared", rank, part.task);
        ++joined_[t];
    }

    void inspect_task(size_t t) {
        const int64_t task = int64_t(t);
        const auto& place = made_.layout.places[t];
        expect(owned_[t] == block_count(made_.tasks[t].elements()), "blocks without an owner", -1, task);
        expect(written_[t] == place.begin + place.bytes, "bytes nobody writes", -1, task);
        if (made_.tasks[t].elements() == 0) return;
        // The participants are a contiguous run that begins and ends with ranks that have a part, and all of them know.
        expect(announced_[t].first == first_owner_[t], "first participant", announced_[t].first, task);
        expect(announced_[t].second == last_owner_[t] + 1, "last participant", announced_[t].second, task);
        expect(joined_[t] == announced_[t].second - announced_[t].first, "participants missing", -1, task);
    }

    const Made& made_;
    int ranks_;
    ShardPlan plan_;
    std::vector<int64_t> owned_;     ///< blocks [0, n) of a task have an owner
    std::vector<uint64_t> written_;  ///< bytes up to here have a writer
    std::vector<int> first_owner_, last_owner_, joined_;
    std::vector<std::pair<int, int>> announced_;
    std::vector<std::pair<int64_t, int>> last_page_;  ///< by file: page last written to, and by whom
    int wrong_ = 0;
};

void inspect(const Made& made, std::initializer_list<int> ranks) {
    for (int count : ranks) {
        Inspection(made, count).run();
        if (testing::Test::HasFailure()) return;
    }
}

constexpr Dtype all_kinds[] = {Dtype::bf16, Dtype::f32,     Dtype::f64,     Dtype::f8_e4m3,
                               Dtype::f4,   Dtype::f6_e2m3, Dtype::boolean, Dtype::i64};

/// `tensors` of up to `largest` elements (and blocks, vectors, scalars and nothing), of every kind.
Made random_tasks(size_t tensors, int64_t largest, uint64_t shard_bytes, uint64_t seed) {
    Made made;
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < tensors; ++i) {
        const Dtype dtype = all_kinds[random() % std::size(all_kinds)];
        // Whole bytes also of the small kinds.
        const int64_t elements = int64_t(random() % uint64_t(largest)) / 8 * 8 + 8;
        std::vector<int64_t> shape = {elements / 8, 8};
        switch (random() % 8) {
            case 0: shape = {8}; break;
            case 1: shape = {random() % 2 ? 0 : 16, 0}; break;
            case 2: shape = {block_elements * int64_t(1 + random() % 3)}; break;
            case 3: shape = info(dtype).bits >= 8 ? std::vector<int64_t>{} : std::vector<int64_t>{8};
        }
        made.add(dtype, shape, int(random() % 4) + 1, random() % 2 ? dtype : Dtype::bf16, random() % 2);
    }
    made.lay_out(shard_bytes);
    return made;
}

TEST(ShardPlan, RandomTasksInOneFile) {
    for (uint64_t seed = 0; seed < 30; ++seed)
        inspect(random_tasks(1 + seed, seed % 3 ? 300'000 : 3'000, 0, seed), {1, 2, 3, 4, 7, 8, 64, 1000, 4096});
}

TEST(ShardPlan, RandomTasksInManyFiles) {
    for (uint64_t seed = 100; seed < 130; ++seed) {
        const Made made = random_tasks(40, 200'000, seed % 2 ? 500'000 : 10'000, seed);
        EXPECT_GT(made.layout.files.size(), 3u);
        inspect(made, {1, 2, 3, 5, 8, 61, 500, 4096});
    }
}

TEST(ShardPlan, ThousandsOfRandomPlans) {
    std::mt19937_64 random(7);
    for (uint64_t trial = 0; trial < 3000 && !HasFailure(); ++trial)
        inspect(random_tasks(1 + random() % 12, int64_t(1) << (4 + random() % 14), random() % 3 * 100'000, trial),
                {int(1 + random() % 24)});
}

TEST(ShardPlan, OneHugeTensor) {
    Made made;
    made.add(Dtype::f8_e4m3, {int64_t(1) << 20, int64_t(1) << 20}, 256, Dtype::f64, true);
    made.lay_out(0);
    inspect(made, {1, 2, 3, 1000, 4095, 4096});
}

TEST(ShardPlan, AHugeTensorAmongSmallOnes) {
    Made made;
    for (int i = 0; i < 50; ++i) made.add(Dtype::bf16, {4096}, 8, Dtype::bf16, true);
    made.add(Dtype::bf16, {int64_t(1) << 40}, 8, Dtype::bf16, true);
    for (int i = 0; i < 50; ++i) made.add(Dtype::f32, {4096}, 8, Dtype::bf16, true);
    made.lay_out(5'000'000'000);
    inspect(made, {1, 2, 4096});
}

TEST(ShardPlan, ManyTensors) {
    Made made;
    for (int i = 0; i < 100'000; ++i)
        made.add(i % 10 ? Dtype::bf16 : Dtype::f32, {i % 13 * 1000}, 3, Dtype::bf16, true);
    made.lay_out(100'000'000);
    EXPECT_GT(made.layout.files.size(), 5u);
    inspect(made, {1, 8, 4096});
}

TEST(ShardPlan, NothingToDo) {
    Made none;
    none.lay_out(0);
    Made empty;
    for (int i = 0; i < 3; ++i) empty.add(Dtype::bf16, {0, 7}, 2, Dtype::bf16, true);
    // Zero times anything is zero, also where the anything overflows.
    empty.add(Dtype::bf16, {int64_t(1) << 40, int64_t(1) << 40, 0}, 2, Dtype::bf16, false);
    empty.lay_out(0);
    for (const Made* made : {&none, &empty}) {
        inspect(*made, {1, 2, 4096});
        for (int ranks : {1, 5})
            for (int rank = 0; rank < ranks; ++rank)
                EXPECT_TRUE(ShardPlan(made->tasks, made->layout, ranks).parts(rank).empty());
    }
}

TEST(ShardPlan, ByHand) {
    // Three blocks and a half of bf16 on two ranks: the border is the second block's end, rounded from 1.75.
    Made made;
    made.add(Dtype::bf16, {3 * block_elements + block_elements / 2}, 2, Dtype::bf16, false);
    made.lay_out(0);
    const uint64_t begin = made.layout.places[0].begin;
    EXPECT_EQ(begin % page_bytes, 0u);
    const ShardPlan plan(made.tasks, made.layout, 2);
    ASSERT_EQ(plan.parts(0).size(), 1u);
    ASSERT_EQ(plan.parts(1).size(), 1u);
    const TaskPart first = plan.parts(0)[0], second = plan.parts(1)[0];
    EXPECT_EQ(first.own_first, 0);
    EXPECT_EQ(first.own_last, 2);
    EXPECT_EQ(second.own_first, 2);
    EXPECT_EQ(second.own_last, 4);
    EXPECT_EQ(first.write_begin, begin);
    EXPECT_EQ(first.write_end, begin + 4 * block_elements);
    EXPECT_EQ(second.write_end, begin + 7 * block_elements);
    EXPECT_EQ(second.first, 2);
    EXPECT_EQ(second.last, 4);
    EXPECT_EQ(first.first_rank, 0);
    EXPECT_EQ(first.last_rank, 2);
    EXPECT_TRUE(second.shared());
}

TEST(ShardPlan, BytesOfAPageGoToTheRankOfItsFirst) {
    // Tensors of 1,000 bytes: a border between ranks falls within a page, which stays with the first of them.
    Made made;
    for (int i = 0; i < 64; ++i) made.add(Dtype::bf16, {500}, 1, Dtype::bf16, false);
    made.lay_out(0);
    const ShardPlan plan(made.tasks, made.layout, 2);
    uint64_t end = 0, begin = ~uint64_t(0);
    for (const TaskPart& part : plan.parts(0))
        if (part.write_begin < part.write_end) end = part.write_end;
    for (const TaskPart& part : plan.parts(1))
        if (part.write_begin < part.write_end) begin = std::min(begin, part.write_begin);
    EXPECT_EQ(end, begin);
    EXPECT_EQ(begin % page_bytes, 0u);
    // Half of 64,000 bytes, in pages: task 32 begins at 32,000, the next page at 32,768.
    EXPECT_EQ(begin, made.layout.places[0].begin + 32'768);
}

}  // namespace
}  // namespace amalgam
