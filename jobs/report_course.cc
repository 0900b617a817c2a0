#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "jobs/report.h"

namespace amalgam {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
constexpr size_t most_points = 4000;
constexpr size_t most_generations = 400;
constexpr size_t most_genes = 500;
constexpr size_t most_cells = 24'000;  ///< of a heat map
constexpr size_t most_bars = 2500;
constexpr size_t most_groups = 200;
constexpr size_t bins = 120;

double middle(std::vector<double> values) {
    if (values.empty()) return unknown;
    const auto half = values.begin() + long(values.size() / 2);
    std::nth_element(values.begin(), half, values.end());
    if (values.size() % 2 == 1) return *half;
    return (*half + *std::max_element(values.begin(), half)) / 2;
}

/// So many of the numbers 0 to count - 1, evenly, the last one among them.
std::vector<size_t> thinned(size_t count, size_t most) {
    std::vector<size_t> kept;
    const size_t wanted = std::min(count, std::max<size_t>(1, most));
    for (size_t i = 1; i <= wanted; ++i) kept.push_back(i * count / wanted - 1);
    return kept;
}

struct Course {
    struct Point {
        const RunEvaluation* evaluation;
        int64_t x;  ///< new evaluations so far
        bool best;
    };
    struct Step {
        int64_t x;
        double score, objective;
    };
    std::vector<Point> points;
    std::vector<Step> running;  ///< where the best score or objective grows
    int64_t count = 0;
};

Course course_of(const Run& run) {
    Course course;
    double score = -INFINITY, objective = -INFINITY;
    for (const RunEvaluation& evaluation : run.evaluations) {
        if (!evaluation.counts()) continue;
        ++course.count;
        const bool better =
            evaluation.ok && (evaluation.score > score || (evaluation.objective > objective && score > -INFINITY));
        if (better) {
            score = std::max(score, evaluation.score);
            if (evaluation.objective > objective) objective = evaluation.objective;
            course.running.push_back({course.count, score, objective});
        }
        course.points.push_back({&evaluation, course.count, better});
    }
    return course;
}

/// A long course without its small steps.
std::vector<Course::Step> thinned_steps(const Course& course) {
    std::vector<Course::Step> steps;
    for (size_t i : thinned(course.running.size(), 1000)) steps.push_back(course.running[i]);
    return steps;
}

Json points_json(const Course& course) {
    Json json = {{"all", course.points.size()}};
    for (const char* name : {"x", "id", "generation", "origin", "score", "objective"}) json[name] = Json::array();
    const size_t apart = (course.points.size() + most_points - 1) / most_points;
    for (size_t i = 0; i < course.points.size(); ++i) {
        const Course::Point& point = course.points[i];
        if (i % std::max<size_t>(1, apart) != 0 && !point.best) continue;
        json["x"].push_back(point.x);
        json["id"].push_back(point.evaluation->id);
        json["generation"].push_back(point.evaluation->generation);
        json["origin"].push_back(point.evaluation->origin);
        json["score"].push_back(point.evaluation->ok ? rounded(point.evaluation->score) : Json(nullptr));
        json["objective"].push_back(point.evaluation->ok ? rounded(point.evaluation->objective) : Json(nullptr));
    }
    return json;
}

using GenerationKey = std::pair<std::string, int64_t>;

/// Phases and generations in the order of their first evaluation.
struct Generation {
    GenerationKey key;
    int64_t x = 0;
    std::vector<double> scores, objectives;
    const RunEvaluation* best = nullptr;
};

std::vector<Generation> generations_of(const Run& run) {
    std::vector<Generation> generations;
    std::map<GenerationKey, size_t> places;
    int64_t x = 0;
    for (const RunEvaluation& evaluation : run.evaluations) {
        x += evaluation.counts();
        if (evaluation.set != "search" || (evaluation.origin != "drawn" && evaluation.origin != "injected")) continue;
        const GenerationKey key(evaluation.phase, evaluation.generation);
        const auto [found, is_new] = places.emplace(key, generations.size());
        if (is_new) generations.push_back({key, 0, {}, {}, nullptr});
        Generation& generation = generations[found->second];
        generation.x = x;
        if (!evaluation.ok) continue;
        if (std::isfinite(evaluation.score)) generation.scores.push_back(evaluation.score);
        if (std::isfinite(evaluation.objective)) generation.objectives.push_back(evaluation.objective);
        if (!generation.best || evaluation.objective > generation.best->objective) generation.best = &evaluation;
    }
    return generations;
}

Json medians_json(const Run& run) {
    std::vector<Generation> generations = generations_of(run);
    // The median of a few would stand for a generation that has only begun.
    if (generations.size() > 1 &&
        2 * generations.back().scores.size() < generations[generations.size() - 2].scores.size())
        generations.pop_back();
    Json medians = Json::array();
    for (size_t i : thinned(generations.size(), 1000))
        medians.push_back({{"x", generations[i].x},
                           {"generation", generations[i].key.second},
                           {"score", rounded(middle(generations[i].scores))},
                           {"objective", rounded(middle(generations[i].objectives))}});
    return medians;
}

// ---- the genome

struct PhaseGenes {
    std::vector<int64_t> generations;
    std::vector<std::vector<double>> genomes;  ///< by generation
    bool means = false;                        ///< else the best candidates
};

PhaseGenes genes_of(const Run& run, const std::string& phase, const std::vector<Generation>& generations) {
    PhaseGenes genes;
    for (const RunGeneration& generation : run.generations)
        if (generation.phase == phase && !generation.mean_genome.empty()) {
            genes.generations.push_back(generation.generation);
            genes.genomes.push_back(generation.mean_genome);
        }
    genes.means = !genes.genomes.empty();
    if (genes.means) return genes;
    for (const Generation& generation : generations)
        if (generation.key.first == phase && generation.best && !generation.best->genome.empty()) {
            genes.generations.push_back(generation.key.second);
            genes.genomes.push_back(generation.best->genome);
        }
    return genes;
}

RunGene gene_of(const std::vector<RunGene>& known, const std::optional<RunResult>& result, size_t gene, size_t count) {
    if (known.size() == count) return known[gene];
    RunGene named{fmt::format("gene {}", gene + 1), "", unknown, unknown};
    if (result && result->best.genome.size() == count) named.name = result->best.genome[gene].first;
    return named;
}

Json genes_json(const std::vector<RunGene>& known, const std::optional<RunResult>& result, const PhaseGenes& genes,
                Json& shown_generations) {
    const size_t count = genes.genomes.empty() ? 0 : genes.genomes[0].size();
    const auto value = [&](size_t generation, size_t gene) {
        return gene < genes.genomes[generation].size() ? genes.genomes[generation][gene] : unknown;
    };
    struct Row {
        size_t gene;
        RunGene about;
        double change;
    };
    std::vector<Row> rows;
    for (size_t gene = 0; gene < count; ++gene) {
        RunGene about = gene_of(known, result, gene, count);
        double low = INFINITY, high = -INFINITY;
        for (size_t generation = 0; generation < genes.genomes.size(); ++generation) {
            if (!std::isfinite(value(generation, gene))) continue;
            low = std::min(low, value(generation, gene));
            high = std::max(high, value(generation, gene));
        }
        if (!(low <= high)) low = 0, high = 1;
        const double moved = high - low;
        if (!std::isfinite(about.low)) about.low = std::min(low, about.high);
        if (!std::isfinite(about.low)) about.low = low;
        if (!std::isfinite(about.high)) about.high = high;
        const double width = about.high - about.low;
        rows.push_back({gene, std::move(about), width > 0 ? moved / width : 0});
    }
    if (rows.size() > most_genes) {
        std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.change > b.change; });
        rows.resize(most_genes);
        std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.gene < b.gene; });
    }
    const size_t columns = std::max<size_t>(20, most_cells / std::max<size_t>(1, rows.size()));
    const std::vector<size_t> kept = thinned(genes.genomes.size(), std::min(columns, most_generations));
    for (size_t generation : kept) shown_generations.push_back(genes.generations[generation]);
    Json list = Json::array();
    for (const Row& row : rows) {
        Json values = Json::array();
        for (size_t generation : kept) values.push_back(rounded(value(generation, row.gene), 4));
        list.push_back({{"name", row.about.name},
                        {"low", rounded(row.about.low)},
                        {"high", rounded(row.about.high)},
                        {"values", std::move(values)}});
    }
    return list;
}

