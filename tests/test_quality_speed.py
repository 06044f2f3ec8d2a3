"""Speed beside quality: each format on a line of its own, at its numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib import pyplot as plt

from teachkit.figures import style
from teachkit.figures.quality_speed import Point, quality_speed, save_quality_speed

POINTS = [
    Point("fp32", 1.03, 100.0, 180.0),
    Point("int4, groups of 64, to nearest", 1.045, 210.0, 300.0),
    Point("fp32, keys and values int8", 1.03, 80.0, None),
]


@pytest.fixture
def figure():
    with style("light"):
        made = quality_speed("A title", POINTS)
        made.canvas.draw()
        yield made
        plt.close(made)


def test_points_are_where_their_numbers_are(figure):
    speed, quality = figure.axes
    drawn = [tuple(map(float, (line.get_xdata()[0], line.get_ydata()[0]))) for line in quality.lines]
    assert drawn == [(point.bits_per_byte, place) for place, point in enumerate(POINTS)]
    marks = [line for line in speed.lines if line.get_marker() == "o"]
    rings = [float(m.get_xdata()[0]) for m in marks if m.get_markerfacecolor() == "none"]
    discs = [float(m.get_xdata()[0]) for m in marks if m.get_markerfacecolor() != "none"]
    assert (rings, discs) == ([100.0, 210.0, 80.0], [180.0, 300.0])
    assert speed.get_xlim()[0] == 0


def test_labels_name_the_lines_and_do_not_overlap(figure):
    speed, _ = figure.axes
    labels = speed.get_yticklabels()
    assert [label.get_text() for label in labels] == [point.label for point in POINTS]
    boxes = [label.get_window_extent() for label in labels]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert all(box.x0 >= 0 and box.x1 <= speed.get_window_extent().x0 for box in boxes)
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 <= speed.xaxis.label.get_window_extent().y0


def test_the_same_numbers_give_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_quality_speed(tmp_path / name, "A title", POINTS)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert not plt.get_fignums()


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="points: expected at least one, got none"):
        quality_speed("A title", [])
