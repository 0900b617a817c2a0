#include "src/search/cma.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementary.h"
#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr int64_t least_population = 4, most_full_genes = 4000, most_held = 10;

/// Populations double with restarts: up to a GiB of numbers.
int64_t most_population(int64_t genes, int64_t first) { return std::max(first, (int64_t(1) << 27) / genes); }

Vector units_of(const std::vector<Gene>& genes) {
    Vector units;
    for (const Gene& gene : genes) units.push_back(gene.sigma);
    return units;
}

}  // namespace

CmaOptimiser::CmaOptimiser(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings, bool diagonal)
    : OptimiserBase(std::move(name), std::move(genes), settings),
      diagonal_(diagonal),
      units_(units_of(this->genes())),
      model_(gene_count(), diagonal),
      margin_(this->genes(), units_),
      rates_(settings.learning_rate_adaptation ? gene_count() : 0, diagonal) {
    check(diagonal || gene_count() <= most_full_genes,
          "{} genes: the covariance of cma is for {} at most; sep-cma has no such limit", gene_count(),
          most_full_genes);
    check(settings.population == 0 || settings.population >= least_population,
          "population {} is too small for CMA-ES: {} at least", settings.population, least_population);
    for (const Gene& gene : this->genes()) boxes_.emplace_back(gene.low, gene.high);
    first_population_ = settings.population > 0 ? settings.population : default_population(gene_count());
    begin(first_population_, settings.sigma_scale, false);
}

void CmaOptimiser::begin(int64_t population, double sigma, bool anywhere_in_box) {
    population_ = population;
    start_sigma_ = sigma;
    Vector mean;
    const std::vector<double> place = anywhere_in_box ? anywhere(Draw::restart, 1) : std::vector<double>();
    for (size_t i = 0; i < genes().size(); ++i) {
        const Gene& gene = genes()[i];
        const double start = anywhere_in_box ? place[i] : gene.start;
        const bool whole = gene.kind != Gene::Kind::continuous;
        mean.push_back((whole ? std::clamp(start, gene.low, gene.high) : boxes_[i].from_box(start, start)) / units_[i]);
    }
    model_.start(std::move(mean), sigma);
    constants_ = cma_constants(gene_count(), population, {.active = settings().active, .diagonal = diagonal_});
    margin_.reset();
    rates_.reset();
    rules_ = std::make_unique<StopRules>(gene_count(), population, settings().learning_rate_adaptation);
    held_ = 0;
}

std::vector<double> CmaOptimiser::genome_at(const Vector& raw) const {
    std::vector<double> genome(raw);
    for (size_t i = 0; i < genome.size(); ++i) {
        if (genes()[i].kind == Gene::Kind::continuous) genome[i] = boxes_[i].to_box(raw[i]);
        genome[i] = fit_gene(genes()[i], genome[i]);
    }
    return genome;
}

std::vector<Candidate> CmaOptimiser::draw(const std::vector<std::vector<double>>& injected) {
    std::vector<Candidate> candidates;
    for (const std::vector<double>& genome : injected) {
        Candidate candidate{.genome = genome, .raw = genome, .injected = true};
        for (size_t i = 0; i < genome.size(); ++i)
            if (genes()[i].kind == Gene::Kind::continuous)
                candidate.raw[i] = boxes_[i].from_box(genome[i], model_.mean()[i] * units_[i]);
        candidates.push_back(std::move(candidate));
    }
    const Draws random = draws();
    for (int64_t k = int64_t(candidates.size()); k < population_; ++k) {
        Vector z;
        for (int64_t i = 0; i < gene_count(); ++i) z.push_back(random.normal(Draw::population, k, i));
        const Vector y = model_.step(z);
        Candidate candidate;
        for (size_t i = 0; i < y.size(); ++i) {
            const double step = model_.sigma() * margin_.stretch(int64_t(i)) * y[i];
            candidate.raw.push_back((model_.mean()[i] + step) * units_[i]);
        }
        candidate.genome = genome_at(candidate.raw);
        candidates.push_back(std::move(candidate));
    }
    return candidates;
}

Vector CmaOptimiser::step_of(const Candidate& candidate) const {
    Vector y(units_.size());
    for (size_t i = 0; i < y.size(); ++i)
        y[i] = (candidate.raw[i] / units_[i] - model_.mean()[i]) / (model_.sigma() * margin_.stretch(int64_t(i)));
    if (!candidate.injected) return y;
    // A foreign step counts as one of the longest that the distribution draws.
    double squared = 0;
    for (double value : model_.whiten(y)) squared += value * value;
    const double n = double(y.size()), most = std::sqrt(n) + 2 * n / (n + 2), length = std::sqrt(squared);
    if (length > most)
        for (double& value : y) value *= most / length;
    return y;
}

