#include "src/evaluate/checkpoint_reader.h"

#include <algorithm>
#include <set>

#include "kernels/element.h"
#include "src/base/error.h"
#include "src/evaluate/row_operations.h"

namespace amalgam {
namespace {

/// Memory that a part of a tensor passes through.
constexpr uint64_t piece_bytes = 16 << 20;

template <class Stored, class Convert>
void convert(const std::string& bytes, float* to, const Convert& convert_one) {
    for (size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
        Stored stored;
        std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
        to[i] = convert_one(stored);
    }
}

void to_float(Dtype dtype, const std::string& bytes, float* to) {
    switch (dtype) {
        case Dtype::f32: std::memcpy(to, bytes.data(), bytes.size()); return;
        case Dtype::bf16:
            widen_bfloat16(reinterpret_cast<const uint16_t*>(bytes.data()), int64_t(bytes.size() / 2), to);
            return;
        case Dtype::f64: convert<double>(bytes, to, [](double value) { return float(value); }); return;
        case Dtype::f16: convert<uint16_t>(bytes, to, [](auto value) { return float_from_f16(value); }); return;
        case Dtype::f8_e4m3: convert<uint8_t>(bytes, to, [](auto value) { return float_from_e4m3(value); }); return;
        case Dtype::f8_e5m2: convert<uint8_t>(bytes, to, [](auto value) { return float_from_e5m2(value); }); return;
        default: break;
    }
    fail("weights of type {} cannot be computed with", info(dtype).name);
}

class CheckpointReader final : public TensorReader {
  public:
    CheckpointReader(Files& files, const Checkpoint& checkpoint) : files_(files), checkpoint_(checkpoint) {}

    void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
        const TensorInfo& tensor = get(name);
        check(tensor.shape == shape, "{}: {} is {}, {} is expected", printable(checkpoint_.path), printable(name),
              shape_text(tensor.shape), shape_text(shape));
        const std::string& file = checkpoint_.files[size_t(tensor.file)].path;
        for (uint64_t at = tensor.begin; at < tensor.end; at += piece_bytes) {
            const std::string bytes = files_.read(file, at, std::min(piece_bytes, tensor.end - at));
            to_float(tensor.dtype, bytes, to);
            to += bytes.size() / size_t(bytes_of(tensor.dtype));
        }
    }
    bool is_bfloat16(const std::string& name) override { return get(name).dtype == Dtype::bf16; }

  private:
    const TensorInfo& get(const std::string& name) const {
        const TensorInfo* tensor = checkpoint_.find(name);
        check(tensor != nullptr, "{}: there is no tensor {}", printable(checkpoint_.path), printable(name));
        return *tensor;
    }

    Files& files_;
    const Checkpoint& checkpoint_;
};

/// Leftovers that are known to be without influence.
bool may_be_left_out(const std::string& name, const DecoderConfig& config) {
    return name.ends_with("rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight");
}

void check_tensors(DecoderCheckpoint& result, bool allow_unknown) {
    std::set<std::string> wanted;
    result.all_bfloat16 = true;
    for (const auto& [name, shape] : tensor_list(result.config)) {
        wanted.insert(name);
        const TensorInfo* tensor = result.checkpoint.find(name);
        check(tensor != nullptr, "there is no tensor {}, which config.json asks for", name);
        check(tensor->shape == shape, "{} is {}, by config.json it should be {}", name, shape_text(tensor->shape),
              shape_text(shape));
        check(info(tensor->dtype).computed, "{} is stored as {}, which cannot be computed with", name,
              info(tensor->dtype).name);
        if (shape.size() > 1 && tensor->dtype != Dtype::bf16) result.all_bfloat16 = false;
    }
    for (const TensorInfo& tensor : result.checkpoint.tensors) {
        if (wanted.contains(tensor.name) || may_be_left_out(tensor.name, result.config)) continue;
        const std::string what = fmt::format("tensor {} has no place in a {} model of this config.json",
                                             printable(tensor.name, 200), result.config.family);
        check(allow_unknown, "{}; --allow-unknown leaves it out", what);
        result.warning = what;
    }
}

}  // namespace

std::unique_ptr<TensorReader> checkpoint_reader(Files& files, const Checkpoint& checkpoint) {
    return std::make_unique<CheckpointReader>(files, checkpoint);
}

DecoderCheckpoint open_decoder(Files& files, const std::string& path, bool allow_unknown) {
    return decoder_of(files, open_checkpoint(files, path), path, allow_unknown);
}

DecoderCheckpoint decoder_of(Files& files, Checkpoint checkpoint, const std::string& folder, bool allow_unknown) {
    DecoderCheckpoint result;
    result.checkpoint = std::move(checkpoint);
    try {
        result.config = parse_decoder_config(result.checkpoint.config, allow_unknown);
        check_tensors(result, allow_unknown);
        const std::string generation = folder + "/generation_config.json";
        if (files.status(generation).kind == FileKind::file) {
            const std::vector<int32_t> ids = parse_end_ids(files.read_all(generation, 1 << 20));
            if (!ids.empty()) result.config.end_ids = ids;
        }
        for (int32_t id : result.config.end_ids)
            check(id < result.config.vocabulary, "eos_token_id is {}, the vocabulary has {} tokens", id,
                  result.config.vocabulary);
    } catch (const Error& error) {
        fail("{}: {}", printable(result.checkpoint.path), error.what());
    }
    return result;
}

}  // namespace amalgam
