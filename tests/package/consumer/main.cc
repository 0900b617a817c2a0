// A stranger's program: reads a recipe and opens a checkpoint.
#include <cstdio>

#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"
#include "src/comm/session.h"
#include "src/recipe/recipe.h"

int main(int count, char** arguments) {
    if (count != 2) return 2;
    amalgam::Session session;
    const auto files = amalgam::disk_files();
    const amalgam::Checkpoint checkpoint = amalgam::open_checkpoint(*files, arguments[1]);
    const amalgam::Recipe recipe = amalgam::parse_recipe(
        "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\n", "linear.yaml");
    std::printf("%zu tensors, method %s\n", checkpoint.tensors.size(), recipe.method.c_str());
    return checkpoint.tensors.empty() || recipe.method != "linear" ? 1 : 0;
}