Json facts_json(const Run& run, const std::string& phase) {
    std::vector<const RunGeneration*> own;
    for (const RunGeneration& generation : run.generations)
        if (generation.phase == phase) own.push_back(&generation);
    std::vector<std::string> names;
    for (const RunGeneration* generation : own)
        for (const auto& [name, value] : generation->facts)
            if (names.size() < 12 && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    Json facts = Json::array();
    for (const std::string& name : names) {
        Json fact = {{"name", name}, {"generations", Json::array()}, {"values", Json::array()}};
        for (size_t i : thinned(own.size(), most_generations))
            for (const auto& [other, value] : own[i]->facts)
                if (other == name) {
                    fact["generations"].push_back(own[i]->generation);
                    fact["values"].push_back(rounded(value, 5));
                }
        facts.push_back(std::move(fact));
    }
    return facts;
}

// ---- time

bool was_timed(const RunEvaluation& evaluation) {
    return evaluation.group >= 0 && std::isfinite(evaluation.started) && std::isfinite(evaluation.ended) &&
           evaluation.started >= 0 && evaluation.ended >= evaluation.started && evaluation.ended < 1e12;
}

Json histogram_json(std::vector<double> durations) {
    Json json = {{"edges", Json::array()}, {"counts", Json::array()}};
    if (durations.empty()) return json;
    std::sort(durations.begin(), durations.end());
    // What takes very long goes to the last bar, or it would press all others into the first.
    const double low = durations.front(), longest = durations.back();
    const double high = std::min(longest, 3 * durations[size_t(double(durations.size() - 1) * 0.99)]);
    const size_t count = high > low ? std::min<size_t>(40, 5 + durations.size() / 5) : 1;
    std::vector<int64_t> counts(count, 0);
    for (double duration : durations) {
        const double share = high > low ? (duration - low) / (high - low) : 0;
        ++counts[std::min(count - 1, size_t(std::max(0., share) * double(count)))];
    }
    const double width = high > low ? (high - low) / double(count) : std::max(1e-6, low * 0.1);
    for (size_t i = 0; i <= count; ++i) json["edges"].push_back(rounded(low + width * double(i)));
    json["counts"] = counts;
    return json;
}

struct GroupTime {
    int64_t evaluations = 0;
    double busy = 0;
    std::vector<double> bins;
};

/// What of an evaluation falls into each bin of the time.
void add_to_bins(GroupTime& group, const RunEvaluation& evaluation, double bin) {
    const auto first = std::min(bins - 1, size_t(evaluation.started / bin));
    const auto last = std::min(bins - 1, size_t(evaluation.ended / bin));
    for (size_t i = first; i <= last; ++i)
        group.bins[i] += std::max(
            0., std::min(evaluation.ended, bin * double(i + 1)) - std::max(evaluation.started, bin * double(i)));
}

Json event_json(const RunEvent& event) {
    return {{"group", event.group}, {"time", rounded(event.time)}, {"text", event.text}};
}

}  // namespace

