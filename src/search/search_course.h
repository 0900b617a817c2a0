// The inside of a search: generations, the journal's place in them, and the choice of the winner.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "src/search/search.h"
#include "src/search/search_journal.h"
#include "src/search/search_key.h"

namespace amalgam {

class Search {
  public:
    Search(const SearchInputs& inputs, SearchWorld& world, const std::vector<std::string>& records)
        : inputs_(inputs),
          config_(inputs.config),
          world_(world),
          key_(search_key(inputs)),
          journal_(records, key_, world.append),
          controller_(
              *world.groups, world.controller,
              [this](const SearchJob& job, const JobResult& result) { finished(job, result); },
              [this](int group, const std::string& reason) { journal_.group_lost(group, reason, now()); }),
          start_(world.groups->now()) {}

    SearchResult run();

  private:
    struct Entry {
        Asked asked;
        Recipe recipe;
        std::string text;  ///< of the recipe
    };
    /// A candidate with a score, as long as it is one of many.
    struct Scored {
        std::string hash, origin;
        std::vector<double> genome;
        std::pair<int64_t, int64_t> place;  ///< generation and candidate
        double objective = 0;
    };
    struct Phase {
        std::string name;
        const RecipeSpace* space = nullptr;
        int64_t budget = 0;  ///< of counted_
        std::vector<Scored> contenders = {};
        /// Hashes and genomes that a quorum did not wait for, and whose answers have not come.
        std::vector<std::pair<std::string, std::vector<double>>> given_up = {};
    };

    static bool is_mean(const Scored& each) { return each.origin == "mean" || each.origin == "average"; }
    /// Of equals, a mean, else the first.
    static bool is_better(const Scored& a, const Scored& b) {
        return std::tuple(-a.objective, !is_mean(a), a.place) < std::tuple(-b.objective, !is_mean(b), b.place);
    }
    double now() const { return world_.groups->now() - start_; }
    double objective(const Answer& answer, double penalty) const {
        return answer.score + config_.tie_breaker * answer.likelihood - penalty;
    }
    bool is_interrupted() const { return world_.interrupted && world_.interrupted(); }
    bool out_of_time() const { return config_.seconds > 0 && journal_.seconds_before() + now() >= config_.seconds; }

    void finished(const SearchJob& job, const JobResult& result);
    void ask(std::vector<Entry> entries);
    const Known* answer_to(const Entry& entry) const { return journal_.find(entry.asked.hash, entry.asked.set); }
    Entry entry(const std::string& phase, const std::string& origin, Recipe recipe, std::vector<double> genome,
                ItemSet set) const;
    std::vector<Entry> generation_entries(Phase& phase, const Optimiser& optimiser,
                                          const std::vector<Candidate>& candidates);
    bool run_generation(Phase& phase, Optimiser& optimiser);
    std::vector<std::vector<double>> cut_for(const Entry& entry) const;
    std::vector<Outcome> outcomes_of(Phase& phase, int64_t generation, const std::vector<Entry>& entries,
                                     std::vector<double>& objectives, GenerationFacts& facts);
    bool has_front() const;
    std::vector<double> task_objectives(const Answer& answer, double penalty) const;
    std::vector<Contender> front(const Phase& phase) const;
    void note(Phase& phase, const Asked& asked, const Known& known);
    void contend(Phase& phase, const Asked& asked, const Known& known) const;
    void take_late_answers();
    void inject_late(Phase& phase, Optimiser& optimiser, GenerationFacts& facts);
    void inject_guess(const Phase& phase, Optimiser& optimiser, GenerationFacts& facts) const;
    void choose_cut(const std::vector<Entry>& entries, const std::vector<double>& objectives);
    void save(const Phase& phase, const Optimiser& optimiser, const std::vector<Candidate>& candidates,
              const std::vector<double>& objectives);
    void restore(Phase& phase, Optimiser& optimiser);
    Contender contender(const Phase& phase, const Scored& scored) const;
    void run_phase(Phase& phase, uint64_t stream);
    void score_means(Phase& phase, const Optimiser& optimiser, int64_t count);
    std::string frequent_failure() const;
    Contender choose(Phase& phase);
    void report_on(Contender& contender, bool search_too);
    std::unique_ptr<RecipeSpace> path_space(const std::string& first) const;
    void write_start(const RecipeSpace& space);
    bool ended() const { return !reason_.empty(); }

    const SearchInputs& inputs_;
    const SearchConfig& config_;
    SearchWorld& world_;
    SearchKey key_;
    SearchJournal journal_;
    SearchController controller_;
    double start_;
    std::map<int64_t, Entry> asked_;                                ///< on their way, by id
    std::map<std::string, double> penalties_;                       ///< by hash
    std::set<std::string> counted_;                                 ///< hashes of candidates that took from the budget
    std::map<std::string, std::pair<int64_t, size_t>> first_seen_;  ///< generation and place, by hash
    std::string reason_;                                            ///< why it has to end now, without a result
    std::string optimiser_end_;                                     ///< why the optimiser ended by itself
    std::string cut_;                                               ///< hash of what candidates race against
    double saved_at_ = 0;                                           ///< when the state was last kept
    bool in_phase_ = false;                                         ///< candidates are asked for, which time may end
    SearchResult result_;
};

}  // namespace amalgam
