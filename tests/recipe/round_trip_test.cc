// A recipe written and read again is the same recipe: by hand, and for random recipes of every method.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace amalgam {
namespace {

bool same(const std::vector<double>& a, const std::vector<double>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](double x, double y) { return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y); });
}

bool same(const Parameters& a, const Parameters& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        return x.first == y.first &&
               std::equal(x.second.entries.begin(), x.second.entries.end(), y.second.entries.begin(),
                          y.second.entries.end(), [](const ParameterEntry& p, const ParameterEntry& q) {
                              return p.filter == q.filter && same(p.gradient, q.gradient);
                          });
    });
}

bool same(const std::vector<SourceEntry>& a, const std::vector<SourceEntry>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const SourceEntry& x, const SourceEntry& y) {
        return x.model == y.model && x.layer_range == y.layer_range && x.group == y.group &&
               same(x.parameters, y.parameters);
    });
}

bool same(const Recipe& a, const Recipe& b) {
    return a.method == b.method && a.compat == b.compat && a.seed == b.seed && a.dtype == b.dtype &&
           a.out_dtype == b.out_dtype && a.base_model == b.base_model && a.tokenizer_source == b.tokenizer_source &&
           same(a.models, b.models) && same(a.parameters, b.parameters) &&
           std::equal(a.slices.begin(), a.slices.end(), b.slices.begin(), b.slices.end(),
                      [](const OutputSlice& x, const OutputSlice& y) {
                          return x.base_model == y.base_model && same(x.parameters, y.parameters) &&
                                 same(x.sources, y.sources);
                      });
}

class RandomRecipe {
  public:
    explicit RandomRecipe(uint64_t seed) : random_(seed) {}

    /// `yaml`: only what mergekit's form can say.
    Recipe make(bool yaml) {
        const MethodInfo& method = *all_methods[pick(all_methods.size())];
        Recipe recipe;
        recipe.method = method.name;
        if (!yaml && flip()) recipe.compat = Compat::paper;
        if (!yaml && flip()) recipe.seed = flip() ? random_() : pick(100);
        recipe.dtype = dtype(yaml);
        recipe.out_dtype = dtype(yaml);
        if (method.base == BaseUse::required || method.base == BaseUse::member || flip())
            recipe.base_model = "base " + text();
        if (flip()) recipe.tokenizer_source = recipe.base_model && flip() ? "base" : "tokenizer/" + text();
        recipe.parameters = parameters(method, false, true);
        const int models = method.max_models > 0 ? method.max_models : method.min_models + int(pick(4));
        if (flip()) {
            recipe.models = entries(method, models, false, yaml);
        } else {
            for (size_t i = 0, count = 1 + pick(3); i < count; ++i) {
                OutputSlice slice;
                slice.sources = entries(method, models, true, yaml);
                if (flip()) slice.base_model = "base/" + text();
                slice.parameters = parameters(method, false, false);
                recipe.slices.push_back(slice);
            }
        }
        if (!yaml && flip()) spread(recipe);
        return recipe;
    }

  private:
    /// Over groups, none without a model.
    void spread(Recipe& recipe) {
        std::vector<SourceEntry*> all;
        for (SourceEntry& entry : recipe.models) all.push_back(&entry);
        for (OutputSlice& slice : recipe.slices)
            for (SourceEntry& entry : slice.sources) all.push_back(&entry);
        const size_t groups = 1 + pick(all.size());
        for (size_t i = 0; i < all.size(); ++i) all[i]->group = int(i % groups);
    }

    size_t pick(size_t count) { return random_() % count; }
    bool flip() { return pick(2) == 0; }

    std::optional<Dtype> dtype(bool yaml) {
        constexpr Dtype known[] = {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64, Dtype::f8_e4m3, Dtype::f8_e5m2};
        if (flip()) return std::nullopt;
        return known[pick(yaml ? 3 : 6)];
    }

    std::string text() {
        const std::string pieces[] = {"a",  "Z", "0", "/",  ".",  "-",    "_",    " ", "\"",   "\\",   "'",   "#",
                                      ": ", "{", "[", "\n", "\t", "\x01", "\x7f", "é", "模型", "@",    "!",   "&",
                                      "*",  "%", ",", "?",  "|",  ">",    "=",    "~", "true", "null", "1e5", "<<"};
        std::string result = flip() ? "" : pieces[pick(std::size(pieces))];
        for (size_t i = 0, count = 1 + pick(6); i < count; ++i) result += pieces[pick(std::size(pieces))];
        return result;
    }

    double number(const Field& field) {
        if (field.kind == FieldKind::boolean) return double(pick(2));
        const double low = std::max(field.low, -1e3), high = std::min(field.high, 1e3);
        if (field.kind == FieldKind::integer) return low + double(pick(size_t(high - low) + 1));
        switch (pick(6)) {
            case 0: return low;
            case 1: return high;
            case 2: return low <= 0 && std::isinf(field.low) ? -0.0 : low;
            case 3: return std::isinf(field.high) ? 1e300 / double(1 + pick(1000)) : high * 0.1;
            case 4: return low <= 1e-9 && high >= 1e-5 ? 1e-7 * double(1 + pick(9)) : low;
            default: return std::clamp(std::uniform_real_distribution<double>(low, high)(random_), low, high);
        }
    }

