#include "src/search/input_scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/elementary.h"

namespace amalgam {
namespace {

/// Standard deviation of scales in the first generation.
double spread(const DataFlow& flow) {
    const double below = 1 - flow.scale_low, above = flow.scale_high - 1;
    // A range that ends at 1 has one side only.
    return (below > 0 && above > 0 ? std::min(below, above) : std::max(below, above)) / 3;
}

class NoScales final : public InputScales {
  public:
    const std::vector<Gene>& genes() const override { return genes_; }
    double scale(const double*, const PathLink&) const override { return 1; }
    void mark_used(const PathLink&, std::vector<bool>&) const override {}

  private:
    std::vector<Gene> genes_;
};

class SlotScales final : public InputScales {
  public:
    SlotScales(const DataFlow& flow, const PathShape& shape) {
        for (const std::string& name : shape.slot_names)
            genes_.push_back(
                {name + ".scale", Gene::Kind::continuous, flow.scale_low, flow.scale_high, 1, spread(flow), ""});
    }
    const std::vector<Gene>& genes() const override { return genes_; }
    double scale(const double* genome, const PathLink& link) const override { return genome[link.slot]; }
    void mark_used(const PathLink& link, std::vector<bool>& used) const override { used[size_t(link.slot)] = true; }

  private:
    std::vector<Gene> genes_;
};

/// "1.4": layer 4 of the second model.
std::vector<std::string> layer_names(const PathShape& shape) {
    std::vector<std::string> names;
    for (size_t model = 0; model < shape.layers.size(); ++model)
        for (int64_t layer = 0; layer < shape.layers[model]; ++layer)
            names.push_back(fmt::format("{}.{}", model, layer));
    return names;
}

class LowRankScales final : public InputScales {
  public:
    LowRankScales(const DataFlow& flow, const PathShape& shape) : flow_(flow), rank_(flow.scale_rank) {
        const std::vector<std::string> names = layer_names(shape);
        layers_ = int64_t(names.size());
        // A product of two such numbers reaches the farther bound; the sum of `rank_` has the spread of the scales.
        const double reach = std::sqrt(std::max(flow.scale_high - 1, 1 - flow.scale_low));
        const double sigma = std::sqrt(spread(flow) / std::sqrt(double(rank_)));
        const auto add = [&](const char* vector, const std::string& of) {
            for (int k = 0; k < rank_; ++k)
                genes_.push_back({fmt::format("scale.{}[{}][{}]", vector, of, k), Gene::Kind::continuous, -reach, reach,
                                  0, sigma, ""});
        };
        add("u", "embedding");
        for (const std::string& name : names) add("u", name);
        for (const std::string& name : names) add("v", name);
    }
    const std::vector<Gene>& genes() const override { return genes_; }
    double scale(const double* genome, const PathLink& link) const override {
        double sum = 1;
        for (int k = 0; k < rank_; ++k) sum += genome[from(link) + k] * genome[to(link) + k];
        return std::clamp(sum, flow_.scale_low, flow_.scale_high);
    }
    void mark_used(const PathLink& link, std::vector<bool>& used) const override {
        for (int k = 0; k < rank_; ++k) used[size_t(from(link) + k)] = used[size_t(to(link) + k)] = true;
    }

  private:
    int64_t from(const PathLink& link) const { return (link.from + 1) * rank_; }
    int64_t to(const PathLink& link) const { return (layers_ + 1 + link.to) * rank_; }

    DataFlow flow_;
    int rank_;
    int64_t layers_ = 0;
    std::vector<Gene> genes_;
};

/// The same bits everywhere, unlike that of a mathematical library.
double exact_tanh(double x) {
    if (std::abs(x) > 20) return std::copysign(1., x);
    const double e = exact_exp(2 * x);
    return (e - 1) / (e + 1);
}

class NetworkScales final : public InputScales {
  public:
    NetworkScales(const DataFlow& flow, const PathShape& shape)
        : flow_(flow), shape_(shape), hidden_(size_t(flow.scale_hidden)), inputs_(2 * (1 + shape.layers.size()) + 1) {
        const double first = 1 / std::sqrt(double(inputs_)), second = 1 / std::sqrt(double(hidden_));
        add("a", hidden_, inputs_, first);
        add("b", hidden_, hidden_, second);
        // Units are about half a unit off 0, so that scales begin with a third of their range as spread.
        add("c", 1, hidden_, second * 2 / 3);
    }
    const std::vector<Gene>& genes() const override { return genes_; }
    double scale(const double* genome, const PathLink& link) const override {
        const std::vector<double> first = layer(genome, inputs(link), hidden_, true);
        const std::vector<double> second = layer(genome, first, hidden_, true);
        const double out = exact_tanh(layer(genome, second, 1, false)[0]);
        return 1 + out * (out > 0 ? flow_.scale_high - 1 : 1 - flow_.scale_low);
    }
    void mark_used(const PathLink&, std::vector<bool>& used) const override { used.assign(used.size(), true); }

  private:
    /// Rows of weights, each with its bias behind.
    void add(const char* name, size_t rows, size_t columns, double sigma) {
        for (size_t row = 0; row < rows; ++row)
            for (size_t column = 0; column <= columns; ++column)
                genes_.push_back({column < columns ? fmt::format("scale.{}[{}][{}]", name, row, column)
                                                   : fmt::format("scale.{}[{}].bias", name, row),
                                  Gene::Kind::continuous, -8 * sigma, 8 * sigma, 0, sigma, ""});
    }
    /// Takes its weights from where `genome` points to, which then is behind them.
    static std::vector<double> layer(const double*& genome, const std::vector<double>& values, size_t rows, bool bent) {
        std::vector<double> result(rows);
        for (double& out : result) {
            for (double value : values) out += *genome++ * value;
            out += *genome++;
            if (bent) out = exact_tanh(out);
        }
        return result;
    }
    std::vector<double> inputs(const PathLink& link) const {
        std::vector<double> values;
        for (int64_t layer : {link.from, link.to}) {
            std::vector<double> models(shape_.layers.size());
            double depth = -1;
            for (size_t model = 0; layer >= 0 && model < models.size(); layer -= shape_.layers[model++]) {
                if (layer >= shape_.layers[model]) continue;
                models[model] = 1;
                depth = share(layer, shape_.layers[model]);
                break;
            }
            values.push_back(depth);
            values.insert(values.end(), models.begin(), models.end());
        }
        values.push_back(share(link.slot, int64_t(shape_.slot_names.size())));
        return values;
    }
    static double share(int64_t place, int64_t count) {
        return count > 1 ? 2 * double(place) / double(count - 1) - 1 : 0;
    }

    DataFlow flow_;
    PathShape shape_;
    size_t hidden_, inputs_;
    std::vector<Gene> genes_;
};

}  // namespace

std::unique_ptr<InputScales> make_input_scales(const DataFlow& flow, const PathShape& shape) {
    switch (flow.scales) {
        case ScaleKind::none: break;
        case ScaleKind::slots: return std::make_unique<SlotScales>(flow, shape);
        case ScaleKind::low_rank: return std::make_unique<LowRankScales>(flow, shape);
        case ScaleKind::network: return std::make_unique<NetworkScales>(flow, shape);
    }
    return std::make_unique<NoScales>();
}

}  // namespace amalgam
