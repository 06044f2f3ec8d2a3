"""A cache beside weights and devices: the shapes against models, the script against its Python face."""

from __future__ import annotations

import itertools

import pytest
import torch

import teachkit as tk
import test_figures
from teachkit import figures
from teachkit.figures.kv_memory import DEVICES, KV_BITS, MODELS, sentence, size
from test_figures import Elements

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

GPT3 = {"norm": "layer", "gated_mlp": False, "position": "learned", "qkv_bias": True, "o_bias": True}
FALCON = {"norm": "layer", "gated_mlp": False, "parallel_residual": True, "parallel_norms": 1}
CONFIGS = {
    "LLaMA-7B": tk.ModelConfig(vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008),
    "Falcon-7B": tk.ModelConfig(
        vocab_size=65024, d_model=4544, n_layers=32, n_heads=71, n_kv_heads=1, d_ff=18176, tied=True, **FALCON
    ),
    "Mistral-7B": tk.ModelConfig(
        vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336
    ),
    "Llama-3-8B": tk.ModelConfig(
        vocab_size=128256, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336
    ),
    "Llama-3-70B": tk.ModelConfig(
        vocab_size=128256, d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28672
    ),
    "GPT-3": tk.ModelConfig(
        vocab_size=50257, d_model=12288, n_layers=96, n_heads=96, d_ff=49152, mlp_bias=True, tied=True, **GPT3
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_a_decoder(name):
    if name in CONFIGS:
        with torch.device("meta"):
            model = tk.Decoder(CONFIGS[name])
    else:
        model = tk.load("bundled")
        assert model.config.context == MODELS[name].context
    shape = MODELS[name]
    assert sum(p.numel() for p in model.parameters()) == shape.params
    for bits in (32, 16, 8):
        assert shape.token_bytes(bits) == model.config.kv_bytes_per_token(bits // 8)


def test_by_hand():
    assert MODELS["GPT-3"].cache_bytes(1000, 100, 16) == 2 * 96 * 12288 * 2 * 100_000
    assert MODELS["LLaMA-7B"].cache_bytes(4096, 1, 16) == 2**31
    assert MODELS["Falcon-7B"].token_bytes(4) == 2 * 32 * 64 // 2
    assert MODELS["Mistral-7B"].cache_bytes(32768, 3, 16) == 131072 * 4096 * 3


def test_says_in_words_what_it_shows():
    assert figures.kv_memory().alt == (
        "One token leaves 524,288 bytes of keys and values in LLaMA-7B. 1 sequence of 4,096 tokens: "
        "2.15 GB = 2.00 GiB, 0.159 times the weights. One A100-80GB holds the weights and 30 such sequences "
        "if each of its 80 GB is 10⁹ bytes, 33 if it is 2³⁰; nothing is set aside for anything else. "
        "Its context is 2,048 tokens."
    )
    assert sentence("GPT-3", "A100-80GB", 1000, 100, 16) == (
        "One token leaves 4,718,592 bytes of keys and values in GPT-3. 100 sequences of 1,000 tokens: "
        "471.9 GB = 439.5 GiB, 1.35 times the weights. The weights alone fill more than one A100-80GB."
    )
    assert sentence("Mistral-7B", "T4", 32768, 1, 8).endswith(
        "Its context is 8,192 tokens. Of each sequence it keeps the latest 4,096 tokens, its sliding window."
    )


def test_weights_that_fit_only_in_binary_gigabytes_leave_room_for_no_sequence():
    shape = MODELS["Llama-3-8B"]
    assert 16e9 < shape.weight_bytes < 16 * 2**30
    assert "holds the weights and 0 such sequences if each of its 16 GB is 10⁹ bytes, 2" in sentence(
        "Llama-3-8B", "T4", 4096, 1, 16
    )


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (2**31, "2.15 GB = 2.00 GiB"),
        (471_859_200_000, "471.9 GB = 439.5 GiB"),
        (10**8, "0.100 GB = 0.093 GiB"),
        (99_999_999, "100.0 MB = 95.4 MiB"),
        (2**16, "0.066 MB = 0.063 MiB"),
        (10**13, "10,000.0 GB = 9,313.2 GiB"),
    ],
)
def test_size(n_bytes, words):
    assert size(n_bytes) == words


def test_table_and_twin():
    shown = figures.kv_memory("GPT-3", "H100", 2000, 5)
    cells = [text for _, text in Elements(shown.html).all("td")]
    row = cells.index("GPT-3")
    assert cells[row : row + 5] == ["GPT-3", "96", "96", "128", "4,718,592"]
    assert len(cells) == 7 * len(MODELS)
    widths = [float(a["width"]) for a, _ in Elements(shown.html).all("rect")]
    assert widths == [480.0, round(480 * 47.18592 / 349.2085, 1), round(480 * 80 / 349.2085, 1)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "GPT-5"}, "model: expected one of This book's model, LLaMA-7B"),
        ({"device": "A100"}, "device: expected one of T4, A10"),
        ({"kv_bits": 7}, "kv_bits: expected one of 32, 16, 8, 4; got 7"),
        ({"context": 0}, "expected at least 1 of each, got 0 and 1"),
        ({"sequences": 0}, "expected at least 1 of each, got 4096 and 0"),
    ],
)
def test_choices_that_are_not_on_offer(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        figures.kv_memory(**options)


# -------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
class TestInABrowser:
    figure = figures.kv_memory("GPT-3", "A100-80GB", 1000, 100)

    def test_every_choice_says_what_python_says(self, open_page):
        page = open_page(self.figure.page())
        says, fields = page.locator(".tk-km-says"), page.locator(".tk-km input[type=number]")
        assert says.text_content() == self.figure.alt
        counts = itertools.cycle([(1, 1), (1000, 100), (4096, 1), (131072, 33), (8191, 7)])
        for (model, device), bits in zip(
            itertools.product(MODELS, DEVICES), itertools.cycle(KV_BITS), strict=False
        ):
            context, sequences = next(counts)
            page.get_by_role("combobox", name="Model").select_option(model)
            page.get_by_role("combobox", name="Device").select_option(device)
            page.get_by_role("combobox", name="Bits").select_option(str(bits))
            fields.nth(0).fill(str(context))
            fields.nth(1).fill(str(sequences))
            assert says.text_content() == sentence(model, device, context, sequences, bits)

    def test_sliders_go_over_round_values_by_keyboard(self, open_page):
        page = open_page(self.figure.page())
        tokens = page.get_by_role("slider", name="Tokens per sequence")
        for key, context in [("ArrowRight", 1024), ("End", 131072), ("Home", 128)]:
            tokens.press(key)
            assert page.locator(".tk-km input[type=number]").first.input_value() == str(context)
            assert page.locator(".tk-km-says").text_content() == sentence(
                "GPT-3", "A100-80GB", context, 100, 16
            )
        assert tokens.get_attribute("aria-valuetext") == "128"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    @pytest.mark.parametrize("typed", ["", "0", "-3", "99999999999"])
    def test_a_number_that_makes_no_sense_changes_nothing(self, open_page, typed):
        page = open_page(self.figure.page())
        field = page.locator(".tk-km input[type=number]").first
        field.fill(typed)
        assert page.locator(".tk-km-says").text_content() == self.figure.alt
        field.blur()
        assert field.input_value() == "1000"

    def test_bars_are_in_proportion(self, open_page):
        page = open_page(self.figure.page())
        widths = page.locator(".tk-km-bar i").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().width)"
        )
        assert widths[0] / widths[1] == pytest.approx(349.2085 / 471.8592, abs=0.01)
        assert widths[2] / widths[1] == pytest.approx(80 / 471.8592, abs=0.01)

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
