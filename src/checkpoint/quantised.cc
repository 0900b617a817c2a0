#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"

namespace amalgam {

namespace {

std::string with(std::string_view stem, std::string_view suffix) { return std::string(stem) += suffix; }

/// The weight is stored in codes that mean nothing without its scale.
bool is_coded(const TensorInfo* tensor) {
    return tensor && info(tensor->dtype).bits <= 8 && tensor->dtype != Dtype::boolean;
}

/// GPTQ, AWQ and compressed-tensors: packed integers under names of their own.
bool is_packed(std::string_view last, const TensorInfo& tensor) {
    static constexpr std::array<std::string_view, 5> names = {"qweight", "qzeros", "g_idx", "weight_packed",
                                                              "weight_g_idx"};
    return std::find(names.begin(), names.end(), last) != names.end() && !info(tensor.dtype).computed;
}

/// bitsandbytes keeps these beside its weights.
bool is_bitsandbytes(std::string_view last, std::string_view name) {
    static constexpr std::array<std::string_view, 5> names = {"SCB", "absmax", "quant_map", "nested_absmax",
                                                              "nested_quant_map"};
    return std::find(names.begin(), names.end(), last) != names.end() ||
           name.find(".quant_state.") != std::string_view::npos || last == "quant_state";
}

/// A scale is evidence only beside codes: other models may use such names for something else.
bool is_scale(const Checkpoint& checkpoint, std::string_view stem, std::string_view last) {
    // x.weight_scale_inv or experts.down_proj_scale scale the tensor of the same name without the suffix; MXFP4 as
    // gpt-oss stores it has _blocks and _scales.
    static constexpr std::array<std::string_view, 6> suffixes = {"_scale",   "_scale_inv",  "_scales",
                                                                 "_scale_2", "_zero_point", "_absmax"};
    for (std::string_view suffix : suffixes) {
        if (!last.ends_with(suffix)) continue;
        const std::string scaled = with(stem, last.substr(0, last.size() - suffix.size()));
        if (is_coded(checkpoint.find(scaled)) || is_coded(checkpoint.find(scaled + "_blocks"))) return true;
    }
    static constexpr std::array<std::string_view, 6> names = {"scale_inv",   "input_scale", "scale_weight",
                                                              "scale_input", "scales",      "scale"};
    return std::find(names.begin(), names.end(), last) != names.end() &&
           is_coded(checkpoint.find(with(stem, "weight")));
}

std::string quantised_tensors(const Checkpoint& checkpoint) {
    std::string shown;
    size_t count = 0;
    for (const TensorInfo& tensor : checkpoint.tensors) {
        const std::string_view name = tensor.name;
        const size_t dot = name.rfind('.');
        const std::string_view stem = name.substr(0, dot == std::string_view::npos ? 0 : dot + 1);
        const std::string_view last = name.substr(stem.size());
        if (!is_packed(last, tensor) && !is_bitsandbytes(last, name) && !is_scale(checkpoint, stem, last)) continue;
        if (++count > 3) continue;
        shown += fmt::format("{}'{}' ({})", count == 1 ? "" : ", ", printable(tensor.name), info(tensor.dtype).name);
    }
    if (count == 0) return "";
    return fmt::format("{} tensor{} of a quantised model: {}{}", count, count == 1 ? "" : "s", shown,
                       count > 3 ? ", ..." : "");
}

/// Vision-language configs keep the language model's part one level down.
std::string quantised_config(const Checkpoint& checkpoint) {
    if (checkpoint.config.empty()) return "";
    const auto config = nlohmann::json::parse(quote_nonfinite(checkpoint.config), nullptr, false);
    const auto look = [](const nlohmann::json& part, const std::string& prefix) -> std::string {
        for (const char* key : {"quantization_config", "compression_config"}) {
            const auto found = part.find(key);
            if (found == part.end() || !found->is_object()) continue;
            for (const char* method_key : {"quant_method", "quantization_method", "format"}) {
                const auto method = found->find(method_key);
                if (method == found->end() || !method->is_string()) continue;
                return fmt::format("config.json has {}{} with {} = '{}'", prefix, key, method_key,
                                   printable(method->get<std::string>()));
            }
            return fmt::format("config.json has {}{}", prefix, key);
        }
        return "";
    };
    if (!config.is_object()) return "";
    std::string evidence = look(config, "");
    for (auto part = config.begin(); evidence.empty() && part != config.end(); ++part)
        if (part->is_object()) evidence = look(*part, printable(part.key()) + ".");
    return evidence;
}

}  // namespace

void refuse_quantised(const Checkpoint& checkpoint) {
    const std::string tensors = quantised_tensors(checkpoint);
    const std::string config = quantised_config(checkpoint);
    if (tensors.empty() && config.empty()) return;
    fail(
        "{}: the checkpoint is quantised: {}{}{}. Quantised weights cannot be averaged: dequantise it first (load it "
        "with "
        "transformers, call dequantize(), save it as bfloat16), or take the unquantised release{}",
        printable(checkpoint.path), tensors, tensors.empty() || config.empty() ? "" : "; ", config,
        tensors.empty() ? "; if its weights are in fact plain numbers, remove the entry from config.json" : "");
}

}  // namespace amalgam
