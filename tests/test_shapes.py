"""Published shapes: as many parameters as others count, a source each, unknown names answered."""

from __future__ import annotations

import pytest

from teachkit.cost import parameters
from teachkit.shapes import SHAPES, shape

# As printed in the papers' tables, on the model cards or counted by others: not derived from our formulas.
PUBLISHED = {
    "llama-7b": 6_738_415_616,
    "llama-65b": 65_285_660_672,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "gpt-2": 124_439_808,
    "smollm2-135m": 134_515_008,
    "tinyllama-1.1b": 1_100_048_384,
    "qwen2.5-7b": 7_615_616_512,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_of_published_models(name):
    assert sum(parameters(shape(name).config).values()) == PUBLISHED[name]


def test_gpt_3_has_the_175_billion_of_its_name():
    assert round(sum(parameters(shape("gpt-3").config).values()) / 1e9) == 175


def test_shapes_name_their_source_and_unknown_ones_the_nearest():
    assert all(found.source.startswith("https://") for found in SHAPES.values())
    assert shape("Llama_2 7B") is SHAPES["llama-2-7b"]
    with pytest.raises(ValueError, match="mistral-7b"):
        shape("mistral-8b")
