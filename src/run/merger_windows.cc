// How a merger brings windows of its inputs into memory, and gives them back.
#include <algorithm>
#include <chrono>

#include "src/base/error.h"
#include "src/run/direct_reader.h"
#include "src/run/merger.h"

namespace amalgam {

namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
}  // namespace

Window Merger::shape_window(const Span& span) const {
    const TensorTask& what = task(*span.part);
    Window window;
    window.task = &what;
    window.first = span.first_block * block_elements;
    window.count = std::min(span.last_block * block_elements, what.elements()) - window.first;
    window.input_first = window.first;
    window.input_count = window.count;
    if (span.part->work && span.part->work->whole_rows()) {
        const int64_t columns = what.columns();
        window.input_first = window.first / columns * columns;
        const int64_t end = (window.first + window.count + columns - 1) / columns * columns;
        window.input_count = end - window.input_first;
    }
    return window;
}

std::pair<uint64_t, uint64_t> byte_range(const TaskInput& input, const Window& window) {
    const uint64_t bits = uint64_t(info(input.tensor.dtype).bits);
    uint64_t begin = input.tensor.begin + uint64_t(window.input_first) * bits / 8;
    return {begin, begin + uint64_t(window.input_count) * bits / 8};
}

void set_operand(Window& window, const TensorTask& task, size_t index, const TaskInput& input, const std::byte* data) {
    Operand operand{data, input.tensor.dtype};
    if (task.base && index == 0)
        window.base = operand;
    else
        window.inputs.push_back(operand);
}

std::vector<Merger::Span> Merger::cut(const std::vector<Span>& spans, bool sparse) {
    std::vector<Span> windows;
    for (const Span& span : spans) {
        const int64_t step = window_blocks(*span.part);
        for (int64_t block = span.first_block, end; block < span.last_block; block = end) {
            // Borders that all passes share, wherever a pass begins: what one of them holds, the next finds.
            end = std::min((block / step + 1) * step, span.last_block);
            const TaskPart& where = span.part->where;
            for (const int64_t border : {where.first, where.last, where.own_first, where.own_last})
                if (border > block) end = std::min(end, border);
            Span window{span.part, block, end};
            if (span.part->work && !span.part->work->settled() &&
                !span.part->work->wants(window.first_block, window.last_block))
                continue;
            Window shape = shape_window(window);
            uint64_t bytes = uint64_t(shape.count) * uint64_t(info(shape.task->dtype).bits) / 8;
            for (const TaskInput* input : inputs_read(*shape.task)) bytes += input_bytes(*input, shape.input_count);
            check(
                sparse || bytes <= settings_.memory,
                "{}: {} inputs and the output of one piece ({} elements) take {} bytes, more than --memory {}; give at "
                "least that much",
                shape.task->name, inputs_read(*shape.task).size(), shape.input_count, bytes, settings_.memory);
            windows.push_back(window);
        }
    }
    return windows;
}

/// Chooses the thread's lane for a window, and brings the window into its memory.
void Merger::bring(const Part& part, Window& window, Scratch& scratch, bool sparse) {
    const auto thread = size_t(scratch.thread);
    const bool host = sparse || (part.work && part.work->on_host());
    scratch.lane = host && host_lanes_[thread] ? host_lanes_[thread].get() : lanes_[thread].get();
    scratch.lane->begin_window();
    if (scratch.lane->on_host()) return;
    for (Operand* operand : window.operands())
        operand->data =
            scratch.lane->bring(operand->data, uint64_t(window.input_count) * uint64_t(bytes_of(operand->dtype)));
}

void Merger::work_on(const Span& span, Window& window, int thread, bool sparse, const Body& body) {
    const auto start = Clock::now();
    Scratch& scratch = scratch_[size_t(thread)];
    bring(*span.part, window, scratch, sparse);
    body(*span.part, window, scratch);
    work_seconds_ += seconds_since(start);
}

bool Merger::any_direct(const std::vector<Span>& spans) {
    for (const Span& span : spans)
        for (const TaskInput* input : inputs_read(task(*span.part)))
            if (inputs_.get(input->model, input->tensor.file).direct()) return true;
    return false;
}

