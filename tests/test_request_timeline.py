"""Requests step by step: the data against an engine's own counts, the script against the data."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import test_figures
from conftest import random_tokens, tiny_config, tiny_model
from teachkit import figures
from teachkit.engine import Engine
from teachkit.figures import Cell, Timeline, TimelineStep, timeline_of
from teachkit.figures.request_timeline import overview, sentence
from test_figures import Elements

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["A", "</script>", "C"]
STATIC = Timeline(
    "static batching",
    NAMES,
    [
        TimelineStep(5.0, 0.04, {"A": ("prefill", 30), "</script>": ("prefill", 10, 0, 20)}, waiting=["C"]),
        TimelineStep(5.04, 0.01, {"A": ("decode", 1), "</script>": ("decode", 1)}, waiting=["C"]),
        TimelineStep(5.05, 0.01, {"A": ("padding", 1), "</script>": ("decode", 1)}, waiting=["C"]),
        TimelineStep(5.07, 0.03, {"C": ("prefill", 5)}),
    ],
)
CONTINUOUS = Timeline(
    "continuous batching",
    NAMES,
    [
        TimelineStep(
            0.0, 0.02, {"A": Cell("prefill", 16)}, waiting=["</script>", "C"], blocks_used=2, budget=16
        ),
        TimelineStep(
            0.02,
            0.015,
            {"A": ("prefill", 14), "</script>": ("prefill", 2, 8)},
            waiting=["C"],
            blocks_used=5,
            budget=16,
        ),
        TimelineStep(
            0.035,
            0.01,
            {"A": ("decode", 1)},
            waiting=["</script>", "C"],
            preempted=["</script>"],
            blocks_used=4,
            budget=16,
        ),
        TimelineStep(0.05, 0.01, {"</script>": ("again", 2, 8)}, stalled=["A"], blocks_used=3, budget=16),
        TimelineStep(0.06, 0.001, {"C": ("prefill", 5), "A": ("decode", 1)}, blocks_used=6, budget=16),
    ],
    n_blocks=8,
)
BOTH = [STATIC, CONTINUOUS]


def figure(**options):
    return figures.request_timeline(BOTH, **options)


# -------------------------------------------------------------------------------- counts and words


def test_counts_by_hand():
    assert STATIC.tokens() == 30 + 30 + 2 + 2 + 5
    assert STATIC.tokens("padding") == 20 + 1
    assert STATIC.tokens("prefill") == 45
    assert STATIC.tokens("decode") == 3
    assert STATIC.seconds == pytest.approx(0.1)
    assert CONTINUOUS.tokens("again") == 2
    assert [step.reused for step in CONTINUOUS.steps] == [0, 8, 0, 8, 0]


def test_says_in_words_what_a_step_does():
    assert sentence(STATIC, 0) == (
        "Step 1 of 4, 40.0 ms: 60 tokens. Prompt: A 30, </script> 10. Padding: </script> 20. Waiting: C."
    )
    assert sentence(STATIC, 2) == (
        "Step 3 of 4, 10.0 ms: 2 tokens. One more token each: </script>. Padding: A 1. Waiting: C."
    )
    assert sentence(CONTINUOUS, 1) == (
        "Step 2 of 5, 15.0 ms: 16 of at most 16 tokens. Prompt: A 14, </script> 2 (after 8 found stored). "
        "Waiting: C. Blocks in use: 5 of 8."
    )
    assert sentence(CONTINUOUS, 2) == (
        "Step 3 of 5, 10.0 ms: 1 of at most 16 tokens. One more token each: A. Preempted: </script>. "
        "Waiting: </script>, C. Blocks in use: 4 of 8."
    )
    assert sentence(CONTINUOUS, 3) == (
        "Step 4 of 5, 10.0 ms: 2 of at most 16 tokens. Computed again: </script> 2 (after 8 found stored). "
        "Has memory, gets no token: A. Blocks in use: 3 of 8."
    )
    assert overview(STATIC) == (
        "static batching: 3 requests in 4 steps and 0.10 s; 69 tokens computed, 21 of them padding, "
        "17.2 in a step."
    )
    assert overview(CONTINUOUS) == (
        "continuous batching: 3 requests in 5 steps and 0.06 s; 41 tokens computed, "
        "2 of them computed a second time, 8.2 in a step."
    )
    assert figure().alt == f"{overview(STATIC)} {overview(CONTINUOUS)}"


def test_the_table_has_a_row_for_every_step():
    cells = [text for _, text in Elements(figure().html).all("td")]
    assert len(cells) == 11 * 9
    assert cells[:11] == ["static batching", "1", "0.00", "40.0", "40", "0", "0", "20", "0", "1", "–"]
    assert cells[44:55] == ["continuous batching", "1", "0.00", "20.0", "16", "0", "0", "0", "0", "2", "2"]
    assert cells[55:66] == ["continuous batching", "2", "20.0", "15.0", "16", "0", "0", "0", "8", "1", "5"]


# -------------------------------------------------------------------------------- from an engine


def clock_of_ticks():
    """A clock that goes on by a second each time it is read."""
    now = iter(range(10**6))
    return lambda: float(next(now))


def test_counts_are_those_of_the_engine():
    """A pool so small that requests are preempted, and their work is done again."""
    engine = Engine(
        tiny_model(tiny_config()), n_blocks=9, block_size=4, max_batch_tokens=7, clock=clock_of_ticks()
    )
    names = {}
    for i, length in enumerate([11, 3, 9, 5, 12]):
        prompt = random_tokens(1, length, seed=i % 3)[0].tolist()
        names[engine.submit(prompt, max_new_tokens=12)] = f"r{i}"
    steps = engine.run()
    drawn = timeline_of(steps, names, budget=7, n_blocks=9)
    assert sum(len(step.preempted) for step in steps) > 0, "nothing was preempted: the test tells too little"
    assert len(drawn.steps) == len(steps)
    for step, now in zip(steps, drawn.steps, strict=True):
        assert now.tokens() == step.prefill + step.decode <= 7
        assert now.tokens("decode") == step.decode
        assert now.tokens("padding") == 0
        assert now.reused == step.reused
        assert len(now.waiting) == step.waiting
        assert [names[request] for request in step.preempted] == list(now.preempted)
        assert not set(now.waiting) & (set(now.cells) | set(now.stalled))
        assert (now.blocks_used, now.budget, now.time_s) == (step.blocks_used, 7, step.time_s)
    for request, name in names.items():
        given = [cell for step in drawn.steps if (cell := step.cell(name)) is not None]
        first = sum(cell.n for cell in given if cell.kind in ("prefill", "decode"))
        stored = len(request.prompt_tokens) + len(request.tokens) - 1
        assert first + given[0].reused <= stored, "a token can be computed for the first time only once"
    again = sum(cell.n for step in drawn.steps for n in step.cells if (cell := step.cell(n)).kind == "again")
    assert again > 0
    useful = sum(len(request.prompt_tokens) + len(request.tokens) - 1 for request in names)
    saved = sum(step.reused for step in steps)
    assert drawn.tokens() + saved >= useful


def work(request, start, n, decode=False):
    return SimpleNamespace(request=request, start=start, n=n, decode=decode)


def step(start_s, *works, preempted=()):
    return SimpleNamespace(start_s=start_s, time_s=1.0, work=works, preempted=preempted, blocks_used=1)


class Asked:
    """A request, as far as a timeline looks at it."""

    def __init__(self, submitted_s, done=True):
        self.submitted_s, self.done = submitted_s, done


def test_states_by_hand():
    """a: found stored, preempted, computed again. b: held up. c: comes later, is cancelled. d: goes on."""
    a, b, c, d = Asked(0), Asked(0), Asked(11.5), Asked(0, done=False)
    steps = [
        step(10.0, work(a, 4, 6), work(b, 0, 2)),
        step(11.0, work(b, 2, 3), preempted=(a,)),
        step(12.0, work(b, 5, 1, True)),
        step(13.0, work(a, 2, 6)),
        step(14.0, work(a, 8, 3), work(d, 0, 1)),
        step(15.0, work(b, 6, 1, True)),
    ]
    drawn = timeline_of(steps, {a: "a", b: "b", c: "c", d: "d"}, "x").steps
    assert [s.start_s for s in drawn] == [0, 1, 2, 3, 4, 5]
    assert drawn[0].cells == {"a": Cell("prefill", 6, 4), "b": Cell("prefill", 2)}
    assert drawn[1].cells == {"b": Cell("prefill", 3)}
    assert drawn[3].cells == {"a": Cell("again", 6, 2)}
    assert drawn[4].cells == {"a": Cell("again", 3), "d": Cell("prefill", 1)}
    assert [list(s.waiting) for s in drawn] == [["d"], ["a", "d"], ["a", "d"], ["d"], [], []]
    assert [list(s.stalled) for s in drawn] == [[], [], [], ["b"], ["b"], ["d"]]
    assert [list(s.preempted) for s in drawn] == [[], ["a"], [], [], [], []]


def test_every_request_needs_a_name():
    a, b = Asked(0), Asked(0)
    with pytest.raises(ValueError, match="names: expected one for every request, 1 have none"):
        timeline_of([step(0.0, work(a, 0, 1), work(b, 0, 1))], {a: "a"})
    with pytest.raises(ValueError, match="steps: expected at least one"):
        timeline_of([], {a: "a"})


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "expected at least one, got none"),
        ([TimelineStep(0, 0, {})], "expected one that takes time"),
        ([TimelineStep(0, 2, {}), TimelineStep(1, 2, {})], "step 1 of 'x': expected one that takes time"),
        ([TimelineStep(0, float("nan"), {})], "expected one that takes time"),
        ([TimelineStep(0, 1, {"B": ("decode", 1)})], r"unknown requests \['B'\]"),
        ([TimelineStep(0, 1, {}, stalled=["B"])], r"unknown requests \['B'\]"),
        ([TimelineStep(0, 1, {"A": ("other", 1)})], "expected one of prefill, again, decode, padding"),
        ([TimelineStep(0, 1, {"A": ("decode", 0)})], "at least one token"),
        ([TimelineStep(0, 1, {"A": ("decode", 1, -1)})], "at least one token"),
    ],
)
def test_steps_that_cannot_be(steps, message):
    with pytest.raises(ValueError, match=message):
        Timeline("x", ["A"], steps)


def test_schedules_that_cannot_be_compared():
    one = TimelineStep(0, 1, {})
    with pytest.raises(ValueError, match="expected different names"):
        Timeline("x", ["A", "A"], [one])
    with pytest.raises(ValueError, match="expected different names"):
        figures.request_timeline([STATIC, STATIC])
    with pytest.raises(ValueError, match="the same requests in the same order"):
        figures.request_timeline([STATIC, Timeline("x", ["A"], [one])])
    with pytest.raises(ValueError, match="expected 0 to 3, got 4"):
        figure(step=4)
    with pytest.raises(ValueError, match="32 requests and 400 steps, got 33 and 1"):
        figures.request_timeline([Timeline("x", [f"r{i}" for i in range(33)], [one])])
    many = [TimelineStep(i, 1, {}) for i in range(401)]
    with pytest.raises(ValueError, match="got 1 and 401"):
        figures.request_timeline([Timeline("x", ["A"], many)])


# -------------------------------------------------------------------------------- twin


def boxes(d):
    """The rectangles of a path: (x, y, width, height)."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z", d)
    return [tuple(map(float, box)) for box in found]