bool CmaOptimiser::learn_generation(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
                                    const std::vector<bool>& missing) {
    std::vector<Vector> points;
    for (const Candidate& candidate : candidates) points.push_back(candidate.raw);
    const Ranking ranking = rank(keys, missing, points);
    const auto present = int64_t(ranking.order.size());
    if (present < least_population) return false;
    // Without the missing ones it is a generation of fewer candidates.
    const CmaConstants fewer =
        present == population_
            ? CmaConstants()
            : cma_constants(gene_count(), present, {.active = settings().active, .diagonal = diagonal_});
    const CmaConstants& constants = present == population_ ? constants_ : fewer;
    std::vector<Key> sorted;
    CmaSteps generation;
    for (int64_t place : ranking.order) {
        if (!keys[size_t(place)].empty()) sorted.push_back(keys[size_t(place)]);
        const Candidate& candidate = candidates[size_t(place)];
        generation.steps.push_back(step_of(candidate));
        generation.foreign |= candidate.injected;
    }
    if (int64_t(sorted.size()) < constants.parents) return false;
    Vector mean_weights = constants.weights;
    for (int64_t i = 0; i < present; ++i)
        if (i >= constants.parents) mean_weights[size_t(i)] = 0;
    generation.mean_weights = average_ties(mean_weights, ranking.blocks);
    generation.covariance_weights = average_ties(constants.weights, ranking.blocks);

    for (size_t k = 0; k < generation.steps.size(); ++k) {
        const std::vector<bool>& idle = candidates[size_t(ranking.order[k])].idle;
        if (idle.empty()) continue;
        generation.idle_shift.resize(units_.size());
        for (size_t i = 0; i < idle.size(); ++i)
            if (idle[i]) generation.idle_shift[i] += generation.mean_weights[k] * generation.steps[k][i];
    }

    const bool adapting = settings().learning_rate_adaptation;
    const CmaModel before = adapting ? model_ : CmaModel(0, true);
    model_.learn(generation, constants);
    if (adapting) rates_.adapt(before, model_);
    const auto flat_place = size_t((7 * present + 9) / 10 - 1);
    if (ranking.blocks[flat_place] == 0)
        model_.scale_sigma(exact_exp(0.2 + constants.sigma_rate / constants.sigma_damping));
    if (margin_.has_whole_genes()) margin_.correct(model_, 1 / (double(gene_count()) * double(population_)));
    rules_->record(sorted);
    return true;
}

void CmaOptimiser::learn(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
                         const std::vector<bool>& missing) {
    (runs_.large ? runs_.large_used : runs_.small_used) += int64_t(candidates.size());
    if (!learn_generation(candidates, keys, missing)) {
        if (++held_ == most_held)
            stop("more than half of the candidates failed or were not waited for in 10 generations in a row");
        return;
    }
    held_ = 0;
    std::string reason = rules_->reason(model_, start_sigma_);
    if (reason.empty()) return;
    if (settings().restarts == Restarts::none)
        stop(std::move(reason));
    else
        restart();
}

void CmaOptimiser::restart() {
    ++runs_.restarts;
    const bool large = settings().restarts == Restarts::ipop || runs_.small_used >= runs_.large_used;
    if (large) runs_.large_restarts = std::min<int64_t>(runs_.large_restarts + 1, 20);
    const auto grown = double(first_population_ * (int64_t(1) << runs_.large_restarts));
    const Draws random = draws();
    double population = grown, sigma = settings().sigma_scale;
    if (!large) {
        const double share = random.uniform(Draw::restart, 0, 0);
        population =
            double(first_population_) * exact_exp(share * share * exact_log(grown / double(first_population_) / 2));
        sigma *= exact_exp(-2 * exact_log(10) * random.uniform(Draw::restart, 0, 1));
    }
    runs_.large = large;
    const auto most = double(most_population(gene_count(), first_population_));
    begin(int64_t(std::clamp(population, double(least_population), most)), sigma, true);
}

std::vector<double> CmaOptimiser::mean() const {
    Vector raw;
    for (size_t i = 0; i < units_.size(); ++i) raw.push_back(model_.mean()[i] * units_[i]);
    return genome_at(raw);
}

std::vector<std::pair<std::string, double>> CmaOptimiser::facts() const {
    std::vector<std::pair<std::string, double>> facts{{"population", double(population_)},
                                                      {"sigma", model_.sigma()},
                                                      {"condition", model_.condition()},
                                                      {"restarts", double(runs_.restarts)},
                                                      {"held", double(held_)}};
    if (settings().learning_rate_adaptation) {
        facts.emplace_back("mean_rate", rates_.mean_rate());
        facts.emplace_back("covariance_rate", rates_.covariance_rate());
    }
    return facts;
}

void CmaOptimiser::exchange(OptimiserState& state) {
    constexpr int64_t many = int64_t(1) << 48;
    int64_t population = population_;
    state.count("population", population, least_population, most_population(gene_count(), first_population_));
    state.number("start_sigma", start_sigma_);
    check(!state.reading() || start_sigma_ > 0,
          "state of an optimiser: start_sigma is not positive: the state is damaged");
    state.count("restarts", runs_.restarts, 0, many);
    state.count("large_restarts", runs_.large_restarts, 0, 20);
    state.count("small_used", runs_.small_used, 0, many);
    state.count("large_used", runs_.large_used, 0, many);
    state.flag("large", runs_.large);
    state.count("held", held_, 0, most_held);
    if (state.reading()) {
        population_ = population;
        constants_ = cma_constants(gene_count(), population, {.active = settings().active, .diagonal = diagonal_});
        rules_ = std::make_unique<StopRules>(gene_count(), population, settings().learning_rate_adaptation);
    }
    model_.exchange(state);
    margin_.exchange(state);
    if (settings().learning_rate_adaptation) rates_.exchange(state);
    rules_->exchange(state, objective_count());
}

}  // namespace amalgam
