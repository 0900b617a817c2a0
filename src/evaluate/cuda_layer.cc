#include "src/evaluate/cuda_layer.h"

#include <algorithm>
#include <limits>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr uint64_t alignment = 256;

uint64_t rounded(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

void queued(int error) { check_cuda(error, "queueing a kernel of the forward pass"); }

/// Arrays that share a buffer.
class Room {
  public:
    /// Before take(): how much is wanted.
    uint64_t plan(uint64_t bytes) {
        const uint64_t at = total_;
        total_ += rounded(bytes);
        return at;
    }
    uint64_t bytes() const { return total_; }

  private:
    uint64_t total_ = 0;
};

template <class T>
T* place(const DeviceBuffer& memory, uint64_t at) {
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory.data()) + at);
}

}  // namespace

void FedRows::add(const DecoderConfig& config, std::span<const int32_t> tokens, int64_t first_position,
                  int64_t first_key) {
    const int64_t first_row = count(), group = config.heads / config.kv_heads;
    const int64_t queries = int64_t(tokens.size()) * group;
    check(queries <= std::numeric_limits<int32_t>::max() && first_row + queries <= std::numeric_limits<int32_t>::max(),
          "{} tokens are too many to be computed together (a bug in the program)", tokens.size());
    for (int64_t begin = 0; begin < queries; begin += cuda::tile_queries)
        tiles.push_back({int32_t(first_row), int32_t(first_position), int32_t(first_key), int32_t(begin),
                         int32_t(std::min(begin + cuda::tile_queries, queries))});
    for (size_t i = 0; i < tokens.size(); ++i) {
        ids.push_back(tokens[i]);
        positions.push_back(int32_t(first_position + int64_t(i)));
        places.push_back(int32_t(first_key + first_position + int64_t(i)));
    }
}

void GpuRows::send(CudaQueue& queue, const FedRows& rows) {
    const uint64_t row_bytes = rows.ids.size() * sizeof(int32_t);
    Room room;
    const uint64_t id_at = room.plan(row_bytes), position_at = room.plan(row_bytes), place_at = room.plan(row_bytes);
    const uint64_t tile_bytes = rows.tiles.size() * sizeof(cuda::QueryTile), tile_at = room.plan(tile_bytes);
    if (memory.bytes() < room.bytes()) {
        memory = {};
        memory = queue.context().pool->take(room.bytes());
    }
    const auto copy = [&](const auto& values, uint64_t at) {
        queue.copy_in(place<std::byte>(memory, at), values.data(), values.size() * sizeof(values[0]));
    };
    copy(rows.ids, id_at);
    copy(rows.positions, position_at);
    copy(rows.places, place_at);
    copy(rows.tiles, tile_at);
    count = rows.count();
    tile_count = int64_t(rows.tiles.size());
    ids = place<const int32_t>(memory, id_at);
    positions = place<const int32_t>(memory, position_at);
    places = place<const int32_t>(memory, place_at);
    tiles = place<const cuda::QueryTile>(memory, tile_at);
}

CudaScratch::CudaScratch(CudaQueue& queue, const DecoderConfig& config, int64_t rows) {
    const int64_t wide_rows = std::min(rows, most_wide_rows);
    const int64_t stride = config.query_width() + 2 * config.kv_width();
    const auto floats = [](int64_t count) { return uint64_t(count) * sizeof(float); };
    Room room;
    const uint64_t normed = room.plan(floats(rows * config.hidden)), added = room.plan(floats(rows * config.hidden));
    const uint64_t wide = room.plan(floats(std::max(rows * stride, wide_rows * 2 * config.mlp)));
    const uint64_t mixed = room.plan(floats(std::max(rows * config.query_width(), wide_rows * config.mlp)));
    const uint64_t logits = room.plan(floats(wide_rows * std::min(config.vocabulary, HeadWeights::tile_rows)));
    const uint64_t states = room.plan(uint64_t(rows) * sizeof(cuda::LogitState));
    const uint64_t numbers = room.plan(uint64_t(rows) * 2 * sizeof(int32_t));
    memory_ = queue.context().pool->take(room.bytes());
    normed_ = place<std::byte>(memory_, normed);
    added_ = place<float>(memory_, added);
    wide_ = place<float>(memory_, wide);
    mixed_ = place<std::byte>(memory_, mixed);
    logits_ = place<float>(memory_, logits);
    states_ = place<cuda::LogitState>(memory_, states);
    numbers_ = place<int32_t>(memory_, numbers);
}

GpuRope::GpuRope(CudaQueue& queue, const Rope& rope, int64_t positions) {
    const RopeTable table(rope, positions);
    const uint64_t bytes = uint64_t(positions) * rope.frequencies.size() * sizeof(float);
    Room room;
    const uint64_t cosine_at = room.plan(bytes), sine_at = room.plan(bytes);
    memory = queue.context().pool->take(room.bytes());
    cosines = place<const float>(memory, cosine_at);
    sines = place<const float>(memory, sine_at);
    queue.copy_in(place<float>(memory, cosine_at), table.cosines(0), bytes);
    queue.copy_in(place<float>(memory, sine_at), table.sines(0), bytes);
}

CudaForward::CudaForward(CudaQueue& queue, CudaProducts& products, const DecoderConfig& config)
    : queue_(queue), products_(products), config_(config) {
    check(config.head_dim <= cuda::most_head_dim,
          "--device cuda: heads of {} elements are more than its kernels take, {}; use --device cpu", config.head_dim,
          cuda::most_head_dim);
}

void CudaForward::embed(const GpuEmbedding& embedding, const GpuRows& rows, float* hidden) {
    queued(cuda::gather_rows(queue_.kernels(), embedding.values, embedding.dtype, embedding.scale, rows.ids, rows.count,
                             config_.hidden, hidden));
}

