// Inputs that other ranks of the row read: everybody sends what the others' windows need of its models.
#include <algorithm>
#include <cstring>

#include "src/base/error.h"
#include "src/run/merger_links.h"

namespace amalgam {

namespace {

/// Elements of the inputs of a task.
struct Need {
    int64_t task = 0, first = 0, count = 0;
};

std::string pack(bool done, const std::vector<Need>& needs) {
    std::string text(1, done ? 'd' : '-');
    text.append(reinterpret_cast<const char*>(needs.data()), needs.size() * sizeof(Need));
    return text;
}

std::vector<Need> unpack(const std::string& text) {
    std::vector<Need> needs(text.size() / sizeof(Need));
    if (!needs.empty()) std::memcpy(needs.data(), text.data() + 1, needs.size() * sizeof(Need));
    return needs;
}

/// Memory for one batch of windows.
struct Received {
    std::vector<std::byte> bytes;
    std::vector<std::vector<uint64_t>> places;  ///< by window and input; not those of local ones
};

}  // namespace

bool Merger::is_local(const TaskInput& input) const {
    if (!settings_.axis.row) return true;
    const int group = settings_.axis.group_of_model[size_t(input.model)];
    return group == every_group || group == settings_.axis.row->rank();
}

bool Merger::for_exchanged(const std::vector<Span>& windows, const Body& body, bool done) {
    Communicator& row = *settings_.axis.row;
    const size_t batch = size_t(pool_.threads());
    std::vector<Need> mine;
    for (const Span& span : windows) {
        const Window window = shape_window(span);
        mine.push_back({span.part->where.task, window.input_first, window.input_count});
    }
    const std::vector<std::string> told = row.all_gather(pack(done, mine));
    std::vector<std::vector<Need>> needs;
    std::vector<size_t> batches;
    size_t steps = 0;
    bool all_done = true;
    uint64_t most = batch;
    for (const std::string& text : told) {
        all_done &= text[0] == 'd';
        needs.push_back(unpack(text));
    }
    // Ranks with more threads work through larger batches.
    batches.assign(needs.size(), 0);
    std::vector<uint64_t> sizes(needs.size());
    sizes[size_t(row.rank())] = most;
    row.all_reduce_max(std::span<uint64_t>(sizes));
    for (size_t rank = 0; rank < needs.size(); ++rank) {
        batches[rank] = size_t(sizes[rank]);
        steps = std::max(steps, (needs[rank].size() + batches[rank] - 1) / batches[rank]);
    }

    auto window_of = [&](const Need& need) {
        Window window;
        window.task = &merge_.tasks[size_t(need.task)];
        window.input_first = need.first;
        window.input_count = need.count;
        return window;
    };
    Received received[2];
    uint64_t sent = 0;
    auto start = [&](size_t step, Received& into) {
        std::vector<Transfer> transfers;
        into.places.clear();
        uint64_t total = 0;
        for (size_t w = step * batch; w < std::min((step + 1) * batch, mine.size()); ++w) {
            into.places.emplace_back();
            const Window window = window_of(mine[w]);
            for (const TaskInput* input : inputs_read(*window.task)) {
                const auto [begin, end] = byte_range(*input, window);
                into.places.back().push_back(total);
                if (!is_local(*input)) total += (end - begin + 63) / 64 * 64;
            }
        }
        if (into.bytes.size() < total) into.bytes.resize(total);
        for (int rank = 0; rank < row.size(); ++rank) {
            const auto& theirs = needs[size_t(rank)];
            const size_t size = batches[size_t(rank)];
            for (size_t w = step * size; w < std::min((step + 1) * size, theirs.size()); ++w) {
                const Window window = window_of(theirs[w]);
                auto inputs = inputs_read(*window.task);
                for (size_t i = 0; i < inputs.size(); ++i) {
                    const int group = settings_.axis.group_of_model[size_t(inputs[i]->model)];
                    if (group == every_group || group == rank) continue;
                    const auto [begin, end] = byte_range(*inputs[i], window);
                    if (rank == row.rank()) {
                        std::byte* to = into.bytes.data() + into.places[w - step * size][i];
                        transfers.push_back({Transfer::Direction::receive, group, to, end - begin});
                    } else if (group == row.rank()) {
                        const InputFile& file = inputs_.get(inputs[i]->model, inputs[i]->tensor.file);
                        auto* from = const_cast<std::byte*>(file.mapped() + begin);
                        transfers.push_back({Transfer::Direction::send, rank, from, end - begin});
                        sent += end - begin;
                    }
                }
            }
        }
        transport_->start(transfers);
    };
    // What others asked for may have been cut off while it was sent.
    auto check_sent = [&](size_t step) {
        for (size_t rank = 0; rank < needs.size(); ++rank)
            for (size_t w = step * batches[rank]; w < std::min((step + 1) * batches[rank], needs[rank].size()); ++w)
                check_inputs(merge_.tasks[size_t(needs[rank][w].task)]);
    };
    if (steps > 0) start(0, received[0]);
    for (size_t step = 0; step < steps; ++step) {
        transport_->wait();
        check_sent(step);
        if (step + 1 < steps) start(step + 1, received[(step + 1) % 2]);
        const Received& here = received[step % 2];
        const size_t first = step * batch, last = std::min(first + batch, windows.size());
        if (first < last)
            pool_.parallel_for(int64_t(last - first), [&](int64_t w, int thread) {
                if (stops()) return;
                const Span& span = windows[first + size_t(w)];
                Window window = shape_window(span);
                auto inputs = inputs_read(*window.task);
                for (size_t i = 0; i < inputs.size(); ++i) {
                    const auto [begin, end] = byte_range(*inputs[i], window);
                    const std::byte* data = is_local(*inputs[i])
                                                ? inputs_.get(inputs[i]->model, inputs[i]->tensor.file).mapped() + begin
                                                : here.bytes.data() + here.places[size_t(w)][i];
                    set_operand(window, *window.task, i, *inputs[i], data);
                    if (is_local(*inputs[i])) bytes_read_ += end - begin;
                }
                work_on(span, window, thread, false, body);
            });
        if (settings_.touch) settings_.touch();
        if (sent > settings_.memory / 8) {
            inputs_.drop_all();
            sent = 0;
        }
    }
    inputs_.drop_all();
    return all_done;
}

}  // namespace amalgam
