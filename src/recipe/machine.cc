#include "src/recipe/machine.h"

#include "src/recipe/reporter.h"
#include "src/recipe/value.h"

namespace amalgam {

Machine read_machine(Files& files, const std::string& path) {
    const Value root = parse_toml(files.read_all(path, max_recipe_bytes), printable(path));
    const RecipeOptions options;
    Reporter reporter(printable(path), options);
    reporter.check_keys(root, {"name", "ranks_per_node", "read", "write", "total_read", "total_write", "memory",
                               "arithmetic", "network", "latency", "local"});
    Machine machine;
    const auto number = [&](const char* key, double unit, double& result) {
        const Value* value = root.find(key);
        if (!value) return;
        const std::optional<double> given = as_number(*value);
        if (!given || !(*given > 0 && *given <= 1e12))
            reporter.fail_at(value->line, "{}: must be a number above 0", key);
        result = *given * unit;
    };
    if (const Value* name = root.find("name")) machine.name = read_string(*name, "name", reporter);
    if (const Value* ranks = root.find("ranks_per_node")) {
        const int64_t count = read_integer(*ranks, "ranks_per_node", reporter);
        if (count < 1 || count > 1'000'000) reporter.fail_at(ranks->line, "ranks_per_node: must be from 1 to 1000000");
        machine.ranks_per_node = int(count);
    }
    if (const Value* local = root.find("local")) {
        if (local->kind != Value::Kind::boolean) reporter.fail_at(local->line, "local: must be true or false");
        machine.local = local->boolean;
    }
    number("read", 1e9, machine.read);
    number("write", 1e9, machine.write);
    number("total_read", 1e9, machine.total_read);
    number("total_write", 1e9, machine.total_write);
    number("memory", 1e9, machine.memory);
    number("arithmetic", 1e9, machine.arithmetic);
    number("network", 1e9, machine.network);
    number("latency", 1e-6, machine.latency);
    return machine;
}

}  // namespace amalgam