void CudaForward::norm(const float* weights, const float* from, int64_t rows, bool half, void* to) {
    queued(cuda::rms_norm(queue_.kernels(),
                          {from, rows, 1, config_.hidden, config_.hidden, weights, config_.norm_epsilon, to}, half));
}

void CudaForward::product(const GpuMatrix& matrix, const float* bias, const void* from, int64_t rows, float* to) {
    products_.multiply(matrix.half, from, rows, matrix.values, matrix.rows, matrix.columns, to);
    if (bias) queued(cuda::add_bias(queue_.kernels(), to, rows, matrix.rows, bias));
}

void CudaForward::head_norms(const GpuLayer& layer, int64_t rows, float* query_key_value) {
    const int64_t stride = config_.query_width() + 2 * config_.kv_width();
    float* keys = query_key_value + config_.query_width();
    queued(cuda::rms_norm(queue_.kernels(),
                          {query_key_value, rows, config_.heads, config_.head_dim, stride, layer.query_norm,
                           config_.norm_epsilon, query_key_value},
                          false));
    queued(cuda::rms_norm(
        queue_.kernels(),
        {keys, rows, config_.kv_heads, config_.head_dim, stride, layer.key_norm, config_.norm_epsilon, keys}, false));
}

void CudaForward::attend(const GpuLayer& layer, int64_t window, const GpuRope& rope, const GpuRows& rows, float* stored,
                         const CudaScratch& scratch) {
    const int64_t stride = config_.query_width() + 2 * config_.kv_width();
    float* query_key_value = scratch.wide();
    if (config_.query_key_norm) head_norms(layer, rows.count, query_key_value);
    // Keys stand behind the queries.
    queued(cuda::turn_heads(queue_.kernels(), query_key_value, rows.count, stride, config_.heads + config_.kv_heads,
                            config_.head_dim, rows.positions, rope.cosines, rope.sines));
    const float* keys = query_key_value + config_.query_width();
    if (stored)
        queued(
            cuda::store_rows(queue_.kernels(), keys, rows.count, 2 * config_.kv_width(), stride, rows.places, stored));
    cuda::AttentionArguments arguments;
    arguments.queries = query_key_value;
    arguments.query_stride = stride;
    arguments.keys = stored ? stored : keys;
    arguments.values = arguments.keys + config_.kv_width();
    arguments.key_stride = stored ? 2 * config_.kv_width() : stride;
    arguments.to = scratch.mixed();
    arguments.tiles = rows.tiles;
    arguments.tile_count = rows.tile_count;
    arguments.heads = int32_t(config_.heads);
    arguments.kv_heads = int32_t(config_.kv_heads);
    arguments.head_dim = int32_t(config_.head_dim);
    arguments.window = int32_t(std::min<int64_t>(window, std::numeric_limits<int32_t>::max()));
    arguments.scale = config_.attention_scale;
    arguments.cap = config_.attention_softcap;
    queued(cuda::attend(queue_.kernels(), arguments, layer.output.half));
}

void CudaForward::add_to(float* hidden, float* added, int64_t rows, const float* post_norm) {
    if (post_norm) norm(post_norm, added, rows, false, added);
    queued(cuda::add_values(queue_.kernels(), hidden, added, rows * config_.hidden));
}

void CudaForward::feed_forward(const GpuLayer& layer, int64_t rows, float* hidden, const CudaScratch& scratch) {
    norm(layer.pre_mlp_norm, hidden, rows, layer.gate_up.half, scratch.normed());
    product(layer.gate_up, layer.gate_up_bias, scratch.normed(), rows, scratch.wide());
    queued(cuda::gated(queue_.kernels(), scratch.wide(), rows, config_.mlp, config_.activation == Activation::gelu_tanh,
                       layer.down.half, scratch.mixed()));
    product(layer.down, layer.down_bias, scratch.mixed(), rows, scratch.added());
    add_to(hidden, scratch.added(), rows, layer.post_mlp_norm);
}

void CudaForward::run_layer(const GpuLayer& layer, int64_t window, const GpuRope& rope, const GpuRows& rows,
                            float* stored, float* hidden, const CudaScratch& scratch) {
    norm(layer.input_norm, hidden, rows.count, layer.query_key_value.half, scratch.normed());
    product(layer.query_key_value, layer.query_key_value_bias, scratch.normed(), rows.count, scratch.wide());
    attend(layer, window, rope, rows, stored, scratch);
    product(layer.output, layer.output_bias, scratch.mixed(), rows.count, scratch.added());
    add_to(hidden, scratch.added(), rows.count, layer.post_attention_norm);
    for (int64_t first = 0; first < rows.count; first += CudaScratch::most_wide_rows)
        feed_forward(layer, std::min(CudaScratch::most_wide_rows, rows.count - first), hidden + first * config_.hidden,
                     scratch);
}

void CudaForward::pick(const GpuHead& head, const float* hidden, const int32_t* numbers, int64_t rows,
                       const CudaScratch& scratch) {
    queued(cuda::gather_rows(queue_.kernels(), hidden, Dtype::f32, 1, numbers, rows, config_.hidden, scratch.added()));
    norm(head.norm, scratch.added(), rows, head.tiles[0].half, scratch.normed());
}

void CudaForward::judge_tile(const GpuMatrix& tile, int64_t rows, int64_t first_id, const int32_t* targets,
                             cuda::LogitState* states, const CudaScratch& scratch) {
    product(tile, nullptr, scratch.normed(), rows, scratch.logits());
    queued(cuda::judge_logits(queue_.kernels(), scratch.logits(), rows, first_id, tile.rows, config_.logit_softcap,
                              targets, states));
}

}  // namespace amalgam
