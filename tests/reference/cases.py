"""What a test case is, and the random models cases are made of."""

from dataclasses import dataclass, field

import numpy as np

from safetensors_io import FORMATS, encode, integers, round_to

HIDDEN, VOCABULARY = 16, 53

# shapes at the borders of packs, lanes, rows and blocks of 65,536 elements
ODD_SHAPES = {
    "odd.one": (1,),
    "odd.seven": (7,),
    "odd.lanes_less_one.weight": (3, 85),
    "odd.lanes_plus_one": (257,),
    "odd.prime.weight": (4099,),
    "odd.scalar": (),
    "odd.empty.weight": (0, 16),
    "odd.cube.weight": (4, 3, 2, 5),
    "odd.column.weight": (33, 1),
}
BIG_SHAPES = {
    "big.two_blocks": (70001,),
    "big.four_blocks": (3 * 65536 + 5,),
    "big.straddling_rows.weight": (100, 1667),
    "big.long_rows.weight": (2, 66000),
}


@dataclass
class Model:
    tensors: dict  # name -> Tensor
    config: dict
    shards: int = 1


@dataclass
class Case:
    name: str
    recipe: dict
    models: dict  # reference -> Model
    paper: bool = False
    seed: int = 0
    arguments: list = field(default_factory=list)
    skip_on_mismatch: bool = False
    warns: str = ""  # a word the program must print to stderr
    toml: bool = False  # the recipe is written in the native form, else in mergekit's


def layer_shapes(layer, tower="model.layers"):
    prefix = f"{tower}.{layer}."
    square, up = (HIDDEN, HIDDEN), (24, HIDDEN)
    return {
        prefix + "self_attn.q_proj.weight": square,
        prefix + "self_attn.k_proj.weight": square,
        prefix + "self_attn.v_proj.weight": square,
        prefix + "self_attn.o_proj.weight": square,
        prefix + "mlp.gate_proj.weight": up,
        prefix + "mlp.up_proj.weight": up,
        prefix + "mlp.down_proj.weight": up[::-1],
        prefix + "input_layernorm.weight": (HIDDEN,),
        prefix + "post_attention_layernorm.weight": (HIDDEN,),
    }


def llama_shapes(layers, vocabulary=VOCABULARY, tied=False):
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for layer in range(layers):
        shapes.update(layer_shapes(layer))
    shapes["model.norm.weight"] = (HIDDEN,)
    if not tied:
        shapes["lm_head.weight"] = (vocabulary, HIDDEN)
    return shapes


def config(layers, dtype, vocabulary=VOCABULARY, tied=False):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64,
        "tie_word_embeddings": tied,
        "torch_dtype": FORMATS[dtype][1],
        "hidden_act": "silu",
    }


class Zoo:
    """Random values of a base and of its relatives, as float64 dictionaries; `store` makes Models of them."""

    def __init__(self, rng, shapes):
        self.rng, self.shapes = rng, shapes
        self.base = self.far(norm=1.0)

    def far(self, norm=0.0):
        """a model that has nothing to do with the others"""
        return {
            name: self.rng.standard_normal(shape) * 0.05 + (norm if "norm" in name else 0)
            for name, shape in self.shapes.items()
        }

    def expert(self, strength=0.01, touched=0.8, base=None):
        """a fine-tune: a share of the elements is untouched, so that their deltas are exactly 0"""
        base = base or self.base
        return {
            name: np.where(self.rng.random(v.shape) < touched, v + strength * self.rng.standard_normal(v.shape), v)
            for name, v in base.items()
        }

    def experts(self, count):
        return [
            self.expert(self.rng.choice([0.003, 0.01, 0.03]), self.rng.choice([0.3, 0.8, 1.0])) for _ in range(count)
        ]

    def coarse(self, count):
        """base and experts on coarse grids: deltas have few magnitudes, and opposite deltas cancel exactly"""
        base = {k: np.round(v * 256) / 256 for k, v in self.base.items()}
        step = lambda v: self.rng.integers(-3, 4, v.shape) / 1024
        return [base] + [{k: v + step(v) for k, v in base.items()} for _ in range(count)]


def opposite(base, expert):
    return {k: 2 * base[k] - expert[k] for k in base}


def store(values, dtypes, layers=0, shards=1, vocabulary=VOCABULARY, tied=False):
    """`dtypes`: one for all tensors, or a function of the name."""
    pick = dtypes if callable(dtypes) else lambda name: dtypes
    tensors = {name: encode(pick(name), v) for name, v in values.items()}
    first = next(iter(tensors.values())).dtype
    return Model(tensors, config(layers, first, vocabulary, tied), shards)


def shapes_for(rng, layers=3, big=True):
    """A model with layers, two towers, odd shapes and, mostly, one tensor of several blocks."""
    shapes = llama_shapes(layers)
    for layer in range(2):
        shapes.update(layer_shapes(layer, "vision_tower.blocks"))
    shapes.update(ODD_SHAPES)
    if big:
        name = rng.choice(list(BIG_SHAPES))
        shapes[str(name)] = BIG_SHAPES[str(name)]
    return shapes


def with_integers(tensors, rng):
    """adds tensors that must be carried over unchanged"""
    extra = {
        "model.position_ids": integers("I64", np.arange(40).reshape(1, 40)),
        "model.attention_mask": integers("BOOL", np.tril(np.ones((5, 5)))),
        "model.counts": integers("I32", rng.integers(-9, 9, 11)),
        "model.bytes": integers("U8", np.arange(256)),
    }
    return {**tensors, **extra}


def exactly(dtype, values):
    """values that survive storing"""
    return {k: round_to(dtype, v) for k, v in values.items()}
