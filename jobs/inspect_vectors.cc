#include "src/run/inspect_vectors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "jobs/command_line.h"
#include "jobs/inspect.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/log.h"

namespace amalgam {
namespace {

constexpr size_t most_notes = 8;
/// More columns than this do not fit a screen: the table by layer then shows means.
constexpr int most_columns = 8;

std::string value_text(double value, int digits) {
    if (std::isnan(value)) return "-";
    const std::string text = fmt::format("{:.{}f}", value, digits);
    return text.find_first_not_of("-0.") == std::string::npos && text.starts_with('-') ? text.substr(1) : text;
}

std::string share_text(double share) { return std::isnan(share) ? "-" : fmt::format("{:.1f} %", 100 * share); }

std::string layer_text(const VectorReport::Layer& layer) {
    if (layer.layer < 0) return "outside of layers";
    return fmt::format("{}{}{}", printable(layer.tower, 60), layer.tower.empty() ? "" : ".", layer.layer);
}

double mean_cosine(const VectorStatistics& statistics) {
    double sum = 0;
    int pairs = 0;
    for (int i = 0; i < statistics.models; ++i)
        for (int j = i + 1; j < statistics.models; ++j)
            if (const double cosine = statistics.cosine(i, j); !std::isnan(cosine)) {
                sum += cosine;
                ++pairs;
            }
    return pairs == 0 ? NAN : sum / pairs;
}

/// Folder names, unless two are alike.
std::vector<std::string> short_names(const std::vector<std::string>& references) {
    std::vector<std::string> names;
    for (const std::string& reference : references) {
        std::string text = reference;
        while (text.size() > 1 && text.ends_with('/')) text.pop_back();
        const std::string name = std::filesystem::path(text).filename().string();
        names.push_back(printable(name.empty() ? text : name, 60));
    }
    const std::set<std::string> distinct(names.begin(), names.end());
    if (distinct.size() == names.size()) return names;
    names.clear();
    for (const std::string& reference : references) names.push_back(printable(reference, 60));
    return names;
}

std::string whole_text(const VectorStatistics& whole, const std::vector<std::string>& names) {
    Table norms("lrrr");
    norms.add({"model", "norm / base", "norm", "changed"});
    for (int i = 0; i < whole.models; ++i)
        norms.add({names[size_t(i)], value_text(whole.relative_norm(i), 4), value_text(whole.norm(i), 4),
                   share_text(whole.elements > 0 ? double(whole.changed[size_t(i)]) / double(whole.elements) : NAN)});
    std::string text = norms.text("  ");
    if (whole.models < 2) return text;
    const auto matrix = [&](const char* title, const auto& cell) {
        Table table("l" + std::string(names.size(), 'r'));
        std::vector<std::string> head = {""};
        head.insert(head.end(), names.begin(), names.end());
        table.add(head);
        for (int i = 0; i < whole.models; ++i) {
            std::vector<std::string> row = {names[size_t(i)]};
            for (int j = 0; j < whole.models; ++j) row.push_back(cell(i, j));
            table.add(std::move(row));
        }
        text += fmt::format("\n{}\n", title) + table.text("  ");
    };
    matrix("Cosines", [&](int i, int j) { return value_text(whole.cosine(i, j), 3); });
    matrix("Opposite signs, of the elements that both change",
           [&](int i, int j) { return i == j ? std::string("-") : share_text(whole.opposite_share(i, j)); });
    return text + fmt::format("\n{} of all elements are raised by some models and lowered by others\n",
                              share_text(whole.conflict_share()));
}

std::string layers_text(const VectorReport& report, const std::vector<std::string>& names) {
    const bool wide = report.whole.models <= most_columns;
    Table table("l" + std::string(wide ? names.size() + 2 : 5, 'r'));
    std::vector<std::string> head = {"norm / base"};
    if (wide)
        head.insert(head.end(), names.begin(), names.end());
    else
        head.insert(head.end(), {"least", "mean", "most"});
    head.insert(head.end(), {"mean cosine", "conflicts"});
    table.add(head);
    for (const VectorReport::Layer& layer : report.layers) {
        const VectorStatistics& statistics = layer.statistics;
        std::vector<double> norms;
        for (int i = 0; i < statistics.models; ++i) norms.push_back(statistics.relative_norm(i));
        std::vector<std::string> row = {layer_text(layer)};
        if (!wide) {
            double sum = 0;
            for (double norm : norms) sum += norm;
            const auto [least, most] = std::minmax_element(norms.begin(), norms.end());
            norms = {*least, sum / double(norms.size()), *most};
        }
        for (double norm : norms) row.push_back(value_text(norm, 4));
        row.push_back(value_text(mean_cosine(statistics), 3));
        row.push_back(share_text(statistics.conflict_share()));
        table.add(std::move(row));
    }
    return table.text("  ");
}

Json statistics_json(const VectorStatistics& statistics) {
    Json json = {{"elements", statistics.elements}, {"base_norm", json_number(std::sqrt(statistics.base_squares))}};
    for (const char* key :
         {"norms", "relative_norms", "changed", "nonfinite", "cosines", "opposite_signs", "both_changed", "opposite"})
        json[key] = Json::array();
    for (int i = 0; i < statistics.models; ++i) {
        json["norms"].push_back(json_number(statistics.norm(i)));
        json["relative_norms"].push_back(json_number(statistics.relative_norm(i)));
        json["changed"].push_back(statistics.changed[size_t(i)]);
        json["nonfinite"].push_back(statistics.nonfinite[size_t(i)]);
        Json cosines = Json::array(), shares = Json::array(), both = Json::array(), opposite = Json::array();
        for (int j = 0; j < statistics.models; ++j) {
            cosines.push_back(json_number(statistics.cosine(i, j)));
            shares.push_back(i == j ? Json(nullptr) : json_number(statistics.opposite_share(i, j)));
            const auto pair = [&](const std::vector<int64_t>& counts) { return counts[statistics.pair(i, j)]; };
            both.push_back(i == j ? Json(nullptr) : Json(pair(statistics.both)));
            opposite.push_back(i == j ? Json(nullptr) : Json(pair(statistics.opposite)));
        }
        json["cosines"].push_back(std::move(cosines));
        json["opposite_signs"].push_back(std::move(shares));
        json["both_changed"].push_back(std::move(both));
        json["opposite"].push_back(std::move(opposite));
    }
    json["conflicts"] = statistics.conflicts;
    json["conflict_share"] = statistics.conflict_share();
    return json;
}

Json report_json(const std::string& base, const std::vector<std::string>& references, const VectorReport& report) {
    Json json = {{"base", base}, {"models", references}, {"tensors", report.tensors}};
    json["whole"] = statistics_json(report.whole);
    json["layers"] = Json::array();
    for (const VectorReport::Layer& layer : report.layers) {
        Json entry = {{"tower", layer.tower}, {"layer", layer.layer < 0 ? Json(nullptr) : Json(layer.layer)}};
        entry.update(statistics_json(layer.statistics));
        json["layers"].push_back(std::move(entry));
    }
    json["left_out"] = report.left_out;
    return json;
}

void warn(const VectorReport& report, const std::vector<std::string>& names) {
    for (size_t i = 0; i < report.left_out.size() && i < most_notes; ++i)
        log_warning("left out: {}", report.left_out[i]);
    if (report.left_out.size() > most_notes)
        log_warning("and {} more tensors left out", report.left_out.size() - most_notes);
    for (int i = 0; i < report.whole.models; ++i)
        if (const int64_t count = report.whole.nonfinite[size_t(i)]; count > 0)
            log_warning("{}: {} elements whose difference to the base is NaN or infinite, counted as unchanged",
                        names[size_t(i)], count);
}

}  // namespace

int show_vectors(Files& files, const std::string& base, const std::vector<std::string>& references,
                 const InspectOptions& options) {
    const NamedCheckpoint origin = {base, open_checkpoint(files, find_model(files, base))};
    std::vector<NamedCheckpoint> models;
    for (const std::string& reference : references)
        models.push_back({reference, open_checkpoint(files, find_model(files, reference))});
    const VectorReport report = inspect_vectors(origin, models, options.threads);
    check(report.tensors > 0, "no tensor of {} is in all of the models in the same shape: nothing to compare",
          printable(base));
    const std::vector<std::string> names = short_names(references);
    warn(report, names);
    if (options.json) {
        print_out(json_text(report_json(base, references, report)));
        return 0;
    }
    print_out(fmt::format("Task vectors from {}: {}, {} elements\n{}\nBy layer\n{}", printable(base),
                          plural(report.tensors, "tensor"), count_text(report.whole.elements),
                          whole_text(report.whole, names), layers_text(report, names)));
    return 0;
}

}  // namespace amalgam