void Merger::for_windows(const std::vector<Span>& spans, bool sparse, const Body& body) {
    if (settings_.axis.row && !links_) {
        for_exchanged(cut(spans, sparse), body, false);
        return;
    }
    if (spans.empty()) return;
    std::vector<Span> windows = cut(spans, sparse);
    if (!sparse && any_direct(spans)) return for_direct(windows, body);
    uint64_t bytes = 0;
    for (const Span& span : spans) bytes += uint64_t(span.last_block - span.first_block) * block_bytes(*span.part);
    for_mapped(windows, body, bytes > settings_.memory / 4, sparse);
    if (!sparse && (mapped_since_drop_ += bytes) > settings_.memory / 4) {
        inputs_.drop_all();
        mapped_since_drop_ = 0;
    }
}

/// With hundreds of models a block of them all takes tens of megabytes: as many at a time as half the budget holds.
int Merger::window_threads(uint64_t largest_window) const {
    return int(std::clamp<uint64_t>(settings_.memory / 2 / largest_window, 1, uint64_t(pool_.threads())));
}

void Merger::for_mapped(const std::vector<Span>& windows, const Body& body, bool drop, bool sparse) {
    std::atomic<size_t> next{0};
    // Memory is given back many windows at a time: every call interrupts the other threads.
    size_t batch = 1;
    int threads = pool_.threads();
    if (drop) {
        uint64_t largest = 1;
        for (const Span& span : windows)
            largest = std::max(largest, uint64_t(span.last_block - span.first_block) * block_bytes(*span.part));
        batch = size_t(std::clamp<uint64_t>(settings_.memory / 16 / largest, 1, 64));
        threads = window_threads(largest);
    }
    pool_.parallel_for(threads, [&](int64_t, int thread) {
        for (size_t w; (w = next++) < windows.size();) {
            if (!links_ && stops()) break;
            Window window = shape_window(windows[w]);
            auto inputs = inputs_read(*window.task);
            for (size_t i = 0; i < inputs.size(); ++i) {
                auto [begin, end] = byte_range(*inputs[i], window);
                const InputFile& file = inputs_.get(inputs[i]->model, inputs[i]->tensor.file);
                set_operand(window, *window.task, i, *inputs[i], file.mapped() + begin);
                if (!sparse) bytes_read_ += end - begin;  // a sample is next to nothing
            }
            work_on(windows[w], window, thread, sparse, body);
            if (settings_.touch) settings_.touch();
            // Windows are taken in order, so those a batch back are done, or nearly: dropping one that is not costs
            // its reader a page fault.
            if (drop && batch == 1)
                drop_inputs(window);
            else if (drop && (w + 1) % batch == 0 && w + 1 >= 2 * batch)
                drop_windows(windows, w + 1 - 2 * batch, w + 1 - batch);
        }
    });
    if (drop && batch > 1) drop_windows(windows, windows.size() - std::min(windows.size(), 3 * batch), windows.size());
}

/// Gives back the inputs of consecutive windows, neighbours of one tensor in one call.
void Merger::drop_windows(const std::vector<Span>& windows, size_t first, size_t last) {
    while (first < last) {
        Span run = windows[first++];
        while (first < last && windows[first].part == run.part && windows[first].first_block == run.last_block)
            run.last_block = windows[first++].last_block;
        drop_inputs(shape_window(run));
    }
}

void Merger::drop_inputs(const Window& window) {
    for (const TaskInput* input : inputs_read(*window.task)) {
        const InputFile& file = inputs_.get(input->model, input->tensor.file);
        file.check_whole();
        auto [begin, end] = byte_range(*input, window);
        file.drop(begin, end);
    }
}

namespace {
HeldInputs::Key held_key(int64_t task, const Window& window) { return {task, window.input_first, window.input_count}; }
}  // namespace

/// Shared tensors are settled before all others, and wait for their turn to be folded.
uint64_t Merger::hold_limit(const Part& part) const {
    const uint64_t shared = part.where.shared() ? 0 : shared_memory(settings_.memory);
    return shared + unit_memory(settings_.memory);
}

