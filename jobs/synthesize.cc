// amalgam synthesize: random checkpoints for tests and benchmarks.
#include "src/checkpoint/synthesize.h"

#include <unistd.h>

#include <chrono>

#include "jobs/commands.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/base/nearest.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {
    {"OUT", "folder that receives base, expert-1, expert-2, ...; made if it is not there"},
};
constexpr Option options[] = {
    {"experts", "N", "models besides the base [3]"},
    {"seed", "N", "of all random numbers [0]"},
    {"dtype", "NAME", "bfloat16, float16, float32, float64, float8_e4m3fn or float8_e5m2 [bfloat16]"},
    {"hidden", "N", "width of the model [256]"},
    {"mlp", "N", "width of the feed-forward part [688]"},
    {"layers", "N", "number of layers [4]"},
    {"vocabulary", "N", "rows of the embedding [1000]"},
    {"heads", "N", "attention heads; divides --hidden [8]"},
    {"kv-heads", "N", "key and value heads; divides --heads [4]"},
    {"tied", "", "no lm_head: the embedding is the head too"},
    {"flat", "N", "instead of a Llama, one tensor of N elements"},
    {"base-scale", "X", "standard deviation of the base's weights [0.02]"},
    {"expert-scale", "X", "standard deviation of an expert's difference to the base [0.002]"},
    {"untouched", "X", "share of an expert's elements that are the base's to the last bit [0]"},
    {"shard-size", "BYTES", "largest file, as in 5GB [5GB]"},
    {"threads", "N", "never changes the result [one a core]"},
    {"quiet", "", "no progress"},
};
constexpr std::string_view description =
    "Makes a base and experts that differ from it by small noise, with the tensor names of a Llama model. The same "
    "options give the same bytes.";
constexpr std::string_view examples =
    "amalgam synthesize big --experts 8 --hidden 1024 --mlp 2816 --layers 16 --vocabulary 32000\n"
    "amalgam synthesize flat --experts 8 --flat 268435456\n"
    "amalgam synthesize small --dtype float32 --seed 7";

constexpr int64_t most = int64_t(1) << 46;

Dtype dtype_option(const Arguments& arguments) {
    const std::string name = arguments.text("dtype", "bfloat16");
    std::vector<std::string_view> names;
    for (const DtypeInfo& each : dtype_table)
        if (each.computed) names.push_back(each.config_name);
    const std::optional<Dtype> dtype = dtype_from_config(name);
    if (!dtype || !info(*dtype).computed)
        throw UsageError(fmt::format("--dtype {}: no such type{}", printable(name, 100), did_you_mean(name, names)));
    return *dtype;
}

SynthesizeOptions read_options(const Arguments& arguments) {
    SynthesizeOptions result;
    const auto read = [&](std::string_view name, int64_t& value) { value = arguments.integer(name, value, 1, most); };
    result.folder = arguments.positionals[0];
    result.experts = int(arguments.integer("experts", result.experts, 0, 4096));
    result.seed = arguments.whole("seed", 0);
    result.dtype = dtype_option(arguments);
    read("hidden", result.hidden);
    read("mlp", result.mlp);
    read("layers", result.layers);
    read("vocabulary", result.vocabulary);
    read("heads", result.heads);
    read("kv-heads", result.kv_heads);
    read("flat", result.flat_elements);
    result.tied = arguments.has("tied");
    result.base_scale = arguments.number("base-scale", result.base_scale, 0, 1e6);
    result.expert_scale = arguments.number("expert-scale", result.expert_scale, 0, 1e6);
    result.untouched = arguments.number("untouched", 0, 0, 1);
    result.shard_bytes = arguments.bytes("shard-size", result.shard_bytes);
    result.threads = int(arguments.integer("threads", 0, 1, 4096));
    return result;
}

/// A line that is written over, on terminals only, a few times a second.
class ProgressLine {
  public:
    ~ProgressLine() {
        if (shown_) std::fputs("\r\033[K", stderr);
    }
    void show(uint64_t done, uint64_t all) {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(200)) return;
        last_ = now;
        shown_ = true;
        std::fputs(fmt::format("\r\033[K{} of {}", bytes_text(done), bytes_text(all)).c_str(), stderr);
    }

  private:
    std::chrono::steady_clock::time_point last_{};
    bool shown_ = false;
};

int run(const Arguments& arguments) {
    const SynthesizeOptions wanted = read_options(arguments);
    const bool progress = !arguments.has("quiet") && ::isatty(STDERR_FILENO);
    SynthesizeReport report;
    {
        ProgressLine line;
        report = synthesize(wanted, [&](uint64_t done, uint64_t all) {
            if (progress) line.show(done, all);
        });
    }
    std::string text;
    for (const std::string& folder : report.folders) text += printable(folder) + "\n";
    text += fmt::format("{} models of {} parameters, {}\n", report.folders.size(), count_text(report.parameters),
                        bytes_text(report.bytes));
    print_out(text);
    return 0;
}

}  // namespace

const Command synthesize_command = {"synthesize", "Make random checkpoints for tests and benchmarks",
                                    description,  positionals,
                                    options,      examples,
                                    false,        run};

}  // namespace amalgam
