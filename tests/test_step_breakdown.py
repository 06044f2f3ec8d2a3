"""The parts of a decode step on the page: the script against teachkit's cost model, on a grid of settings."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import pytest

import test_figures
from teachkit import cost, figures, memory, roofline
from teachkit.figures.step_breakdown import DEGREES, degrees, part_rows, sentence
from teachkit.figures.step_counts import digits
from teachkit.hardware import device
from teachkit.shapes import shape
from test_figures import Elements
from test_roofline_figure import heard_at_the_end

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

MESSAGE_S = 8e-6
MODELS = {
    "LLaMA-7B": shape("llama-7b").config,
    "Llama-3-70B": shape("llama-3-70b").config,
    "Mistral-7B": shape("mistral-7b").config,
    "Qwen2.5-7B": shape("qwen2.5-7b").config,
    "Falcon-7B": shape("falcon-7b").config,
    "GPT-3": replace(shape("gpt-3").config, vocab_size=50304),
}
DEVICES = {"A100-80GB": device("a100-80gb"), "T4": device("t4"), "H100": device("h100")}


def predict(config, limits, **setting):
    step = cost.decode_step(config, **setting)
    bound = roofline.time_bound(step, limits, message_s=MESSAGE_S)
    return step, bound, memory.memory(config, **setting)


def figure(**start):
    return figures.step_breakdown(MODELS, DEVICES, predict, message_s=MESSAGE_S, **start)


def test_says_in_words_what_it_shows():
    shown = figure(context=544)
    assert shown.alt == (
        "LLaMA-7B on one A100-80GB, weights in 16 bits, keys and values in 16, 1 sequence of 544 tokens: "
        "a decode step takes at least 6.62 ms, so at most 151 tokens/s in all. Its largest part: MLP, "
        "64\u00a0%. It waits 100\u00a0% of that time for memory. MBU is at most 100\u00a0%. "
        "It holds 12.8 of 80.0 GiB."
    )
    cells = [text for _, text in Elements(shown.html).all("td")]
    assert cells[cells.index("MLP") :][:3] == ["MLP", "4.25", "memory"]
    widths = [float(a["width"]) for a, _ in Elements(shown.html).all("rect") if a["y"] == "4"]
    assert sum(widths) == pytest.approx(480, abs=0.3)


def test_by_hand():
    # Three matrices of 4096 by 11008 in 32 layers, two bytes a weight, and what goes in and out.
    bytes_moved = 2 * (3 * 32 * 4096 * 11008) + 2 * 32 * 2 * (4096 + 11008)
    rows = {name: ms for name, ms, _ in part_rows(predict(*limits("LLaMA-7B", "T4"), **setting()))}
    assert rows["MLP"] == digits(bytes_moved / 320e9 * 1e3)


def limits(model, name):
    return MODELS[model], DEVICES[name]


def setting(batch=1, context=512, weight_bits=16, kv_bits=16, tp=1):
    return {
        "batch": batch,
        "context": context,
        "weight_bits": weight_bits,
        "kv_bits": kv_bits,
        "tp": tp,
    }


def test_batches_that_do_not_fit_and_devices_that_share():
    said = figure(model="Llama-3-70B", device="H100").alt
    assert "That does not fit: it would hold" in said
    said = figure(model="Llama-3-70B", device="H100", tp=4, batch=3).alt
    assert "Llama-3-70B on 4 × H100, weights in 16 bits, keys and values in 16, 3 sequences of 512" in said
    assert "for the link" in said
    assert "Each holds" in said


@pytest.mark.parametrize(("name", "expected"), [("LLaMA-7B", [1, 2, 4, 8, 16]), ("Falcon-7B", [1])])
def test_degrees_are_those_that_the_cost_model_takes(name, expected):
    assert degrees(MODELS[name]) == expected
    for n in set(DEGREES) - set(expected):
        with pytest.raises(ValueError, match="tp"):
            cost.decode_step(MODELS[name], 1, 1, tp=n)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "GPT-5"}, "model: expected one of LLaMA-7B"),
        ({"device": "A1"}, "device: expected one of A100-80GB"),
        ({"weight_bits": 7}, "weight_bits: expected one of 16, 8, 4; got 7"),
        ({"kv_bits": 3}, "kv_bits: expected one of 16, 8; got 3"),
        ({"tp": 3}, "tp: expected one of 1, 2, 4, 8, 16 for LLaMA-7B, got 3"),
        ({"batch": 0}, "expected 1 to 65,536 sequences and 1 to 2,048 tokens, got 0 and 512"),
        ({"context": 2049}, "got 1 and 2049"),
    ],
)
def test_choices_that_are_not_on_offer(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        figure(**options)


def test_a_device_without_a_link():
    with pytest.raises(ValueError, match="devices with a link, M2 has none"):
        figures.step_breakdown(MODELS, {"M2": device("m2")}, predict)


def test_data_holds_what_the_formulas_need():
    data = json.loads(re.search(r'class="tk-data">(.*?)</script>', figure().html, re.S)[1])
    gpt3 = next(m for m in data["models"] if m["name"] == "GPT-3")
    assert gpt3["norms"] == cost.parameters(MODELS["GPT-3"])["norms"]
    assert data["message_us"] == 8


# -------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
class TestInABrowser:
    def test_every_choice_says_what_python_says(self, open_page):
        shown = figure(context=544)
        page = open_page(shown.page())
        says, fields = page.locator(".tk-sb-says"), page.locator(".tk-sb input[type=number]")
        assert says.text_content() == shown.alt
        counts = itertools.cycle([(1, 1), (37, 1000), (400, 2048), (8, 777)])
        widths = itertools.cycle([(16, 16), (8, 16), (4, 8)])
        for model, name in itertools.product(MODELS, DEVICES):
            page.get_by_role("combobox", name="Model").select_option(model)
            page.get_by_role("combobox", name="Device", exact=True).select_option(name)
            for tp in degrees(MODELS[model]):
                (batch, context), (weight_bits, kv_bits) = next(counts), next(widths)
                page.get_by_role("combobox", name="Number of devices").select_option(str(tp))
                page.get_by_role("combobox", name="Bits per weight").select_option(str(weight_bits))
                page.get_by_role("combobox", name="Bits per key").select_option(str(kv_bits))
                fields.nth(0).fill(str(context))
                fields.nth(1).fill(str(batch))
                chosen = setting(batch, context, weight_bits, kv_bits, tp)
                predicted = predict(*limits(model, name), **chosen)
                assert says.text_content() == sentence(model, name, chosen, DEVICES[name], predicted)
                rows = page.locator(".tk-sb-parts tbody tr").evaluate_all(
                    "all => all.map(row => [...row.children].map(cell => cell.textContent))"
                )
                assert rows == part_rows(predicted)

    def test_a_degree_that_a_model_cannot_have_goes_back_to_one(self, open_page):
        page = open_page(figure(tp=16).page())
        page.get_by_role("combobox", name="Model").select_option("Falcon-7B")
        assert page.get_by_role("combobox", name="Number of devices").input_value() == "1"
        assert "Falcon-7B on one A100-80GB" in page.locator(".tk-sb-says").text_content()

    def test_context_stays_within_the_models(self, open_page):
        page = open_page(figure().page())
        page.get_by_role("combobox", name="Model").select_option("Mistral-7B")
        page.get_by_role("slider", name="Tokens per sequence").press("End")
        assert "of 32,768 tokens" in page.locator(".tk-sb-says").text_content()
        page.get_by_role("combobox", name="Model").select_option("GPT-3")
        assert "of 2,048 tokens" in page.locator(".tk-sb-says").text_content()

    def test_a_kept_bar_stays_on_the_same_scale(self, open_page):
        page = open_page(figure().page())
        assert not page.locator(".tk-sb-kept").is_visible()
        page.get_by_role("button", name="Keep this bar").press("Enter")
        page.get_by_role("combobox", name="Bits per weight").select_option("4")
        width = "all => all.reduce((sum, e) => sum + e.getBoundingClientRect().width, 0)"
        bars = [
            page.locator(f"{place} > i").evaluate_all(width)
            for place in (".tk-sb-kept .tk-sb-bar", ".tk-sb > .tk-sb-bar")
        ]
        times = [
            predict(*limits("LLaMA-7B", "A100-80GB"), **setting(weight_bits=bits))[1].seconds
            for bits in (16, 4)
        ]
        assert bars[1] / bars[0] == pytest.approx(times[1] / times[0], abs=0.01)
        kept = "Kept: LLaMA-7B on one A100-80GB, weights in 16 bits, keys and values in 16, 1 sequence of 512"
        assert page.locator(".tk-sb-before").text_content() == f"{kept} tokens: {digits(1e3 * times[0])} ms."
        page.get_by_role("button", name="Remove the kept bar").press("Enter")
        assert not page.locator(".tk-sb-kept").is_visible()
        assert page.evaluate("document.activeElement.textContent") == "Keep this bar to compare"

    def test_a_move_of_the_slider_is_seen_and_only_its_end_is_heard(self, open_page):
        heard_at_the_end(open_page(figure().page()), ".tk-sb-says", place=1)

    @pytest.mark.parametrize("typed", ["", "0", "-3", "9999999"])
    def test_a_number_that_makes_no_sense_changes_nothing(self, open_page, typed):
        shown = figure()
        page = open_page(shown.page())
        field = page.locator(".tk-sb input[type=number]").nth(0)
        field.fill(typed)
        assert page.locator(".tk-sb-says").text_content() == shown.alt
        field.blur()
        assert field.input_value() == "512"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(figure(tp=2, batch=400).page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('select, input, summary, button')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(figure().page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(figure().page())
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
