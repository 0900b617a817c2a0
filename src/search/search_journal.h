// The journal's records: what was asked and answered, so that nothing is asked twice.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "src/search/controller.h"
#include "src/search/messages.h"
#include "src/search/optimiser.h"
#include "src/search/search_key.h"

namespace amalgam {

/// What is known of a recipe on an item set.
struct Known {
    int64_t id = 0;
    bool valid = true;
    Answer answer;
    std::string error;
    double seconds = 0;
    bool is_whole() const { return valid && !answer.raced_out; }
};

/// What a record of an evaluation says besides what came of it.
struct Asked {
    int64_t id = 0;
    std::string phase, origin;
    int64_t generation = 0, candidate = 0;
    ItemSet set = ItemSet::search;
    std::vector<double> genome;
    std::string hash;  ///< of the recipe's text
};

nlohmann::json genes_json(const std::vector<Gene>& genes);

/// What a generation was, where that does not follow from the answers: with a quorum.
struct GenerationFacts {
    struct Missing {
        int64_t candidate = 0;
        std::string hash;
    };
    std::vector<Missing> missing;           ///< candidates that were given up
    std::vector<std::vector<double>> late;  ///< genomes whose answers came late, injected into it
    std::vector<double> guess;              ///< of a surrogate, injected likewise; empty: none
};

/// Throws Error if the records are not those of this search, saying in what it is another.
void check_same_search(const std::vector<std::string>& records, const SearchKey& key);

class SearchJournal {
  public:
    using Append = std::function<void(const std::string& record, bool sync)>;
    /// Takes what earlier records say, but for answers on held-out items that were others. Throws Error for records of another
    /// search, or that cannot be read.
    SearchJournal(const std::vector<std::string>& records, const SearchKey& key, Append append);

    bool begun() const { return begun_; }
    /// Seconds of earlier runs.
    double seconds_before() const { return seconds_before_; }
    const Known* find(const std::string& hash, ItemSet set) const;
    /// How many candidates failed on the items that are searched on, by reason.
    std::map<std::string, int64_t> failures() const;
    /// Candidates of a phase that earlier runs have evaluated, none twice, in the order of the journal.
    const std::vector<Asked>& evaluated_in(const std::string& phase) { return candidates_[phase]; }
    /// What an earlier run recorded of a generation; nullptr if it did not end one.
    const GenerationFacts* find_generation(const std::string& phase, int64_t generation) const;
    int64_t next_id() { return next_id_++; }

    void start(const std::string& record) { append_(record, true); }
    /// A phase begins; its genomes are of these genes.
    void phase(const std::string& name, const std::vector<Gene>& genes);
    void evaluated(const Asked& asked, const Known& known, double objective, const JobResult& job);
    void duplicate(const Asked& asked, const Known& known, double objective);
    void generation(const std::string& phase, int64_t generation, const std::vector<double>& objectives,
                    const GenerationFacts& facts, const Optimiser& optimiser, int64_t evaluations, double seconds);
    void group_lost(int group, const std::string& reason, double seconds);
    void end(const std::string& reason, int64_t evaluations, double seconds);

  private:
    void take_heldout(const std::string& hash);

    Append append_;
    std::string heldout_;  ///< hash of the held-out items of the answers that are known
    std::map<std::pair<std::string, int>, Known> known_;
    std::set<std::string> written_;  ///< what need not be written again: duplicates, generations, phases
    std::map<std::pair<std::string, int64_t>, GenerationFacts> generations_;
    std::map<std::string, std::vector<Asked>> candidates_;  ///< by phase
    int64_t next_id_ = 1;
    bool begun_ = false;
    double seconds_before_ = 0;
};

}  // namespace amalgam