void add_progress(Json& data, const Run& run, const std::optional<RunResult>& result,
                  const std::vector<OtherRun>& others) {
    const Course course = course_of(run);
    data["points"] = points_json(course);
    data["running"] = Json::array();
    for (const Course::Step& step : thinned_steps(course))
        data["running"].push_back(
            {{"x", step.x}, {"score", rounded(step.score)}, {"objective", rounded(step.objective)}});
    data["medians"] = medians_json(run);
    data["borders"] = Json::array();
    std::string phase;
    for (const Course::Point& point : course.points)
        if (point.evaluation->phase != phase) {
            if (!phase.empty() && data["borders"].size() < 20)
                data["borders"].push_back({point.x - 1, point.evaluation->phase});
            phase = point.evaluation->phase;
        }
    data["references"] = Json::array();
    const auto add_reference = [&](const std::string& name, double score) {
        if (std::isfinite(score))
            data["references"].push_back({{"name", name}, {"score", rounded(score)}, {"objective", nullptr}});
    };
    if (result) {
        const RunScores* source = nullptr;
        for (const RunScores& one : result->sources)
            if (std::isfinite(one.search) && (!source || one.search > source->search)) source = &one;
        if (source) add_reference(source->name, source->search);
        if (result->uniform) add_reference("uniform merge", result->uniform->search);
        if (result->random) add_reference("random search", result->random->search);
    }
    data["against"] = Json::array();
    for (const OtherRun& other : others) {
        const Course its = course_of(other.run);
        Json json = {{"name", other.name}, {"kind", other.kind},     {"kind_name", other.kind_name},
                     {"x", Json::array()}, {"score", Json::array()}, {"objective", Json::array()}};
        std::vector<Course::Step> steps = thinned_steps(its);
        if (!steps.empty()) steps.push_back({its.count, steps.back().score, steps.back().objective});
        for (const Course::Step& step : steps) {
            json["x"].push_back(step.x);
            json["score"].push_back(rounded(step.score));
            json["objective"].push_back(rounded(step.objective));
        }
        if (!steps.empty()) data["against"].push_back(std::move(json));
    }
}

