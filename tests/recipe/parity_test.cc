// The recipes whose outputs by mergekit lie in tests/data/parity: each resolves to the same tensors, dtypes and shapes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "src/checkpoint/checkpoint.h"
#include "src/recipe/recipe.h"
#include "src/recipe/resolve.h"

namespace amalgam {
namespace {

const std::string folder = std::string(AMALGAM_SOURCE_DIR) + "/tests/data/parity";

/// The recipes' models are relative to the folder above the one the recipes lie in.
class Rooted : public Files {
  public:
    FileStatus status(const std::string& path) override { return disk_->status(rooted(path)); }
    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        return disk_->read(rooted(path), first, count);
    }
    std::vector<std::string> list(const std::string& path) override { return disk_->list(rooted(path)); }
    std::optional<std::string> environment(const std::string&) override { return std::nullopt; }

  private:
    static std::string rooted(const std::string& path) { return path.starts_with('/') ? path : folder + "/" + path; }
    std::unique_ptr<Files> disk_ = disk_files();
};

class Parity : public ::testing::TestWithParam<std::string> {};

TEST_P(Parity, HasTheTensorsOfTheGolden) {
    Rooted files;
    const Recipe recipe = read_recipe(files, "recipes/" + GetParam(), {});
    const Merge merge = resolve(files, recipe);
    const std::string name = GetParam().substr(0, GetParam().size() - 5);
    const Checkpoint golden = open_checkpoint(files, "golden/" + name + ".safetensors");
    ASSERT_EQ(merge.tasks.size(), golden.tensors.size());
    for (const TensorTask& task : merge.tasks) {
        const TensorInfo* tensor = golden.find(task.name);
        ASSERT_NE(tensor, nullptr) << task.name;
        EXPECT_EQ(task.shape, tensor->shape) << task.name;
        EXPECT_EQ(task.dtype, tensor->dtype) << task.name;
    }
    EXPECT_TRUE(merge.warnings.empty()) << merge.warnings[0];
}

std::vector<std::string> recipes() { return disk_files()->list(folder + "/recipes"); }

INSTANTIATE_TEST_SUITE_P(All, Parity, ::testing::ValuesIn(recipes()), [](const auto& test) {
    std::string name = test.param.substr(0, test.param.size() - 5);
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(ParityFolder, HasRecipes) { EXPECT_GE(recipes().size(), 34u); }

}  // namespace
}  // namespace amalgam
