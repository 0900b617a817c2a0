// Tensors of a checkpoint on disk for a decoder.
#pragma once
#include <memory>
#include <string>

#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"
#include "src/evaluate/weights.h"

namespace amalgam {

/// A model folder that can be evaluated: its config, checked against its tensors.
struct DecoderCheckpoint {
    Checkpoint checkpoint;
    DecoderConfig config;
    bool all_bfloat16 = false;  ///< every matrix is stored so
    std::string warning;        ///< "" if there is nothing to say
};

/// The same of a checkpoint in memory: its config and the names, types and shapes of its tensors; `folder` has the other files.
DecoderCheckpoint decoder_of(Files& files, Checkpoint checkpoint, const std::string& folder,
                             bool allow_unknown = false);

/// Throws Error that begins with the path: what config.json asks for and the tensors do not give, or give in another
/// shape; and tensors that the config has no place for, since leaving them out would change the result.
DecoderCheckpoint open_decoder(Files& files, const std::string& path, bool allow_unknown = false);

/// Reads through `files`; both must outlive the reader. One thread at a time.
std::unique_ptr<TensorReader> checkpoint_reader(Files& files, const Checkpoint& checkpoint);

}  // namespace amalgam
