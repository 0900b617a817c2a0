#include "src/run/inspect_fit.h"

#include <algorithm>
#include <map>

#include "jobs/command_line.h"
#include "jobs/inspect.h"
#include "jobs/json.h"
#include "jobs/table.h"

namespace amalgam {
namespace {

using Weight = Difference::Weight;

/// Lines shown of one kind before the rest is only counted.
constexpr int most_lines = 8;

const char* weight_text(Weight weight) {
    return weight == Weight::problem ? "problem" : weight == Weight::warning ? "warning" : "note";
}

std::string difference_text(const Difference& difference, const std::string& first, const std::string& other) {
    const std::string name = printable(difference.name, 200);
    const auto value = [](const std::string& text) { return printable(text, 120); };
    if (difference.what == "tensor")
        return fmt::format("{} {}: not in {}", name,
                           value(difference.first.empty() ? difference.other : difference.first),
                           difference.first.empty() ? first : other);
    const auto shown = [&](const std::string& text) { return text.empty() ? std::string("nothing") : value(text); };
    return fmt::format("{}: {} and {}", name, shown(difference.first), shown(difference.other));
}

/// One line for all tensors with the same two types.
std::vector<std::string> dtype_lines(const std::vector<const Difference*>& differences) {
    std::map<std::pair<std::string, std::string>, std::vector<const Difference*>> pairs;
    for (const Difference* difference : differences)
        pairs[{difference->first, difference->other}].push_back(difference);
    std::vector<std::string> lines;
    for (const auto& [dtypes, tensors] : pairs)
        lines.push_back(fmt::format(
            "{}: {} and {}",
            tensors.size() > 1 ? plural(int64_t(tensors.size()), "tensor") : printable(tensors[0]->name, 200),
            dtypes.first, dtypes.second));
    return lines;
}

/// The worst first; of one kind by the dozen, which mostly tell the same story, only a few.
std::string differences_text(const Fit& fit, const std::string& first) {
    std::map<std::pair<int, std::string>, std::vector<const Difference*>> groups;
    for (const Difference& difference : fit.differences)
        groups[{-int(difference.weight), difference.what}].push_back(&difference);
    std::string text;
    for (const auto& [kind, differences] : groups) {
        const char* weight = weight_text(differences[0]->weight);
        std::vector<std::string> lines;
        if (kind.second == "dtype")
            lines = dtype_lines(differences);
        else
            for (size_t i = 0; i < differences.size() && i < most_lines; ++i)
                lines.push_back(difference_text(*differences[i], first, printable(fit.model)));
        for (const std::string& line : lines)
            text += fmt::format("  {}: {} {}\n", weight, kind.second == "config" ? "config.json" : kind.second, line);
        if (kind.second != "dtype" && differences.size() > most_lines)
            text += fmt::format("  {}: and {} more of this kind\n", weight, differences.size() - most_lines);
    }
    return text;
}

std::string verdict_text(const Fit& fit) {
    switch (fit.worst()) {
        case Weight::problem: return "does not fit";
        case Weight::warning: return "fits, with warnings";
        default: return fit.differences.empty() ? "fits: same tensors, shapes and types" : "fits";
    }
}

std::string fit_text(const std::string& first, const std::vector<Fit>& fits) {
    std::string text;
    for (const Fit& fit : fits)
        text += fmt::format("{} and {}: {}\n{}", first, printable(fit.model), verdict_text(fit),
                            differences_text(fit, first));
    const auto bad = std::count_if(fits.begin(), fits.end(), [](const Fit& fit) { return !fit.fits(); });
    const bool warned =
        std::any_of(fits.begin(), fits.end(), [](const Fit& fit) { return fit.worst() == Weight::warning; });
    text += bad > 0  ? fmt::format("\nVerdict: {} of {} do not fit the first model\n", bad,
                                   plural(int64_t(fits.size()), "model"))
            : warned ? "\nVerdict: the models can be merged; look at the warnings\n"
                     : "\nVerdict: the models fit together\n";
    return text;
}

Json fit_json(const std::string& first, const std::vector<Fit>& fits) {
    Json json = {{"first", first},
                 {"fit", std::all_of(fits.begin(), fits.end(), [](const Fit& fit) { return fit.fits(); })}};
    json["models"] = Json::array();
    for (const Fit& fit : fits) {
        Json model = {{"model", fit.model}, {"fit", fit.fits()}, {"differences", Json::array()}};
        for (const Difference& difference : fit.differences) {
            const auto value = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
            model["differences"].push_back({{"weight", weight_text(difference.weight)},
                                            {"what", difference.what},
                                            {"name", difference.name},
                                            {"first", value(difference.first)},
                                            {"other", value(difference.other)}});
        }
        json["models"].push_back(std::move(model));
    }
    return json;
}

}  // namespace

int show_fit(Files& files, const std::vector<std::string>& references, const InspectOptions& options) {
    const Checkpoint first = open_checkpoint(files, find_model(files, references[0]));
    std::vector<Fit> fits;
    for (size_t i = 1; i < references.size(); ++i)
        fits.push_back(
            compare_models(files, first, open_checkpoint(files, find_model(files, references[i])), references[i]));
    print_out(options.json ? json_text(fit_json(references[0], fits)) : fit_text(printable(references[0]), fits));
    return std::all_of(fits.begin(), fits.end(), [](const Fit& fit) { return fit.fits(); }) ? 0 : 1;
}

}  // namespace amalgam
