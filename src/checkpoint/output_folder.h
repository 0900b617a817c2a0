// What lies beside the weights of a merged checkpoint: config, index, recipe, model card, tokenizer and generation files.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// A small file to be written.
struct OutputText {
    std::string name;  ///< plain file name
    std::string text;
};

/// What the model card says.
struct ModelCard {
    struct Model {
        std::string reference;  ///< as in the recipe
        std::string settings;   ///< "weight 0.5, density 0.3"; "" if it has none
    };
    std::string name;                ///< of the output, usually its folder's
    std::string method;              ///< "ties"
    std::string summary;             ///< one sentence on the method
    std::string base_model;          ///< as in the recipe; "" if there is none
    std::vector<Model> models;       ///< without the base, in recipe order
    std::string settings;            ///< global ones: "lambda 1, normalize true"; "" if there are none
    std::string size;                ///< "723 tensors, 70.6 B parameters, bfloat16"; "" to leave it out
    std::string recipe;              ///< exact text
    bool yaml = false;               ///< form of the recipe
    std::string command;             ///< reproduces the merge, typed beside the recipe's models
    std::string version;             ///< of amalgam
    std::vector<std::string> notes;  ///< warnings worth keeping
};

/// Markdown with the front matter of the Hugging Face hub (base_model, library_name, tags). Nothing in the names or in the
/// recipe can break out of its place. No time and no path but those given: the same merge gives the same card.
std::string model_card(const ModelCard& card);

/// "amalgam_recipe.yaml" or "amalgam_recipe.toml": the recipe's exact bytes go there.
const char* recipe_file_name(bool yaml);

/// Writes `file` into `folder` (replacing one of that name) and syncs it to disk. Throws Error with path and reason; also
/// for a name that is not plain, or if a symbolic link of that name is in the folder.
void write_output_text(const std::string& folder, const OutputText& file);

/// Tokenizer, chat template, generation and processor files that Hugging Face loaders look for; no weights, no config.json.
const std::vector<std::string>& companion_file_names();

/// Copies those of companion_file_names() that are in `from` to `to`, each synced; links (of the Hugging Face cache) are
/// followed. Missing files, and a `from` that is no folder, are no error. Returns the names copied.
/// Throws Error with path and reason if a file is there but cannot be copied.
std::vector<std::string> copy_companion_files(const std::string& from, const std::string& to);

/// Makes the names in a folder last. Throws Error.
void sync_folder(const std::string& folder);

}  // namespace amalgam
