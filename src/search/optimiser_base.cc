#include "src/search/optimiser_base.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr int64_t most_genes = 1 << 20, most_objectives = 1000, most_injected = 1 << 20;

void check_gene(const Gene& gene) {
    const bool whole = gene.kind != Gene::Kind::continuous;
    check(gene.low < gene.high, "gene {}: its range is {} to {}: low must be below high", gene.name, gene.low,
          gene.high);
    check(!whole || (std::abs(gene.low) <= 1e9 && std::abs(gene.high) <= 1e9 && gene.low == std::round(gene.low) &&
                     gene.high == std::round(gene.high)),
          "gene {}: its range is {} to {}: whole numbers need bounds that are whole numbers up to 1e9", gene.name,
          gene.low, gene.high);
    check(gene.kind != Gene::Kind::binary || (gene.low == 0 && gene.high == 1),
          "gene {}: its range is {} to {}: a binary gene is 0 or 1", gene.name, gene.low, gene.high);
    check(std::isfinite(gene.start) && gene.start >= gene.low && gene.start <= gene.high,
          "gene {}: start {} is not within {} to {}", gene.name, gene.start, gene.low, gene.high);
    check(std::isfinite(gene.sigma) && gene.sigma > 0 && gene.sigma <= 1e100,
          "gene {}: sigma {} is not a positive number up to 1e100", gene.name, gene.sigma);
}

void check_settings(const OptimiserSettings& settings) {
    check(settings.population >= 0 && settings.population <= 1 << 20,
          "population {} is not from 0 (the optimiser's own rule) to {}", settings.population, 1 << 20);
    check(settings.sigma_scale > 0 && settings.sigma_scale <= 1e6, "sigma_scale {} is not a positive number up to 1e6",
          settings.sigma_scale);
}

}  // namespace

double fit_gene(const Gene& gene, double value) {
    if (!std::isfinite(value)) value = gene.start;
    if (gene.kind != Gene::Kind::continuous) value = std::floor(value + 0.5);
    return std::clamp(value, gene.low, gene.high);
}

OptimiserBase::OptimiserBase(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings)
    : name_(std::move(name)), genes_(std::move(genes)), settings_(settings) {
    check(!genes_.empty() && gene_count() <= most_genes, "{} genes: an optimiser works on 1 to {}", genes_.size(),
          most_genes);
    for (const Gene& gene : genes_) check_gene(gene);
    check_settings(settings_);
}

std::vector<Candidate> OptimiserBase::ask() {
    if (!stopped_.empty()) return {};
    if (!asked_) {
        const int64_t count = std::min(room(), int64_t(waiting_.size()));
        taken_.assign(waiting_.begin(), waiting_.begin() + count);
        waiting_.erase(waiting_.begin(), waiting_.begin() + count);
        asked_ = true;
    }
    if (candidates_.empty()) candidates_ = draw(taken_);
    return candidates_;
}

void OptimiserBase::tell(const std::vector<Outcome>& outcomes) {
    check(stopped_.empty(), "the optimiser {} was told results after its end ({})", name_, stopped_);
    ask();
    check(outcomes.size() == candidates_.size(), "the optimiser {} was told {} results of {} candidates", name_,
          outcomes.size(), candidates_.size());
    std::vector<Key> keys;
    std::vector<bool> missing;
    int64_t objectives = objective_count_;
    for (const Outcome& outcome : outcomes) {
        keys.push_back(key_of(outcome));
        missing.push_back(outcome.missing);
        check(outcome.idle.empty() || outcome.idle.size() == genes_.size(),
              "the optimiser {} was told of {} genes, it has {}", name_, outcome.idle.size(), genes_.size());
        if (!outcome.valid || outcome.missing) continue;
        const auto count = int64_t(outcome.objectives.size());
        if (objectives == 0) objectives = count;
        check(count == objectives && count > 0 && count <= most_objectives,
              "the optimiser {} was told a result of {} objectives, others had {}", name_, count, objectives);
    }
    objective_count_ = objectives;
    std::vector<Candidate> told = std::move(candidates_);
    candidates_.clear();
    for (size_t i = 0; i < told.size(); ++i) told[i].idle = outcomes[i].idle;
    learn(told, keys, missing);
    ++generation_;
    taken_.clear();
    asked_ = false;
}

