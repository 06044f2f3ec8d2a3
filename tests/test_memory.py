"""What fits into memory: by hand, against a real cache, and at the edge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from teachkit.cache import ContiguousCache
from teachkit.config import ModelConfig
from teachkit.memory import largest_batch, memory
from teachkit.shapes import shape

SMALL = ModelConfig(
    vocab_size=101, d_model=48, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, d_ff=70, context=64
)


def test_cache_is_as_large_as_the_real_one():
    held = memory(SMALL, 3, 17, weight_bits=32, act_bits=32, kv_bits=32)
    assert held.kv_bytes == ContiguousCache(SMALL, 3, 17).nbytes


def test_window_bounds_what_is_held():
    token = 2 * 2 * 10 * 2  # key and value, two heads of 10, 16 bits
    assert memory(replace(SMALL, windows=(4, None, 4)), 1, 20).kv_bytes == token * (4 + 20 + 4)


def test_memory_of_llama_7b_by_hand():
    """14 GB in round figures, and 2 GiB per sequence of 4,096 tokens."""
    config = replace(shape("llama-7b").config, context=4096)
    held = memory(config, 1, 4096)
    assert held.weights_bytes == 2 * 6_738_415_616
    assert held.kv_bytes == 2**31
    assert held.total_bytes == held.weights_bytes + held.kv_bytes + held.activations_bytes


def test_largest_batch_fits_and_one_more_does_not():
    config = shape("llama-2-7b").config
    n = largest_batch(config, 4096, 80e9)
    assert n == 30  # in decimal gigabytes; a lecture's 33 needs GiB
    assert largest_batch(config, 4096, 80 * 2**30) == 33
    assert memory(config, n, 4096).total_bytes <= 80e9 < memory(config, n + 1, 4096).total_bytes


def test_largest_batch_says_what_is_missing():
    with pytest.raises(
        ValueError, match=r"one sequence of 4096 tokens needs 1\.56\de\+10 bytes .* got 1e\+10"
    ):
        largest_batch(shape("llama-2-7b").config, 4096, 10e9)


def test_devices_share_all_but_the_norms():
    config = replace(SMALL, vocab_size=100)
    one, two = memory(config, 2, 9), memory(config, 2, 9, tp=2)
    norms = 7 * 48 * 2
    assert two.weights_bytes - norms == (one.weights_bytes - norms) / 2
    assert two.kv_bytes == one.kv_bytes / 2
