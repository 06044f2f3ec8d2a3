"""The decoder: tokens in, logits out. One model for all families; it knows the cache protocol, no cache."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from teachkit import kernels
from teachkit.cache import Cache, LayerView, Step, UncachedStep
from teachkit.config import ModelConfig
from teachkit.dot_linear import together
from teachkit.layers import MLP, Linear, RMSNorm, SwiGLU, apply_rope, make_norm, rope_angles, rope_frequencies
from teachkit.linear import KernelUse, QuantizedLinear, use_of
from teachkit.tokenizer import Tokenizer

Rope = tuple[Float[Tensor, "B 1 T D"], Float[Tensor, "B 1 T D"]]


class Attention(nn.Module):
    """Project to queries, keys and values, turn them by their positions, attend, project back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, D = config.d_model, config.head_dim
        self.q = Linear(C, config.n_heads * D, bias=config.qkv_bias)
        self.k = Linear(C, config.n_kv_heads * D, bias=config.qkv_bias)
        self.v = Linear(C, config.n_kv_heads * D, bias=config.qkv_bias)
        self.o = Linear(config.n_heads * D, C, bias=config.o_bias)
        self.q_norm = RMSNorm(D, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(D, config.norm_eps) if config.qk_norm else nn.Identity()
        self.head_dim = D

    def forward(
        self, x: Float[Tensor, "B T C"], rope: Rope | None, view: LayerView
    ) -> Float[Tensor, "B T C"]:
        q, k, v = (self._heads(part) for part in together(x, self.q, self.k, self.v))
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        out = view.attend(q, k, v)
        return self.o(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Float[Tensor, "B T HD"]) -> Float[Tensor, "B H T D"]:
        B, T, _ = x.shape
        return x.view(B, T, -1, self.head_dim).transpose(1, 2)


class Block(nn.Module):
    """Attention and MLP, each reading a normalised x and adding to it.

    One after the other (GPT-2, Llama), or both from the same x (Falcon), with a norm each or one for both.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        shared = config.parallel_residual and config.parallel_norms == 1
        self.mlp_norm = None if shared else make_norm(config)
        self.mlp = SwiGLU(config) if config.gated_mlp else MLP(config)
        self.parallel = config.parallel_residual

    def forward(
        self, x: Float[Tensor, "B T C"], rope: Rope | None, view: LayerView
    ) -> Float[Tensor, "B T C"]:
        normed = self.attention_norm(x)
        attended = self.attention(normed, rope, view)
        if self.parallel:
            return x + attended + self.mlp(normed if self.mlp_norm is None else self.mlp_norm(x))
        x = x + attended
        assert self.mlp_norm is not None  # only parallel blocks share one
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """A decoder-only transformer with the weights of one checkpoint.

    config     its shape
    tokenizer  of the checkpoint, or None
    """

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.compiled = False  # set by teachkit.compiled
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        learned = config.position == "learned"
        self.position_embedding = nn.Embedding(config.context, config.d_model) if learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        self.head = None if config.tied else Linear(config.d_model, config.vocab_size, bias=False)
        # A plain attribute, not a buffer: model.to(bfloat16) must not round the frequencies.
        self._frequencies = (
            None if learned else rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        )

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        cache: Cache | None = None,
        step: Step | None = None,
        last_only: bool = False,
    ) -> Float[Tensor, "B T_or_1 V"]:
        """Logits of the token after each given one, (B, T, V).

        cache      shorthand for ``step=cache.plan([T] * B)``: all T tokens of every row are new
        step       a plan for rows that differ; rows are padded on the right, padding gives garbage
        last_only  (B, 1, V) of each row's last valid token: all that decoding needs of a prefill
        Raises     ValueError: tokens of another shape or outside the vocabulary, longer than the
                   context, both cache and step; CacheFull
        """
        step = self._plan(tokens, cache, step)
        x = self.hidden(tokens, step)
        if last_only:
            last = step.valid.sum(1) - 1
            x = x[torch.arange(len(x), device=x.device), last][:, None]
        return self.readout(x)

    def hidden(self, tokens: Int[Tensor, "B T"], step: Step) -> Float[Tensor, "B T C"]:
        """The residual stream after the last block, before the final norm. Nothing is checked here."""
        x = self.embedding(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding(step.positions)
        rope = self._rope(step.positions, x.dtype)
        return self.run_blocks(x, rope, step)

    def run_blocks(self, x: Float[Tensor, "B T C"], rope: Rope | None, step: Step) -> Float[Tensor, "B T C"]:
        """One block after the other, each with its own view of the cache."""
        for index, block in enumerate(self.blocks):
            x = block(x, rope, step.layer(index))
        return x

    def readout(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Logits from what the last block wrote."""
        return self.project(self.norm(x))

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations, and of weights that are not quantized."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    def project(self, x: Float[Tensor, "*any C"]) -> Float[Tensor, "*any V"]:
        """From the width of the model to one logit per token of the vocabulary; cost 2*C*V FLOPs a token."""
        return kernels.product(x, self.embedding.weight) if self.head is None else self.head(x)

    def kernels(self, rows: int = 1) -> list[KernelUse]:
        """Which program multiplies which matrix, how it is held, and in how many bits: the head is the last.

        rows  of activations in a step: 1 when one sequence is decoded
        """
        held = {
            name: part if isinstance(part, QuantizedLinear) else part.weight
            for name, part in self.named_modules()
            if isinstance(part, (nn.Linear, QuantizedLinear))
        }
        if self.head is None:
            held["head"] = self.embedding.weight
        device, compiled = self.device.type, self.compiled
        return [use_of(name, h, rows=rows, device=device, compiled=compiled) for name, h in held.items()]

    def weight_bytes(self) -> int:
        """Bytes of weights that a decode step reads: of every matrix, the head included.

        Norms, biases and one row of the embedding are left out: they are read, too, and are next to nothing.
        """
        return sum(use.nbytes for use in self.kernels())

    def _rope(self, positions: Int[Tensor, "B T"], dtype: torch.dtype) -> Rope | None:
        if self._frequencies is None:
            return None
        self._frequencies = self._frequencies.to(positions.device)
        return rope_angles(positions, self._frequencies, dtype)

    def _plan(self, tokens: Tensor, cache: Cache | None, step: Step | None) -> Step:
        if tokens.ndim != 2 or not tokens.numel() or tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                "tokens: expected integers of shape (batch, tokens), "
                f"got {tokens.dtype} {tuple(tokens.shape)}"
            )
        low, high = (int(end) for end in torch.aminmax(tokens))
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"tokens: expected ids from 0 to {self.config.vocab_size - 1}, got {low if low < 0 else high}"
            )
        if cache is not None and step is not None:
            raise ValueError("cache, step: expected one of them, got both")
        if cache is not None:
            return cache.plan([tokens.shape[1]] * len(tokens))
        if step is not None:
            if step.positions.shape != tokens.shape:
                raise ValueError(
                    f"tokens: expected {tuple(step.positions.shape)} as planned, got {tuple(tokens.shape)}"
                )
            return step
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"tokens: expected at most the context of {self.config.context} tokens, got {tokens.shape[1]}"
            )
        return UncachedStep(self.config, tokens)
