// The page's run beside others: of another optimiser, or with other seeds.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "jobs/report.h"
#include "jobs/table.h"
#include "src/base/error.h"
#include "src/search/statistics.h"

namespace amalgam {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

double heldout(const OtherRun& run) { return run.result ? run.result->best.heldout : unknown; }

double search_score(const OtherRun& run) {
    if (run.result) return run.result->best.search;
    const RunEvaluation* best = best_so_far(run.run);
    return best ? best->score : unknown;
}

double middle(std::vector<double> values) {
    if (values.empty()) return unknown;
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

bool same_tasks(const Run& a, const Run& b) {
    return a.start.search_items == b.start.search_items && a.start.heldout_items == b.start.heldout_items &&
           std::equal(a.start.tasks.begin(), a.start.tasks.end(), b.start.tasks.begin(), b.start.tasks.end(),
                      [](const RunTask& one, const RunTask& other) {
                          return one.name == other.name && one.metric == other.metric && one.items == other.items &&
                                 one.heldout_items == other.heldout_items;
                      });
}

/// The same search but for the seed.
bool same_kind(const Run& a, const Run& b) {
    const RunStart &one = a.start, &other = b.start;
    return one.space == other.space && one.optimiser == other.optimiser && one.options == other.options &&
           one.evaluations == other.evaluations && one.sources == other.sources && same_tasks(a, b) &&
           (one.tie_breaker == other.tie_breaker || (std::isnan(one.tie_breaker) && std::isnan(other.tie_breaker))) &&
           std::equal(one.genes.begin(), one.genes.end(), other.genes.begin(), other.genes.end(),
                      [](const RunGene& x, const RunGene& y) {
                          return x.name == y.name && x.low == y.low && x.high == y.high;
                      });
}

Json row_json(const OtherRun& run, const OtherRun& own) {
    const auto known = [](const OtherRun& one) { return one.result ? one.result->best.heldout_items : std::string(); };
    Json row = {{"name", run.name},
                {"kind", run.kind},
                {"optimiser", run.run.start.optimiser},
                {"seed", run.run.start.seed},
                {"evaluations", counted_evaluations(run.run)},
                {"search", rounded(search_score(run))},
                {"heldout", rounded(heldout(run))},
                {"low", rounded(run.result ? run.result->best.low : unknown)},
                {"high", rounded(run.result ? run.result->best.high : unknown)},
                {"own_better", nullptr},
                {"own_worse", nullptr},
                {"p", nullptr}};
    const std::string its = known(run), ours = known(own);
    if (&run == &own || its.empty() || its.size() != ours.size() || !same_tasks(run.run, own.run)) return row;
    int64_t better = 0, worse = 0;
    for (size_t item = 0; item < ours.size(); ++item) {
        better += ours[item] > its[item];
        worse += ours[item] < its[item];
    }
    row["own_better"] = better;
    row["own_worse"] = worse;
    row["p"] = rounded(sign_test(item_scores(ours), item_scores(its)), 3);
    return row;
}

/// Held-out scores of runs of the page's kind and of another kind, of the seeds that both have.
struct SeedPairs {
    std::vector<double> own, its;
    bool same_budget = true;
};

SeedPairs pairs_of(const std::vector<const OtherRun*>& own, const std::vector<const OtherRun*>& others) {
    SeedPairs pairs;
    for (const OtherRun* run : own) {
        const auto found = std::find_if(others.begin(), others.end(), [&](const OtherRun* other) {
            return other->run.start.seed == run->run.start.seed && same_tasks(other->run, run->run);
        });
        if (found == others.end() || !std::isfinite(heldout(*run)) || !std::isfinite(heldout(**found))) continue;
        pairs.own.push_back(heldout(*run));
        pairs.its.push_back(heldout(**found));
        pairs.same_budget &= counted_evaluations(run->run) == counted_evaluations((*found)->run);
    }
    return pairs;
}

Json kind_json(const std::string& name, const std::vector<const OtherRun*>& runs,
               const std::vector<const OtherRun*>& own) {
    std::vector<double> scores, searched;
    for (const OtherRun* run : runs) {
        if (std::isfinite(heldout(*run))) scores.push_back(heldout(*run));
        if (std::isfinite(search_score(*run))) searched.push_back(search_score(*run));
    }
    const auto [least, most] = std::minmax_element(scores.begin(), scores.end());
    Json json = {{"name", name},
                 {"runs", runs.size()},
                 {"search", rounded(middle(searched))},
                 {"median", rounded(middle(scores))},
                 {"worst", rounded(scores.empty() ? unknown : *least)},
                 {"best", rounded(scores.empty() ? unknown : *most)},
                 {"pairs", nullptr}};
    if (&runs == &own) return json;
    const SeedPairs pairs = pairs_of(own, runs);
    std::vector<double> differences;
    int64_t better = 0, worse = 0;
    for (size_t i = 0; i < pairs.own.size(); ++i) {
        differences.push_back(pairs.own[i] - pairs.its[i]);
        better += differences.back() > 0;
        worse += differences.back() < 0;
    }
    json["pairs"] = pairs.own.size();
    json["own_better"] = better;
    json["own_worse"] = worse;
    json["difference"] = rounded(middle(differences));
    json["p"] = pairs.own.empty() ? Json(nullptr) : rounded(sign_test(pairs.own, pairs.its), 3);
    json["same_budget"] = pairs.same_budget;
    return json;
}

}  // namespace

void tell_kinds(const OtherRun& run, std::vector<OtherRun>& others) {
    std::vector<std::vector<OtherRun*>> kinds(1);
    for (OtherRun& other : others) {
        const auto found = std::find_if(kinds.begin() + 1, kinds.end(), [&](const std::vector<OtherRun*>& kind) {
            return same_kind(kind.front()->run, other.run);
        });
        if (same_kind(run.run, other.run))
            other.kind = 0;
        else
            other.kind = size_t(found - kinds.begin());
        if (other.kind == kinds.size()) kinds.emplace_back();
        kinds[other.kind].push_back(&other);
    }
    for (size_t kind = 0; kind < kinds.size(); ++kind)
        for (OtherRun* other : kinds[kind])
            other->kind_name = kind == 0 ? "same search, other seeds"
                               : kinds[kind].size() == 1
                                   ? other->name
                                   : fmt::format("{}, {}", printable(other->run.start.optimiser, 30),
                                                 plural(int64_t(kinds[kind].size()), "run"));
}

Json comparison_json(const OtherRun& run, const std::vector<OtherRun>& others) {
    if (others.empty()) return nullptr;
    Json rows = Json::array({row_json(run, run)}), list = Json::array();
    std::vector<std::vector<const OtherRun*>> kinds{{&run}};
    for (const OtherRun& other : others) {
        rows.push_back(row_json(other, run));
        if (other.kind >= kinds.size()) kinds.resize(other.kind + 1);
        kinds[other.kind].push_back(&other);
    }
    if (others.size() + 1 > kinds.size())
        for (const auto& kind : kinds)
            list.push_back(kind_json(&kind == &kinds[0] ? "this search" : kind.front()->kind_name, kind, kinds[0]));
    return {{"runs", std::move(rows)}, {"kinds", std::move(list)}};
}

}  // namespace amalgam
