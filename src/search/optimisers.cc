#include "src/search/optimisers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/search/cma.h"
#include "src/search/population_optimiser.h"
#include "src/search/simple_optimisers.h"

namespace amalgam {
namespace {

using Settings = OptimiserSettings;

constexpr OptimiserOption population{"population", &Settings::population, 0, 1 << 20,
                                     "candidates of a generation; 0: the optimiser's own rule"};
constexpr OptimiserOption batch{
    "population", &Settings::population, 0, 1 << 20,
    "models tried at once; the soup is the same, answers behind one that joins are lost; 0: 1"};
constexpr OptimiserOption sigma_scale{"sigma_scale", &Settings::sigma_scale, 1e-6, 1e6,
                                      "factor on the standard deviation of every gene in the first generation"};
constexpr OptimiserOption active{"active", &Settings::active, 0, 1,
                                 "learn from the worst candidates too, by negative weights"};
constexpr OptimiserOption restarts{
    "restarts", &Settings::restarts, 0, 0,
    "what comes after a run that has nothing more to find: none: the end; ipop: a run of twice the population; bipop: "
    "small and large runs, as many evaluations for each kind"};
constexpr OptimiserOption rates{
    "learning_rate_adaptation", &Settings::learning_rate_adaptation, 0, 1,
    "smaller steps where successive updates contradict each other, for objectives with noise"};
constexpr OptimiserOption weight{"differential_weight", &Settings::differential_weight, 0, 2,
                                 "factor on the difference of two members"};
constexpr OptimiserOption crossover{"crossover", &Settings::crossover, 0, 1,
                                    "probability of crossover: of a gene (de), of a pair of parents (nsga2)"};
constexpr OptimiserOption crossover_index{"crossover_index", &Settings::crossover_index, 0, 1000,
                                          "larger: children nearer to their parents"};
constexpr OptimiserOption mutation_index{"mutation_index", &Settings::mutation_index, 0, 1000,
                                         "larger: smaller mutations"};
constexpr OptimiserOption steps{"steps", &Settings::steps, 2, 1 << 20,
                                "values of a continuous gene, both bounds among them"};

constexpr std::array cma_options{&population, &sigma_scale, &active, &restarts, &rates};
constexpr std::array nsga2_options{&population, &crossover, &crossover_index, &mutation_index};
constexpr std::array de_options{&population, &weight, &crossover};
constexpr std::array random_options{&population};
constexpr std::array grid_options{&population, &steps};
constexpr std::array soup_options{&batch};

template <bool Diagonal>
std::unique_ptr<Optimiser> make_cma(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<CmaOptimiser>(Diagonal ? "sep-cma" : "cma", std::move(genes), settings, Diagonal);
}

constexpr std::array<OptimiserInfo, 7> table{{
    {"cma", "Active CMA-ES: learns the shape of the landscape; the choice up to about 100 genes.",
     "Hansen, The CMA evolution strategy: a tutorial, 2016; margin for whole numbers: Hamano et al. 2022; learning "
     "rates: Nomura et al. 2023",
     false, false, true, cma_options, make_cma<false>},
    {"sep-cma", "CMA-ES with a diagonal covariance: learns one scale a gene, faster; the choice above about 100 genes.",
     "Ros and Hansen 2008", false, false, true, cma_options, make_cma<true>},
    {"nsga2", "NSGA-II: a front of candidates that trade several objectives against each other.", "Deb et al. 2002",
     true, true, true, nsga2_options, make_nsga2},
    {"de", "Differential evolution, rand/1/bin: robust where the landscape has many peaks.", "Storn and Price 1997",
     true, false, true, de_options, make_differential_evolution},
    {"random", "Points anywhere within the bounds: what every search has to beat.", "Bergstra and Bengio 2012", true,
     false, false, random_options, make_random},
    {"grid", "Every combination of evenly spaced values.", "", true, false, false, grid_options, make_grid},
    {"greedy-soup",
     "Models in the order of their own scores, each joining an average if that is not worse for it; ends by itself.",
     "Wortsman et al. 2022", true, false, false, soup_options, make_greedy_soup},
}};

template <class Number>
Number parse_number(const OptimiserOption& option, std::string_view text) {
    Number value{};
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    check(problem == std::errc() && end == text.data() + text.size() && double(value) >= option.low &&
              double(value) <= option.high,
          "{} = \"{}\" is not a {}number from {} to {}", option.name, printable(text, 100),
          std::is_integral_v<Number> ? "whole " : "", option.low, option.high);
    return value;
}

bool parse_flag(const OptimiserOption& option, std::string_view text) {
    check(text == "true" || text == "false", "{} = \"{}\" is neither true nor false", option.name,
          printable(text, 100));
    return text == "true";
}

constexpr std::array<std::string_view, 3> restart_names{"none", "ipop", "bipop"};

Restarts parse_restarts(const OptimiserOption& option, std::string_view text) {
    for (size_t i = 0; i < restart_names.size(); ++i)
        if (restart_names[i] == text) return Restarts(i);
    fail("{} = \"{}\" is not known{}", option.name, printable(text, 100), did_you_mean(text, restart_names));
}

}  // namespace

std::span<const OptimiserInfo> all_optimisers() { return table; }

const OptimiserInfo& find_optimiser(std::string_view name) {
    std::vector<std::string_view> names;
    for (const OptimiserInfo& info : table) {
        if (info.name == name) return info;
        names.push_back(info.name);
    }
    fail("optimiser \"{}\" is not known{}", printable(name, 100), did_you_mean(name, names));
}

void set_option(OptimiserSettings& settings, const OptimiserInfo& optimiser, std::string_view option,
                std::string_view value) {
    std::vector<std::string_view> names;
    for (const OptimiserOption* known : optimiser.options) {
        names.push_back(known->name);
        if (known->name != option) continue;
        if (const auto* flag = std::get_if<bool Settings::*>(&known->target))
            settings.** flag = parse_flag(*known, value);
        else if (const auto* count = std::get_if<int64_t Settings::*>(&known->target))
            settings.** count = parse_number<int64_t>(*known, value);
        else if (const auto* number = std::get_if<double Settings::*>(&known->target))
            settings.** number = parse_number<double>(*known, value);
        else
            settings.*std::get<Restarts Settings::*>(known->target) = parse_restarts(*known, value);
        return;
    }
    fail("optimiser {} has no option \"{}\"{}", optimiser.name, printable(option, 100), did_you_mean(option, names));
}

std::string default_text(const OptimiserOption& option) {
    const OptimiserSettings settings;
    if (const auto* flag = std::get_if<bool Settings::*>(&option.target)) return settings.**flag ? "true" : "false";
    if (const auto* count = std::get_if<int64_t Settings::*>(&option.target))
        return fmt::format("{}", settings.**count);
    if (const auto* number = std::get_if<double Settings::*>(&option.target))
        return fmt::format("{}", settings.**number);
    return std::string(restart_names[size_t(settings.*std::get<Restarts Settings::*>(option.target))]);
}

std::string optimisers_markdown() {
    std::string text = "| optimiser | what it does | options |\n|---|---|---|\n";
    std::vector<const OptimiserOption*> options;
    for (const OptimiserInfo& info : table) {
        std::string names;
        for (const OptimiserOption* option : info.options) {
            names += fmt::format("{}`{}`", names.empty() ? "" : ", ", option->name);
            if (std::find(options.begin(), options.end(), option) == options.end()) options.push_back(option);
        }
        const std::string source = info.source.empty() ? "" : fmt::format(" ({})", info.source);
        text += fmt::format("| `{}` | {}{} | {} |\n", info.name, info.summary, source, names);
    }
    text += "\n| option | meaning | default |\n|---|---|---|\n";
    for (const OptimiserOption* option : options) {
        const bool number =
            option->low < option->high && default_text(*option) != "true" && default_text(*option) != "false";
        const std::string range = number ? fmt::format(" ({} to {})", option->low, option->high) : "";
        text += fmt::format("| `{}`{} | {}{} | `{}` |\n", option->name, option == &batch ? " of greedy-soup" : "",
                            option->help, range, default_text(*option));
    }
    return text;
}

std::unique_ptr<Optimiser> make_optimiser(const std::string& name, std::vector<Gene> genes,
                                          const OptimiserSettings& settings) {
    const OptimiserInfo& info = find_optimiser(name);
    for (const Gene& gene : genes)
        check(!info.needs_bounds || (std::isfinite(gene.low) && std::isfinite(gene.high)),
              "gene {} ranges from {} to {}: the optimiser {} needs bounds", gene.name, gene.low, gene.high, name);
    return info.make(std::move(genes), settings);
}

}  // namespace amalgam
