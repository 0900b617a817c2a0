// For tests in other languages: a JSON list of sequences of token ids on stdin, a line of logits at every position of
// each on stdout.
// logits_probe MODEL COMPUTE
#include <fmt/core.h>

#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/decoder.h"

using namespace amalgam;

int main(int count, char** arguments) try {
    if (count != 3) return 2;
    const auto files = disk_files();
    const DecoderCheckpoint model = open_decoder(*files, arguments[1]);
    const Compute compute = std::string(arguments[2]) == "bfloat16" ? Compute::bfloat16 : Compute::float32;
    ReaderWeights weights(model.config, checkpoint_reader(*files, model.checkpoint), compute);
    ThreadPool pool(1);
    Decoder decoder(weights, pool);
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    for (const auto& sequence : nlohmann::json::parse(text)) {
        for (float logit : decoder.logits(sequence.get<std::vector<int32_t>>())) fmt::print("{} ", logit);
        fmt::print("\n");
    }
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
}
