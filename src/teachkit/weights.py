"""Weights from a folder or the hub: safetensors only, every tensor accounted for, nothing half-loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from teachkit import saved
from teachkit.config import ModelConfig
from teachkit.model import Decoder
from teachkit.stored import Shape, Stored, WeightsError
from teachkit.tokenizer import Tokenizer

__all__ = ["Source", "WeightsError", "find", "load", "read", "sources_of"]

CHECKPOINTS = Path(str(resources.files("teachkit") / "checkpoints"))
# Not "*.safetensors": some repositories hold the weights a second time, under another name.
_HUB_FILES = [
    "config.json",
    saved.DESCRIPTION,
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
]
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_STORED = ("F32", "BF16", "F16", "F64")  # integers and fp8 need scales, which are not read


@dataclass(frozen=True)
class Source:
    """One stored tensor: its name and shape, our names for its parts, and how to cut it into them."""

    name: str
    shape: Shape
    ours: tuple[str, ...]
    split: Callable[[Tensor], Iterable[Tensor]] = lambda t: (t,)


def load(
    name: str | Path = "bundled",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Decoder:
    """A model with its weights, ready to run.

    name    "bundled" or another checkpoint of the package (offline), a folder, or "org/name" on the Hugging
            Face hub; a folder that :func:`teachkit.saved.save` wrote gives back the model that was saved,
            quantized as it was
    dtype   of the weights in memory, whatever the file stores: float32 if not given. Of a saved model, of
            the activations and of what is not quantized: if not given, as it was
    Raises  FileNotFoundError: no such folder, or a file that it should hold is missing
            ConfigError: an architecture or setting that is not supported
            WeightsError: a tensor missing, left over, of another shape or type; a damaged or pickled file
            ValueError: a dtype that no weights have, a device that is not there
    """
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, _DTYPES))}; got {dtype}")
    _require_device(device)
    folder = find(name)
    if saved.is_saved(folder):
        return saved.restore(folder, dtype=dtype, device=device)
    config = ModelConfig.from_folder(folder)
    tokenizer = Tokenizer(folder) if (folder / "tokenizer.json").exists() else None
    with torch.device("meta"):  # shapes without memory: no time is lost on random values
        model = Decoder(config, tokenizer)
    model.load_state_dict(read(folder, config, dtype=dtype or torch.float32, device=device), assign=True)
    return model.eval().requires_grad_(False)


def find(name: str | Path) -> Path:
    """The folder of a checkpoint; a hub name is downloaded, or found in the offline cache.

    A name in the package comes before a folder of that name: the same call means the same everywhere.
    """
    if str(name) in _packaged():
        return CHECKPOINTS / name
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").exists() and not saved.is_saved(folder):
            raise FileNotFoundError(f"{folder / 'config.json'}: expected in a checkpoint folder, not found")
        return folder
    parts = str(name).split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise FileNotFoundError(f"{name}: expected 'bundled', a folder, or 'org/name' on the hub; found none")
    return _from_hub(str(name))


def _packaged() -> set[str]:
    """Names of the checkpoints in the package."""
    return {folder.name for folder in CHECKPOINTS.iterdir() if (folder / "config.json").exists()}


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # only who asks for the hub needs it

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # offline, unknown, gated, misspelt: its client raises a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(
            f"{name}: no such folder, and not to be had from the hub: {reason}"
        ) from error


def _require_device(device: torch.device | str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
        raise ValueError(f"device: {str(device)!r} is not there ({str(error).splitlines()[0]})") from error


def read(
    folder: str | Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """State of a :class:`Decoder`, checked whole before it is returned. Raises as :func:`load`."""
    stored = _Checkpoint(Path(folder))
    state: dict[str, Tensor] = {}
    sources = list(sources_of(config, stored.prefix(config.family)))
    stored.require(sources, config)
    for source in sources:
        tensor = stored.read(source.name).to(device=device, dtype=dtype)
        for ours, part in zip(source.ours, source.split(tensor), strict=True):
            state[ours] = part.contiguous()
    return state


class _Checkpoint(Stored):
    """The files of a checkpoint in the names of its family."""

    def prefix(self, family: str) -> str:
        """What stands before every name: some checkpoints were saved without their outer module."""
        outer = "transformer." if family in ("gpt2", "falcon") else "model."
        return outer if any(name.startswith(outer) for name in self.names) else ""

    def require(self, sources: list[Source], config: ModelConfig) -> None:
        """Every tensor there, of the right shape, and none besides."""
        for source in sources:
            if source.name not in self.names:
                raise WeightsError(
                    f"{source.name}: expected with shape {list(source.shape)}, not in {self.folder}"
                )
            shape, kind = self.shape_and_kind(source.name)
            if shape != source.shape:
                raise WeightsError(f"{source.name}: expected shape {list(source.shape)}, got {list(shape)}")
            if kind not in _STORED:
                raise WeightsError(f"{source.name}: expected one of {', '.join(_STORED)}, got {kind}")
        known = {source.name for source in sources}
        extra = sorted(name for name in self.names - known if not _derived(name))
        if config.tied and "lm_head.weight" in extra:
            if not torch.equal(self.read("lm_head.weight"), self.read(sources[0].name)):
                raise WeightsError("lm_head.weight: expected equal to the embedding (tied), got other values")
            extra.remove("lm_head.weight")
        if extra:
            raise WeightsError(
                f"{extra[0]}: not expected in a {config.family} checkpoint ({len(extra)} such)"
            )


def _derived(name: str) -> bool:
    """Tables that old checkpoints store although they follow from the config."""
    return name.endswith((".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))


def sources_of(config: ModelConfig, prefix: str) -> Iterator[Source]:
    """Every tensor that a checkpoint of this config must hold, the embedding first."""
    if config.family == "gpt2":
        yield from _gpt2(config, prefix)
    elif config.family == "falcon":
        yield from _falcon(config, prefix)
    else:
        yield from _llama(config, prefix)
    if not config.tied:
        yield Source("lm_head.weight", (config.vocab_size, config.d_model), ("head.weight",))


def _linear(theirs: str, ours: str, shape: Shape, bias: bool) -> Iterator[Source]:
    yield Source(f"{theirs}.weight", shape, (f"{ours}.weight",))
    if bias:
        yield Source(f"{theirs}.bias", shape[:1], (f"{ours}.bias",))


def _norm(theirs: str, ours: str, width: int, bias: bool) -> Iterator[Source]:
    yield from _linear(theirs, ours, (width,), bias)


def _llama(c: ModelConfig, prefix: str) -> Iterator[Source]:
    """Llama, Mistral and Qwen name their tensors alike."""
    C, D = c.d_model, c.head_dim
    yield Source(f"{prefix}embed_tokens.weight", (c.vocab_size, C), ("embedding.weight",))
    for i in range(c.n_layers):
        theirs, ours = f"{prefix}layers.{i}", f"blocks.{i}"
        yield from _norm(f"{theirs}.input_layernorm", f"{ours}.attention_norm", C, bias=False)
        for letter, heads in (("q", c.n_heads), ("k", c.n_kv_heads), ("v", c.n_kv_heads)):
            name = f"{theirs}.self_attn.{letter}_proj"
            yield from _linear(name, f"{ours}.attention.{letter}", (heads * D, C), c.qkv_bias)
        yield from _linear(f"{theirs}.self_attn.o_proj", f"{ours}.attention.o", (C, c.n_heads * D), c.o_bias)
        if c.qk_norm:
            for letter in "qk":
                name = f"{theirs}.self_attn.{letter}_norm"
                yield from _norm(name, f"{ours}.attention.{letter}_norm", D, bias=False)
        yield from _norm(f"{theirs}.post_attention_layernorm", f"{ours}.mlp_norm", C, bias=False)
        for name, shape in (("gate", (c.d_ff, C)), ("up", (c.d_ff, C)), ("down", (C, c.d_ff))):
            yield from _linear(f"{theirs}.mlp.{name}_proj", f"{ours}.mlp.{name}", shape, c.mlp_bias)
    yield from _norm(f"{prefix}norm", "norm", C, bias=False)


def _gpt2(c: ModelConfig, prefix: str) -> Iterator[Source]:
    """GPT-2 stores matrices transposed (inputs first), and q, k, v side by side in one."""
    C = c.d_model
    yield Source(f"{prefix}wte.weight", (c.vocab_size, C), ("embedding.weight",))
    yield Source(f"{prefix}wpe.weight", (c.context, C), ("position_embedding.weight",))
    for i in range(c.n_layers):
        theirs, ours = f"{prefix}h.{i}", f"blocks.{i}"
        qkv = tuple(f"{ours}.attention.{letter}" for letter in "qkv")
        yield from _norm(f"{theirs}.ln_1", f"{ours}.attention_norm", C, bias=True)
        yield from _conv1d(f"{theirs}.attn.c_attn", qkv, C, 3 * C)
        yield from _conv1d(f"{theirs}.attn.c_proj", (f"{ours}.attention.o",), C, C)
        yield from _norm(f"{theirs}.ln_2", f"{ours}.mlp_norm", C, bias=True)
        yield from _conv1d(f"{theirs}.mlp.c_fc", (f"{ours}.mlp.up",), C, c.d_ff)
        yield from _conv1d(f"{theirs}.mlp.c_proj", (f"{ours}.mlp.down",), c.d_ff, C)
    yield from _norm(f"{prefix}ln_f", "norm", C, bias=True)


def _conv1d(theirs: str, ours: tuple[str, ...], n_in: int, n_out: int) -> Iterator[Source]:
    parts = len(ours)
    weights, biases = (tuple(f"{name}.{kind}" for name in ours) for kind in ("weight", "bias"))
    yield Source(f"{theirs}.weight", (n_in, n_out), weights, lambda t: t.T.chunk(parts))
    yield Source(f"{theirs}.bias", (n_out,), biases, lambda t: t.chunk(parts))


def _falcon(c: ModelConfig, prefix: str) -> Iterator[Source]:
    """Falcon stores, per key/value head: its G query heads, then its key, then its value."""
    C, D = c.d_model, c.head_dim
    yield Source(f"{prefix}word_embeddings.weight", (c.vocab_size, C), ("embedding.weight",))
    for i in range(c.n_layers):
        theirs, ours = f"{prefix}h.{i}", f"blocks.{i}"
        for name, our_name in _falcon_norms(c):
            yield from _norm(f"{theirs}.{name}", f"{ours}.{our_name}", C, bias=True)
        n_rows = (c.n_heads + 2 * c.n_kv_heads) * D
        for kind, shape in (("weight", (n_rows, C)), ("bias", (n_rows,)))[: 2 if c.qkv_bias else 1]:
            names = tuple(f"{ours}.attention.{letter}.{kind}" for letter in "qkv")
            yield Source(f"{theirs}.self_attention.query_key_value.{kind}", shape, names, _split_grouped(c))
        yield from _linear(
            f"{theirs}.self_attention.dense", f"{ours}.attention.o", (C, c.n_heads * D), c.o_bias
        )
        yield from _linear(f"{theirs}.mlp.dense_h_to_4h", f"{ours}.mlp.up", (c.d_ff, C), c.mlp_bias)
        yield from _linear(f"{theirs}.mlp.dense_4h_to_h", f"{ours}.mlp.down", (C, c.d_ff), c.mlp_bias)
    yield from _norm(f"{prefix}ln_f", "norm", C, bias=True)


def _falcon_norms(c: ModelConfig) -> list[tuple[str, str]]:
    if not c.parallel_residual:
        return [("input_layernorm", "attention_norm"), ("post_attention_layernorm", "mlp_norm")]
    if c.parallel_norms == 1:
        return [("input_layernorm", "attention_norm")]
    return [("ln_attn", "attention_norm"), ("ln_mlp", "mlp_norm")]


def _split_grouped(c: ModelConfig) -> Callable[[Tensor], list[Tensor]]:
    def split(fused: Tensor) -> list[Tensor]:
        grouped = fused.unflatten(0, (c.n_kv_heads, c.group_size + 2, c.head_dim))
        return [part.flatten(0, 2) for part in grouped.split((c.group_size, 1, 1), dim=1)]

    return split
