"""Stacked bars of the parts of a step: lengths, hatches, names, files."""

from __future__ import annotations

import pytest
from matplotlib import pyplot as plt

from teachkit.figures import style
from teachkit.figures.step_parts import HATCHES, save_step_parts, step_parts

STEPS = {
    "Prefill": [("norms", 0.001, "memory"), ("mlp", 0.006, "compute"), ("link", 0.003, "link")],
    "Decode": [("norms", 0.0001, "memory"), ("mlp", 0.0005, "memory"), ("embedding", 0.0, "memory")],
}


@pytest.fixture
def figure():
    with style("light"):
        made = step_parts("A title", STEPS)
        yield made
        plt.close(made)


def test_bars_are_as_long_as_the_parts_take_one_after_another(figure):
    for ax, parts in zip(figure.axes, STEPS.values(), strict=True):
        end = 0.0
        for bar, (_, seconds, side) in zip(ax.patches, parts, strict=True):
            assert bar.get_x() == pytest.approx(end)
            assert bar.get_width() == pytest.approx(seconds * 1e3)
            assert (bar.get_hatch() or "") == HATCHES[side]
            end += seconds * 1e3
        assert ax.get_xlim() == (0, pytest.approx(end))


def test_a_part_has_one_colour_in_all_bars_and_parts_differ(figure):
    first, second = ([bar.get_facecolor() for bar in ax.patches] for ax in figure.axes)
    assert first[:2] == second[:2]
    assert len(set(first)) == 3


def test_long_parts_are_named_in_place_and_all_that_show_in_the_legend(figure):
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [
        ["mlp", "link"],
        ["norms", "mlp"],
    ]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["norms", "mlp", "link", "waits for memory", "waits for compute", "waits for link"]


def test_the_same_numbers_give_the_same_file(tmp_path):
    for suffix in ("png", "svg"):
        paths = [tmp_path / f"{n}.{suffix}" for n in "ab"]
        for path in paths:
            save_step_parts(path, "A title", STEPS)
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not plt.get_fignums()


@pytest.mark.parametrize("steps", [{}, {"Decode": []}, {"Decode": [("mlp", 0.0, "memory")]}])
def test_nothing_to_draw(steps):
    with pytest.raises(ValueError, match="steps: expected at least one, each of some time"):
        step_parts("A title", steps)


def test_a_format_that_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.png or \.svg, got '.*parts\.pdf'"):
        save_step_parts(tmp_path / "parts.pdf", "A title", STEPS)
