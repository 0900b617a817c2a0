#include "src/plan/price.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "src/plan/plan.h"

namespace amalgam {
namespace {

constexpr int64_t sample_keys = 65536;
constexpr int64_t most_bins = 8192;

/// What must be known of a tensor before it can be folded.
struct Looks {
    int passes = 0;           ///< over all its inputs
    int64_t orders = 0;       ///< exact selections
    int64_t sums = 0;         ///< float64 sums by block, width
    int64_t counts = 0;       ///< whole numbers that are summed
    bool whole_rows = false;  ///< windows hold whole rows
    double products = 0;      ///< of Gram matrices, per element
};

double global_value(const MethodInfo& method, const TensorTask& task, std::string_view name) {
    const int field = method.field(name);
    return field < 0 ? 0 : task.global[size_t(field)];
}

double input_value(const MethodInfo& method, const TaskInput& input, std::string_view name, double otherwise) {
    const int field = method.field(name);
    return field < 0 ? otherwise : input.fields[size_t(field)];
}

/// Selections that a trim by magnitude needs: one for each model that drops something, two with outliers.
int64_t trim_orders(const MethodInfo& method, const TensorTask& task) {
    int64_t orders = 0;
    if (method.trim != Trim::magnitude && method.trim != Trim::band) return 0;
    for (const TaskInput& input : task.inputs)
        if (input_value(method, input, "density", 1) < 1)
            orders += method.trim == Trim::band && input_value(method, input, "gamma", 0) > 0 ? 2 : 1;
    return orders;
}

bool drops(const MethodInfo& method, const TensorTask& task) {
    return std::any_of(task.inputs.begin(), task.inputs.end(),
                       [&](const TaskInput& input) { return input_value(method, input, "density", 1) < 1; });
}

Looks task_vector_looks(const MethodInfo& method, const TensorTask& task, bool paper) {
    Looks looks;
    if (method.trim == Trim::none || !drops(method, task)) return looks;
    const bool random = method.trim == Trim::random || method.trim == Trim::ranked;
    looks.whole_rows = method.trim == Trim::ranked;
    if (!paper) looks.orders = trim_orders(method, task);
    if (global_value(method, task, "rescale") != 0 && !(random && paper)) looks.sums = 2 * int64_t(task.inputs.size());
    looks.passes = (looks.orders > 0) + (looks.sums > 0);
    return looks;
}

Looks blend_looks(const MethodInfo& method, const TensorTask& task) {
    Looks looks;
    const auto vectors = int64_t(task.inputs.size()) + (task.base && method.base == BaseUse::member ? 1 : 0);
    const bool by_rows = global_value(method, task, "filter_wise") != 0 ||
                         (method.field("nuslerp_flatten") >= 0 && global_value(method, task, "nuslerp_flatten") == 0);
    const bool by_columns = by_rows && global_value(method, task, "nuslerp_row_wise") != 0;
    looks.products = double(vectors) * double(vectors + 1);  // a multiplication and an addition for each pair
    if (by_columns)
        looks = {.passes = 1, .sums = 3 * task.columns(), .products = looks.products};
    else if (by_rows)
        looks.whole_rows = true;
    else
        looks = {.passes = 1, .sums = vectors * (vectors + 1) / 2, .products = looks.products};
    return looks;
}

/// SCE: non-zero variances are counted, the largest selected, then energies of what is kept are summed.
Looks energy_looks(const MethodInfo& method, const TensorTask& task) {
    const int selects = global_value(method, task, "select_topk") < 1;
    return {.passes = 1 + 2 * selects, .orders = selects, .sums = int64_t(task.inputs.size()), .counts = selects};
}

Looks find_looks(const MethodInfo& method, const TensorTask& task, bool paper) {
    if (task.kind == TaskKind::equal) return {.passes = 0, .counts = 1};
    if (task.kind == TaskKind::copy) return {};
    if (method.shape == Shape::blend) return blend_looks(method, task);
    if (method.field("select_topk") >= 0) return energy_looks(method, task);
    // Rows tell how much they differ, then quartiles are selected.
    if (method.shape == Shape::select && method.trim == Trim::none)
        return {.passes = 2, .orders = 3, .whole_rows = true};
    if (method.field("alpha") >= 0) return {.passes = 1, .counts = 2 * int64_t(task.inputs.size())};
    return task_vector_looks(method, task, paper);
}

/// Partial sums that a rank holds of a contiguous run of blocks.
uint64_t partial_sums(int64_t blocks) { return 2 * uint64_t(std::bit_width(uint64_t(std::max<int64_t>(blocks, 1)))); }

void price_collectives(const Looks& looks, int64_t elements, int64_t own_blocks, RankPrice& rank) {
    if (looks.orders > 0) {
        const auto orders = uint64_t(looks.orders);
        rank.collectives +=
            4 * looks.orders + 1;  // a sample, two counts, bins, counts by block; where the ties are cut
        rank.sent +=
            orders * uint64_t(8 * std::min(sample_keys, elements) + 16 + 8 * most_bins + 4 * block_count(elements)) +
            8 * orders;
    }
    if (looks.sums > 0) {
        ++rank.collectives;
        rank.sent += partial_sums(own_blocks) * uint64_t(8 * looks.sums + 16);
    }
    if (looks.counts > 0) {
        ++rank.collectives;
        rank.sent += 8 * uint64_t(looks.counts);
    }
}

/// One task, with what does not depend on the rank.
struct TaskPrice {
    Looks looks;
    int64_t elements = 0;
    double input_bytes = 0;  ///< of all inputs, per element
    uint64_t row_bytes = 0;  ///< of a row of all inputs and the output
};

class Pricer {
  public:
    Pricer(std::span<const TensorTask> tasks, const OutputLayout& layout, const MethodInfo& method,
           const PriceOptions& options)
        : tasks_(tasks), options_(options), plan_(tasks, layout, options.ranks) {
        for (const TensorTask& task : tasks) add_task(task, method);
        // The papers' trim looks at the whole model before anything is folded.
        if (options.paper && (method.trim == Trim::magnitude || method.trim == Trim::band))
            for (const TensorTask& task : tasks)
                if (task.kind == TaskKind::merge) model_orders_ = std::max(model_orders_, trim_orders(method, task));
        price_.looks_first |= model_orders_ > 0;
    }

