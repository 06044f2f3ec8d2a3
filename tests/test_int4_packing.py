"""Int4 packing bit by bit: the arithmetic against teachkit.quant, the script against its Python face."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import test_figures
from teachkit import quant
from teachkit.figures.int4_packing import DIGITS, fixed, int4_packing, pack, sentence
from test_figures import Elements, data_of

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

SIXTEENTHS = [i / 16 for i in range(-8, 8)]  # exactly the values of scale 1/16, zero 0


def drawn(seed: int, n: int = 32, scale: float = 0.05) -> list[float]:
    generator = np.random.default_rng(seed)
    return [round(float(w), DIGITS) for w in generator.normal(scale=scale, size=n)]


CASES = {
    "normal": drawn(0),
    "all positive": [abs(w) + 0.01 for w in drawn(1)],
    "one outlier": [*drawn(2)[:-1], 1.25],
    "zeros": [0.0] * 32,
    "constant": [0.3] * 32,
    "negative": [-0.7] * 2,
    "two": [0.1, -0.2],
    "sixteenths": SIXTEENTHS,
    "halves of a step": [i / 32 for i in range(-16, 15, 2)] + [i / 32 for i in range(-15, 15, 2)] + [0.0],
    "large": drawn(3, n=64, scale=3.0),
}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_arithmetic_is_the_packages(name, symmetric):
    """Every step, to the last bit: scale, zero, nibbles, what comes back, and the bytes."""
    given = torch.tensor([[round(w, DIGITS) for w in CASES[name]]])
    scale, zero = quant.fit_groups(given, symmetric=symmetric)  # (1), of the one group
    nibbles = quant.nearest_nibbles(given, scale.expand(given.shape), zero.expand(given.shape))
    ours = pack(CASES[name], symmetric=symmetric)
    assert (ours.scale, ours.zero) == (scale.item(), zero.item())
    assert ours.nibbles == nibbles[0].tolist()
    assert ours.packed == quant.pack_nibbles(nibbles)[0].tolist()
    if len(CASES[name]) == 32:
        whole = quant.int4(given, group_size=32, symmetric=symmetric)
        assert ours.back == whole.dequantize()[0].tolist()
        assert ours.bits_per_weight == whole.bits_per_weight


def test_many_random_groups():
    for seed in range(200):
        weights = torch.tensor([drawn(seed, scale=10 ** (seed % 5 - 3))])
        whole, ours = quant.int4(weights, group_size=32), pack(weights[0].tolist())
        assert ours.packed == whole.packed[0].tolist()
        assert ours.back == whole.dequantize()[0].tolist()


def test_by_hand():
    group = pack(SIXTEENTHS)
    assert (group.scale, group.zero) == (1 / 16, 0.0)
    assert group.nibbles == list(range(16))
    assert group.packed == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]
    assert group.back == SIXTEENTHS


def test_says_in_words_what_it_shows():
    assert int4_packing({"all": SIXTEENTHS}, byte=5).alt == (
        "16 weights from −0.5000 to 0.4375: scale 0.06250, zero 0.00000. "
        "Weight 10, 0.1250, is nibble 10, 1010, and comes back as 0.12500. "
        "Weight 11, 0.1875, is nibble 11, 1011, and comes back as 0.18750. "
        "Byte 5 is 1011 1010, in hexadecimal BA: weight 11 in the high half, weight 10 in the low. "
        "The largest error in the group is 0.00000; half a step is 0.03125. "
        "8 bytes of nibbles and 4 of scale and zero make 6.0 bits per weight."
    )


def test_table_and_twin():
    figure = int4_packing({"a": CASES["two"], "b": CASES["one outlier"]}, "b", 15)
    cells = [text.strip() for _, text in Elements(figure.html).all("td")]
    group = pack(CASES["one outlier"])
    assert len(cells) == 7 * 32
    assert cells[-7:] == [
        "31",
        "1.2500",
        str(group.nibbles[31]),
        "1111",
        "15, high half",
        fixed(group.back[31], 5),
        fixed(group.back[31] - 1.25, 5),
    ]
    circles = Elements(figure.html).all("circle")
    assert [a["class"] for a, _ in circles] == ["other"] * 30 + ["chosen"] * 2
    heights = [float(a["cy"]) for a, _ in circles]
    assert min(heights) == heights[31], "the largest weight stands highest"
    assert data_of(figure)["groups"] == [
        {"name": "a", "weights": CASES["two"]},
        {"name": "b", "weights": CASES["one outlier"]},
    ]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.03125, 4, "0.0313"),
        (-0.03125, 4, "−0.0312"),
        (-0.00001, 4, "0.0000"),
        (7, 0, "7"),
        (-8, 0, "−8"),
        (1.005, 2, "1.00"),
    ],
)
def test_fixed(value, digits, text):
    assert fixed(value, digits) == text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (({},), "groups: expected at least one"),
        (({"a": [1.0]},), "an even number of weights up to 64, got 1 in 'a'"),
        (({"a": []},), "got 0 in 'a'"),
        (({"a": [0.0] * 66},), "got 66 in 'a'"),
        (({"a": [0.0, float("nan")]},), "expected finite weights, got others in 'a'"),
        (({"a": [0.0, 1.0]}, "b"), "group: expected one of a; got 'b'"),
        (({"a": [0.0, 1.0]}, "a", 1), "byte: expected 0 to 0, got 1"),
        (({"a": [0.0, 1.0]}, "a", -1), "byte: expected 0 to 0, got -1"),
    ],
)
def test_what_cannot_be_shown(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        int4_packing(*arguments)


# -------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
class TestInABrowser:
    figure = int4_packing(CASES, "one outlier", 3)

    def test_every_choice_says_what_python_says(self, open_page):
        page = open_page(self.figure.page())
        says, byte = page.locator(".tk-ip-says"), page.get_by_role("slider", name="Byte")
        assert says.text_content() == self.figure.alt
        for name, symmetric in itertools.product(CASES, (False, True)):
            page.get_by_role("combobox", name="Group").select_option(name)
            page.get_by_role("combobox", name="Sixteen").select_option(str(symmetric).lower())
            group = pack(CASES[name], symmetric=symmetric)
            for key, number in (("End", len(CASES[name]) // 2 - 1), ("Home", 0)):
                byte.press(key)
                assert says.text_content() == sentence(group, number)

    def test_the_steps_and_the_bits_of_the_byte(self, open_page):
        page = open_page(self.figure.page())
        group = pack(CASES["one outlier"])
        rows = page.locator(".tk-ip-steps tbody tr")
        for i in (6, 7):
            shown = [row.locator("td").nth(i - 6).text_content() for row in rows.all()]
            weight, back, nibble = group.weights[i], group.back[i], group.nibbles[i]
            steps = (weight - group.zero) / group.scale
            codes = [fixed(steps, 2), fixed(nibble - 8, 0), str(nibble), f"{nibble:04b}"]
            assert shown == [fixed(weight, 4), *codes, fixed(back, 5), fixed(back - weight, 5)]
        assert "".join(page.locator(".tk-ip-half b").all_text_contents()) == f"{group.packed[3]:08b}"
        assert page.locator(".tk-ip-byte span").all_text_contents() == ["weight 7", "weight 6"]

    def test_a_weight_can_be_changed_and_comes_back(self, open_page):
        page = open_page(self.figure.page())
        says, fields = page.locator(".tk-ip-says"), page.locator(".tk-ip input[type=number]")
        for value in (-2.5, 0.3, 0.12345678, 9.99):
            fields.nth(1).fill(str(value))
            weights = [*CASES["one outlier"]]
            weights[7] = round(value, DIGITS)
            assert says.text_content() == sentence(pack(weights), 3)
        fields.nth(1).blur()
        assert fields.nth(1).input_value() == "9.99"
        page.get_by_role("button", name="As it was").click()
        assert says.text_content() == self.figure.alt
        assert fields.nth(1).input_value() == str(CASES["one outlier"][7])

    @pytest.mark.parametrize("typed", ["", "11", "-1e9"])
    def test_a_number_that_makes_no_sense_changes_nothing(self, open_page, typed):
        page = open_page(self.figure.page())
        field = page.locator(".tk-ip input[type=number]").first
        field.fill(typed)
        assert page.locator(".tk-ip-says").text_content() == self.figure.alt
        field.blur()
        assert field.input_value() == str(CASES["one outlier"][6])

    def test_the_picture_has_the_twins_places(self, open_page):
        page = open_page(self.figure.page())
        places = page.locator(".tk-live circle").evaluate_all(
            "all => all.map(e => [e.getAttribute('class'), e.getAttribute('cy')])"
        )
        twin = [[a["class"], a["cy"]] for a, _ in Elements(self.figure.html).all("circle")]
        assert places == twin

    def test_another_group_with_fewer_bytes(self, open_page):
        page = open_page(self.figure.page())
        page.get_by_role("slider", name="Byte").press("End")
        page.get_by_role("combobox", name="Group").select_option("two")
        assert page.locator(".tk-ip-says").text_content() == sentence(pack(CASES["two"]), 0)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(self.figure.page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('select, input, button, summary')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(self.figure.page(), scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_page(self.figure.page())
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()
