#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "src/evaluate/decoder.h"
#include "src/evaluate/head.h"

namespace amalgam {
namespace {

/// Texts that one thread continues together.
constexpr size_t most_texts = 32;
/// Positions whose keys and values are in memory at a time, for each thread; fewer if the memory has no room for them.
constexpr int64_t most_positions = 16384;
/// The same for each rank whose layers come and go: the more texts, the less often.
constexpr int64_t most_streamed_positions = 65536;

struct Text {
    std::span<const int32_t> prompt;
    std::vector<int32_t>* written = nullptr;
    std::vector<KeyValues> stored;  ///< one a layer of the path
    int32_t next = 0;               ///< token to be fed
    bool broken = false;            ///< its logits were not finite
};

/// Memory that groups of texts wait for. One of them gets in whatever it takes.
class Room {
  public:
    explicit Room(uint64_t bytes) : bytes_(bytes) {}

    class Place {
      public:
        Place(Room& room, uint64_t bytes) : room_(room), bytes_(bytes) {
            std::unique_lock lock(room_.mutex_);
            room_.left_.wait(lock, [&] { return room_.taken_ == 0 || fits(); });
            room_.taken_ += bytes_;
        }
        ~Place() {
            {
                std::lock_guard lock(room_.mutex_);
                room_.taken_ -= bytes_;
            }
            room_.left_.notify_all();
        }
        Place(const Place&) = delete;
        Place& operator=(const Place&) = delete;

      private:
        bool fits() const { return room_.taken_ < room_.bytes_ && bytes_ <= room_.bytes_ - room_.taken_; }
        Room& room_;
        uint64_t bytes_;
    };

  private:
    uint64_t bytes_, taken_ = 0;
    std::mutex mutex_;
    std::condition_variable left_;
};

}  // namespace

/// Texts that one thread continues together, and those of their tokens that are on their way through the layers.
struct Decoder::Group {
    std::vector<Text> texts;
    size_t begun = 0;  ///< texts whose prompts were fed
    int64_t positions = 0;
    uint64_t bytes = 0;  ///< of keys and values, if all texts become as long as they may

    std::vector<Text*> fed;  ///< texts that the tokens belong to; none: all have ended
    std::vector<int32_t> ids;
    std::vector<Run> runs;
    std::vector<float> hidden;
    LayerScratch scratch;

    void begin(const DecoderConfig& config, size_t layers, int64_t limit);
    void choose(const GenerateOptions& options);

