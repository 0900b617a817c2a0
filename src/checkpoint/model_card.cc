#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/checkpoint/output_folder.h"

namespace amalgam {
namespace {

/// Longest run of backticks in a text.
size_t longest_run(std::string_view text) {
    size_t longest = 0, run = 0;
    for (char c : text) {
        run = c == '`' ? run + 1 : 0;
        longest = std::max(longest, run);
    }
    return longest;
}

std::string on_one_line(std::string_view text) {
    std::string line(text);
    for (char& c : line)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
    return line;
}

/// Text shown as it is, whatever is in it: Markdown's code between more backticks than it holds.
std::string code(std::string_view text) {
    const std::string line = on_one_line(text);
    if (line.find('`') == std::string::npos) return "`" + line + "`";
    const std::string fence(longest_run(line) + 1, '`');
    return fence + " " + line + " " + fence;
}

std::string fenced(std::string_view text, std::string_view language) {
    const std::string fence(std::max<size_t>(3, longest_run(text) + 1), '`');
    std::string result = fmt::format("{}{}\n{}", fence, language, text);
    if (!result.ends_with('\n')) result += '\n';
    return result + fence + "\n";
}

/// JSON strings are YAML strings.
std::string json_string(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string front_matter(const ModelCard& card) {
    std::vector<std::string> models;
    if (!card.base_model.empty()) models.push_back(card.base_model);
    for (const ModelCard::Model& model : card.models)
        if (std::find(models.begin(), models.end(), model.reference) == models.end()) models.push_back(model.reference);
    std::string text = "---\nbase_model:";
    if (models.empty()) text += " []";
    for (const std::string& model : models) text += "\n- " + json_string(model);
    return text + "\nlibrary_name: transformers\ntags:\n- merge\n- amalgam\n---\n";
}

}  // namespace

std::string model_card(const ModelCard& card) {
    std::string text = front_matter(card);
    text += fmt::format("# {}\n\nA merge of language models made with amalgam{}{}.\n\n", code(card.name),
                        card.version.empty() ? "" : " ", card.version);
    text += fmt::format("- Method: {}{}{}\n", code(card.method), card.summary.empty() ? "" : ": ",
                        on_one_line(card.summary));
    if (!card.settings.empty()) text += fmt::format("- Settings: {}\n", on_one_line(card.settings));
    if (!card.base_model.empty()) text += fmt::format("- Base: {}\n", code(card.base_model));
    if (!card.size.empty()) text += fmt::format("- Size: {}\n", on_one_line(card.size));
    text += "\n## Models\n\n";
    for (const ModelCard::Model& model : card.models)
        text += fmt::format("- {}{}{}\n", code(model.reference), model.settings.empty() ? "" : ": ",
                            on_one_line(model.settings));
    if (!card.notes.empty()) {
        text += "\n## Notes\n\n";
        for (const std::string& note : card.notes) text += fmt::format("- {}\n", code(note));
    }
    text += fmt::format("\n## Recipe\n\nThe same text is in {}.\n\n{}", code(recipe_file_name(card.yaml)),
                        fenced(card.recipe, card.yaml ? "yaml" : "toml"));
    if (!card.command.empty()) text += "\n## Reproduce\n\n" + fenced(on_one_line(card.command), "sh");
    return text;
}

}  // namespace amalgam
