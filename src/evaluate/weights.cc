#include "src/evaluate/weights.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/evaluate/row_operations.h"

namespace amalgam {
namespace {

struct Place {
    std::string name;
    std::vector<int64_t> shape;
};

/// Tensors of a layer, by where they go.
struct LayerPlaces {
    std::vector<Place> query_key_value, output, gate_up, down;
    std::vector<Place> query_key_value_bias, output_bias, gate_up_bias, down_bias;
    std::vector<Place> input_norm, query_norm, key_norm, post_attention_norm, pre_mlp_norm, post_mlp_norm;

    template <class Visit>
    void each(const Visit& visit) const {
        for (const auto* list :
             {&input_norm, &query_key_value, &query_key_value_bias, &query_norm, &key_norm, &output, &output_bias,
              &post_attention_norm, &pre_mlp_norm, &gate_up, &gate_up_bias, &down, &down_bias, &post_mlp_norm})
            for (const Place& place : *list) visit(place);
    }
};

LayerPlaces layer_places(const DecoderConfig& config, int64_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const auto one = [&](const char* name, std::vector<int64_t> shape) {
        return std::vector<Place>{{prefix + name, std::move(shape)}};
    };
    const int64_t hidden = config.hidden, q = config.query_width(), kv = config.kv_width(), mlp = config.mlp;
    LayerPlaces places;
    const auto rows = [&](std::vector<Place>& matrix, std::vector<Place>& bias, bool with_bias, const std::string& name,
                          int64_t count, int64_t columns) {
        matrix.push_back({prefix + name + ".weight", {count, columns}});
        if (with_bias) bias.push_back({prefix + name + ".bias", {count}});
    };
    for (const auto& [name, count] :
         {std::pair("self_attn.q_proj", q), std::pair("self_attn.k_proj", kv), std::pair("self_attn.v_proj", kv)})
        rows(places.query_key_value, places.query_key_value_bias, config.qkv_bias, name, count, hidden);
    rows(places.output, places.output_bias, config.output_bias, "self_attn.o_proj", hidden, q);
    rows(places.gate_up, places.gate_up_bias, config.mlp_bias, "mlp.gate_proj", mlp, hidden);
    rows(places.gate_up, places.gate_up_bias, config.mlp_bias, "mlp.up_proj", mlp, hidden);
    rows(places.down, places.down_bias, config.mlp_bias, "mlp.down_proj", hidden, mlp);
    places.input_norm = one("input_layernorm.weight", {hidden});
    if (config.query_key_norm) {
        places.query_norm = one("self_attn.q_norm.weight", {config.head_dim});
        places.key_norm = one("self_attn.k_norm.weight", {config.head_dim});
    }
    if (config.post_norms) {
        places.post_attention_norm = one("post_attention_layernorm.weight", {hidden});
        places.pre_mlp_norm = one("pre_feedforward_layernorm.weight", {hidden});
        places.post_mlp_norm = one("post_feedforward_layernorm.weight", {hidden});
    } else {
        // Llama's name of the norm before the MLP.
        places.pre_mlp_norm = one("post_attention_layernorm.weight", {hidden});
    }
    return places;
}

int64_t elements(const Place& place) {
    int64_t product = 1;
    for (int64_t size : place.shape) product *= size;
    return product;
}

/// All places one behind the other.
std::vector<float> read_all(const std::vector<Place>& places, TensorReader& reader) {
    int64_t count = 0;
    for (const Place& place : places) count += elements(place);
    std::vector<float> values(static_cast<size_t>(count));
    float* to = values.data();
    for (const Place& place : places) {
        reader.read(place.name, place.shape, to);
        to += elements(place);
    }
    return values;
}

std::vector<float> read_norm(const DecoderConfig& config, const std::vector<Place>& places, TensorReader& reader) {
    std::vector<float> values = read_all(places, reader);
    for (float& value : values) value += config.norm_offset;
    return values;
}

Matrix read_matrix(const std::vector<Place>& places, TensorReader& reader, Compute compute, MatrixLayout layout) {
    const std::vector<float> values = read_all(places, reader);
    const int64_t columns = places[0].shape[1];
    return {int64_t(values.size()) / columns, columns, values.data(), Dtype::f32, compute, layout};
}

Place embedding_place(const DecoderConfig& config) {
    return {"model.embed_tokens.weight", {config.vocabulary, config.hidden}};
}

Place head_place(const DecoderConfig& config) {
    if (config.tied) return embedding_place(config);
    return {"lm_head.weight", {config.vocabulary, config.hidden}};
}

}  // namespace

uint64_t LayerWeights::bytes() const {
    uint64_t total = query_key_value.bytes() + output.bytes() + gate_up.bytes() + down.bytes();
    for (const auto* values : {&query_key_value_bias, &output_bias, &gate_up_bias, &down_bias, &input_norm, &query_norm,
                               &key_norm, &post_attention_norm, &pre_mlp_norm, &post_mlp_norm})
        total += values->size() * sizeof(float);
    return total;
}

Embedding::Embedding(int64_t width, float scale, std::vector<float> values, bool as_bfloat16)
    : width_(width), scale_(scale) {
    if (!as_bfloat16) {
        full_ = std::move(values);
        return;
    }
    half_.resize(values.size());
    round_to_bfloat16(values.data(), int64_t(values.size()), half_.data());
}

void Embedding::read(int32_t id, float* to) const {
    if (full_.empty())
        widen_bfloat16(half_.data() + id * width_, width_, to);
    else
        std::copy_n(full_.data() + id * width_, width_, to);
    if (scale_ != 1) multiply_by(to, width_, scale_);
}

std::vector<std::pair<std::string, std::vector<int64_t>>> tensor_list(const DecoderConfig& config) {
    std::vector<std::pair<std::string, std::vector<int64_t>>> list;
    const auto add_place = [&](const Place& place) { list.emplace_back(place.name, place.shape); };
    add_place(embedding_place(config));
    for (int64_t layer = 0; layer < config.layers; ++layer) layer_places(config, layer).each(add_place);
    add_place({"model.norm.weight", {config.hidden}});
    if (!config.tied) add_place(head_place(config));
    return list;
}

std::shared_ptr<const LayerWeights> make_layer(const DecoderConfig& config, TensorReader& reader, int64_t layer,
                                               Compute compute, MatrixLayout layout) {
    const LayerPlaces places = layer_places(config, layer);
    std::vector<std::string> names;
    places.each([&](const Place& place) { names.push_back(place.name); });
    reader.expect(names);
    auto result = std::make_shared<LayerWeights>();
    result->query_key_value = read_matrix(places.query_key_value, reader, compute, layout);
    result->output = read_matrix(places.output, reader, compute, layout);
    result->gate_up = read_matrix(places.gate_up, reader, compute, layout);
    result->down = read_matrix(places.down, reader, compute, layout);
    result->query_key_value_bias = read_all(places.query_key_value_bias, reader);
    result->output_bias = read_all(places.output_bias, reader);
    result->gate_up_bias = read_all(places.gate_up_bias, reader);
    result->down_bias = read_all(places.down_bias, reader);
    result->input_norm = read_norm(config, places.input_norm, reader);
    result->query_norm = read_norm(config, places.query_norm, reader);
    result->key_norm = read_norm(config, places.key_norm, reader);
    result->post_attention_norm = read_norm(config, places.post_attention_norm, reader);
    result->pre_mlp_norm = read_norm(config, places.pre_mlp_norm, reader);
    result->post_mlp_norm = read_norm(config, places.post_mlp_norm, reader);
    return result;
}

std::shared_ptr<const HeadWeights> make_head(const DecoderConfig& config, TensorReader& reader, Compute compute,
                                             MatrixLayout layout) {
    auto result = std::make_shared<HeadWeights>();
    reader.expect({"model.norm.weight", head_place(config).name});
    result->norm = read_norm(config, {{"model.norm.weight", {config.hidden}}}, reader);
    const std::vector<float> values = read_all({head_place(config)}, reader);
    for (int64_t first = 0; first < config.vocabulary; first += HeadWeights::tile_rows) {
        const int64_t rows = std::min(HeadWeights::tile_rows, config.vocabulary - first);
        result->tiles.emplace_back(rows, config.hidden, values.data() + first * config.hidden, Dtype::f32, compute,
                                   layout);
    }
    return result;
}

std::shared_ptr<const Embedding> make_embedding(const DecoderConfig& config, TensorReader& reader) {
    const Place place = embedding_place(config);
    reader.expect({place.name});
    return std::make_shared<Embedding>(config.hidden, config.embedding_scale, read_all({place}, reader),
                                       reader.is_bfloat16(place.name));
}

ReaderWeights::ReaderWeights(DecoderConfig config, std::unique_ptr<TensorReader> reader, Compute compute, bool keep,
                             MatrixLayout layout)
    : config_(std::move(config)), reader_(std::move(reader)), compute_(compute), keep_(keep), layout_(layout) {
    for (int64_t layer = 0; layer < config_.layers; ++layer) path_.push_back({0, layer, 1});
}

void ReaderWeights::make_all(ThreadPool& pool) {
    check(keep_ && reader_->is_shared(), "weights that are not kept were asked for at once (a bug in the program)");
    std::vector<std::shared_ptr<const LayerWeights>> layers(static_cast<size_t>(config_.layers));
    // The head and the embedding first: they are the largest.
    pool.parallel_for(config_.layers + 2, [&](int64_t index, int) {
        if (index == 0)
            head_ = make_head(config_, *reader_, compute_, layout_);
        else if (index == 1)
            embedding_ = make_embedding(config_, *reader_);
        else
            layers[size_t(index - 2)] = make_layer(config_, *reader_, index - 2, compute_, layout_);
    });
    for (size_t layer = 0; layer < layers.size(); ++layer) layers_[int64_t(layer)] = layers[layer];
}

std::shared_ptr<const LayerWeights> ReaderWeights::layer(const PathStep& step) {
    check(step.model == 0 && step.scale == 1,
          "a plain model was asked for layer {} of model {} at scale {} (a bug in the "
          "program)",
          step.layer, step.model, step.scale);
    if (const auto found = layers_.find(step.layer); found != layers_.end()) return found->second;
    auto made = make_layer(config_, *reader_, step.layer, compute_, layout_);
    if (keep_) layers_[step.layer] = made;
    return made;
}

std::shared_ptr<const Embedding> ReaderWeights::embedding() {
    if (embedding_) return embedding_;
    auto made = make_embedding(config_, *reader_);
    if (keep_) embedding_ = made;
    return made;
}

std::shared_ptr<const HeadWeights> ReaderWeights::head() {
    if (head_) return head_;
    auto made = make_head(config_, *reader_, compute_, layout_);
    if (keep_) head_ = made;
    return made;
}

}  // namespace amalgam
