"""Time per token against tokens per second: held to cost, roofline and memory, in Python and on the page."""

from __future__ import annotations

import itertools
import re

import pytest

import test_figures
from teachkit import cost, figures, hardware, memory, roofline
from teachkit.figures.latency_plane import FORMATS, HEIGHT, KV_BITS, LEFT, RIGHT, Plane, batches, sentence
from teachkit.shapes import shape
from test_figures import Elements
from test_roofline_figure import heard_at_the_end

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

MODELS = {name: shape(name).config for name in ("mistral-7b", "llama-2-7b", "gpt-2", "llama-3-70b")}
DEVICES = {name: hardware.device(name) for name in ("a10", "a100-80gb", "h200", "m2", "pi-5")}
START = {"model": "mistral-7b", "device": "a10", "batch": 64, "context": 512}
BITS = {"weight_bits": 16, "act_bits": 16, "kv_bits": 16}


def predict(config, device, *, batch, context, **bits):
    step = cost.decode_step(config, batch, context, **bits)
    return step, roofline.time_bound(step, device), memory.memory(config, batch, context, **bits)


def plane_of(model, device, context, bits=BITS):
    return Plane(MODELS[model], DEVICES[device], predict, context, bits)


@pytest.fixture(scope="module")
def figure():
    return figures.latency_plane(MODELS, DEVICES, predict, reading_ms=180, **START)


def test_says_in_words_what_it_shows(figure):
    assert figure.alt == (
        "mistral-7b on one a10, weights in 16 bits, activations in 16, keys and values in 16, 64 sequences "
        "of 512 tokens: at least 31.4 ms per token, 5.73 times as fast as reading. At most 31.8 tokens/s for "
        "each, 2,036 in all. The step waits mostly for memory. Memory is full at 167 sequences. At 1.29 "
        "dollars an hour (Lambda, 2026-09-20) a million tokens cost at least 0.176 dollars."
    )


def test_by_hand():
    """A model that only reads its weights would take 2 bytes of each of 7.24e9 at 600e9 a second: 24.1 ms."""
    plane = plane_of("mistral-7b", "a10", 1)
    numbers = sum(cost.parameters(MODELS["mistral-7b"]).values())
    table = cost.parameters(MODELS["mistral-7b"])["embedding"]  # of which one row is read
    assert plane.step(1)[0] == pytest.approx(2 * (numbers - table) / 600e9, rel=1e-3)
    assert plane.usd_per_million(1) == pytest.approx(1.29 / 3600 * plane.step(1)[0] * 1e6)


@pytest.mark.parametrize("context", [1, 4096])
def test_largest_batch_is_the_packages(context):
    for model, device in itertools.product(MODELS, DEVICES):
        if context > MODELS[model].context:
            continue
        given = MODELS[model], context, DEVICES[device].memory_bytes
        try:
            expected = memory.largest_batch(*given)
        except ValueError:
            expected = 0
        assert plane_of(model, device, context).largest_batch == expected


def test_words_where_something_is_missing():
    assert "Not even one sequence fits into the memory." in sentence(
        plane_of("llama-3-70b", "a10", 512), "llama-3-70b", "a10", 1, 180
    )
    too_many = sentence(plane_of("mistral-7b", "a10", 4096), "mistral-7b", "a10", 64, 180)
    assert "That does not fit: memory is full at 21 sequences." in too_many
    assert "a million tokens would cost at least" in too_many
    assert sentence(plane_of("gpt-2", "m2", 512), "gpt-2", "m2", 1, 180).endswith("No price is listed.")


def test_table_ends_where_memory_does(figure):
    cells = [text for _, text in Elements(figure.html).all("td")]
    assert cells[-6:-1] == ["167", "43.9", "22.8", "3,807", "memory"]
    assert cells[::6] == ["1", "4", "16", "64", "167"]


