"""Shared by all tests: fixed seeds, tiny random models, the bundled model.

Every annotated shape is checked by beartype on every call: pyproject.toml passes --jaxtyping-packages, which
installs jaxtyping's import hook before anything imports teachkit. It must not be imported before that.

Helpers to import: ``from conftest import tiny_config, tiny_model, random_tokens, unchecked``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import pytest
import torch

import teachkit as tk
from teachkit.config import ModelConfig
from teachkit.model import Decoder

# Distinct, and prime where the sizes allow: n_heads is a multiple of n_kv_heads, head_dim is even (rotary),
# and d_model is not n_heads * head_dim. A transposed or confused axis then fails instead of passing.
TINY: dict[str, Any] = {
    "vocab_size": 61,
    "d_model": 37,
    "n_layers": 2,
    "n_heads": 15,
    "n_kv_heads": 3,
    "head_dim": 14,
    "d_ff": 41,
    "context": 53,
}


# Files whose tests take longest. Begun last, they would leave the other processes with nothing to do.
LONGEST = ("test_site.py", "test_lessons.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes, the longest files come first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name not in LONGEST)


def tiny_config(**changes: Any) -> ModelConfig:
    """A Llama of a few thousand weights; ``changes`` are fields of ModelConfig."""
    return ModelConfig(**(TINY | changes))


def tiny_model(
    config: ModelConfig | None = None, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Decoder:
    """A decoder with random weights: norms and biases too, since ones and zeros would hide their absence."""
    model = Decoder(config or tiny_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("embedding.weight"):
                weight.copy_(noise)
            elif weight.ndim == 2:
                weight.copy_(noise * weight.shape[1] ** -0.5)
            elif name.endswith("weight"):
                weight.copy_(1 + 0.3 * noise)
            else:
                weight.copy_(0.3 * noise)
    return model.to(dtype).eval().requires_grad_(False)


def random_tokens(
    batch: int, tokens: int, *, vocab_size: int = TINY["vocab_size"], seed: int = 0
) -> torch.Tensor:
    """Token ids (batch, tokens), each as likely as any other."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (batch, tokens), generator=generator)


@contextmanager
def unchecked() -> Iterator[None]:
    """Without shape checks, as users run the package: for tests of the errors that they then get."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def bundled() -> Decoder:
    """The model of the package. Shared: tests must not change it."""
    return tk.load("bundled")
