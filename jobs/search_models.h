// The models of a search, opened.
#pragma once
#include "src/search/search.h"

namespace amalgam {

/// Fills in the sources and layers of `inputs`, whose configuration is read; logs warnings. Throws Error if no candidate
/// could be made of the models.
void open_models(Files& files, SearchInputs& inputs);

}  // namespace amalgam