    std::vector<double> gradient(const Field& field) {
        std::vector<double> result = {number(field)};
        if (field.kind == FieldKind::number && flip())
            for (size_t i = 0, count = 1 + pick(4); i < count; ++i) result.push_back(number(field));
        return result;
    }

    Parameters parameters(const MethodInfo& method, bool at_model, bool all) {
        Parameters result;
        for (const Field& field : method.fields) {
            if (at_model && field.scope == Scope::global) continue;
            if (!(all && field.required) && flip()) continue;
            Parameter parameter;
            if (flip()) {
                parameter.entries = {{"", gradient(field)}};
            } else {
                for (size_t i = 0, count = 1 + pick(3); i < count; ++i)
                    parameter.entries.push_back({flip() ? "" : text() + "x", gradient(field)});
            }
            result[std::string(field.name)] = parameter;
        }
        return result;
    }

    std::vector<SourceEntry> entries(const MethodInfo& method, int count, bool slices, bool yaml) {
        std::vector<SourceEntry> result;
        const int64_t length = 1 + int64_t(pick(40));
        for (int i = 0; i < count; ++i) {
            SourceEntry entry;
            entry.model = "model " + text();
            if (slices && (yaml || flip())) {
                const auto first = int64_t(pick(50));
                entry.layer_range = {first, first + length};
            }
            entry.parameters = parameters(method, true, false);
            result.push_back(entry);
        }
        return result;
    }

    std::mt19937_64 random_;
};

TEST(RoundTrip, RandomRecipesInToml) {
    for (uint64_t seed = 0; seed < 600; ++seed) {
        const Recipe recipe = RandomRecipe(seed).make(false);
        const std::string text = recipe_to_toml(recipe);
        const Recipe again = parse_recipe(text, "r.toml");
        ASSERT_TRUE(same(recipe, again)) << seed << "\n" << text;
        ASSERT_EQ(recipe_to_toml(again), text);
    }
}

TEST(RoundTrip, RandomRecipesInYaml) {
    for (uint64_t seed = 0; seed < 600; ++seed) {
        const Recipe recipe = RandomRecipe(seed).make(true);
        const std::string text = recipe_to_yaml(recipe);
        const Recipe again = parse_recipe(text, "r.yaml");
        ASSERT_TRUE(same(recipe, again)) << seed << "\n" << text;
        ASSERT_TRUE(same(recipe, parse_recipe(recipe_to_toml(again), "r.toml"))) << seed;
    }
}

TEST(RoundTrip, IsReadable) {
    const std::string yaml = R"(merge_method: ties
base_model: models/base
models:
  - model: models/a
    parameters:
      density: [0.0, 0.5]
      weight: 0.3
  - model: org/name
    parameters:
      weight:
        - filter: "mlp"
          value: 1.0e-05
        - value: 1
parameters:
  normalize: false
dtype: float32
)";
    const Recipe recipe = parse_recipe(yaml, "r.yaml");
    EXPECT_EQ(recipe_to_toml(recipe), R"(merge_method = "ties"
base_model = "models/base"
dtype = "float32"

[parameters]
normalize = false

[[models]]
model = "models/a"

[models.parameters]
density = [0, 0.5]
weight = 0.3

[[models]]
model = "org/name"

[models.parameters]
weight = [
    { filter = "mlp", value = 1.0e-05 },
    { value = 1 },
]
)");
    EXPECT_TRUE(same(parse_recipe(recipe_to_yaml(recipe), "r.yaml"), recipe));
}

TEST(RoundTrip, YamlRefusesWhatMergekitLacks) {
    const auto error_of = [](const std::string& line) -> std::string {
        const Recipe recipe = parse_recipe("merge_method = 'passthrough'\n" + line +
                                               "\nslices = [{sources = [{model = 'a', layer_range = [0, 1]}]}]\n",
                                           "r.toml");
        try {
            recipe_to_yaml(recipe);
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    };
    EXPECT_EQ(error_of(""), "no error");
    EXPECT_NE(error_of("compat = 'paper'").find("compat = \"paper\" cannot be said"), std::string::npos);
    EXPECT_NE(error_of("seed = 3").find("seed = 3 cannot be said"), std::string::npos);
    EXPECT_NE(error_of("dtype = 'float64'").find("dtype float64 cannot be said"), std::string::npos);
    const Recipe no_range =
        parse_recipe("merge_method = 'passthrough'\nslices = [{sources = [{model = 'a'}]}]\n", "r.toml");
    EXPECT_THROW(recipe_to_yaml(no_range), Error);
}

}  // namespace
}  // namespace amalgam