def paths(group):
    return {path.get("class"): path.get("d") for path in group.iter(f"{SVG}path")}


def twins():
    html = figure().html
    parts = html[html.index('<div class="tk-rt-twin">') :].split("<svg")[1:]
    return [ElementTree.fromstring(f"<svg{part[: part.index('</svg>') + 6]}") for part in parts]


def test_the_twin_draws_every_schedule_and_a_key():
    static, continuous, key = twins()
    marks = paths(static.findall(f"{SVG}g")[0])
    w = 24  # two schedules of few steps: as wide as a step may be
    assert [(box[0], box[1]) for box in boxes(marks["decode"])] == [(w, 6), (w, 26), (2 * w, 26)]
    assert [box[3] for box in boxes(marks["prefill"])] == [16, pytest.approx(16 / 3, abs=0.06), 16]
    assert [box[3] for box in boxes(marks["padding"])] == [pytest.approx(32 / 3, abs=0.06), 8]
    assert marks["waiting"] == "M0.0 50.0h71.0", "C waits through three steps: one line"
    marks = paths(continuous.findall(f"{SVG}g")[0])
    assert [box[:2] for box in boxes(marks["reused"])] == [(w, 22), (3 * w, 22)]
    assert len(boxes(marks["again"])) == len(boxes(marks["stalled"])) == 1
    assert marks["preempted"].count("M") == 1
    assert marks["waiting"] == "M0.0 30.0h23.0M0.0 50.0h71.0", "in the step it is preempted in, a cross"
    words = [text.text for text in key.iter(f"{SVG}text")]
    assert words == [
        *("prompt", "one generated token", "computed again", "padding: computed for nothing"),
        *("beginning found stored", "waits", "has memory, gets no token", "preempted"),
    ]
    assert static.get("aria-label") == overview(STATIC)


