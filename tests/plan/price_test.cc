#include "src/plan/price.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/methods.h"
#include "src/plan/plan.h"

namespace amalgam {
namespace {

/// A merge of `models` bf16 models (and a base, for methods that have one) that nobody has on disk.
struct Made {
    std::vector<TensorTask> tasks;
    OutputLayout layout;
    const MethodInfo* method;
};

struct Given {
    std::string method = "linear";
    int models = 2;
    double density = 1;
    double rescale = 0;
    std::vector<std::pair<std::string, double>> global = {};
};

Made make(const std::vector<std::vector<int64_t>>& shapes, const Given& given) {
    Made made;
    made.method = find_method(given.method);
    std::vector<OutputTensor> tensors;
    for (size_t i = 0; i < shapes.size(); ++i) {
        TensorTask task;
        task.name = "t" + std::to_string(i);
        task.dtype = Dtype::bf16;
        task.shape = shapes[i];
        const auto set = [&](FieldValues& values, std::string_view name, double value) {
            if (const int field = made.method->field(name); field >= 0) values[size_t(field)] = value;
        };
        for (const auto& [name, value] : given.global) set(task.global, name, value);
        set(task.global, "rescale", given.rescale);
        const auto input = [&](int model) {
            TaskInput result;
            result.model = result.position = model;
            result.tensor = {task.name, Dtype::bf16, task.shape, 0, 0, task.bytes()};
            set(result.fields, "density", given.density);
            return result;
        };
        for (int model = 0; model < given.models; ++model) task.inputs.push_back(input(model));
        if (made.method->base == BaseUse::required || made.method->base == BaseUse::member)
            task.base = input(given.models);
        tensors.push_back({task.name, task.dtype, task.shape});
        made.tasks.push_back(std::move(task));
    }
    made.layout = layout_output(tensors, 5'000'000'000);
    return made;
}

Price price(const Made& made, const PriceOptions& options) {
    return price_merge(made.tasks, made.layout, *made.method, options);
}

TEST(Price, one_rank_reads_and_writes_everything_once) {
    const Made made = make({{1000, 300}, {7}, {}, {0, 4}}, {});
    const Price result = price(made, {});
    ASSERT_EQ(result.ranks.size(), 1u);
    EXPECT_EQ(result.total.read, 2u * 2 * 300'008);
    EXPECT_EQ(result.total.written, 2u * 300'008);
    EXPECT_EQ(result.total.passed, result.total.read);
    EXPECT_EQ(result.total.tensors, 3);  // the one without elements is nobody's work
    EXPECT_EQ(result.total.shared, 0);
    EXPECT_EQ(result.total.collectives, 0);
    EXPECT_EQ(result.total.memory, 3u * 2 * 300'000);
    EXPECT_EQ(result.imbalance, 1);
    EXPECT_FALSE(result.looks_first);
}

TEST(Price, ranks_share_by_bytes) {
    // 64 and 192 blocks: the second tensor goes over the border of the first rank.
    const Made made = make({{64, 65536}, {192, 65536}}, {.method = "ties", .density = 0.5});
    const Price result = price(made, {.ranks = 2});
    const uint64_t block = 2 * 65536;
    for (const RankPrice& rank : result.ranks) {
        // Output data begins at a page, and blocks are whole pages: nothing is read twice.
        EXPECT_EQ(rank.read, 3 * 128 * block);
        EXPECT_EQ(rank.written, 128 * block);
        EXPECT_EQ(rank.passed, 3 * rank.read);
        EXPECT_EQ(rank.shared, 1);
        // Two selections: sample, two counts, bins and blocks each; one to place the cuts.
        EXPECT_EQ(rank.collectives, 9);
        EXPECT_EQ(rank.sent, 2u * (8 * 65536 + 16 + 8 * 8192 + 4 * 192) + 2 * 8);
    }
    EXPECT_EQ(result.ranks[0].tensors, 2);
    EXPECT_EQ(result.ranks[1].tensors, 1);
    EXPECT_EQ(result.imbalance, 1);
    EXPECT_TRUE(result.looks_first);
}

TEST(Price, what_does_not_fit_is_read_again) {
    const Made made = make({{100, 65536}, {10, 65536}}, {.method = "ties", .density = 0.5});
    const uint64_t block = 2 * 65536;
    // A quarter of the budget holds the three inputs of the first tensor, or not.
    EXPECT_EQ(price(made, {.memory = 4 * 300 * block}).total.again, 0u);
    // A sample (of inputs this small all is read), two counts, and a window for where each of two trims cuts equals.
    const uint64_t large = 3 * (3 * 100 + 2 * 16) * block, small = 3 * (3 * 10 + 2 * 10) * block;
    EXPECT_EQ(price(made, {.memory = 4 * 300 * block - 4}).total.again, large);
    EXPECT_EQ(price(made, {.memory = 399 * block}).total.memory, 399 * block);
    EXPECT_EQ(price(made, {.memory = 4 * 30 * block - 4}).total.again, large + small);
    EXPECT_EQ(price(made, {}).least_memory, 4 * block);
    // An average keeps nothing.
    EXPECT_EQ(price(make({{100, 65536}}, {}), {.memory = 10 * block}).total.again, 0u);
    EXPECT_EQ(price(made, {}).total.again, 0u) << "no limit";
}

TEST(Price, what_ranks_share_waits_for_its_turn) {
    const Made made = make({{100, 65536}}, {.method = "ties", .density = 0.5});
    const uint64_t block = 2 * 65536;
    // Each rank has half of the tensor, and a quarter of the budget holds its inputs, or not. Blocks at both borders may be
    // counted by one rank and folded by another.
    for (const RankPrice& rank : price(made, {.ranks = 2, .memory = 4 * 150 * block}).ranks)
        EXPECT_EQ(rank.again, 2 * 3 * block);
    for (const RankPrice& rank : price(made, {.ranks = 2, .memory = 4 * 150 * block - 4}).ranks)
        EXPECT_EQ(rank.again, 3 * (3 * 50 + 2 * 16) * block);
}

TEST(Price, passes_of_each_method) {
    const auto passes = [](const Given& given, bool paper = false) {
        const Price result = price(make({{256, 1024}}, given), {.paper = paper});
        return double(result.total.passed) / double(result.total.read);
    };
    EXPECT_EQ(passes({.method = "task_arithmetic"}), 1);
    EXPECT_EQ(passes({.method = "ties"}), 1);  // density 1 trims nothing
    EXPECT_EQ(passes({.method = "ties", .density = 0.2}), 3);
    EXPECT_EQ(passes({.method = "ties", .density = 0.2, .rescale = 1}), 4);
    EXPECT_EQ(passes({.method = "ties", .density = 0.2}, true), 3);
    EXPECT_EQ(passes({.method = "breadcrumbs", .density = 0.2}), 3);
    EXPECT_EQ(passes({.method = "dare_ties", .density = 0.2}), 1);
    EXPECT_EQ(passes({.method = "dare_ties", .density = 0.2, .rescale = 1}), 2);
    EXPECT_EQ(passes({.method = "dare_ties", .density = 0.2, .rescale = 1}, true), 1);
    EXPECT_EQ(passes({.method = "dare_ties", .density = 1, .rescale = 1}), 1);
    EXPECT_EQ(passes({.method = "della", .density = 0.2, .rescale = 1}), 2);
    EXPECT_EQ(passes({.method = "karcher"}), 2);
    EXPECT_EQ(passes({.method = "model_stock"}), 2);
    EXPECT_EQ(passes({.method = "model_stock", .global = {{"filter_wise", 1}}}), 1);
    EXPECT_EQ(passes({.method = "nuslerp", .global = {{"nuslerp_flatten", 1}}}), 2);
    EXPECT_EQ(passes({.method = "nuslerp", .global = {{"nuslerp_flatten", 0}}}), 1);
    EXPECT_EQ(passes({.method = "nuslerp", .global = {{"nuslerp_flatten", 0}, {"nuslerp_row_wise", 1}}}), 2);
    EXPECT_EQ(passes({.method = "slerp", .models = 1}), 2);
    EXPECT_EQ(passes({.method = "sce", .global = {{"select_topk", 1}}}), 2);
    EXPECT_EQ(passes({.method = "sce", .global = {{"select_topk", 0.3}}}), 5);
    EXPECT_EQ(passes({.method = "ram"}), 1);
    EXPECT_EQ(passes({.method = "ramplus_tl"}), 2);
    EXPECT_EQ(passes({.method = "arcee_fusion", .models = 1}), 4);
    EXPECT_EQ(passes({.method = "nearswap", .models = 1}), 1);
    EXPECT_EQ(passes({.method = "passthrough", .models = 1}), 1);
}

TEST(Price, gram_matrices_are_arithmetic) {
    const double elements = 256 * 1024;
    EXPECT_EQ(price(make({{256, 1024}}, {.method = "multislerp", .models = 256}), {}).total.products,
              elements * 2 * 32896);
    EXPECT_EQ(price(make({{256, 1024}}, {.method = "multislerp", .models = 256}), {.ranks = 3}).total.products,
              elements * 2 * 32896);
    // The base of slerp is one of the two.
    EXPECT_EQ(price(make({{256, 1024}}, {.method = "slerp", .models = 1}), {}).total.products, elements * 2 * 3);
    EXPECT_EQ(price(make({{256, 1024}}, {.method = "ties", .density = 0.5}), {}).total.products, 0);
}

TEST(Price, a_trim_of_the_whole_model_joins_all_ranks) {
    const Made made = make({{10, 65536}, {10, 65536}, {10, 65536}}, {.method = "ties", .models = 3, .density = 0.5});
    const Price result = price(made, {.ranks = 3, .paper = true});
    for (const RankPrice& rank : result.ranks) {
        EXPECT_EQ(rank.shared, 0);
        EXPECT_EQ(rank.collectives, 9);
        EXPECT_EQ(rank.passed, 3 * rank.read);
    }
    EXPECT_EQ(price(made, {.ranks = 1, .paper = true}).total.collectives, 0);
}

TEST(Price, any_number_of_ranks_writes_every_byte_once) {
    std::vector<std::vector<int64_t>> shapes;
    for (int layer = 0; layer < 40; ++layer) shapes.insert(shapes.end(), {{511, 700}, {700}, {1, 1}, {3000, 811}});
    const Made made = make(shapes, {.method = "ties", .density = 0.3});
    const Price one = price(made, {});
    for (int ranks : {2, 3, 7, 64, 1000, 4096}) {
        const Price result = price(made, {.ranks = ranks});
        EXPECT_EQ(result.total.written, one.total.written) << ranks;
        EXPECT_GE(result.total.read, one.total.read) << ranks;
        // A block on a border is computed by both sides, at most.
        EXPECT_LE(result.total.read, one.total.read + uint64_t(ranks) * 2 * 3 * 2 * 65536) << ranks;
        EXPECT_GE(result.imbalance, 1) << ranks;
    }
}

TEST(Price, methods_hand_on_planes_or_exchange_inputs) {
    for (const auto& [name, planes] : std::vector<std::pair<std::string, int>>{{"ties", 4},
                                                                               {"dare_ties", 4},
                                                                               {"task_arithmetic", 1},
                                                                               {"dare_linear", 1},
                                                                               {"linear", 1},
                                                                               {"nearswap", 1},
                                                                               {"ram", 2},
                                                                               {"ramplus_tl", 0},
                                                                               {"sce", 0},
                                                                               {"slerp", 0},
                                                                               {"karcher", 0},
                                                                               {"model_stock", 0},
                                                                               {"arcee_fusion", 0}})
        EXPECT_EQ(link_planes(*find_method(name)), planes) << name;
}

TEST(Price, planes_pass_from_group_to_group) {
    // 4 models in 2 groups of 2 ranks, 256 blocks: a row has 128 of them, a rank writes 64.
    const Made made = make({{256, 65536}}, {.method = "ties", .models = 4, .density = 0.5});
    const Price alone = price(made, {.ranks = 4});
    const Price result = price(made, {.ranks = 4, .groups = 2, .group_of_model = {0, 0, 1, 1, -1}});
    EXPECT_TRUE(result.links);
    EXPECT_FALSE(alone.links);
    const uint64_t elements = 128 * 65536, block = 2 * 65536;
    for (const RankPrice& rank : result.ranks) {
        EXPECT_EQ(rank.read, 3 * 128 * block) << "two models and the base";
        EXPECT_EQ(rank.written, 64 * block);
        EXPECT_EQ(rank.tensors, 1);
        EXPECT_EQ(rank.shared, 1);
        // Selections of two models, over the two ranks of the group.
        EXPECT_EQ(rank.collectives, 9);
        EXPECT_EQ(rank.sent, 2u * (8 * 65536 + 16 + 8 * 8192 + 4 * 256) + 2 * 8);
    }
    // Four planes of float32 to the second group; half of the result back.
    for (int rank : {0, 1}) EXPECT_EQ(result.ranks[size_t(rank)].handed, elements * 16);
    for (int rank : {2, 3}) EXPECT_EQ(result.ranks[size_t(rank)].handed, 64 * block);
    EXPECT_EQ(result.ranks[0].passed, 3 * 3 * 128 * block + 2 * elements * 16);
    EXPECT_EQ(result.ranks[2].passed, 3 * 3 * 128 * block);
    EXPECT_EQ(result.total.read, alone.total.read + 256 * block) << "the base once for each group";
    EXPECT_EQ(result.held, 3 * 256 * block);
    EXPECT_EQ(alone.held, 5 * 256 * block);
    EXPECT_EQ(alone.total.handed, 0u);
}

TEST(Price, models_that_alternate_between_groups_cost_a_hop_each) {
    const Made made = make({{256, 65536}}, {.method = "task_arithmetic", .models = 4});
    const auto handed = [&](std::vector<int> groups) {
        return price(made, {.ranks = 2, .groups = 2, .group_of_model = std::move(groups)}).total.handed;
    };
    const uint64_t planes = 256 * 65536 * 4, half = 256 * 65536;
    EXPECT_EQ(handed({0, 0, 1, 1, -1}), planes + half);
    EXPECT_EQ(handed({0, 1, 0, 1, -1}), 3 * planes + half);
    EXPECT_EQ(handed({1, 1, 1, 1, -1}), half) << "a group without models has nothing to add";
}

TEST(Price, other_methods_exchange_inputs) {
    // A statistics pass and the blend: each rank needs the other's two models of its half, twice.
    const Made made = make({{256, 65536}}, {.method = "karcher", .models = 4});
    const uint64_t block = 2 * 65536;
    const Price result = price(made, {.ranks = 2, .groups = 2, .group_of_model = {0, 0, 1, 1}});
    EXPECT_FALSE(result.links);
    for (const RankPrice& rank : result.ranks) {
        EXPECT_EQ(rank.read, 2 * 256 * block) << "two models, whole";
        EXPECT_EQ(rank.handed, 2u * 2 * 128 * block);
        EXPECT_EQ(rank.passed, 2u * 4 * 128 * block);
        EXPECT_EQ(rank.products, 128.0 * 65536 * 4 * 5);
    }
    const Price uneven = price(made, {.ranks = 2, .groups = 2, .group_of_model = {0, 0, 0, 1}});
    EXPECT_EQ(uneven.ranks[0].handed, 2u * 3 * 128 * block);
    EXPECT_EQ(uneven.ranks[1].handed, 2u * 1 * 128 * block);
}

TEST(Price, groups_write_every_byte_once_and_read_each_model_once) {
    std::vector<std::vector<int64_t>> shapes;
    for (int layer = 0; layer < 20; ++layer) shapes.insert(shapes.end(), {{511, 700}, {700}, {1, 1}, {3000, 811}});
    const Made made = make(shapes, {.method = "ties", .models = 6, .density = 0.3});
    const Price one = price(made, {});
    for (int groups : {2, 3, 6})
        for (int ranks : {6, 12, 96}) {
            std::vector<int> places;
            for (int model = 0; model < 6; ++model) places.push_back(model * groups / 6);
            places.push_back(-1);
            const Price result = price(made, {.ranks = ranks, .groups = groups, .group_of_model = places});
            EXPECT_EQ(result.total.written, one.total.written) << ranks;
            const uint64_t base = one.total.written * uint64_t(groups - 1);
            EXPECT_GE(result.total.read, one.total.read + base) << ranks << " " << groups;
            EXPECT_LE(result.total.read, one.total.read + base + uint64_t(ranks) * 2 * 7 * 2 * 65536) << ranks;
        }
}

TEST(Price, stages_of_a_machine) {
    Price made;
    made.ranks.resize(5);
    for (RankPrice& rank : made.ranks) {
        rank.read = 100;
        rank.again = 20;
        rank.written = 30;
        rank.passed = 200;
        rank.products = 1000;
        rank.sent = 10;
        rank.collectives = 4;
    }
    for (const RankPrice& rank : made.ranks) made.total.add(rank);
    Machine machine;
    machine.ranks_per_node = 2;
    machine.read = 10;
    machine.write = 5;
    machine.memory = 100;
    machine.arithmetic = 50;
    machine.network = 8;
    machine.latency = 0.5;
    StageTimes times = stage_times(made, machine);
    EXPECT_EQ(times.nodes, 3);
    EXPECT_DOUBLE_EQ(times.read, 24);
    EXPECT_DOUBLE_EQ(times.write, 12);
    EXPECT_DOUBLE_EQ(times.memory, 5.2);
    EXPECT_DOUBLE_EQ(times.arithmetic, 40);
    EXPECT_DOUBLE_EQ(times.network, 7);
    EXPECT_DOUBLE_EQ(times.whole, 40);
    EXPECT_STREQ(times.bound, "arithmetic");

    machine.total_read = 12;
    machine.total_write = 1000;
    times = stage_times(made, machine);
    EXPECT_DOUBLE_EQ(times.read, 50);
    EXPECT_DOUBLE_EQ(times.write, 12);
    EXPECT_STREQ(times.bound, "read");

    times = stage_times(made, {});
    EXPECT_EQ(times.whole, 0);
    EXPECT_STREQ(times.bound, "");
    EXPECT_EQ(times.nodes, 5);

    // What groups hand on counts once: a node sends and receives at the same time.
    for (RankPrice& rank : made.ranks) rank.handed = 100;
    machine.total_read = 0;
    times = stage_times(made, machine);
    EXPECT_DOUBLE_EQ(times.network, (2 * 20 + 200) / 8. + 4 * 0.5);
    EXPECT_EQ(times.fetch, 0);
    machine.local = true;
    made.held = 4000;
    EXPECT_DOUBLE_EQ(stage_times(made, machine).fetch, 500);
}

}  // namespace
}  // namespace amalgam
