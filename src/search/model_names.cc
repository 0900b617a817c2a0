#include "src/search/model_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace amalgam {
namespace {

using Components = std::vector<std::string>;

bool ends_with(const Components& path, const Components& other, size_t count) {
    return other.size() >= count && std::equal(path.end() - int64_t(count), path.end(), other.end() - int64_t(count));
}

std::string joined(const Components& path, size_t count) {
    std::string text;
    for (size_t place = path.size() - count; place < path.size(); ++place) {
        if (!text.empty() && text != "/") text += '/';
        text += path[place];
    }
    return text;
}

}  // namespace

std::vector<std::string> path_components(const std::string& reference) {
    Components components;
    if (reference.starts_with('/')) components.push_back("/");
    for (size_t begin = 0; begin <= reference.size();) {
        const size_t end = std::min(reference.find('/', begin), reference.size());
        std::string component = reference.substr(begin, end - begin);
        if (!component.empty() && component != ".") components.push_back(std::move(component));
        begin = end + 1;
    }
    return components;
}

std::vector<std::string> model_names(const std::vector<std::string>& references) {
    std::vector<Components> paths;
    for (const std::string& reference : references) paths.push_back(path_components(reference));
    std::vector<std::string> names;
    for (size_t model = 0; model < paths.size(); ++model) {
        const Components& path = paths[model];
        const auto is_common = [&](size_t count) {
            return std::any_of(paths.begin(), paths.end(),
                               [&](const Components& other) { return other != path && ends_with(path, other, count); });
        };
        size_t count = std::min<size_t>(1, path.size());
        while (count < path.size() && is_common(count)) ++count;
        const auto mention = 1 + std::count(paths.begin(), paths.begin() + int64_t(model), path);
        names.push_back(joined(path, count) + (mention > 1 ? fmt::format("#{}", mention) : ""));
    }
    return names;
}

}  // namespace amalgam
