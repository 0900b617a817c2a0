#include "src/search/item_sets.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "src/base/error.h"

namespace amalgam {

namespace {

constexpr std::string_view benchmarks[] = {
    "agieval",   "aime",           "alpacaeval", "arc-c",   "arc-challenge", "arc-e",          "arc-easy",
    "bbh",       "boolq",          "ceval",      "cmmlu",   "drop",          "gpqa",           "gsm8k",
    "hellaswag", "hendrycks-math", "humaneval",  "ifeval",  "jamp",          "jcommonsenseqa", "jglue",
    "jmmlu",     "jnli",           "jsquad",     "lambada", "livebench",     "livecodebench",  "marc-ja",
    "math500",   "math-500",       "mbpp",       "mgsm",    "mmlu",          "mmlu-pro",       "mt-bench",
    "musr",      "niilc",          "openbookqa", "piqa",    "siqa",          "squad",          "svamp",
    "triviaqa",  "truthfulqa",     "winogrande", "wsc",     "xlsum-ja",      "xwinograd"};

std::string lower(std::string_view text) {
    std::string result;
    for (char letter : text)
        result += letter == '_' || letter == '.' || letter == ' '
                      ? '-'
                      : char(std::tolower(static_cast<unsigned char>(letter)));
    return result;
}

/// Whether `word` stands in `text` with no letter or number beside it.
bool has_word(const std::string& text, std::string_view word) {
    const auto is_edge = [&](size_t at) {
        return at >= text.size() || std::isalnum(static_cast<unsigned char>(text[at])) == 0;
    };
    for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1))
        if ((at == 0 || is_edge(at - 1)) && is_edge(at + word.size())) return true;
    return false;
}

using Item = std::pair<std::vector<int32_t>, std::vector<std::vector<int32_t>>>;

std::set<Item> questions(const std::vector<Task>& tasks) {
    std::set<Item> all;
    for (const Task& task : tasks)
        for (const TaskItem& item : task.items) all.emplace(item.prompt, item.choices);
    return all;
}

}  // namespace

std::string public_test_set(std::string_view path) {
    const std::filesystem::path file(path);
    const std::string text = lower(file.parent_path().filename().string() + "/" + file.filename().string());
    if (!has_word(text, "test")) return "";
    for (std::string_view benchmark : benchmarks)
        if (has_word(text, benchmark)) return std::string(benchmark);
    return "";
}

std::vector<std::string> check_item_sets(const SearchInputs& inputs) {
    for (const auto* tasks : {&inputs.search, &inputs.validation})
        for (const Task& task : *tasks) {
            const std::string name = public_test_set(task.path);
            check(
                name.empty() || inputs.config.public_tests,
                "{}: looks like the public test set of {}: a merge that is chosen by it scores well on it, which says "
                "nothing any more; search on training items or your own (or set search.public_tests = true)",
                printable(task.path), name);
        }
    for (const auto* tasks : {&inputs.search, &inputs.validation, &inputs.heldout}) {
        const auto counts = [](const Task& task) { return task.weight > 0; };
        check(tasks->empty() || std::any_of(tasks->begin(), tasks->end(), counts),
              "{}: tasks: the weight of {} is 0, and no other one counts: give one of them a weight above 0",
              printable(inputs.config.path), printable(tasks->empty() ? "" : tasks->front().path));
    }
    const std::set<Item> searched = questions(inputs.search);
    std::vector<std::string> warnings;
    for (const auto& [name, tasks] :
         {std::pair("held-out", &inputs.heldout), std::pair("validation", &inputs.validation)}) {
        const std::set<Item> others = questions(*tasks);
        const auto both =
            std::count_if(others.begin(), others.end(), [&](const Item& item) { return searched.contains(item); });
        if (both > 0)
            warnings.push_back(
                fmt::format("{}: {} of {} {} items are searched on too: scores on them flatter the winner",
                            printable(inputs.config.path), both, others.size(), name));
    }
    return warnings;
}

}  // namespace amalgam