    Price run() {
        price_.ranks.resize(size_t(options_.ranks));
        for (int rank = 0; rank < options_.ranks; ++rank) {
            price_rank(rank, price_.ranks[size_t(rank)]);
            price_.total.add(price_.ranks[size_t(rank)]);
        }
        uint64_t most = 0;
        for (const RankPrice& rank : price_.ranks) most = std::max(most, rank.read + rank.written);
        const double mean = double(price_.total.read + price_.total.written) / double(options_.ranks);
        if (mean > 0) price_.imbalance = double(most) / mean;
        return std::move(price_);
    }

  private:
    void add_task(const TensorTask& task, const MethodInfo& method) {
        TaskPrice price{find_looks(method, task, options_.paper), task.elements()};
        uint64_t bits = 0;
        for (const TaskInput* input : all_inputs(task)) bits += uint64_t(info(input->tensor.dtype).bits);
        price.input_bytes = double(bits) / 8;
        const uint64_t per_element = (bits + uint64_t(info(task.dtype).bits) + 7) / 8;
        price.row_bytes = per_element * uint64_t(task.columns());
        const uint64_t window = per_element * uint64_t(std::min(block_elements, price.elements));
        price_.least_memory =
            std::max(price_.least_memory, price.looks.whole_rows ? std::max(window, price.row_bytes) : window);
        price_.looks_first |= price.looks.passes > 0;
        prices_.push_back(price);
    }

