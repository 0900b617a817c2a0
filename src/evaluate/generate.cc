#include <algorithm>
#include <deque>

#include "src/evaluate/decoder.h"
#include "src/evaluate/head.h"

namespace amalgam {
namespace {

/// Texts that one thread continues together.
constexpr size_t most_texts = 32;
/// Positions whose keys and values are in memory at a time, for each thread.
constexpr int64_t most_positions = 16384;

struct Text {
    std::span<const int32_t> prompt;
    std::vector<int32_t>* written = nullptr;
    std::vector<KeyValues> stored;  ///< one a layer of the path
    int32_t next = 0;               ///< token to be fed
};

}  // namespace

struct Decoder::Group {
    std::vector<Text> texts;
};

void Decoder::generate_group(Group& group, const Embedding& embedding, const HeadWeights& head,
                             const std::vector<std::shared_ptr<const LayerWeights>>& layers, const RopeTable& rope,
                             const GenerateOptions& options) const {
    const std::vector<PathStep>& path = weights_.path();
    LayerScratch scratch;
    for (Text& text : group.texts) {
        text.stored.resize(layers.size());
        for (KeyValues& stored : text.stored) stored.reset(config_, int64_t(text.prompt.size()) + options.limit);
    }
    // Feeds some tokens of each text and gives the likeliest token behind the last one of each.
    const auto feed = [&](const std::vector<Text*>& texts, const std::vector<std::span<const int32_t>>& tokens,
                          const std::vector<int64_t>& positions) {
        std::vector<int32_t> ids;
        std::vector<Run> runs;
        for (size_t i = 0; i < texts.size(); ++i) {
            runs.push_back({int64_t(ids.size()), int64_t(tokens[i].size()), positions[i], nullptr});
            ids.insert(ids.end(), tokens[i].begin(), tokens[i].end());
        }
        std::vector<float> hidden(ids.size() * size_t(config_.hidden));
        embed(embedding, ids, hidden.data());
        for (size_t layer = 0; layer < layers.size(); ++layer) {
            for (size_t i = 0; i < texts.size(); ++i) runs[i].stored = &texts[i]->stored[layer];
            run_layer(config_, *layers[layer], config_.windows[size_t(path[layer].layer)], rope, runs,
                      int64_t(ids.size()), hidden.data(), scratch);
        }
        std::vector<float> last;
        for (const Run& run : runs) {
            const float* row = hidden.data() + (run.first_row + run.count - 1) * config_.hidden;
            last.insert(last.end(), row, row + config_.hidden);
        }
        const std::vector<TargetScore> scores = judge_rows(config_, head, last.data(), int64_t(texts.size()), {});
        for (size_t i = 0; i < texts.size(); ++i) {
            if (!scores[i].finite)
                throw BrokenModel("logits of a generated token are not finite: the model's weights are broken");
            texts[i]->next = scores[i].best;
        }
    };
    // Prompts in portions, as in scoring.
    for (size_t first = 0; first < group.texts.size();) {
        std::vector<Text*> texts;
        std::vector<std::span<const int32_t>> tokens;
        int64_t count = 0;
        for (; first < group.texts.size(); ++first) {
            Text& text = group.texts[first];
            if (!texts.empty() && count + int64_t(text.prompt.size()) > micro_batch_tokens) break;
            count += int64_t(text.prompt.size());
            texts.push_back(&text);
            tokens.push_back(text.prompt);
        }
        feed(texts, tokens, std::vector<int64_t>(texts.size(), 0));
    }
    std::vector<Text*> going;
    for (Text& text : group.texts) going.push_back(&text);
    while (true) {
        std::erase_if(going, [&](Text* text) {
            const bool ends =
                std::find(options.end_ids.begin(), options.end_ids.end(), text->next) != options.end_ids.end();
            if (!ends) text->written->push_back(text->next);
            return ends || int64_t(text->written->size()) >= options.limit;
        });
        if (going.empty()) return;
        std::vector<std::span<const int32_t>> tokens;
        std::vector<int64_t> positions;
        for (Text* text : going) {
            tokens.emplace_back(&text->written->back(), 1);
            positions.push_back(int64_t(text->prompt.size() + text->written->size()) - 1);
        }
        feed(going, tokens, positions);
    }
}

std::vector<std::vector<int32_t>> Decoder::generate(std::span<const std::span<const int32_t>> prompts,
                                                    const GenerateOptions& options) {
    check(options.limit >= 1, "at most {} new tokens: at least 1 is needed", options.limit);
    std::vector<std::vector<int32_t>> result(prompts.size());
    std::vector<Group> groups;
    int64_t positions = 0, longest = 0;
    for (size_t number = 0; number < prompts.size(); ++number) {
        const int64_t length = int64_t(prompts[number].size()) + options.limit;
        check_sequence(prompts[number], length);
        longest = std::max(longest, length);
        positions += length;
        if (groups.empty() || groups.back().texts.size() == most_texts || positions > most_positions) {
            groups.emplace_back();
            positions = length;
        }
        groups.back().texts.push_back({prompts[number], &result[number], {}, 0});
    }
    const RopeTable rope(config_.rope, longest);
    const auto embedding = weights_.embedding();
    const auto head = weights_.head();
    std::vector<std::shared_ptr<const LayerWeights>> layers;
    for (const PathStep& step : weights_.path()) layers.push_back(weights_.layer(step));
    pool_.parallel_for(int64_t(groups.size()), [&](int64_t index, int) {
        generate_group(groups[size_t(index)], *embedding, *head, layers, rope, options);
        groups[size_t(index)].texts.clear();
    });
    return result;
}

}  // namespace amalgam
