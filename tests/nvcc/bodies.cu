// Never run: shows that nvcc takes the bodies of the passes as device code, in packs of 16 bytes. With it come all
// headers of kernels/ (the list is made by CMake).
#include "headers.h"

namespace amalgam {
namespace {

template <class Pass>
__global__ void fold(Pass pass) {
    pass.template run<8>();
}

template <template <class> class Fold, Sparsifier kind>
void instantiate(const FoldArguments& arguments) {
    fold<<<1, 1>>>(FoldPass<Fold<float>, kind, float>{arguments});
    fold<<<1, 1>>>(FoldPass<Fold<double>, kind, double>{arguments});
}

template <template <class> class Fold>
void instantiate_all(const FoldArguments& arguments) {
    instantiate<Fold, Sparsifier::none>(arguments);
    instantiate<Fold, Sparsifier::magnitude>(arguments);
    instantiate<Fold, Sparsifier::random>(arguments);
    instantiate<Fold, Sparsifier::factors>(arguments);
}

}  // namespace

void instantiate_folds(const FoldArguments& arguments) {
    instantiate<folds::Average, Sparsifier::none>(arguments);
    instantiate_all<folds::Sum>(arguments);
    instantiate_all<folds::Elect>(arguments);
    instantiate<folds::NearSwap, Sparsifier::none>(arguments);
    instantiate<folds::Ram, Sparsifier::none>(arguments);
    instantiate<folds::RamPlus, Sparsifier::none>(arguments);
}

}  // namespace amalgam