def test_narrow_steps_become_one_stretch():
    many = [TimelineStep(i, 1, {"A": ("decode", 1)}, blocks_used=3) for i in range(300)]
    html = figures.request_timeline([Timeline("x", ["A"], many)]).html
    marks = re.findall(r'<path class="(?:decode|blocks)" d="([^"]*)"', html)[:3]  # then comes the key
    assert [len(boxes(d)) for d in marks] == [1, 1, 1]
    assert [boxes(d)[0][2] for d in marks] == pytest.approx([610] * 3, abs=2.5)


def test_bars_are_as_high_as_their_tokens_and_cut_off_above_the_scale():
    static, continuous, _ = twins()
    most = 20  # a budget of 16, and a quarter more
    bars = paths(continuous.findall(f"{SVG}g")[1])
    assert [box[3] for box in boxes(bars["prefill"])] == pytest.approx(
        [48 * n / most for n in (16, 16, 5)], abs=0.06
    )
    assert [box[3] for box in boxes(bars["decode"])] == pytest.approx([48 / most] * 2, abs=0.06)
    pool = [p.get("d") for p in continuous.findall(f"{SVG}path") if p.get("class") == "budget"]
    assert pool == ["M0 0.0h120.0"], "all eight blocks, over five steps"
    counts = [t.text for t in continuous.iter(f"{SVG}text") if t.get("class") == "count"]
    assert counts == ["16", "14", "2", "2", "5"]
    assert paths(continuous.findall(f"{SVG}g")[2])["budget"] == "M0.00 9.6" + "h24.00" * 5
    bars = paths(static.findall(f"{SVG}g")[1])
    assert boxes(bars["prefill"])[0][3] == 48
    cut = paths(static.findall(f"{SVG}g")[2])
    assert cut["over"].count("M") == 1


