// The old folder that a new output takes the place of, and what a killed publish() leaves behind.
#pragma once
#include <functional>
#include <string>

namespace amalgam {

/// Notes in `building` what is going to move, so that an interrupted move can be recognised by the folder's inode; gives the
/// free name beside `out` it shall move to.
std::string plan_replacement(const std::string& building, const std::string& out);

/// Moves back what plan_replacement() noted, unless something else is there now, and forgets the note.
void undo_replacement(const std::string& building, const std::string& out);

/// If `out` is published, but not tidy: deletes the replaced folder, journals, lock and, last of all, the key by which
/// this function knows. `step` is called before each.
/// What cannot be deleted is logged as a warning.
void tidy_published(const std::string& out, const std::function<void(const char*)>& step);

}  // namespace amalgam