Json phases_json(const Run& run, const std::optional<RunResult>& result) {
    const std::vector<Generation> generations = generations_of(run);
    std::vector<std::string> names;
    for (const Generation& generation : generations)
        if (names.size() < 8 && std::find(names.begin(), names.end(), generation.key.first) == names.end())
            names.push_back(generation.key.first);
    Json phases = Json::array();
    for (const std::string& name : names) {
        const PhaseGenes genes = genes_of(run, name, generations);
        Json shown = Json::array();
        Json list = genes_json(run.genes(name), result, genes, shown);
        phases.push_back({{"name", name},
                          {"what", genes.means ? "The mean of the optimiser's distribution after each generation."
                                               : "The best candidate of each generation."},
                          {"all_genes", genes.genomes.empty() ? 0 : genes.genomes[0].size()},
                          {"generations", std::move(shown)},
                          {"genes", std::move(list)},
                          {"facts", facts_json(run, name)}});
    }
    return phases;
}

Json timing_json(const Run& run) {
    std::vector<const RunEvaluation*> timed;
    std::vector<double> durations;
    double end = 0;
    for (const RunEvaluation& evaluation : run.evaluations)
        if (was_timed(evaluation)) {
            timed.push_back(&evaluation);
            durations.push_back(evaluation.ended - evaluation.started);
            end = std::max(end, evaluation.ended);
        }
    const double bin = std::max(end, 1e-9) / double(bins);
    std::map<int, GroupTime> groups;
    for (const RunEvaluation* evaluation : timed) {
        GroupTime& group = groups[evaluation->group];
        group.bins.resize(bins);
        ++group.evaluations;
        group.busy += evaluation->ended - evaluation->started;
        add_to_bins(group, *evaluation, bin);
    }
    Json list = Json::array(), busy = Json::array(), bars = Json::array();
    std::map<int, size_t> places;
    double all_busy = 0;
    for (const auto& [number, group] : groups) {
        all_busy += group.busy;
        if (list.size() >= most_groups) continue;
        places[number] = list.size();
        list.push_back({{"group", number},
                        {"evaluations", group.evaluations},
                        {"busy", rounded(end > 0 ? group.busy / end : 0, 4)}});
        busy.push_back(Json::array());
        for (double seconds : group.bins) busy.back().push_back(rounded(std::min(1., seconds / bin), 3));
    }
    if (timed.size() <= most_bars && groups.size() <= 64)
        for (const RunEvaluation* evaluation : timed)
            bars.push_back({places.at(evaluation->group), rounded(evaluation->started), rounded(evaluation->ended),
                            evaluation->id,
                            !evaluation->ok        ? 1
                            : evaluation->counts() ? 0
                                                   : 2});
    Json sessions = Json::array(), lost = Json::array();
    for (size_t i = 0; i < std::min<size_t>(run.sessions.size(), 100); ++i)
        sessions.push_back(event_json(run.sessions[i]));
    for (size_t i = 0; i < std::min<size_t>(run.lost_groups.size(), 200); ++i)
        lost.push_back(event_json(run.lost_groups[i]));
    const double possible = end * double(groups.size());
    return {{"evaluations", timed.size()},
            {"end", rounded(end)},
            {"bin", bin},
            {"median", rounded(middle(durations))},
            {"longest", rounded(durations.empty() ? unknown : *std::max_element(durations.begin(), durations.end()))},
            {"busy_share", rounded(possible > 0 ? all_busy / possible : 0, 4)},
            {"all_groups", groups.size()},
            {"groups", std::move(list)},
            {"busy", std::move(busy)},
            {"bars", std::move(bars)},
            {"histogram", histogram_json(durations)},
            {"sessions", std::move(sessions)},
            {"lost", std::move(lost)}};
}

}  // namespace amalgam
