"""The roofline figure: its counts against teachkit.cost, the script against its Python face."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

import test_figures
from teachkit import cost, figures, roofline, shapes
from teachkit.figures.roofline import FORMATS, INTENSITIES, MARKS, _peaks, sentence
from teachkit.figures.step_counts import brief, digits, parts, percent, sequences, sizes, waits
from teachkit.hardware import DEVICES
from test_figures import Elements

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

CONFIGS = {name: shapes.shape(name).config for name in shapes.SHAPES}
NAMES = {
    "projections": ["attention projections"],
    "attention": ["attention scores"],
    "MLP": ["mlp"],
    "head": ["head"],
    "norms, embedding": ["norms", "embedding"],
}
OFFERED = ("llama-2-7b", "llama-3-70b", "mistral-7b", "gpt-2")
DEVICES_OFFERED = ("a100-80gb", "v100-16gb", "h100", "pi-5")


def counted(config, phase, batch, tokens, bits):
    weight, act, kv = bits
    step = {"decode": cost.decode_step, "prefill": cost.prefill}[phase]
    return step(config, batch, tokens, weight_bits=weight, act_bits=act, kv_bits=kv)


def said(device, model, phase, bits, batch, tokens):
    return sentence(
        device,
        model,
        phase,
        bits,
        batch,
        tokens,
        devices={device: _peaks(DEVICES[device])},
        models={model: sizes(CONFIGS[model])},
    )


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_those_of_the_cost_model(name, phase):
    config = CONFIGS[name]
    for batch, tokens, bits in itertools.product((1, 7), (1, 100, config.context), FORMATS.values()):
        step = counted(config, phase, batch, tokens, bits)
        for part in parts(sizes(config), phase, batch, tokens, bits):
            expected = [step[other] for other in NAMES[part.name]]
            assert part.flops == sum(e.flops for e in expected), part.name
            assert part.bytes == pytest.approx(sum(e.bytes for e in expected), rel=1e-12), part.name
            assert not part.flops or part.bits == expected[0].bits, part.name


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_all_counted(name):
    config = CONFIGS[name]
    assert sizes(config).params == sum(cost.parameters(config).values())


def test_parameters_with_norms_of_queries_and_keys():
    config = replace(CONFIGS["llama-2-7b"], qk_norm=True)
    assert sizes(config).params == sum(cost.parameters(config).values())


def test_the_words_say_what_the_package_computes():
    bound = roofline.time_bound(cost.decode_step(CONFIGS["llama-2-7b"], 16, 1024), DEVICES["a100-80gb"])
    text = said("a100-80gb", "llama-2-7b", "decode", "all in 16 bits", 16, 1024)
    assert f"at least {digits(bound.seconds * 1e3)} ms" in text
    assert f"at most {digits(16 / bound.seconds)} tokens/s in all" in text
    assert "The ridge lies at 153 FLOPs per byte." in text
    assert "It waits 100\u00a0% of that time for memory." in text


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 131_072), (65_536, 131_072)])
def test_no_part_of_any_step_lies_beyond_the_axis(batch, tokens):
    for config, phase, bits in itertools.product(CONFIGS.values(), ("decode", "prefill"), FORMATS.values()):
        for part in parts(sizes(config), phase, batch, tokens, bits):
            if part.flops:
                assert INTENSITIES[0] <= part.flops / part.bytes <= INTENSITIES[1], (part, bits)


def test_numbers():
    values = (0, 0.0004, 0.05, 0.09996, 0.9996, 9.9961, 99.96, 12345.6)
    expected = ["0.000", "0.000400", "0.0500", "0.1000", "1.000", "10.00", "100.0", "12,346"]
    assert [digits(x) for x in values] == expected
    assert [brief(x) for x in values[:4]] == ["0.000", "<\u00a00.001", "0.050", "0.100"]


def test_a_share_is_all_or_nothing_only_where_it_is():
    shares = (0, 1e-9, 0.0049, 0.005, 0.125, 0.994, 0.996, 0.999999, 1)
    said = ["0", "under 1", "under 1", "1", "13", "99", "over 99", "over 99", "100"]
    assert [percent(share) for share in shares] == [f"{text}\u00a0%" for text in said]
    seconds = {"memory": 0.999, "compute": 0.001, "link": 0.0}
    assert waits(seconds) == (
        "It waits over 99\u00a0% of that time for memory, under 1\u00a0% for arithmetic."
    )


def test_one_is_not_many():
    assert [sequences(*n) for n in ((1, 1), (1, 2), (2, 1))] == [
        "1 sequence of 1 token",
        "1 sequence of 2 tokens",
        "2 sequences of 1 token",
    ]


def test_what_does_not_fit_is_said():
    text = said("a100-80gb", "llama-3-70b", "decode", "all in 16 bits", 1, 100)
    assert text.endswith("That does not fit: weights, keys and values would take 131 of 80.0 GiB.")


def test_by_hand():
    model = sizes(CONFIGS["llama-2-7b"])
    scores = parts(model, "decode", 3, 1000, (16, 16, 16))[1]
    assert scores.flops == 3 * 32 * 4 * 32 * 128 * 1000
    assert scores.bytes == 3 * 32 * 2 * (2 * 4096 * 1000 + 2 * 4096 + 2 * 4096)
    assert scores.flops / scores.bytes == pytest.approx(1, rel=0.01)


def test_a_format_without_a_rate_is_said_and_not_offered_at_the_start():
    text = "No rate is known for 8-bit operands on v100-16gb. Choose another format."
    assert said("v100-16gb", "llama-2-7b", "decode", "all in 8 bits", 1, 100) == text
    with pytest.raises(ValueError, match="bits: No rate is known for 8-bit operands on v100-16gb"):
        made(device="v100-16gb", bits="all in 8 bits")


def made(**start):
    return figures.roofline(
        {name: DEVICES[name] for name in DEVICES_OFFERED}, {name: CONFIGS[name] for name in OFFERED}, **start
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "a100"}, "device: expected one of a100-80gb"),
        ({"model": "gpt-5"}, "model: expected one of llama-2-7b"),
        ({"phase": "train"}, "phase: expected one of decode, prefill; got 'train'"),
        ({"bits": "16"}, "bits: expected one of all in 32 bits"),
        ({"batch": 0}, "expected 1 to 65,536 sequences and 1 to 4,096 tokens, got 0 and 1024"),
        ({"batch": 65_537}, "got 65537 and 1024"),
        ({"tokens": 8192}, "got 1 and 8192"),
    ],
)
def test_choices_that_are_not_on_offer(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        made(**options)


def test_table_and_twin():
    shown = made()
    cells = [text for _, text in Elements(shown.html).all("td")]
    assert cells[:6] == ["a100-80gb", "2,039", "19.5", "312", "624", "153"]
    assert cells[cells.index("v100-16gb") + 4] == "–"
    places = [a["transform"] for a, _ in Elements(shown.html).all("path") if "transform" in a]
    assert len(places) == 8, "four parts, and four in the legend"


def test_roof_bends_where_the_bounds_meet():
    (roof,) = (a["d"] for a, _ in Elements(made().html).all("path", **{"class": "roof"}))
    (left, low), (bend, top), (right, end) = [map(float, p.split(",")) for p in roof[1:].split("L")]
    at = math.log(153 / INTENSITIES[0]) / math.log(INTENSITIES[1] / INTENSITIES[0])
    assert (bend - left) / (right - left) == pytest.approx(at, abs=1e-3)
    assert top == end < low


# -------------------------------------------------------------------------------- in a browser


def heard_at_the_end(page, says, place):
    """What is seen follows every move of a slider; what is heard, only the last one, and every choice."""
    slider, heard = page.locator("input[type=range]").nth(place), page.locator("[aria-live=polite]")
    assert heard.text_content() == ""
    before = page.locator(says).text_content()
    slider.evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    moved = page.locator(says).text_content()
    assert moved != before
    assert heard.text_content() == ""
    slider.evaluate("e => e.dispatchEvent(new Event('change'))")
    assert heard.text_content() == moved
    page.get_by_role("combobox", name="Device", exact=True).select_option(index=2)
    assert heard.text_content() == page.locator(says).text_content() != moved


@pytest.mark.browser
class TestInABrowser:
    figure = made(batch=16)

    def test_every_choice_says_what_python_says(self, open_page):
        page = open_page(self.figure.page())
        says, fields = page.locator(".tk-rl-says"), page.locator(".tk-rl input[type=number]")
        assert says.text_content() == self.figure.alt
        counts = itertools.cycle([(1, 1), (16, 1000), (333, 4096), (65536, 131072), (7, 129)])
        choices = itertools.product(DEVICES_OFFERED, OFFERED, ("decode", "prefill"), FORMATS)
        for device, model, phase, bits in choices:
            for name, value in (("Device", device), ("Model", model), ("Phase", phase), ("Number", bits)):
                page.get_by_role("combobox", name=name).select_option(value)
            batch, tokens = next(counts)
            tokens = min(tokens, CONFIGS[model].context)
            fields.nth(0).fill(str(tokens))
            fields.nth(1).fill(str(batch))
            assert says.text_content() == said(device, model, phase, bits, batch, tokens)

    def test_the_table_says_what_python_says(self, open_page):
        page = open_page(self.figure.page())
        rows = page.locator(".tk-rl tbody tr").evaluate_all(
            "all => all.map(row => [...row.children].map(cell => cell.textContent))"
        )
        device = DEVICES["a100-80gb"]
        expected = parts(sizes(CONFIGS["llama-2-7b"]), "decode", 16, 1024, (16, 16, 16))
        assert rows == [
            [
                part.name,
                digits(part.flops / part.bytes) if part.flops else "0",
                brief(1e3 * part.seconds(device.bytes_per_s, device.peak(16))),
                "memory",
            ]
            for part in expected
        ]

    @pytest.mark.parametrize("width", [360, 900])
    def test_marks_lie_where_the_twin_has_them(self, open_page, width):
        """As wide as there is room, and the same shares of the frame."""
        page = open_page(self.figure.page(), width=width)
        twin, live = (
            page.locator(f"{where} .tk-rl-plot").evaluate(
                "e => [e.viewBox.baseVal.width, ...[...e.querySelectorAll('.mark')]"
                ".map(m => m.transform.baseVal[0].matrix.e)]"
            )
            for where in (".tk-static", ".tk-live")
        )
        assert len(live) == 1 + len(MARKS)
        places = [[(x - 52) / (whole - 62) for x in marks] for whole, *marks in (twin[:1] + twin[1::2], live)]
        assert places[1] == pytest.approx(places[0], abs=1e-3)

    def test_a_context_that_the_next_model_lacks_becomes_its_longest(self, open_page):
        page = open_page(self.figure.page())
        page.get_by_role("combobox", name="Model").select_option("mistral-7b")
        page.get_by_role("slider", name="Tokens").press("End")
        assert page.get_by_role("slider", name="Tokens").get_attribute("aria-valuetext") == "32,768"
        page.get_by_role("combobox", name="Model").select_option("gpt-2")
        assert page.get_by_role("slider", name="Tokens").get_attribute("aria-valuetext") == "1,024"
        assert "16 sequences of 1,024 tokens" in page.locator(".tk-rl-says").text_content()

    def test_by_keyboard(self, open_page):
        page = open_page(self.figure.page())
        batch = page.get_by_role("slider", name="Sequences")
        for key, value in [("ArrowRight", 24), ("End", 4096), ("Home", 1)]:
            batch.press(key)
            assert page.locator(".tk-rl-says").text_content() == said(
                "a100-80gb", "llama-2-7b", "decode", "all in 16 bits", value, 1024
            )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    def test_a_move_of_the_slider_is_seen_and_only_its_end_is_heard(self, open_page):
        heard_at_the_end(open_page(self.figure.page()), ".tk-rl-says", place=0)

    @pytest.mark.parametrize("typed", ["", "0", "-3", "9999999"])
    def test_a_number_that_makes_no_sense_changes_nothing(self, open_page, typed):
        page = open_page(self.figure.page())
        field = page.locator(".tk-rl input[type=number]").nth(0)
        field.fill(typed)
        assert page.locator(".tk-rl-says").text_content() == self.figure.alt
        field.blur()
        assert field.input_value() == "1024"

    def test_no_rate_no_picture(self, open_page):
        page = open_page(self.figure.page())
        page.get_by_role("combobox", name="Number").select_option("all in 8 bits")
        page.get_by_role("combobox", name="Device").select_option("v100-16gb")
        assert not page.locator(".tk-live .tk-rl-plot").is_visible()
        assert not page.locator(".tk-live table").is_visible()
        page.get_by_role("combobox", name="Device").select_option("h100")
        assert page.locator(".tk-live .tk-rl-plot .mark").count() == len(MARKS)
        assert page.locator(".tk-live table").is_visible()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(self.figure.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('select, input, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(self.figure.page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(self.figure.page())
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
