// Whether a path may become the folder of an output.
#pragma once
#include <string>
#include <vector>

namespace amalgam {

enum class PathKind { missing, empty_folder, filled_folder, other };

/// Links are not followed: they are `other`. Throws Error if the path cannot be examined.
PathKind look_at(const std::string& path);

struct OutputTarget {
    std::string path;   ///< no slash at its end; of a link, what it leads to
    bool link = false;  ///< a symbolic link was given
};

/// Throws Error if `out` is `.`, `/` or the like, a mount point, holds the working directory, is a link to nothing, or if the
/// folder above is missing.
OutputTarget output_target(const std::string& out);

/// Throws Error if one of the inputs (files or folders; those that do not exist are passed over) is `target` or
/// `building`, or one of them holds the other. Real paths count.
void check_no_input(const std::string& target, const std::string& building, const std::vector<std::string>& inputs);

/// Where a file system begins: it cannot be renamed.
bool is_mount_point(const std::string& path);

/// "/a" of "/a/b", "." of "b".
std::string parent_of(const std::string& path);
/// "b" of "/a/b".
std::string last_part_of(const std::string& path);

}  // namespace amalgam
