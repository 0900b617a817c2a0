// A whole merge against the read bandwidth of all cores, measured in the same run on the same files.
//
//     bench_merge_bandwidth FOLDER [LOG2_ELEMENTS=28] [MODELS=8] [THREADS=all cores] [METHOD...]
//
// Makes FOLDER/base and FOLDER/expert-1.. (bf16, one tensor each) if they are not there, reads them once so that they are
// cached, and prints for every method the input bytes a second of the merge: into anonymous memory, and to a disk, synced.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "src/base/files.h"
#include "src/checkpoint/synthesize.h"
#include "src/recipe/recipe.h"
#include "src/run/memory_output.h"
#include "src/run/merger.h"
#include "src/run/output_files.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Reads every byte of the files on all threads; GB/s, best of three.
double read_bandwidth(const Merge& merge, int threads) {
    double best = 0;
    for (int repetition = 0; repetition < 3; ++repetition) {
        InputFiles files(merge, ReadMode::mmap);
        uint64_t bytes = 0;
        for (const MergeModel& model : merge.models) bytes += model.checkpoint.files[0].bytes;
        const auto start = Clock::now();
        std::vector<std::thread> crew;
        std::vector<uint64_t> sums(size_t(threads) * 8);
        for (int t = 0; t < threads; ++t)
            crew.emplace_back([&, t] {
                uint64_t sum[8] = {};
                for (size_t m = 0; m < merge.models.size(); ++m) {
                    uint64_t words = merge.models[m].checkpoint.files[0].bytes / 8 / 8 * 8;
                    uint64_t first = words * uint64_t(t) / uint64_t(threads) / 8 * 8;
                    uint64_t last = words * uint64_t(t + 1) / uint64_t(threads) / 8 * 8;
                    auto data = reinterpret_cast<const uint64_t*>(files.get(int(m), 0).mapped());
                    for (uint64_t i = first; i < last; i += 8)
                        for (int k = 0; k < 8; ++k) sum[k] ^= data[i + uint64_t(k)];
                }
                std::copy(sum, sum + 8, sums.begin() + t * 8);
            });
        for (std::thread& member : crew) member.join();
        double rate = double(bytes) / 1e9 / seconds_since(start);
        uint64_t all = 0;
        for (uint64_t sum : sums) all ^= sum;
        if (all == 42) fmt::print(" ");  // so that the reading is not thought useless
        best = std::max(best, rate);
    }
    return best;
}

struct Timing {
    double best = 1e9;
    uint64_t input_bytes = 0;
};

Timing time_merge(const std::string& folder, const std::string& recipe_text, int threads, bool to_disk) {
    std::unique_ptr<Files> disk = disk_files();
    Recipe recipe = parse_recipe(recipe_text, folder + "/recipe.toml");
    Merge merge = resolve(*disk, recipe);
    std::vector<OutputTensor> tensors;
    Timing timing;
    for (const TensorTask& task : merge.tasks) {
        tensors.push_back({task.name, task.dtype, task.shape});
        for (const TaskInput* input : all_inputs(task)) timing.input_bytes += input->tensor.bytes();
    }
    OutputLayout layout = layout_output(tensors, 0);
    const std::string out = folder + "/bench-output";
    for (int repetition = 0; repetition < 3; ++repetition) {
        std::filesystem::remove_all(out);
        std::filesystem::create_directory(out);
        std::unique_ptr<Communicator> alone = self_communicator();
        InputFiles inputs(merge, ReadMode::mmap);
        std::unique_ptr<OutputSink> sink;
        if (to_disk) {
            OutputFiles::create(out, layout);
            sink = std::make_unique<OutputFiles>(out, layout);
        } else {
            sink = std::make_unique<MemoryOutput>(layout);
        }
        Journal journal(out, 0);
        JournalContents nothing;
        ShardPlan plan(merge.tasks, layout, 1);
        const std::unique_ptr<Device> cpu = make_cpu_device();
        MergerSettings settings;
        settings.device = cpu.get();
        settings.memory = uint64_t(4) << 30;
        settings.work.method = merge.method;
        settings.work.compat = merge.compat;
        settings.work.seed = merge.seed;
        settings.work.threads = threads;
        settings.block = cache_block(int64_t(merge.models.size()) + 1, 2);
        const auto start = Clock::now();
        Merger(*alone, merge, layout, plan, inputs, *sink, journal, nothing, settings).run();
        if (to_disk) static_cast<OutputFiles&>(*sink).sync();
        timing.best = std::min(timing.best, seconds_since(start));
    }
    std::filesystem::remove_all(out);
    return timing;
}

std::string recipe_of(const std::string& folder, const std::string& method, int models) {
    const bool linear = method == "linear";
    std::string text = fmt::format("merge_method = \"{}\"\ndtype = \"bfloat16\"\n", method);
    if (!linear) text += fmt::format("base_model = \"{}/base\"\n", folder);
    for (int m = 1; m <= models; ++m)
        text += fmt::format("[[models]]\nmodel = \"{}/expert-{}\"\nparameters = {{ weight = 0.5{} }}\n", folder, m,
                            linear || method == "task_arithmetic" ? "" : ", density = 0.2");
    return text;
}

int run(int count, char** words) {
    if (count < 2) {
        fmt::print("{} FOLDER [LOG2_ELEMENTS=28] [MODELS=8] [THREADS] [METHOD...]\n", words[0]);
        return 2;
    }
    const std::string folder = words[1];
    SynthesizeOptions options;
    options.folder = folder;
    options.flat_elements = int64_t(1) << (count > 2 ? std::atoi(words[2]) : 28);
    options.experts = count > 3 ? std::atoi(words[3]) : 8;
    options.shard_bytes = 0;
    const int threads = count > 4 ? std::atoi(words[4]) : usable_cores();
    std::vector<std::string> methods(words + std::min(count, 5), words + count);
    if (methods.empty()) methods = {"linear", "task_arithmetic", "ties", "dare_ties"};
    if (!std::filesystem::exists(folder + "/base")) synthesize(options);

    std::unique_ptr<Files> disk = disk_files();
    Merge all = resolve(*disk, parse_recipe(recipe_of(folder, "ties", options.experts), folder + "/recipe.toml"));
    read_bandwidth(all, threads);  // fills the page cache
    const double ceiling = read_bandwidth(all, threads);
    fmt::print("{} models x 2^{} bf16 elements, {} threads; reading alone: {:.1f} GB/s\n", options.experts,
               count > 2 ? words[2] : "28", threads, ceiling);
    for (const std::string& method : methods)
        for (bool to_disk : {false, true}) {
            Timing timing = time_merge(folder, recipe_of(folder, method, options.experts), threads, to_disk);
            double rate = double(timing.input_bytes) / 1e9 / timing.best;
            fmt::print("{:16s} {:24s} {:6.2f} s  {:6.2f} GB/s of input  {:3.0f} % of reading\n", method,
                       to_disk ? "to disk, synced" : "into anonymous memory", timing.best, rate, 100 * rate / ceiling);
        }
    return 0;
}

}  // namespace
}  // namespace amalgam

int main(int count, char** words) {
    try {
        return amalgam::run(count, words);
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 1;
    }
}