def test_batches_rise_to_the_last():
    assert list(batches(1)) == [1]
    found = list(batches(167))
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (1, 167)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "gpt-5"}, "model: expected one of mistral-7b, llama-2-7b"),
        ({"device": "a100"}, "device: expected one of a10, a100-80gb"),
        ({"kv_bits": 7}, "kv_bits: expected one of 16, 8, 4; got 7"),
        ({"weight_bits": 4, "act_bits": 4}, r"weight_bits, act_bits: expected one of \(16, 16\)"),
        ({"batch": 0}, "expected 1 to 65,536 sequences and 1 to 32,768 tokens, got 0 and 512"),
        ({"context": 40_000}, "got 64 and 40000"),
        ({"device": "m2", "weight_bits": 8, "act_bits": 8}, "no published rate for 8-bit operands"),
    ],
)
def test_choices_that_are_not_on_offer(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        figures.latency_plane(MODELS, DEVICES, predict, reading_ms=180, **{**START, **options})


# -------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
class TestInABrowser:
    def test_every_choice_says_what_python_says(self, open_page, figure):
        page = open_page(figure.page())
        says, fields = page.locator(".tk-lp-says"), page.locator(".tk-lp input[type=number]")
        assert says.text_content() == figure.alt
        counts = itertools.cycle([(1, 1), (64, 1000), (333, 513), (65536, 1024), (7, 900)])
        choices = itertools.product(MODELS, DEVICES, FORMATS)
        for (model, device, (w, a)), kv in zip(choices, itertools.cycle(KV_BITS), strict=False):
            batch, context = next(counts)
            page.get_by_role("combobox", name="Model").select_option(model)
            page.get_by_role("combobox", name="Device").select_option(device)
            page.get_by_role("combobox", name="weight").select_option(f"{w}/{a}")
            page.get_by_role("combobox", name="key").select_option(str(kv))
            fields.nth(0).fill(str(context))
            fields.nth(1).fill(str(batch))
            if (w, a) == (8, 8) and "int8" not in DEVICES[device].flops:
                none = f"No rate is known for 8-bit operands on {device}. Choose activations of 16 bits."
                assert says.text_content() == none
                assert page.locator(".tk-live").locator(".point, .curve, .beyond, .wall").count() == 0
                continue
            bits = {"weight_bits": w, "act_bits": a, "kv_bits": kv}
            plane = plane_of(model, device, context, bits)
            assert says.text_content() == sentence(plane, model, device, batch, 180)

    @pytest.mark.parametrize("width", [360, 900])
    def test_point_stands_where_pythons_does(self, open_page, figure, width):
        """As wide as there is room, and the same shares of the frame."""
        page = open_page(figure.page(), width=width)
        places = []
        for where in (".tk-live", ".tk-static"):
            _, _, whole, height = page.locator(f"{where} .tk-lp-plane").get_attribute("viewBox").split()
            point = page.locator(f"{where} .point")
            share = (float(point.get_attribute("cx")) - LEFT) / (float(whole) - LEFT - RIGHT)
            places.append((share, float(point.get_attribute("cy"))))
            assert float(height) == HEIGHT
        assert places[0][0] == pytest.approx(places[1][0], abs=1e-3)
        assert places[0][1] == pytest.approx(places[1][1], abs=0.06)

    def test_what_lies_outside_is_not_drawn_elsewhere(self, open_page, figure):
        page = open_page(figure.page())
        live = page.locator(".tk-live")
        page.get_by_role("combobox", name="Model").select_option("llama-3-70b")
        page.get_by_role("combobox", name="Device").select_option("pi-5")
        assert live.locator(".point").count() == 0
        assert "the point lies outside" in live.locator(".tk-lp-plane").text_content()
        page.get_by_role("combobox", name="Model").select_option("mistral-7b")
        page.get_by_role("combobox", name="Device").select_option("h200")
        page.locator(".tk-lp input[type=number]").nth(0).fill("1")
        assert live.locator(".point").count() == 1
        assert "emory is full at" in page.locator(".tk-lp-says").text_content()
        assert live.locator(".wall").count() == 0, "more sequences than the picture goes up to"
        numbers = [float(n) for n in re.findall(r"[\d.]+", live.locator(".curve").get_attribute("d"))]
        assert min(numbers[1::2]) >= 24

    def test_a_move_of_the_slider_is_seen_and_only_its_end_is_heard(self, open_page, figure):
        heard_at_the_end(open_page(figure.page()), ".tk-lp-says", place=1)

    def test_labels_stay_within_the_picture(self, open_page, figure):
        page = open_page(figure.page(), width=360)
        page.get_by_role("combobox", name="Device").select_option("h200")
        page.get_by_role("combobox", name="Model").select_option("gpt-2")
        for context in ("1", "512", "1024"):
            page.locator(".tk-lp input[type=number]").nth(0).fill(context)
            outside = page.locator(".tk-live .tk-lp-plane").evaluate(
                "e => [...e.querySelectorAll('text')].filter(t => { const b = t.getBBox(); "
                "return b.x < 0 || b.x + b.width > e.viewBox.baseVal.width; }).map(t => t.textContent)"
            )
            assert outside == []

    def test_sliders_by_keyboard_and_a_context_that_the_model_has(self, open_page, figure):
        page = open_page(figure.page())
        batch = page.get_by_role("slider", name="Sequences")
        for key, value in [("ArrowRight", "96"), ("End", "4,096"), ("Home", "1")]:
            batch.press(key)
            assert batch.get_attribute("aria-valuetext") == value
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.get_by_role("slider", name="Tokens").press("End")
        assert "of 32,768 tokens" in page.locator(".tk-lp-says").text_content()
        page.get_by_role("combobox", name="Model").select_option("gpt-2")
        assert "of 1,024 tokens" in page.locator(".tk-lp-says").text_content()

    @pytest.mark.parametrize("typed", ["", "0", "-3", "99999999999"])
    def test_a_number_that_makes_no_sense_changes_nothing(self, open_page, figure, typed):
        page = open_page(figure.page())
        field = page.locator(".tk-lp input[type=number]").nth(1)
        field.fill(typed)
        assert page.locator(".tk-lp-says").text_content() == figure.alt
        field.blur()
        assert field.input_value() == "64"

    def test_a_curve_can_be_kept(self, open_page, figure):
        page = open_page(figure.page())
        page.get_by_role("button").click()
        kept = page.locator(".tk-live .kept").get_attribute("d")
        assert kept == page.locator(".tk-live .curve").get_attribute("d")
        page.get_by_role("combobox", name="Device").select_option("h200")
        assert page.locator(".tk-lp-kept").text_content() == (
            "Kept, in grey: mistral-7b on one a10, weights in 16 bits, activations in 16, keys and values "
            "in 16, sequences of 512 tokens."
        )
        assert page.locator(".tk-live .kept").get_attribute("d") == kept
        assert page.locator(".tk-live .curve").get_attribute("d") != kept
        page.get_by_role("button").click()
        assert page.locator(".tk-live .kept").count() == 0
        assert not page.locator(".tk-lp-kept").is_visible()

    def test_curve_rises_to_where_memory_is_full(self, open_page, figure):
        page = open_page(figure.page())
        pairs = re.findall(r"[\d.]+", page.locator(".tk-live .curve").get_attribute("d"))
        heights = [float(y) for y in pairs[1::2]]
        assert heights == sorted(heights, reverse=True)
        wall = page.locator(".tk-live .wall")
        assert float(wall.get_attribute("y")) + 5 == pytest.approx(heights[-1], abs=0.06)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, figure, scheme):
        page = open_page(figure.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('select, input, button, summary')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page, figure):
        page = open_page(figure.page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(figure.page())
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
