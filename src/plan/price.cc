#include "src/plan/price.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/fold_kind.h"
#include "src/plan/grid.h"
#include "src/plan/plan.h"

namespace amalgam {
namespace {

constexpr int64_t sample_keys = 65536;
constexpr int64_t most_bins = 8192;
/// Of a selection: for the threshold, and for where equals of it lie. A sample that misleads costs more of them.
constexpr int counting_passes = 2;
/// Storage that a sample takes from each input: pieces, each with what the system reads ahead.
constexpr double sample_bytes = 1024. * (128 << 10);
/// The largest windows of the CPU.
constexpr int64_t window_elements = 16 * block_elements;

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
    looks.passes = counting_passes * (looks.orders > 0) + (looks.sums > 0);
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
    return {.passes = 1 + (1 + counting_passes) * selects,
            .orders = selects,
            .sums = int64_t(task.inputs.size()),
            .counts = selects};
}

Looks find_looks(const MethodInfo& method, const TensorTask& task, bool paper) {
    if (task.kind == TaskKind::equal) return {.passes = 0, .counts = 1};
    if (task.kind == TaskKind::copy) return {};
    if (method.shape == Shape::blend) return blend_looks(method, task);
    if (method.field("select_topk") >= 0) return energy_looks(method, task);
    // Rows tell how much they differ, then quartiles are selected.
    if (method.shape == Shape::select && method.trim == Trim::none)
        return {.passes = 1 + counting_passes, .orders = 3, .whole_rows = true};
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

/// What one group has to do with a task; with one group, that is all of it.
struct Share {
    Looks looks;
    int64_t orders = 0;      ///< selections of a trim
    double own_bytes = 0;    ///< of the inputs it reads, per element, without what every group reads
    double input_bytes = 0;  ///< with it
    int stages = 0;          ///< runs of consecutive inputs
    bool last = false;       ///< it finishes the elements
};

/// One task, with what does not depend on the rank.
struct TaskPrice {
    int64_t elements = 0;
    double output_bytes = 0;  ///< per element
    double plane_bytes = 0;   ///< per element, of what goes from stage to stage
    bool links = false;
    Share whole;
    std::vector<Share> groups;  ///< if there are several
};

class Pricer {
  public:
    Pricer(std::span<const TensorTask> tasks, const OutputLayout& layout, const MethodInfo& method,
           const PriceOptions& options)
        : tasks_(tasks),
          options_(options),
          method_(method),
          grid_{options.ranks, options.groups},
          plan_(tasks, layout, options.ranks),
          rows_(plan_.joined(options.groups)) {
        held_.resize(size_t(options.groups));
        model_orders_.resize(size_t(options.groups));
        for (const TensorTask& task : tasks) add_task(task);
        price_.links = options.groups > 1 && link_planes(method) > 0;
        price_.held = uint64_t(*std::max_element(held_.begin(), held_.end()));
        price_.looks_first |= *std::max_element(model_orders_.begin(), model_orders_.end()) > 0;
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
    static double bytes_of(const TaskInput& input) { return double(info(input.tensor.dtype).bits) / 8; }

    int group_of(const TaskInput& input) const {
        return options_.groups == 1 ? 0 : options_.group_of_model[size_t(input.model)];
    }

    Share make_share(const TensorTask& task) const {
        Share share;
        share.looks = find_looks(method_, task, options_.paper);
        // The papers' trim looks at the whole model before anything is folded.
        if (options_.paper && task.kind == TaskKind::merge) share.orders = trim_orders(method_, task);
        for (const TaskInput* input : all_inputs(task)) share.input_bytes += bytes_of(*input);
        return share;
    }

    void add_task(const TensorTask& task) {
        TaskPrice price;
        price.elements = task.elements();
        price.output_bytes = double(info(task.dtype).bits) / 8;
        price.whole = make_share(task);
        if (options_.groups > 1) add_groups(task, price);
        const auto of_elements = [&](int64_t count) {
            return uint64_t(std::ceil((price.whole.input_bytes + price.output_bytes) * double(count)));
        };
        const uint64_t window = of_elements(std::min(block_elements, price.elements));
        const uint64_t row =
            uint64_t(std::ceil(price.whole.input_bytes + price.output_bytes)) * uint64_t(task.columns());
        price_.least_memory =
            std::max(price_.least_memory, price.whole.looks.whole_rows ? std::max(window, row) : window);
        price_.looks_first |= price.whole.looks.passes > 0;
        for (size_t group = 0; group < held_.size(); ++group) {
            const Share& share = options_.groups > 1 ? price.groups[group] : price.whole;
            held_[group] += share.input_bytes * double(price.elements);
            if (options_.groups == 1 || price.links)
                model_orders_[group] = std::max(model_orders_[group], share.orders);
        }
        prices_.push_back(std::move(price));
    }

    /// What each group reads, and gathers of it where planes go from group to group.
    void add_groups(const TensorTask& task, TaskPrice& price) {
        const int planes = task.kind == TaskKind::merge ? link_planes(method_) : 0;
        price.links = planes > 0;
        bool wide = false;
        for (const TaskInput* input : all_inputs(task)) wide |= input->tensor.dtype == Dtype::f64;
        price.plane_bytes = planes * (wide ? 8 : 4);
        std::vector<TensorTask> parts(size_t(options_.groups));
        int stage = -1;
        price.groups.resize(size_t(options_.groups));
        for (const TaskInput& input : task.inputs) {
            const int group = group_of(input) >= 0 ? group_of(input) : std::max(stage, 0);
            parts[size_t(group)].inputs.push_back(input);
            if (group_of(input) >= 0) price.groups[size_t(group)].own_bytes += bytes_of(input);
            if (group != stage) ++price.groups[size_t(group)].stages;
            stage = group;
        }
        const double base = task.base ? bytes_of(*task.base) : 0;
        for (size_t group = 0; group < parts.size(); ++group) {
            Share& share = price.groups[group];
            TensorTask& part = parts[group];
            double inputs = 0;
            for (const TaskInput& input : part.inputs) inputs += bytes_of(input);
            if (!part.inputs.empty() || !price.links) share.input_bytes = inputs + base;
            share.last = int(group) == stage;
            if (!price.links || part.inputs.empty()) continue;
            part.kind = task.kind;
            part.global = task.global;
            part.shape = task.shape;
            share.looks = find_looks(method_, part, options_.paper);
            if (options_.paper) share.orders = trim_orders(method_, part);
        }
    }

    /// Elements of blocks [first, last) of a task.
    static double elements_of(const TaskPrice& task, int64_t first, int64_t last) {
        return double(std::max<int64_t>(std::min(last * block_elements, task.elements) - first * block_elements, 0));
    }

    /// Input bytes that come from storage once more.
    struct Again {
        uint64_t large = 0;          ///< of tensors of this rank alone, too large to be kept
        uint64_t small = 0;          ///< of its others, for which shared ones leave no room if there are many
        uint64_t shared_inputs = 0;  ///< that statistics of shared tensors look at
        uint64_t shared = 0;         ///< of these, if they are more than is kept of them
        uint64_t borders = 0;        ///< else: what is counted here and folded by a neighbour, or the other way round
    };

    void price_rank(int rank, RankPrice& sum) {
        Again again;
        const int shard = grid_.shard_of(rank), group = grid_.group_of(rank), row = grid_.row_of(rank);
        std::vector<TaskPart> row_parts;
        if (grid_.groups > 1) row_parts = rows_.parts(row);
        // Both lists are in the order of the tasks.
        auto of_row = row_parts.begin();
        double merged = 0;
        for (const TaskPart& part : plan_.parts(shard)) {
            for (; of_row != row_parts.end() && of_row->task < part.task; ++of_row)
                price_with_others(group, *of_row, nullptr, merged, sum, again);
            if (grid_.groups == 1)
                price_alone(prices_[size_t(part.task)], part, merged, sum, again);
            else
                price_with_others(group, *of_row++, &part, merged, sum, again);
        }
        for (; of_row != row_parts.end(); ++of_row) price_with_others(group, *of_row, nullptr, merged, sum, again);
        sum.again += again.large;
        if (again.shared_inputs > shared_memory(options_.memory)) sum.again += again.small;
        sum.again += again.shared_inputs > unit_memory(options_.memory) ? again.shared : again.borders;
        const int64_t orders = model_orders_[size_t(grid_.groups > 1 ? group : 0)];
        if (orders == 0) return;
        sum.passed += counting_passes * uint64_t(merged);
        // Nothing of a look at the whole model is kept.
        if (options_.memory > 0) sum.again += (1 + counting_passes) * uint64_t(merged);
        if (grid_.rows() == 1) return;
        sum.collectives += 3 * orders;
        sum.sent += uint64_t(orders) * uint64_t(8 * sample_keys + 16 + 8 * most_bins);
    }

    /// A part of a task whose inputs this rank reads itself.
    void price_alone(const TaskPrice& task, const TaskPart& part, double& merged, RankPrice& sum, Again& again) {
        const double own_elements = elements_of(task, part.own_first, part.own_last);
        const double own = own_elements * task.whole.input_bytes,
                     read = elements_of(task, part.first, part.last) * task.whole.input_bytes;
        sum.written += part.write_end - part.write_begin;
        add_work(task.whole, task, part, own, read, double(part.write_end - part.write_begin), sum, again);
        sum.read += uint64_t(read);
        sum.products += task.whole.looks.products * own_elements;
        if (tasks_[size_t(part.task)].kind == TaskKind::merge) merged += own;
    }

    /// `row`: what the rank's row has of a task; `mine`: what it writes of that, if anything.
    void price_with_others(int group, const TaskPart& row, const TaskPart* mine, double& merged, RankPrice& sum,
                           Again& again) {
        const TaskPrice& task = prices_[size_t(row.task)];
        const Share& share = task.groups[size_t(group)];
        const double row_elements = elements_of(task, row.first, row.last),
                     row_own = elements_of(task, row.own_first, row.own_last);
        const double my_elements = mine ? elements_of(task, mine->first, mine->last) : 0,
                     my_own = mine ? elements_of(task, mine->own_first, mine->own_last) : 0;
        const double written = mine ? double(mine->write_end - mine->write_begin) : 0;
        sum.written += uint64_t(written);
        if (task.links) {
            const double own = row_own * share.input_bytes, read = row_elements * share.input_bytes;
            const double planes = row_elements * task.plane_bytes;
            add_work(share, task, row, own, read, written, sum, again);
            sum.read += uint64_t(read);
            sum.handed += uint64_t(planes * (share.stages - share.last));
            sum.passed += uint64_t(2 * planes * (share.stages - share.last));
            if (share.last) sum.handed += uint64_t(std::max(row_elements - my_elements, 0.) * task.output_bytes);
            merged += own;
            return;
        }
        const int passes = task.whole.looks.passes;
        const double others = (row_elements - my_elements) + (row_own - my_own) * passes;
        sum.handed += uint64_t(std::max(others, 0.) * share.own_bytes);
        sum.read += uint64_t(row_elements * share.own_bytes + my_elements * (share.input_bytes - share.own_bytes));
        if (!mine) return;
        add_work(task.whole, task, *mine, my_own * task.whole.input_bytes, my_elements * task.whole.input_bytes,
                 written, sum, again);
        sum.products += task.whole.looks.products * my_own;
    }

    /// Passes over a part: `own` and `read` bytes of its inputs.
    void add_work(const Share& share, const TaskPrice& task, const TaskPart& part, double own, double read,
                  double written, RankPrice& sum, Again& again) const {
        const int passes = share.looks.passes;
        const auto held = uint64_t(std::max(own, read) + written);
        sum.tensors += 1;
        sum.shared += part.shared();
        sum.passed += uint64_t(read) + uint64_t(own) * uint64_t(passes);
        if (options_.memory > 0 && passes > 0) add_again(share, part, own, again);
        sum.memory = std::max(sum.memory, options_.memory > 0 ? std::min(held, options_.memory) : held);
        if (part.shared()) price_collectives(share.looks, task.elements, part.own_last - part.own_first, sum);
    }

    void add_again(const Share& share, const TaskPart& part, double own, Again& again) const {
        const double inputs = double(all_inputs(tasks_[size_t(part.task)]).size());
        const double window = std::min(own, double(window_elements) * share.input_bytes);
        double bytes = own * share.looks.passes;
        if (share.looks.orders > 0) bytes += std::min(own, inputs * sample_bytes) + double(share.looks.orders) * window;
        if (!part.shared()) {
            (own > double(unit_memory(options_.memory)) ? again.large : again.small) += uint64_t(bytes);
            return;
        }
        again.shared_inputs += uint64_t(own);
        again.shared += uint64_t(bytes);
        again.borders += uint64_t(std::min(own, 2 * double(block_elements) * share.input_bytes));
    }

    std::span<const TensorTask> tasks_;
    const PriceOptions& options_;
    const MethodInfo& method_;
    Grid grid_;
    ShardPlan plan_, rows_;
    std::vector<TaskPrice> prices_;
    std::vector<int64_t> model_orders_;  ///< by group
    std::vector<double> held_;           ///< by group
    Price price_;
};

}  // namespace

void RankPrice::add(const RankPrice& other) {
    tensors += other.tensors;
    shared += other.shared;
    collectives += other.collectives;
    sent += other.sent;
    handed += other.handed;
    read += other.read;
    again += other.again;
    passed += other.passed;
    written += other.written;
    memory = std::max(memory, other.memory);
    products += other.products;
}

int link_planes(const MethodInfo& method) {
    if (method.name == "ram") return fold_planes(FoldKind::ram);
    if (method.election) return fold_planes(FoldKind::elect);
    const bool links = method.field("lambda") >= 0 || method.name == "linear" || method.name == "passthrough" ||
                       method.name == "nearswap";
    return links ? fold_planes(FoldKind::sum) : 0;
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
        longer(times.network, seconds(2 * double(node.sent) + double(node.handed), machine.network) +
                                  double(collectives) * machine.latency);
    }
    if (machine.local) times.fetch = seconds(double(price.held), machine.network);
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
