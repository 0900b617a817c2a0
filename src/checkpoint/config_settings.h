// Settings of config.json that decide what a language model's tensors mean, and how those of two models differ.
#pragma once
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

namespace amalgam {

/// The value of a setting as text, from the language model's settings in config.json, under the first of `keys` that is
/// there; "" if none is. `config` must be valid JSON or "".
class ConfigSettings {
  public:
    explicit ConfigSettings(const std::string& config);
    std::string value(std::initializer_list<const char*> keys) const;

  private:
    std::map<std::string, std::string> values_;
};

/// What a difference between models means to a merge of them.
enum class DifferenceWeight {
    note,     ///< a merge takes care of it
    warning,  ///< a merge works, but a person should look
    problem,  ///< a merge refuses, or its result would mean nothing
};

struct SettingDifference {
    std::string name;  ///< "num_attention_heads", whatever the config calls it
    DifferenceWeight weight = DifferenceWeight::note;
    bool size = false;  ///< tensors of layers have other shapes with it, or are cut into heads otherwise
    std::string first;  ///< value; "" if the config does not say
    std::string other;
};

/// Nothing if one of the two is "".
std::vector<SettingDifference> compare_settings(const std::string& first, const std::string& other);

}  // namespace amalgam