void OptimiserBase::inject(const std::vector<std::vector<double>>& genomes) {
    for (const auto& genome : genomes)
        check(genome.size() == genes_.size(), "a genome of {} numbers was given to a search of {} genes", genome.size(),
              genes_.size());
    check(int64_t(waiting_.size() + genomes.size()) <= most_injected, "more than {} injected genomes wait",
          most_injected);
    for (std::vector<double> genome : genomes) {
        for (size_t i = 0; i < genome.size(); ++i) genome[i] = fit_gene(genes_[i], genome[i]);
        waiting_.push_back(std::move(genome));
    }
}

Candidate OptimiserBase::candidate_at(const std::vector<double>& values, bool injected) const {
    Candidate candidate{.genome = values, .raw = values, .injected = injected};
    for (size_t i = 0; i < genes_.size(); ++i) candidate.genome[i] = fit_gene(genes_[i], values[i]);
    return candidate;
}

std::vector<double> OptimiserBase::anywhere(Draw purpose, int64_t candidate) const {
    std::vector<double> values;
    for (size_t i = 0; i < genes_.size(); ++i) {
        const Gene& gene = genes_[i];
        // Whole numbers are as likely as each other when their outer halves belong to the range.
        const double edge = gene.kind == Gene::Kind::continuous ? 0 : 0.5;
        const double share = draws().uniform(purpose, candidate, int64_t(i));
        const bool bounded = std::isfinite(gene.low) && std::isfinite(gene.high);
        values.push_back(bounded ? gene.low - edge + share * (gene.high - gene.low + 2 * edge) : gene.start);
    }
    return values;
}

std::string OptimiserBase::fingerprint() const {
    uint64_t hash = 0xcbf29ce484222325ull;
    const auto add = [&hash](std::string_view bytes) {
        for (char c : bytes) hash = (hash ^ uint8_t(c)) * 0x100000001b3ull;
    };
    const auto add_gene = [&add](const Gene& gene) {
        add(fmt::format("{}\n{}\n{} {} {} {} {};", gene.name, gene.group, int(gene.kind), gene.low, gene.high,
                        gene.start, gene.sigma));
    };
    std::for_each(genes_.begin(), genes_.end(), add_gene);
    const OptimiserSettings& s = settings_;
    add(fmt::format("{} {} {} {} {} {} {} {} {} {} {}", s.seed, s.population, s.sigma_scale, s.active, int(s.restarts),
                    s.learning_rate_adaptation, s.differential_weight, s.crossover, s.crossover_index, s.mutation_index,
                    s.steps));
    return fmt::format("{:016x}", hash);
}

void OptimiserBase::exchange_all(OptimiserState& state) {
    std::string head = name_ + " 1 " + fingerprint();
    state.words("optimiser", head);
    check(head == name_ + " 1 " + fingerprint(),
          "state of an optimiser is of \"{}\", this one is \"{} 1 {}\": its genes or settings are others",
          printable(head, 60), name_, fingerprint());
    state.count("generation", generation_, 0, int64_t(1) << 48);
    state.count("objectives", objective_count_, 0, most_objectives);
    state.words("stopped", stopped_);
    state.flag("asked", asked_);
    state.rows("waiting", waiting_, gene_count(), most_injected);
    state.rows("taken", taken_, gene_count(), most_injected);
    for (auto* genomes : {&waiting_, &taken_})
        for (auto& genome : *genomes)
            for (size_t i = 0; i < genome.size(); ++i) genome[i] = fit_gene(genes_[i], genome[i]);
    exchange(state);
    check(int64_t(taken_.size()) <= room(), "state of an optimiser has {} injected genomes in a generation of {}",
          taken_.size(), room());
}

std::string OptimiserBase::save() const {
    OptimiserState state;
    // Writing changes nothing.
    const_cast<OptimiserBase*>(this)->exchange_all(state);
    return state.text();
}

void OptimiserBase::load(const std::string& text) {
    const std::string before = save();
    try {
        OptimiserState state(text);
        exchange_all(state);
        state.end();
    } catch (...) {
        OptimiserState state(before);
        exchange_all(state);
        throw;
    }
    candidates_.clear();
}

}  // namespace amalgam