/// Whether all that these parts need is read once: the first look then reads all of it.
bool Merger::holds(const std::vector<Part*>& unsettled) {
    if (settings_.axis.row || unsettled.empty()) return false;
    uint64_t bytes = 0;
    std::vector<Span> spans;
    for (Part* part : unsettled) {
        scan_spans(*part, spans);
        for (const TaskInput* input : inputs_read(task(*part)))
            bytes += input_bytes(*input, (part->where.own_last - part->where.own_first) * block_elements);
    }
    return held_.bytes() + bytes <= hold_limit(*unsettled.front()) && any_direct(spans);
}

void Merger::for_held(const std::vector<Span>& windows, const Body& body) {
    pool_.parallel_for(int64_t(windows.size()), [&](int64_t w, int thread) {
        if (!links_ && stops()) return;
        const Span& span = windows[size_t(w)];
        Window window = shape_window(span);
        const std::vector<const std::byte*> places = held_.find(held_key(span.part->where.task, window));
        size_t place = 0;
        auto inputs = inputs_read(*window.task);
        for (size_t i = 0; i < inputs.size(); ++i) {
            const InputFile& file = inputs_.get(inputs[i]->model, inputs[i]->tensor.file);
            set_operand(window, *window.task, i, *inputs[i],
                        file.direct() ? places[place++] : file.mapped() + byte_range(*inputs[i], window).first);
        }
        work_on(span, window, thread, false, body);
        if (settings_.touch) settings_.touch();
    });
}

void Merger::for_direct(std::vector<Span> windows, const Body& body) {
    std::vector<Span> held;
    std::erase_if(windows, [&](const Span& span) {
        const bool there = held_.has(held_key(span.part->where.task, shape_window(span)));
        if (there) held.push_back(span);
        return there;
    });
    for_held(held, body);
    if (windows.empty()) return;
    auto requests = [&](int64_t w) {
        Window window = shape_window(windows[size_t(w)]);
        std::vector<ReadRequest> list;
        for (const TaskInput* input : inputs_read(*window.task)) {
            auto [begin, end] = byte_range(*input, window);
            const InputFile& file = inputs_.get(input->model, input->tensor.file);
            if (file.direct()) list.push_back({&file, begin, end});
        }
        return list;
    };
    uint64_t largest = 4096;
    for (size_t w = 0; w < windows.size(); ++w) {
        uint64_t bytes = 0;
        for (const ReadRequest& request : requests(int64_t(w))) bytes += request.end - request.begin + 2 * 4096;
        largest = std::max(largest, bytes);
    }
    const int threads = window_threads(largest);
    const int depth =
        std::clamp(int(settings_.memory / 2 / largest), threads, std::max(threads, std::min(8, threads + 3)));
    DirectReader reader(int64_t(windows.size()), requests, depth, largest, std::min(depth, 4));
    std::atomic<size_t> next{0};
    pool_.parallel_for(threads, [&](int64_t, int thread) {
        for (size_t w; (w = next++) < windows.size();) {
            if (!links_ && stops()) break;
            const auto asked = Clock::now();
            std::vector<const std::byte*> places = reader.acquire(int64_t(w));
            wait_seconds_ += seconds_since(asked);
            size_t place = 0;
            Window window = shape_window(windows[w]);
            std::vector<std::span<const std::byte>> pieces;
            auto inputs = inputs_read(*window.task);
            for (size_t i = 0; i < inputs.size(); ++i) {
                auto [begin, end] = byte_range(*inputs[i], window);
                const InputFile& file = inputs_.get(inputs[i]->model, inputs[i]->tensor.file);
                if (file.direct()) pieces.emplace_back(places[place], end - begin);
                set_operand(window, *window.task, i, *inputs[i],
                            file.direct() ? places[place++] : file.mapped() + begin);
                bytes_read_ += end - begin;
            }
            const Part& part = *windows[w].part;
            if (!settings_.axis.row && part.work && !part.work->settled())
                held_.keep(held_key(part.where.task, window), pieces, hold_limit(part));
            work_on(windows[w], window, thread, false, body);
            if (settings_.touch) settings_.touch();
            reader.release(int64_t(w));
            drop_inputs(window);  // those that were read through their mapping
        }
    });
    read_seconds_ += reader.seconds();
}

}  // namespace amalgam
