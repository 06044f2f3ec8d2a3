"""The shape of a model, read from a Hugging Face ``config.json`` and validated. Knows nothing of torch.

Also read from what :func:`teachkit.saved.save` writes, which holds the same fields by their names here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Norm = Literal["rms", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh"]
Position = Literal["rotary", "learned"]
SAVED = "teachkit.json"  # in a folder of teachkit.saved, where another has its config.json
_BIASES = ("qkv_bias", "o_bias", "mlp_bias")


class ConfigError(ValueError):
    """A config that this package cannot honour; names the key, what was expected and what came."""


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context of pre-training.

    ``linear`` divides every position by ``factor`` (Chen et al. 2023, arXiv:2306.15595).
    ``llama3`` divides only the slow frequencies, whose wavelength exceeds
    ``original_context / low_freq_factor`` tokens, and blends up to ``original_context / high_freq_factor``
    (Llama 3 herd of models, arXiv:2407.21783).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError(f"rope factor: expected at least 1, got {self.factor}")
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                "rope high_freq_factor: expected more than low_freq_factor "
                f"({self.low_freq_factor}), got {self.high_freq_factor}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the decoder needs to know about its own shape.

    The defaults describe a Llama; the other families are the same decoder with other values.

    Raises  ConfigError: sizes that do not divide, values that are not supported

    >>> config = ModelConfig(vocab_size=4096, d_model=256, n_layers=6, n_heads=4, n_kv_heads=2, d_ff=704)
    >>> config.head_dim, config.group_size
    (64, 2)
    >>> config.kv_bytes_per_token(itemsize=2)  # K and V, 6 layers, 2 heads of 64, 2 bytes each
    3072
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    n_kv_heads: int = 0  # 0: as many as n_heads
    head_dim: int = 0  # 0: d_model / n_heads
    context: int = 2048
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    activation: Activation = "silu"
    gated_mlp: bool = True
    position: Position = "rotary"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    windows: tuple[int | None, ...] = ()  # sliding window per layer; () : none anywhere
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    parallel_residual: bool = False  # attention and MLP read the same x (Falcon)
    parallel_norms: int = 2  # norms in front of the two: 2, or 1 that they share
    tied: bool = False
    family: str = "llama"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_kv_heads", self.n_kv_heads or self.n_heads)
        sizes = ["vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff", "context"]
        for name in sizes + (["head_dim"] if self.head_dim else []):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}: expected a positive integer, got {value!r}")
        object.__setattr__(self, "windows", self.windows or (None,) * self.n_layers)
        if not self.head_dim:
            if self.d_model % self.n_heads:
                raise ConfigError(
                    f"d_model: expected a multiple of n_heads ({self.n_heads}), got {self.d_model}; "
                    "or give head_dim"
                )
            object.__setattr__(self, "head_dim", self.d_model // self.n_heads)
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"n_kv_heads: expected a divisor of n_heads ({self.n_heads}), got {self.n_kv_heads}"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ConfigError(
                f"head_dim: rotary positions turn pairs, expected an even number, got {self.head_dim}"
            )
        if len(self.windows) != self.n_layers:
            raise ConfigError(f"windows: expected one per layer ({self.n_layers}), got {len(self.windows)}")
        if any(w is not None and w < 1 for w in self.windows):
            raise ConfigError(f"windows: expected positive sizes or None, got {self.windows}")

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head (G)."""
        return self.n_heads // self.n_kv_heads

    def kv_bytes_per_token(self, itemsize: int) -> int:
        """Bytes that one token leaves in the cache: keys and values, all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * itemsize

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelConfig:
        """Read ``config.json`` in ``folder``, or ``folder`` itself if it is a file.

        A folder that :func:`teachkit.saved.save` wrote has a ``teachkit.json`` instead, and that is read.
        Raises  FileNotFoundError, ConfigError
        """
        path = Path(folder)
        if not path.is_file():
            path = path / SAVED if (path / SAVED).exists() else path / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not JSON ({error})") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"{path}: expected a JSON object, got {type(raw).__name__}")
        return cls.from_saved(raw) if path.name == SAVED else cls.from_hugging_face(raw)

    @classmethod
    def from_saved(cls, description: dict[str, Any]) -> ModelConfig:
        """From the description of a saved model: the fields of this class stand under "config"."""
        try:
            fields: dict[str, Any] = {**description["config"]}
            scaling = fields.pop("rope_scaling", None)
            fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
            return cls(**fields, rope_scaling=None if scaling is None else RopeScaling(**scaling))
        except (KeyError, TypeError) as error:  # a field too many or too few, one of another type
            raise ConfigError(f"config: expected the fields of a ModelConfig in {SAVED} ({error})") from error

    @classmethod
    def from_hugging_face(cls, raw: dict[str, Any]) -> ModelConfig:
        """Translate a Hugging Face config; a key whose value we cannot honour is an error, not a shrug."""
        family = raw.get("model_type")
        if not isinstance(family, str) or family not in _READERS:
            raise ConfigError(f"model_type: expected one of {', '.join(sorted(_READERS))}; got {family!r}")
        if raw.get("quantization_config"):
            raise ConfigError("quantization_config: expected plain fp32, fp16 or bf16 weights, got others")
        try:
            return cls(family=family, **_READERS[family](raw))
        except TypeError as error:  # a string where a number belongs, a number where a list does
            raise ConfigError(f"config.json: a value of a type that cannot be ({error})") from error


def _required(raw: dict[str, Any], key: str) -> Any:
    if raw.get(key) is None:
        raise ConfigError(f"{key}: expected in config.json of a {raw['model_type']} model, not found")
    return raw[key]


def _reject(raw: dict[str, Any], **unsupported: Any) -> None:
    """Raise when a key has a value other than the one that we implement (given) or its absence."""
    for key, expected in unsupported.items():
        if raw.get(key, expected) != expected:
            raise ConfigError(f"{key}: expected {expected!r}, got {raw[key]!r}, which is not supported")


def _choose(raw: dict[str, Any], key: str, default: str, table: dict[str, Any]) -> Any:
    value = raw.get(key, default)
    if value not in table:
        raise ConfigError(f"{key}: expected one of {', '.join(table)}; got {value!r}")
    return table[value]


def _tokens(raw: dict[str, Any]) -> dict[str, Any]:
    eos = raw.get("eos_token_id")
    ids = () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)
    return {"bos_token_id": raw.get("bos_token_id"), "eos_token_ids": ids}


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    """Theta and scaling: ``rope_parameters`` as transformers 5 writes it, or the older two keys."""
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = rope.get("rope_theta", raw.get("rope_theta", 10_000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if raw.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ConfigError("partial_rotary_factor: expected 1.0, other values are not supported")
    if kind == "default":
        return {"rope_theta": float(theta)}
    if kind not in ("linear", "llama3"):
        raise ConfigError(f"rope_type: expected one of default, linear, llama3; got {kind!r}")
    if "factor" not in rope:
        raise ConfigError(f"rope factor: expected with rope_type {kind!r}, not found")
    scaling = RopeScaling(kind=kind, factor=float(rope["factor"]))
    if kind == "llama3":
        try:
            low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
            context = int(rope["original_max_position_embeddings"])
            scaling = RopeScaling("llama3", scaling.factor, low, high, context)
        except KeyError as key:
            raise ConfigError(f"rope {key.args[0]}: expected with rope_type 'llama3', not found") from None
    return {"rope_theta": float(theta), "rope_scaling": scaling}


def _windows(raw: dict[str, Any], on: bool) -> tuple[int | None, ...]:
    """One window per layer, from ``layer_types`` where it is given, else the same in all."""
    n_layers: int = _required(raw, "num_hidden_layers")
    window: int | None = raw.get("sliding_window", 4096)  # absent: what transformers takes, as 28 below
    if not on or window is None:
        return (None,) * n_layers
    types = raw.get("layer_types")
    if types is None:
        full_below = raw.get("max_window_layers", 28) if "use_sliding_window" in raw else 0
        types = ["full_attention" if i < full_below else "sliding_attention" for i in range(n_layers)]
    unknown = set(types) - {"full_attention", "sliding_attention"}
    if unknown:
        raise ConfigError(f"layer_types: expected full_attention or sliding_attention, got {sorted(unknown)}")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _llama_like(raw: dict[str, Any]) -> dict[str, Any]:
    """Llama 2/3, SmolLM2, TinyLlama; Mistral and Qwen differ by what is added below."""
    _reject(raw, pretraining_tp=1)
    return {
        "vocab_size": _required(raw, "vocab_size"),
        "d_model": _required(raw, "hidden_size"),
        "n_layers": _required(raw, "num_hidden_layers"),
        "n_heads": _required(raw, "num_attention_heads"),
        "n_kv_heads": raw.get("num_key_value_heads") or _required(raw, "num_attention_heads"),
        "head_dim": raw.get("head_dim") or 0,
        "d_ff": _required(raw, "intermediate_size"),
        "context": _required(raw, "max_position_embeddings"),
        "norm_eps": raw.get("rms_norm_eps", 1e-6),
        "activation": _choose(raw, "hidden_act", "silu", {"silu": "silu"}),
        "qkv_bias": bool(raw.get("attention_bias", False)),
        "o_bias": bool(raw.get("attention_bias", False)),
        "mlp_bias": bool(raw.get("mlp_bias", False)),
        "tied": bool(raw.get("tie_word_embeddings", False)),
        **_rope(raw),
        **_tokens(raw),
    }


def _mistral(raw: dict[str, Any]) -> dict[str, Any]:
    return _llama_like(raw) | {"windows": _windows(raw, on=True), "qkv_bias": False, "o_bias": False}


def _qwen2(raw: dict[str, Any]) -> dict[str, Any]:
    window = _windows(raw, on=bool(raw.get("use_sliding_window", False)))
    return _llama_like(raw) | {"windows": window, "qkv_bias": True, "o_bias": False}


def _qwen3(raw: dict[str, Any]) -> dict[str, Any]:
    window = _windows(raw, on=bool(raw.get("use_sliding_window", False)))
    return _llama_like(raw) | {"head_dim": raw.get("head_dim") or 128, "windows": window, "qk_norm": True}


def _gpt2(raw: dict[str, Any]) -> dict[str, Any]:
    _reject(raw, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    activations = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
    d_model = _required(raw, "n_embd")
    return {
        "vocab_size": _required(raw, "vocab_size"),
        "d_model": d_model,
        "n_layers": _required(raw, "n_layer"),
        "n_heads": _required(raw, "n_head"),
        "d_ff": raw.get("n_inner") or 4 * d_model,
        "context": _required(raw, "n_positions"),
        "norm": "layer",
        "norm_eps": raw.get("layer_norm_epsilon", 1e-5),
        "activation": _choose(raw, "activation_function", "gelu_new", activations),
        "gated_mlp": False,
        "position": "learned",
        **dict.fromkeys(_BIASES, True),
        "tied": bool(raw.get("tie_word_embeddings", True)),
        **_tokens(raw),
    }


def _falcon(raw: dict[str, Any]) -> dict[str, Any]:
    """Falcon 7B (multi-query, one shared norm), 40B and later ("new decoder": grouped, two norms)."""
    _reject(raw, alibi=False)
    new, n_heads = bool(raw.get("new_decoder_architecture", False)), _required(raw, "num_attention_heads")
    grouped = raw.get("num_kv_heads") or n_heads
    d_model = _required(raw, "hidden_size")
    return {
        "vocab_size": _required(raw, "vocab_size"),
        "d_model": d_model,
        "n_layers": _required(raw, "num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": grouped if new else 1 if raw.get("multi_query", True) else n_heads,
        "d_ff": raw.get("ffn_hidden_size") or 4 * d_model,
        "context": raw.get("max_position_embeddings", 2048),
        "norm": "layer",
        "norm_eps": raw.get("layer_norm_epsilon", 1e-5),
        "activation": _choose(raw, "activation", "gelu", {"gelu": "gelu"}),
        "gated_mlp": False,
        **dict.fromkeys(_BIASES, bool(raw.get("bias", False))),
        "parallel_residual": new or bool(raw.get("parallel_attn", True)),
        "parallel_norms": raw.get("num_ln_in_parallel_attn") or 2 if new else 1,
        "tied": bool(raw.get("tie_word_embeddings", True)),
        **_rope(raw),
        **_tokens(raw),
    }


_READERS = {
    "llama": _llama_like,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "falcon": _falcon,
}