    void price_rank(int rank, RankPrice& sum) {
        uint64_t merged = 0;
        for (const TaskPart& part : plan_.parts(rank)) {
            const TaskPrice& task = prices_[size_t(part.task)];
            const auto bytes_of_blocks = [&](int64_t first, int64_t last) {
                const int64_t end = std::min(last * block_elements, task.elements);
                return uint64_t(double(std::max<int64_t>(end - first * block_elements, 0)) * task.input_bytes);
            };
            const uint64_t own = bytes_of_blocks(part.own_first, part.own_last),
                           read = bytes_of_blocks(part.first, part.last);
            const uint64_t written = part.write_end - part.write_begin, held = std::max(own, read) + written;
            sum.tensors += 1;
            sum.shared += part.shared();
            sum.read += read;
            sum.written += written;
            sum.passed += read + own * uint64_t(task.looks.passes);
            if (options_.memory > 0 && held > options_.memory) sum.again += own * uint64_t(task.looks.passes);
            sum.memory = std::max(sum.memory, options_.memory > 0 ? std::min(held, options_.memory) : held);
            sum.products += task.looks.products * double(std::min(part.own_last * block_elements, task.elements) -
                                                         std::min(part.own_first * block_elements, task.elements));
            if (part.shared()) price_collectives(task.looks, task.elements, part.own_last - part.own_first, sum);
            if (tasks_[size_t(part.task)].kind == TaskKind::merge) merged += own;
        }
        if (model_orders_ == 0) return;
        sum.passed += merged;
        if (options_.memory > 0 && sum.read > options_.memory) sum.again += merged;
        if (options_.ranks == 1) return;
        sum.collectives += 3 * model_orders_;
        sum.sent += uint64_t(model_orders_) * uint64_t(8 * sample_keys + 16 + 8 * most_bins);
    }

    std::span<const TensorTask> tasks_;
    const PriceOptions& options_;
    ShardPlan plan_;
    std::vector<TaskPrice> prices_;
    int64_t model_orders_ = 0;
    Price price_;
};

}  // namespace

void RankPrice::add(const RankPrice& other) {
    tensors += other.tensors;
    shared += other.shared;
    collectives += other.collectives;
    sent += other.sent;
    read += other.read;
    again += other.again;
    passed += other.passed;
    written += other.written;
    memory = std::max(memory, other.memory);
    products += other.products;
}

Price price_merge(std::span<const TensorTask> tasks, const OutputLayout& layout, const MethodInfo& method,
                  const PriceOptions& options) {
    return Pricer(tasks, layout, method, options).run();
}

StageTimes stage_times(const Price& price, const Machine& machine) {
    StageTimes times;
    const size_t per_node = size_t(std::max(machine.ranks_per_node, 1));
    times.nodes = int((price.ranks.size() + per_node - 1) / per_node);
    const auto seconds = [](double amount, double speed) { return speed > 0 ? amount / speed : 0; };
    const auto longer = [](double& time, double other) { time = std::max(time, other); };
    for (size_t first = 0; first < price.ranks.size(); first += per_node) {
        RankPrice node;
        int64_t collectives = 0;
        for (size_t rank = first; rank < std::min(first + per_node, price.ranks.size()); ++rank) {
            node.add(price.ranks[rank]);
            collectives = std::max(collectives, price.ranks[rank].collectives);
        }
        longer(times.read, seconds(double(node.read + node.again), machine.read));
        longer(times.write, seconds(double(node.written), machine.write));
        // What is written goes through the cache line and once more into the page cache.
        longer(times.memory, seconds(double(node.passed) + 2 * double(node.written), machine.memory));
        longer(times.arithmetic, seconds(node.products, machine.arithmetic));
        longer(times.network, seconds(2 * double(node.sent), machine.network) + double(collectives) * machine.latency);
    }
    longer(times.read, seconds(double(price.total.read + price.total.again), machine.total_read));
    longer(times.write, seconds(double(price.total.written), machine.total_write));
    const std::pair<const char*, double> stages[] = {{"read", times.read},
                                                     {"write", times.write},
                                                     {"memory", times.memory},
                                                     {"arithmetic", times.arithmetic},
                                                     {"network", times.network}};
    for (const auto& [name, time] : stages)
        if (time > times.whole) {
            times.whole = time;
            times.bound = name;
        }
    return times;
}

}  // namespace amalgam