  private:
    void feed(Text& text, std::span<const int32_t> tokens, int64_t position) {
        fed.push_back(&text);
        runs.push_back({int64_t(ids.size()), int64_t(tokens.size()), position, nullptr});
        ids.insert(ids.end(), tokens.begin(), tokens.end());
    }
    std::vector<Text*> going_;
};

void Decoder::Group::begin(const DecoderConfig& config, size_t layers, int64_t limit) {
    for (Text& text : texts) {
        going_.push_back(&text);
        text.stored.resize(layers);
        for (KeyValues& stored : text.stored) stored.reset(config, int64_t(text.prompt.size()) + limit);
    }
}

/// The tokens to feed next: prompts in portions, as in scoring, then the last token of each text.
void Decoder::Group::choose(const GenerateOptions& options) {
    fed.clear();
    ids.clear();
    runs.clear();
    for (; begun < texts.size(); ++begun) {
        Text& text = texts[begun];
        if (!fed.empty() && int64_t(ids.size() + text.prompt.size()) > micro_batch_tokens) break;
        feed(text, text.prompt, 0);
    }
    if (!fed.empty()) return;
    std::erase_if(going_, [&](Text* text) {
        const bool ends = text->broken || std::find(options.end_ids.begin(), options.end_ids.end(), text->next) !=
                                              options.end_ids.end();
        if (!ends) text->written->push_back(text->next);
        return ends || int64_t(text->written->size()) >= options.limit;
    });
    for (Text* text : going_)
        feed(*text, {&text->written->back(), 1}, int64_t(text->prompt.size() + text->written->size()) - 1);
}

void Decoder::enter(Group& group, const Embedding& embedding) const {
    group.hidden.resize(group.ids.size() * size_t(config_.hidden));
    embed(embedding, group.ids, group.hidden.data());
}

void Decoder::pass(Group& group, const LayerWeights& weights, size_t layer, const RopeTable& rope) const {
    for (size_t i = 0; i < group.fed.size(); ++i) group.runs[i].stored = &group.fed[i]->stored[layer];
    run_layer(config_, weights, config_.windows[size_t(weights_.path()[layer].layer)], rope, group.runs,
              int64_t(group.ids.size()), group.hidden.data(), group.scratch);
}

/// The likeliest token behind the last one of each text.
void Decoder::leave(Group& group, const HeadWeights& head) const {
    std::vector<float> last;
    for (const Run& run : group.runs) {
        const float* row = group.hidden.data() + (run.first_row + run.count - 1) * config_.hidden;
        last.insert(last.end(), row, row + config_.hidden);
    }
    const std::vector<TargetScore> scores = judge_rows(config_, head, last.data(), int64_t(group.fed.size()), {});
    for (size_t i = 0; i < group.fed.size(); ++i) {
        group.fed[i]->next = scores[i].best;
        group.fed[i]->broken = !scores[i].finite;
    }
}

/// Every group goes its own way, as far as it goes.
void Decoder::generate_kept(const std::vector<Group*>& groups, const RopeTable& rope, const GenerateOptions& options,
                            uint64_t memory) {
    const auto embedding = weights_.embedding();
    const auto head = weights_.head();
    std::vector<std::shared_ptr<const LayerWeights>> layers;
    for (const PathStep& step : weights_.path()) layers.push_back(weights_.layer(step));
    Room room(memory);
    pool_.parallel_for(int64_t(groups.size()), [&](int64_t index, int) {
        Group& group = *groups[size_t(index)];
        const Room::Place place(room, group.bytes);
        group.begin(config_, layers.size(), options.limit);
        for (group.choose(options); !group.fed.empty(); group.choose(options)) {
            enter(group, *embedding);
            for (size_t layer = 0; layer < layers.size(); ++layer) pass(group, *layers[layer], layer, rope);
            leave(group, *head);
        }
        for (Text& text : group.texts) text.stored = std::vector<KeyValues>();
    });
}

/// All groups of all ranks go through a layer before the next one is asked for.
void Decoder::generate_streamed(const std::vector<Group*>& groups, const RopeTable& rope,
                                const GenerateOptions& options) {
    const std::vector<PathStep>& path = weights_.path();
    const auto each = [&](const auto& body) {
        pool_.parallel_for(int64_t(groups.size()), [&](int64_t index, int) { body(*groups[size_t(index)]); });
    };
    each([&](Group& group) { group.begin(config_, path.size(), options.limit); });
    while (true) {
        each([&](Group& group) { group.choose(options); });
        const bool going =
            std::any_of(groups.begin(), groups.end(), [](const Group* group) { return !group->fed.empty(); });
        if (ranks_ ? ranks_->all_reduce_max(uint64_t(going)) == 0 : !going) break;
        {
            const auto embedding = weights_.embedding();
            each([&](Group& group) { enter(group, *embedding); });
        }
        for (size_t layer = 0; layer < path.size(); ++layer) {
            const auto weights = weights_.layer(path[layer]);
            each([&](Group& group) {
                if (!group.fed.empty()) pass(group, *weights, layer, rope);
            });
        }
        const auto head = weights_.head();
        each([&](Group& group) {
            if (!group.fed.empty()) leave(group, *head);
        });
    }
    for (Group* group : groups)
        for (Text& text : group->texts) text.stored = std::vector<KeyValues>();
}

std::vector<Decoder::Group> Decoder::make_groups(std::span<const std::span<const int32_t>> prompts, int64_t limit,
                                                 uint64_t most_bytes) const {
    std::vector<Group> groups;
    for (const std::span<const int32_t> prompt : prompts) {
        const int64_t length = int64_t(prompt.size()) + limit;
        check_sequence(prompt, length);
        const uint64_t bytes = KeyValues::bytes(config_, length) * weights_.path().size();
        if (groups.empty() || groups.back().texts.size() == most_texts ||
            groups.back().positions + length > most_positions || groups.back().bytes + bytes > most_bytes)
            groups.emplace_back();
        Text text;
        text.prompt = prompt;
        groups.back().texts.push_back(std::move(text));
        groups.back().positions += length;
        groups.back().bytes += bytes;
    }
    return groups;
}

namespace {

/// What the ranks wrote, on every one of them; -1 is a broken text.
void exchange_texts(Communicator& ranks, std::vector<std::vector<int32_t>>& written, const std::vector<bool>& mine) {
    std::string own;
    const auto put = [&](int32_t value) { own.append(reinterpret_cast<const char*>(&value), sizeof value); };
    for (size_t text = 0; text < written.size(); ++text) {
        if (!mine[text]) continue;
        put(int32_t(text));
        put(int32_t(written[text].size()));
        for (int32_t id : written[text]) put(id);
    }
    for (const std::string& part : ranks.all_gather(own)) {
        const char* at = part.data();
        const auto take = [&] {
            int32_t value;
            std::memcpy(&value, at, sizeof value);
            at += sizeof value;
            return value;
        };
        while (at != part.data() + part.size()) {
            std::vector<int32_t>& text = written[size_t(take())];
            text.resize(size_t(take()));
            for (int32_t& id : text) id = take();
        }
    }
}

}  // namespace

std::vector<std::vector<int32_t>> Decoder::generate(std::span<const std::span<const int32_t>> prompts,
                                                    const GenerateOptions& options) {
    check(options.limit >= 1, "at most {} new tokens: at least 1 is needed", options.limit);
    const Limits limits = this->limits();
    // Elsewhere a smaller group has other last bits, and scores must not depend on memory.
    const bool may_cut = rows_are_independent(weights_.compute());
    std::vector<Group> groups =
        make_groups(prompts, options.limit, may_cut ? limits.share : std::numeric_limits<uint64_t>::max());
    std::vector<std::vector<int32_t>> result(prompts.size());
    std::vector<bool> mine(prompts.size());
    std::vector<std::vector<Group*>> waves;                     // of this rank's groups; the same number on all
    std::vector<uint64_t> bytes(static_cast<size_t>(ranks()));  // of the last wave, by rank
    int64_t longest = 0, positions = 0;
    size_t number = 0;
    for (size_t group = 0; group < groups.size(); ++group) {
        positions += groups[group].positions;
        uint64_t& own = bytes[group % bytes.size()];
        own += groups[group].bytes;
        const bool full =
            positions > most_streamed_positions * ranks() || (own > groups[group].bytes && own > limits.memory);
        if (waves.empty() || (!weights_.keeps() && full)) {
            waves.emplace_back();
            positions = groups[group].positions;
            std::fill(bytes.begin(), bytes.end(), 0);
            own = groups[group].bytes;
        }
        if (is_mine(group)) waves.back().push_back(&groups[group]);
        for (Text& text : groups[group].texts) {
            longest = std::max(longest, int64_t(text.prompt.size()) + options.limit);
            mine[number] = is_mine(group);
            text.written = &result[number++];
        }
    }
    const RopeTable rope(config_.rope, longest);
    for (const std::vector<Group*>& wave : waves) {
        weights_.keeps() ? generate_kept(wave, rope, options, limits.memory) : generate_streamed(wave, rope, options);
        for (Group* group : wave)
            for (Text& text : group->texts)
                if (text.broken) text.written->assign(1, -1);
    }
    if (ranks_) exchange_texts(*ranks_, result, mine);
    for (const std::vector<int32_t>& text : result)
        if (text == std::vector<int32_t>{-1})
            throw BrokenModel("logits of a generated token are not finite: the model's weights are broken");
    return result;
}

}  // namespace amalgam
