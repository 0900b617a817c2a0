// What to merge, as the user wrote it: checked against the methods' tables, not yet against files.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/method_info.h"
#include "src/base/files.h"

namespace amalgam {

/// Whose rules hold where mergekit and the papers differ (design 3).
enum class Compat { mergekit, paper };

/// One entry of a filter list: the number, or gradient over the layers, for tensors whose name contains `filter`.
struct ParameterEntry {
    std::string filter;            ///< "": every tensor ("*" is stored as "")
    std::vector<double> gradient;  ///< one number: constant; more: interpolated over the layers
};

/// Value of one parameter: the first entry whose filter fits wins; none fits: not set at this level.
struct Parameter {
    std::vector<ParameterEntry> entries;
    int line = 0;  ///< in the recipe file; 0: from --set
};

using Parameters = std::map<std::string, Parameter>;

/// A model in a list of models or among the sources of a slice.
struct SourceEntry {
    std::string model;                                       ///< path or hub name, as written
    std::optional<std::pair<int64_t, int64_t>> layer_range;  ///< [first, last) of the source's layers
    Parameters parameters;
    int group = -1;  ///< the model lies on the disks of this group of ranks only; -1: on every disk
    int line = 0;
};

/// Consecutive layers of the output.
struct OutputSlice {
    std::vector<SourceEntry> sources;
    std::optional<std::string> base_model;  ///< overrides the recipe's
    Parameters parameters;
    int line = 0;
};

/// Either `models` or `slices` is empty.
struct Recipe {
    std::string path;                    ///< as given on the command line; "" if made in memory
    std::string text;                    ///< exact bytes of the file, without the overrides
    std::vector<std::string> overrides;  ///< --set, in order
    bool yaml = false;                   ///< mergekit YAML (else TOML)
    std::string method;                  ///< a name of kernels/methods.h
    Compat compat = Compat::mergekit;
    uint64_t seed = 0;
    std::optional<Dtype> dtype, out_dtype;
    std::optional<std::string> base_model;
    int base_line = 0;                            ///< in the recipe file, of base_model
    std::optional<std::string> tokenizer_source;  ///< "base" or a model reference
    int tokenizer_line = 0;
    std::vector<SourceEntry> models;
    std::vector<OutputSlice> slices;
    Parameters parameters;
    std::vector<std::string> warnings;  ///< "ties.yaml:7: int8_mask has no effect"

    /// Folder of the recipe's file, for models that are not found from the working directory; "." if none.
    std::string folder() const;
    /// Groups of ranks whose disks hold its models; 0 if it names none.
    int groups() const;
};

struct RecipeOptions {
    std::vector<std::string>
        set;  ///< "path=value" overrides: "parameters.lambda=0.7", "models.0.parameters.weight=[0,1]", "compat=paper"
    bool allow_unknown = false;  ///< unknown keys warn instead of failing
};

/// Reads TOML or, for .yaml and .yml (or text that is not TOML but YAML), mergekit's YAML. Applies the overrides, then
/// checks every key and value.
/// Throws Error "file:line: key: reason (nearest valid name)".
Recipe read_recipe(Files& files, const std::string& path, const RecipeOptions& options = {});

/// The same from text; `path` decides the form and names the file in messages.
Recipe parse_recipe(const std::string& text, const std::string& path, const RecipeOptions& options = {});

/// The recipe in either form; parse_recipe(recipe_to_toml(r)) equals r but for path, text, lines and warnings.
std::string recipe_to_toml(const Recipe& recipe);
/// Throws Error if the recipe says something mergekit's YAML cannot (compat = "paper", a seed).
std::string recipe_to_yaml(const Recipe& recipe);

}  // namespace amalgam
