// What a decoder of the Llama family computes, from its config.json.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

enum class Activation { silu, gelu_tanh };

/// Rotary position embedding: the inverse frequency of each pair of a head's elements, and what cosine and sine are
/// multiplied by (1, but for YaRN).
struct Rope {
    std::vector<float> frequencies;  ///< head_dim / 2
    float factor = 1;
};

struct DecoderConfig {
    std::string family;  ///< model_type: "llama", "mistral", "qwen2", "qwen3", "gemma2"
    int64_t vocabulary = 0, hidden = 0, mlp = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
    int64_t context = 0;          ///< longest sequence, in tokens
    float norm_epsilon = 0;       ///< of every RMSNorm
    float norm_offset = 0;        ///< added to the weights of RMSNorm
    float embedding_scale = 1;    ///< on rows of the embedding
    float attention_scale = 0;    ///< on dot products of queries and keys
    float attention_softcap = 0;  ///< c: scores become c tanh(score / c); 0: none
    float logit_softcap = 0;      ///< the same on logits
    bool tied = false;            ///< the embedding is the head too
    bool qkv_bias = false, output_bias = false, mlp_bias = false;
    bool query_key_norm = false;  ///< RMSNorm over the elements of every head of q and k
    bool post_norms = false;      ///< RMSNorm on what attention and MLP add, as in Gemma 2
    Activation activation = Activation::silu;
    Rope rope;
    std::vector<int64_t> windows;  ///< a layer: how many of the last tokens, its own among them, it sees; 0: all
    std::vector<int32_t> end_ids;  ///< tokens that end a generated text
    std::vector<std::string> warnings;

    int64_t query_width() const { return heads * head_dim; }
    int64_t kv_width() const { return kv_heads * head_dim; }
};

/// Reads config.json as transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters) write it. Throws Error naming
/// key and value for everything that cannot be computed, and for keys that are not known to be without influence on the
/// result; with `allow_unknown` the latter are warnings.
DecoderConfig parse_decoder_config(std::string_view json, bool allow_unknown = false);

/// The ids of `eos_token_id` in a generation_config.json; none if it has none. Throws Error.
std::vector<int32_t> parse_end_ids(std::string_view generation_config);

}  // namespace amalgam
