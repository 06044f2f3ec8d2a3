"""The roofline figure: its counts against teachkit.cost, the script against its Python face."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

import test_figures
from teachkit import cost, figures, roofline, shapes
from teachkit.figures.roofline import BATCHES, FORMATS, MARKS, TOKENS, _peaks, figure, sentence
from teachkit.figures.step_counts import parts, sizes
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
    assert f"at least {figure(bound.seconds * 1e3)} ms" in text
    assert f"at most {figure(16 / bound.seconds)} tokens a second" in text
    assert "The ridge lies at 153 FLOPs per byte." in text
    assert "100 % of that time waits for memory" in text


def test_what_does_not_fit_is_said():
    text = said("a100-80gb", "llama-3-70b", "decode", "all in 16 bits", 1, 100)
    assert text.endswith("take 131 GiB; the device has 80.0: they do not fit.")


def test_by_hand():
    model = sizes(CONFIGS["llama-2-7b"])
    scores = parts(model, "decode", 3, 1000, (16, 16, 16))[1]
    assert scores.flops == 3 * 32 * 4 * 32 * 128 * 1000
    assert scores.bytes == 3 * 32 * 2 * (2 * 4096 * 1000 + 2 * 4096 + 2 * 4096)
    assert scores.flops / scores.bytes == pytest.approx(1, rel=0.01)


def test_a_format_without_a_rate_is_said_and_not_offered_at_the_start():
    text = "No rate is known for v100-16gb with all in 8 bits: choose another format."
    assert said("v100-16gb", "llama-2-7b", "decode", "all in 8 bits", 1, 100) == text
    with pytest.raises(ValueError, match="No rate is known for v100-16gb"):
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
        ({"batch": 3}, "batch: expected one of 1, 2, 4"),
        ({"tokens": 8192}, "tokens: expected one of 16, .*4096; got 8192"),
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
    places = [a["transform"] for a, _ in Elements(shown.html).all("path")]
    assert len(places) == 8, "four parts, and four in the legend"


# -------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
class TestInABrowser:
    figure = made(batch=16)

    def test_every_choice_says_what_python_says(self, open_page):
        page = open_page(self.figure.page())
        says = page.locator(".tk-rl-says")
        assert says.text_content() == self.figure.alt
        lists = {"Batch": BATCHES, "Tokens": TOKENS}
        steps = itertools.cycle([(0, 0), (5, 6), (10, 9), (2, 3), (7, 7)])
        choices = itertools.product(DEVICES_OFFERED, OFFERED, ("decode", "prefill"), FORMATS)
        for device, model, phase, bits in choices:
            for name, value in (("Device", device), ("Model", model), ("Phase", phase), ("Numbers", bits)):
                page.get_by_role("combobox", name=name).select_option(value)
            values = []
            for (name, known), place in zip(lists.items(), next(steps), strict=True):
                offered = [n for n in known if name == "Batch" or n <= CONFIGS[model].context]
                values.append(offered[min(place, len(offered) - 1)])
                page.get_by_role("slider", name=name).fill(str(offered.index(values[-1])))
            assert says.text_content() == said(device, model, phase, bits, *values)

    def test_marks_lie_where_the_twin_has_them(self, open_page):
        page = open_page(self.figure.page(), width=700)
        rows = page.locator(".tk-rl tbody tr").all_inner_texts()
        assert [row.split("\t")[0].strip() for row in rows] == list(NAMES)
        intensities = [row.split("\t")[1] for row in rows]
        expected = parts(sizes(CONFIGS["llama-2-7b"]), "decode", 16, 1024, (16, 16, 16))
        assert intensities == [figure(p.flops / p.bytes) if p.flops else "0" for p in expected]
        assert page.locator(".tk-rl > .tk-rl-plot .mark").count() == len(MARKS)

    def test_a_context_that_the_next_model_lacks_becomes_its_longest(self, open_page):
        page = open_page(self.figure.page())
        page.get_by_role("combobox", name="Model").select_option("mistral-7b")
        page.get_by_role("slider", name="Tokens").press("End")
        assert page.get_by_role("slider", name="Tokens").get_attribute("aria-valuetext") == "32,768"
        page.get_by_role("combobox", name="Model").select_option("gpt-2")
        assert page.get_by_role("slider", name="Tokens").get_attribute("aria-valuetext") == "1,024"
        assert "16 sequences with a context of 1,024 tokens" in page.locator(".tk-rl-says").text_content()

    def test_by_keyboard(self, open_page):
        page = open_page(self.figure.page())
        batch = page.get_by_role("slider", name="Batch")
        for key, value in [("ArrowRight", 32), ("End", 1024), ("Home", 1)]:
            batch.press(key)
            assert page.locator(".tk-rl-says").text_content() == said(
                "a100-80gb", "llama-2-7b", "decode", "all in 16 bits", value, 1024
            )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    def test_no_rate_no_points(self, open_page):
        page = open_page(self.figure.page())
        page.get_by_role("combobox", name="Numbers").select_option("all in 8 bits")
        page.get_by_role("combobox", name="Device").select_option("v100-16gb")
        assert page.locator(".tk-rl-plot .mark").count() == 0 + len(MARKS) * 2  # the hidden twin's
        assert page.locator(".tk-rl tbody tr").count() == 0

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