# -------------------------------------------------------------------------------- in a browser


def cells_shown(page):
    """Rectangles of the chart, by kind; and the width of the chart."""
    drawn = page.locator(".tk-rt-scroll svg > path").evaluate_all(
        "all => all.map(p => [p.getAttribute('class'), p.getAttribute('d')])"
    )
    rows = 20 * len(NAMES)
    return {kind: found for kind, d in drawn if (found := [box for box in boxes(d) if box[1] < rows])}


def rows_and_kinds(timeline):
    """Of every kind: (step, row) of each cell, as the chart must have them."""
    found = {}
    for i, now in enumerate(timeline.steps):
        for row, name in enumerate(NAMES):
            cell = now.cell(name)
            kinds = [] if cell is None else [cell.kind]
            kinds += ["padding"] if cell and cell.padding else []
            kinds += ["reused"] if cell and cell.reused else []
            kinds += ["stalled"] if name in now.stalled else []
            for kind in kinds:
                found.setdefault(kind, set()).add((i, row))
    return found


@pytest.mark.browser
class TestInABrowser:
    def test_the_keyboard_walks_through_every_step_of_every_schedule(self, open_page):
        page = open_page(figure(step=1).page())
        says = page.locator(".tk-rt-says")
        assert says.text_content() == sentence(STATIC, 1)
        for _ in range(5):
            page.keyboard.press("Tab")
        for expected in (0, 0):  # there is nothing before it, and the focus stays
            page.keyboard.press("Enter")
            assert says.text_content() == sentence(STATIC, expected)
        assert page.evaluate("document.activeElement.ariaDisabled") == "true"
        page.keyboard.press("Tab")
        for i in (1, 2, 3, 3):
            page.keyboard.press("Space")
            assert says.text_content() == sentence(STATIC, i)
        page.get_by_role("button", name="continuous batching").press("Enter")
        assert says.text_content() == sentence(CONTINUOUS, 3)
        slider = page.locator("input[type=range]")
        for key, i in [("End", 4), ("ArrowLeft", 3), ("Home", 0)]:
            slider.press(key)
            assert says.text_content() == sentence(CONTINUOUS, i)
        assert slider.get_attribute("aria-valuetext") == "1 of 5"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    def test_every_cell_stands_where_the_data_say(self, open_page):
        page = open_page(figure().page())
        for timeline in BOTH:
            page.get_by_role("button", name=timeline.name).click()
            shown = cells_shown(page)
            expected = rows_and_kinds(timeline)
            wide = min(30, page.locator(".tk-rt-scroll").evaluate("e => e.clientWidth") / 5)
            found = {
                kind: {(round(x / wide), int(y // 20)) for x, y, _, _ in found}
                for kind, found in shown.items()
            }
            assert {kind: at for kind, at in found.items() if kind in expected} == expected
            line = page.locator(".tk-rt-scroll .waiting").get_attribute("d")
            waits = {
                (i, int(float(y) // 20))
                for x, y, w in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)", line)
                for i in range(round(float(x) / wide), round((float(x) + float(w)) / wide))
            }
            assert waits == {
                (i, NAMES.index(name))
                for i, now in enumerate(timeline.steps)
                for name in set(now.waiting) - set(now.preempted)
            }

    def test_across_seconds_both_schedules_have_one_scale(self, open_page):
        page = open_page(figure().page())
        page.get_by_role("button", name="seconds", exact=True).click()
        chart = page.locator(".tk-rt-scroll svg").evaluate("e => Number(e.getAttribute('width'))")
        for timeline in BOTH:
            page.get_by_role("button", name=timeline.name).click()
            begins = sorted({box[0] for boxes in cells_shown(page).values() for box in boxes})
            per_second = chart / STATIC.seconds  # the longer one fills the chart
            wanted = [per_second * (now.start_s - timeline.steps[0].start_s) for now in timeline.steps]
            assert begins == pytest.approx(wanted, abs=0.02)

    def test_across_seconds_another_schedule_shows_the_same_moment(self, open_page):
        page = open_page(figure(step=2).page())
        page.get_by_role("button", name="seconds", exact=True).click()
        page.get_by_role("button", name="continuous batching").click()
        assert page.locator(".tk-rt-says").text_content() == sentence(CONTINUOUS, 3), "at 0.05 s"

    def test_a_click_on_the_chart_chooses_its_step(self, open_page):
        page = open_page(figure().page())
        page.get_by_role("button", name="continuous batching").click()
        page.locator(".tk-rt-scroll svg").click(position={"x": 3.5 * 30, "y": 10})
        assert page.locator(".tk-rt-says").text_content() == sentence(CONTINUOUS, 3)
        cursor = page.locator(".tk-rt .cursor").evaluate("e => Number(e.getAttribute('x'))")
        assert cursor == pytest.approx(3 * 30 - 1)

    def test_a_move_of_the_slider_is_seen_and_only_its_end_is_heard(self, open_page):
        page = open_page(figure().page())
        slider, heard = page.locator("input[type=range]"), page.locator("[aria-live=polite]")
        for i, event, hears in [(1, "input", ""), (2, "input", ""), (2, "change", sentence(STATIC, 2))]:
            slider.evaluate(f"e => {{ e.value = {i}; e.dispatchEvent(new Event('{event}')); }}")
            assert page.locator(".tk-rt-says").text_content() == sentence(STATIC, i)
            assert heard.text_content() == hears

    def test_totals_and_key(self, open_page):
        page = open_page(figure().page())
        rows = page.locator(".tk-rt-totals tbody tr").all_text_contents()
        assert rows == ["static batching40.106921017.2", "continuous batching50.0641028.2"]
        assert page.locator(".tk-rt-key > span").all_text_contents() == [
            *("prompt", "one generated token", "computed again", "padding: computed for nothing"),
            *("beginning found stored", "waits", "has memory, gets no token", "preempted"),
        ]

    def test_one_schedule_needs_no_choice(self, open_page):
        page = open_page(figures.request_timeline([CONTINUOUS]).page())
        assert page.get_by_role("button", name="continuous batching").count() == 0
        assert page.locator(".tk-rt-says").text_content() == sentence(CONTINUOUS, 0)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        steps = [TimelineStep(i, 1, {f"r{i % 16}": ("decode", 1)}, blocks_used=i) for i in range(120)]
        long = figures.request_timeline([Timeline("long", [f"r{i}" for i in range(16)], steps)])
        page = open_page(long.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, input, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"
        assert page.locator(".tk-rt-scroll").evaluate("e => e.scrollWidth > e.clientWidth")
        # On a page with several figures the common styles may come last.
        page.add_style_tag(path=Path(figures.__file__).parent / "figure.css")
        sizes = page.locator(".tk-rt-chart svg").evaluate_all(
            "all => all.map(e => [e.clientHeight, +e.getAttribute('height')])"
        )
        assert all(shown == pytest.approx(drawn, abs=1) for shown, drawn in sizes), sizes
        page.locator("input[type=range]").press("End")
        assert page.evaluate(
            "(() => { const [c, s] = ['.cursor', '.tk-rt-scroll']"
            ".map(q => document.querySelector('.tk-rt ' + q).getBoundingClientRect());"
            " return c.left >= s.left && c.right <= s.right + 2; })()"
        ), "the cursor must be in sight"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(figure().page(), scripts=False)
        assert page.locator(".tk-static svg").first.is_visible()
        page = open_page(figure().page())
        assert not page.locator(".tk-static svg").first.is_visible()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").first.is_visible()
        assert not page.locator(".tk-live").is_visible()
