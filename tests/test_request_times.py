"""The picture of a replay: lines and shares are where the numbers are, and words say the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib import pyplot as plt

from teachkit.figures import style
from teachkit.figures.request_times import RequestTimes, in_words, request_times, save_request_times

SVG = "{http://www.w3.org/2000/svg}"
LATE = RequestTimes(2.0, 2.5, 4.0, 0.25)
EARLY = RequestTimes(0.0, 1.0, 3.0, 0.5)
FAILED = RequestTimes(1.0, 1.25, 1.5, 0.125, failed=True)
NEVER = RequestTimes(1.5, None, 2.0, None)
REQUESTS = [LATE, EARLY, FAILED, NEVER]


@pytest.fixture
def figure():
    with style("light"):
        made = request_times("A title", REQUESTS)
        made.canvas.draw()
        yield made
        plt.close(made)


def spans(ax):
    return [(tuple(map(float, line.get_xdata())), float(line.get_ydata()[0])) for line in ax.lines]


def test_lines_are_where_their_times_are(figure):
    """In the order of arrival, the first on top; the cross where it failed."""
    over_time = figure.axes[0]
    assert spans(over_time) == [
        ((0.0, 1.0), 0.0),
        ((1.0, 3.0), 0.0),
        ((1.0, 1.25), 1.0),
        ((1.25, 1.5), 1.0),
        ((1.5,), 1.0),
        ((1.5, 2.0), 2.0),
        ((2.0, 2.5), 3.0),
        ((2.5, 4.0), 3.0),
    ]
    assert over_time.get_ylim() == (3.5, -0.5)


def test_shares_climb_at_each_request_that_did_not_fail(figure):
    _, ttft, tpot = figure.axes
    assert list(ttft.lines[0].get_xdata()) == [500, 500, 1000]
    assert list(ttft.lines[0].get_ydata()) == [0, 50, 100]
    assert list(tpot.lines[0].get_xdata()) == [250, 250, 500]
    marks = [float(line.get_xdata()[0]) for line in ttft.lines[1:]]
    assert marks == pytest.approx([np.percentile([500, 1000], p) for p in (50, 90, 99)])


def test_in_words():
    assert in_words("A title", REQUESTS) == (
        "A title. 4 requests over time, each from arrival to its first and last token; 1 failed; "
        "time to first token at most 750 ms for 50 %, 950 ms for 90 %, 995 ms for 99 %; "
        "time per output token at most 375 ms for 50 %, 475 ms for 90 %, 498 ms for 99 %."
    )
    assert in_words("B", [NEVER]).endswith("first and last token.")


def test_the_file_says_in_words_what_it_shows(tmp_path):
    title = "a < b & c: served"
    save_request_times(tmp_path / "a.svg", title, REQUESTS)
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == title
    assert root[1].tag == f"{SVG}desc"
    assert root[1].text == in_words(title, REQUESTS)
    again = tmp_path / "b.svg"
    save_request_times(again, title, REQUESTS)
    assert again.read_bytes() == (tmp_path / "a.svg").read_bytes()
    assert plt.get_fignums() == []


def test_where_nothing_came_of_any():
    with style("dark"):
        made = request_times("x", [NEVER])
        assert [text.get_text() for text in made.axes[1].texts] == ["none"]
        plt.close(made)


def test_no_requests():
    with pytest.raises(ValueError, match="requests: expected at least one, got none"):
        request_times("x", [])
