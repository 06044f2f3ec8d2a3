"""Questions of the lessons: numbers come from expressions, answers get their word, progress stays here."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import math
import re
from collections import Counter
from html import escape
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest

import book_lessons
import teachkit as tk
import test_figures
from teachkit import figures
from test_figures import BREAKOUT, Elements, data_of

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

face = importlib.import_module("teachkit.figures.questions")  # the name in `figures` is the function's
for module in ("cost", "estimate", "hardware", "memory", "roofline", "shapes", "trace"):
    importlib.import_module(f"teachkit.{module}")  # so that `tk.cost` is there in a `check`

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "teachkit" / "questions"
STEMS = sorted(path.stem for path in FOLDER.glob("*.json"))
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
ALL = [(stem, question) for stem in STEMS for question in face.read(stem)]
each_lesson = pytest.mark.parametrize("stem", STEMS)
each_question = pytest.mark.parametrize(
    ("stem", "question"), ALL, ids=[f"{stem}: {question['id']}" for stem, question in ALL]
)
NUMBERS = [(stem, q) for stem, q in ALL if q["kind"] == "number"]
CHOICES = [(stem, q) for stem, q in ALL if q["kind"] == "choice"]


# -------------------------------------------------------------------------------- the data


def test_every_lesson_has_questions_and_every_file_a_lesson():
    assert STEMS == LESSONS


@each_lesson
def test_a_lesson_asks_four_to_six_questions_two_of_them_numbers(stem):
    stored = json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))
    asked = stored["questions"]
    assert set(stored) - {"lesson"} == {"questions"}
    assert stored.get("lesson", stem) == stem
    assert list(face.problems(asked)) == []
    assert 4 <= len(asked) <= 6
    kinds = Counter(question["kind"] for question in asked)
    assert kinds["number"] >= 2
    assert kinds["choice"] >= 1


@each_lesson
def test_questions_test_what_the_lesson_is_for(stem):
    """Each names an objective of the lesson, and together they are about at least half of them."""
    lesson = jupytext.read(ROOT / "notebooks" / f"{stem}.py")
    objectives = lesson.metadata["teachkit"]["objectives"]
    tested = {question["objective"] for question in face.read(stem)}
    assert tested <= set(range(1, len(objectives) + 1))
    assert len(tested) >= len(objectives) / 2


@each_lesson
def test_a_lesson_shows_its_questions_once_under_its_own_name(stem):
    cells = jupytext.read(ROOT / "notebooks" / f"{stem}.py").cells
    shown = [i for i, cell in enumerate(cells) if "figures.questions(" in cell.source]
    assert len(shown) == 1
    cell, before = cells[shown[0]], cells[shown[0] - 1]
    assert cell.source == f'figures.questions("{stem}")'
    assert cell.metadata["tags"] == ["nbval-ignore-output"]
    assert before.source.startswith("## Check yourself\n")


def evaluated(expression):
    """The value of a `check`: a Python expression over teachkit, math and numbers."""
    return eval(expression, {"tk": tk, "math": math})


def computes(expression):
    """Whether there is an operator or a call in it."""
    work = (ast.BinOp, ast.Call, ast.Compare)
    return any(isinstance(node, work) for node in ast.walk(ast.parse(expression, mode="eval")))


@pytest.mark.parametrize(("stem", "question"), NUMBERS, ids=[f"{s}: {q['id']}" for s, q in NUMBERS])
def test_every_number_comes_from_its_expression(stem, question):
    """An answer is computed; a mistake may be a number that somebody takes from the question as it is."""
    assert computes(question["check"]), "compared with itself"
    for stored, check in [
        (question["answer"], question["check"]),
        *((wrong["value"], wrong["check"]) for wrong in question["wrong"]),
    ]:
        assert float(evaluated(check)) == pytest.approx(stored, rel=1e-9), check


@pytest.mark.parametrize(
    ("stem", "question"),
    [(s, q) for s, q in CHOICES if "check" in q],
    ids=[f"{s}: {q['id']}" for s, q in CHOICES if "check" in q],
)
def test_figures_of_a_choice_hold(stem, question):
    assert computes(question["check"])
    assert evaluated(question["check"]) is True


@each_question
def test_words_are_whole_sentences_without_markup(stem, question):
    says = [option["says"] for option in question.get("options", [])]
    says += [wrong["says"] for wrong in question.get("wrong", [])]
    says += [question[key] for key in ("why", "hint", "tolerance_why") if key in question]
    for text in [question["ask"], *says, *(option["text"] for option in question.get("options", []))]:
        assert text == text.strip()
        assert "  " not in text
        assert text.count("`") % 2 == 0
        assert not re.search(r"[*_]{2}|\$|<[a-z/]|\\", re.sub(r"`[^`]*`", "", text)), text
    assert question["ask"].endswith(("?", "."))
    assert all(text.endswith((".", "?", ")")) for text in says if text != question.get("tolerance_why"))
    assert len(set(says)) == len(says), "two answers are told the same"


def test_neither_place_nor_length_gives_the_right_option_away():
    places, longest = Counter(), 0
    for _, question in CHOICES:
        at = next(i for i, option in enumerate(question["options"]) if option.get("right"))
        lengths = [len(option["text"]) for option in question["options"]]
        places[at] += 1
        longest += lengths[at] == max(lengths)
        assert lengths[at] <= 1.6 * sorted(lengths)[-2] or lengths[at] != max(lengths), question["id"]
    assert min(places[at] for at in range(4)) >= len(CHOICES) / 8
    assert max(places.values()) <= len(CHOICES) / 2
    assert longest <= 0.45 * len(CHOICES)


# ------------------------------------------------------------------------ errors for authors

CHOICE = {
    "id": "heads",
    "kind": "choice",
    "objective": 1,
    "ask": "Which of `a` and b?",
    "options": [
        {"text": "Neither", "says": "One of them it is."},
        {"text": "`a`", "says": "It comes first.", "right": True},
        {"text": BREAKOUT, "says": f"This is no answer: {BREAKOUT}."},
    ],
}
NUMBER = {
    "id": "bytes",
    "kind": "number",
    "objective": 2,
    "ask": "How many bytes do 300 numbers of 16 bits take?",
    "unit": "bytes",
    "answer": 600,
    "check": "300 * 16 // 8",
    "tolerance": 0.01,
    "tolerance_why": "round numbers will do",
    "why": "Two bytes each.",
    "hint": "A byte has eight bits.",
    "wrong": [
        {"value": 4800, "check": "300 * 16", "says": "Those are bits."},
        {"value": 300, "check": "300", "says": "Those are the numbers."},
    ],
}
RATIO = NUMBER | {
    "id": "ratio",
    "ask": "What is a half?",
    "unit": "",
    "answer": 0.5,
    "check": "1 / 2",
    "why": "One of two.",
    "wrong": [{"value": 2, "check": "2", "says": "That is its inverse."}],
}
ASKED = [CHOICE, NUMBER, RATIO]


def changed(question, *path, to):
    question = copy.deepcopy(question)
    place = question
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return question


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ([], "expected one or more"),
        ([CHOICE, CHOICE], "all different"),
        ([changed(CHOICE, "kind", to="essay")], "kind 'essay'"),
        ([{k: v for k, v in NUMBER.items() if k != "hint"}], r"missing \['hint'\]"),
        ([CHOICE | {"answer": 3}], r"unknown \['answer'\]"),
        ([changed(CHOICE, "options", to=CHOICE["options"][:2])], "2 options"),
        ([changed(CHOICE, "options", 0, "right", to=True)], "one right option"),
        ([changed(CHOICE, "options", 1, "right", to=False)], "one right option"),
        ([changed(CHOICE, "options", 0, "says", to=" ")], "lacks its text or what is said"),
        ([changed(CHOICE, "options", 0, "text", to="`a`")], "two options are the same"),
        ([changed(NUMBER, "answer", to=0)], "expected above 0"),
        ([changed(NUMBER, "tolerance", to=1.5)], "tolerance 1.5"),
        ([changed(NUMBER, "tolerance_why", to="")], "tolerance_why is empty"),
        ([changed(NUMBER, "wrong", to=[])], "expected mistakes"),
        ([changed(NUMBER, "wrong", 1, "says", to="")], "expected mistakes, each"),
        ([changed(NUMBER, "wrong", 0, "value", to=605)], "600 and 605 cannot be told apart"),
    ],
)
def test_a_question_that_lacks_something_is_refused(asked, complaint):
    with pytest.raises(ValueError, match=complaint):
        figures.questions("own", asked)


def test_a_lesson_without_questions_is_refused():
    with pytest.raises(
        ValueError, match=r"no questions for a lesson '../secret'; there are some for: attention"
    ):
        figures.questions("../secret")


# -------------------------------------------------------------------------------- what is inlined


def test_the_page_gets_no_expressions_and_no_reasons_for_authors():
    data = data_of(figures.questions("own", ASKED))
    assert data["lesson"] == "own"
    assert [set(question) for question in data["questions"][:2]] == [
        {"id", "kind", "ask", "options"},
        {"id", "kind", "ask", "unit", "answer", "tolerance", "why", "hint", "wrong", "wanted", "solution"},
    ]
    assert data["questions"][1]["wanted"] == "A number, in bytes; 1 % more or less is right"
    assert data["questions"][1]["solution"] == "600 bytes"
    assert data["questions"][0]["options"][2]["text"] == BREAKOUT


def test_small_numbers_are_not_rounded_away():
    tiny = RATIO | {"answer": 0.00012345, "wrong": [{"value": 0.0002469, "check": "0", "says": "Twice."}]}
    question = data_of(figures.questions("own", [tiny]))["questions"][0]
    assert (question["answer"], question["wrong"][0]["value"]) == (0.00012345, 0.0002469)


def test_twin_lists_the_questions_and_folds_the_answers():
    html = figures.questions("own", ASKED).html
    twin = html[html.index('<div class="tk-static">') : html.index('<script type="application/json"')]
    listed, answers = twin.split("<details")
    assert [text for _, text in Elements(listed).all("li")] == ["", "Neither", "", BREAKOUT, "", ""]
    assert "It comes first" not in listed
    assert "600" not in listed
    assert [text for _, text in Elements(answers).all("strong")] == ["b. ", "600 bytes", "0.5"]
    assert "<code>a</code>" in answers
    assert "It comes first." in answers
    assert "Two bytes each." in answers
    assert "<script" not in twin


# -------------------------------------------------------------------------------- in a browser


def ask(page, place):
    return page.locator(".tk-qs-ask").nth(place)


def said(page, place):
    return ask(page, place).locator(".tk-qs-says").text_content()


def done(page):
    return page.locator(".tk-qs-done p").text_content()


# Gives many answers at once: [place, option or text] -> what is said to each.
ANSWER = """tries => tries.map(([place, what]) => {
  const asked = document.querySelectorAll('.tk-qs-ask')[place];
  const field = asked.querySelectorAll('input')[typeof what === 'number' ? what : 0];
  if (typeof what === 'number') field.checked = true;
  else field.value = what;
  field.dispatchEvent(new Event('input', { bubbles: true }));
  asked.querySelector('.tk-qs-check').click();
  return asked.querySelector('.tk-qs-says').textContent;
})"""


@pytest.mark.browser
class TestInABrowser:
    figure = figures.questions("own", ASKED)

    def test_a_choice_by_mouse(self, open_page):
        page = open_page(self.figure.page())
        asked = ask(page, 0)
        show = asked.get_by_role("button", name="Show the answer")
        asked.get_by_role("button", name="Check").click()
        assert said(page, 0) == "Pick one of them first."
        assert not show.is_visible(), "not before an attempt"
        for option, words in [
            ("Neither", "✗ No. One of them it is."),
            (BREAKOUT, f"✗ No. This is no answer: {BREAKOUT}."),
        ]:
            asked.get_by_text(option, exact=True).click()
            assert said(page, 0) == "", "of another answer this would be false"
            asked.get_by_role("button", name="Check").click()
            assert said(page, 0) == words
        assert done(page) == "0 of 3 answered rightly in this browser"
        show.click()
        assert said(page, 0) == "The answer: a It comes first."
        asked.get_by_role("radio", name="a", exact=True).check()
        asked.get_by_role("button", name="Check").click()
        assert said(page, 0) == "✓ Right. It comes first."
        assert asked.get_by_text("✓ answered rightly").is_visible()
        assert done(page) == "1 of 3 answered rightly in this browser"
        assert page.evaluate("window.broken") is None

    def test_everything_by_keyboard(self, open_page):
        page = open_page(self.figure.page())
        keys = page.keyboard
        keys.press("Tab")  # the radios are one stop
        keys.press("Space")
        keys.press("Enter")
        assert said(page, 0) == "✗ No. One of them it is."
        keys.press("ArrowDown")
        assert said(page, 0) == ""
        keys.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Check"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        keys.press("Enter")
        assert said(page, 0) == "✓ Right. It comes first."
        for _ in range(2):
            keys.press("Tab")  # past “Show the answer”
        keys.type("4800")
        keys.press("Enter")
        assert said(page, 1) == "✗ No. Those are bits."
        assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
        keys.press("Control+a")
        keys.type("600")
        assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") is None
        keys.press("Enter")
        assert said(page, 1) == "✓ Right. Two bytes each."
        assert done(page) == "2 of 3 answered rightly in this browser"
        for _ in range(2):
            keys.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Show the answer"
        keys.press("Enter")
        assert said(page, 1) == "The answer: 600 bytes. Two bytes each."

    def test_feedback_is_announced_and_bound_to_its_control(self, open_page):
        page = open_page(self.figure.page())
        controls = page.locator(".tk-qs input")
        assert controls.count() == 5
        for control in controls.all():
            told = page.locator(f"[id='{control.get_attribute('aria-describedby')}']")
            assert told.count() == 1
            assert told.get_attribute("aria-live") == "polite"
        group = page.get_by_role("group", name="1. Which of a and b?")
        assert group.get_by_role("radio").count() == 3
        assert page.get_by_role("textbox", name="A number, in bytes").get_attribute("inputmode") == "decimal"
        ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize(
        ("typed", "words"),
        [
            ("600", "✓ Right. Two bytes each."),
            ("605", "✓ Right. Two bytes each."),
            ("600 bytes", "✓ Right. Two bytes each."),
            ("0.6 kB", "✓ Right. You wrote 600 bytes. Two bytes each."),
            ("3000", "✗ No. Too large, by a factor of 5. A byte has eight bits."),
            ("100", "✗ No. Too small, by a factor of 6. A byte has eight bits."),
            ("618", "✗ No. Too large, by 3.0 %. A byte has eight bits."),
            ("-600", "✗ No. The answer is above zero. A byte has eight bits."),
            ("4,800", "✗ No. Those are bits."),
            ("300", "✗ No. Those are the numbers."),
        ],
    )
    def test_a_number_is_told_what_it_counts(self, open_page, typed, words):
        page = open_page(self.figure.page())
        field = page.get_by_role("textbox", name="A number, in bytes")
        field.fill(typed)
        ask(page, 1).get_by_role("button", name="Check").click()
        assert said(page, 1) == words
        assert (field.get_attribute("aria-invalid") == "true") == words.startswith("✗")

    def test_numbers_are_read_and_never_run(self, open_page):
        """A table of what can be typed: the value as the page reads it back, or what it says instead."""
        page = open_page(self.figure.page())
        alone, comma = "Write the number alone.", "A comma separates thousands here"
        unread, first = "That cannot be read as a number", "Write a number first"
        table = {
            "0.5": 0.5, ".5": 0.5, "5.": 5, " 7 ": 7, "1e9": 1e9, "1E-3": 0.001, "1/3": 1 / 3, "3/4": 0.75,
            "1,000": 1000, "12,345,678.5": 12345678.5, "1_000": 1000, "1 000 000": 1e6,
            "-3": -3, "−3": -3, "+3": 3, "100-1-1": 98, "2*3 + 4": 10, "2 × 3 · 4": 24, "(1+2)*3": 9,
            "2^10": 1024, "2**10": 1024, "10⁹": 1e9, "10⁻³": 0.001, "2^3^2": 512, "-2^2": -4, "2^-1": 0.5,
            "8÷2÷2": 2,
            "": first, "0,5": comma, "1,00": comma, "12 GB": alone, "3 4": alone, "1,000,00": comma,
            "1,5e9": comma, "50 %": 0.5, "5 tokens": alone, "1 constructor": alone,
            "0x10": alone, "1..2": alone, "five": unread, "1/0": unread, "(2": unread, "2+": unread,
            "alert(1)": unread, ".": unread, "1e999": unread, BREAKOUT.strip(): unread,
        }  # fmt: skip
        told = page.evaluate(ANSWER, [(2, typed) for typed in table])
        for (typed, wanted), words in zip(table.items(), told, strict=True):
            if isinstance(wanted, str):
                assert words.startswith(wanted), (typed, words)
                continue
            if "You wrote" in words:
                read = re.search(r"You wrote ([-\d,.]*\d)\.", words)[1]
                assert float(read.replace(",", "")) == pytest.approx(wanted, rel=1e-3), (typed, words)
            elif wanted == 0.5:
                assert words == "✓ Right. One of two.", typed
            elif wanted == 2:
                assert words == "✗ No. That is its inverse.", typed
            else:
                assert typed.strip() in (f"{wanted:,}", f"{wanted}", f"{wanted}."), (typed, words)
        assert page.evaluate("window.broken") is None

    def test_a_number_may_have_its_unit_or_another_of_its_kind(self, open_page):
        """The answer is 600 in each unit; what stands behind is the same, or, after a minus, refused."""
        units = {
            "bytes": "600 bytes|600 B|0.6 kB|600/1024 KiB|-600 bits|-600 b",
            "MB": "600 MB|600MB|0.6 GB|6e5 kB|600e6 bytes|600e6/2^20 MiB|-600 Mb|-600 mb|-600 million",
            "ms": "600 ms|0.6 s|0.6 seconds|600 milliseconds|600,000 µs|-600 min",
            "seconds": "600 s|600 secs|600 second|-10 minutes",
            "%": "600 %|600 percent|600 per cent|-600 dollars",
            "tokens/s": "600 tokens/s|600 tokens per second|600 tok/s|600 token / s|-600 tokens|-600 s",
            "FLOPs per byte": "600 FLOPs per byte|600 FLOP/B|600 GFLOPs/GB|0.6 kFLOPs per byte|-600 FLOPs",
            "TFLOP": "600 TFLOP|600 TFLOPs|600,000 GFLOP|-600 TFLOP/s",
            "dollars": "$600|$ 600|600 $|600 dollars|-600 €",
            "GPU-hours": "600 GPU-hours|600 GPU hours|600 GPU-hour|-600 hours",
            "million parameters": "600 million parameters|0.6 billion parameters|6e8 parameters|-600 million",
            "sequences": "600 sequences|600 sequence|0.6 thousand sequences|-600 tokens",
        }
        asked = [NUMBER | {"id": f"q{i}", "unit": unit} for i, unit in enumerate(units)]
        page = open_page(figures.questions("own", asked).page())
        table = [(place, typed) for place, unit in enumerate(units) for typed in units[unit].split("|")]
        told = page.evaluate(ANSWER, [(place, typed.removeprefix("-")) for place, typed in table])
        for (place, typed), words in zip(table, told, strict=True):
            unit = list(units)[place]
            if typed.startswith("-"):
                assert words == f"Write the number alone; it is counted in {unit}.", (unit, typed)
            else:
                assert words.startswith("✓ Right."), (unit, typed, words)
                plain = typed == f"600 {unit}" or typed.startswith("$")
                assert plain or f"You wrote 600 {unit}." in words, (unit, typed, words)

    def test_two_blocks_on_one_page_agree(self, open_page):
        page = open_page(
            f"<!doctype html><html lang=en><body>{self.figure.html}{self.figure.html}</body></html>"
        )
        page.get_by_role("radio", name="a", exact=True).nth(1).check()
        ask(page, 3).get_by_role("button", name="Check").click()
        assert (
            page.locator(".tk-qs-done p").all_text_contents()
            == ["1 of 3 answered rightly in this browser"] * 2
        )
        assert said(page, 0) == ""
        ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(self.figure.page(), width=360, scheme=scheme)
        for place, asked in enumerate(page.locator(".tk-qs-ask").all()):
            if asked.get_by_role("radio").count():
                asked.get_by_role("radio").last.check()
            else:
                asked.get_by_role("textbox").fill("123456789012345678901234567890")
            asked.get_by_role("button", name="Check").click()
            assert said(page, place).startswith("✗ No.")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('label:has(input), input[type=text], button:not([hidden])')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_every_answer_to_every_lesson(self, open_page):
        """Each option, the answer and each expected mistake gets its own word; nothing outgrows a phone."""
        page = open_page(self.figure.page(), width=360)
        for stem in STEMS:
            page.set_content(figures.questions(stem).page())
            tries, expected = [], []
            for place, question in enumerate(face.read(stem)):
                if question["kind"] == "choice":
                    given = [(i, o["says"], o.get("right", False)) for i, o in enumerate(question["options"])]
                else:
                    given = [(repr(question["answer"]), question["why"], True)]
                    given += [(repr(wrong["value"]), wrong["says"], False) for wrong in question["wrong"]]
                tries += [(place, what) for what, _, _ in given]
                expected += [
                    f"{'✓ Right.' if right else '✗ No.'} {words.replace('`', '')}"
                    for _, words, right in given
                ]
            assert page.evaluate(ANSWER, tries) == expected, stem
            assert page.evaluate("document.documentElement.scrollWidth") == 360, stem

    def test_without_scripts_and_in_print_the_list_stands_in(self, open_page):
        page = open_page(self.figure.page(), scripts=False)
        assert page.locator(".tk-qs-list > ol > li").count() == 3
        assert page.get_by_text("Answers").is_visible()
        assert not page.get_by_text("It comes first.").is_visible()
        page.get_by_text("Answers").click()
        assert page.get_by_text("It comes first.").is_visible()
        page = open_page(self.figure.page())
        page.emulate_media(media="print")
        assert not page.locator(".tk-qs").is_visible()
        assert page.locator(".tk-qs-list").is_visible()
        assert page.get_by_text("It comes first.").is_visible(), "paper cannot be unfolded"

    def test_a_page_that_may_keep_nothing_works_all_the_same(self, open_page):
        """As in a sandboxed notebook, where localStorage throws and no form can be sent."""
        inner = escape(self.figure.page())
        outer = f'<iframe title="Inner" sandbox="allow-scripts" srcdoc="{inner}"></iframe>'
        page = open_page(f"<!doctype html><html lang=en><body>{outer}</body></html>").frame_locator("iframe")
        page.get_by_role("radio", name="a", exact=True).check()
        page.get_by_role("button", name="Check").first.click()
        assert page.locator(".tk-qs-says").first.text_content() == "✓ Right. It comes first."
        assert (
            page.locator(".tk-qs-done p").text_content()
            == "1 of 3 answered rightly on this page, which can keep nothing"
        )
        page.get_by_role("button", name="Clear").click()
        assert (
            page.locator(".tk-qs-done p").text_content()
            == "0 of 3 answered rightly on this page, which can keep nothing"
        )


# ------------------------------------------------------------------------ progress, page by page

# As the directives `lessons` and `labs` write them, and the objectives of the instructor guide.
PART = '<p class="lesson-part"><strong>Part</strong></p>'
LESSONS_LISTED = f"""{PART}
<dl class="simple lesson-list">
<dt>1. <a href="notebooks/own.html">Own</a> · 75 minutes</dt><dd>Say.</dd></dl>"""
LABS_LISTED = """<p>Labs</p>
<dl class="simple lesson-list"><dt><a href="labs/own.html">Own</a></dt><dd>Do.</dd></dl>"""
OBJECTIVES = f"{PART}<ul><li>Say.</li></ul>"
PAGE = """<!doctype html><html lang="en"><body><article class="bd-article">
%s</article><script src="_static/progress.js"></script></body></html>"""
INTRO = (
    PAGE
    % f"""{LESSONS_LISTED}{PART}
<dl class="lesson-list"><dt>2. <a href="notebooks/other.html">Other</a> · 60 minutes</dt><dd>Do.</dd></dl>
<p>Both together take two hours.</p>"""
)
ALL_LISTS = PAGE % f"{LESSONS_LISTED}{LABS_LISTED}{PART}{LABS_LISTED.removeprefix('<p>Labs</p>')}"


@pytest.mark.parametrize(
    ("body", "loaded"),
    [
        (LESSONS_LISTED, True),
        (f"{OBJECTIVES}{LESSONS_LISTED}", True),
        (f"{OBJECTIVES}{LABS_LISTED}", False),
        (LABS_LISTED, False),
        ("", False),
    ],
)
def test_the_script_of_the_list_comes_with_a_list_of_lessons_only(body, loaded):
    files = []
    app = SimpleNamespace(add_js_file=lambda name, **how: files.append(name))
    book_lessons.add_progress(app, "page", "page.html", {"body": body}, None)
    assert files == ["progress.js"] * loaded


@pytest.fixture
def site(browser):
    """From a path to its page, in a book of three under one origin that only this browser knows."""
    pages = {
        "/intro.html": INTRO,
        "/all.html": ALL_LISTS,
        "/notebooks/own.html": figures.questions("own", ASKED).page(),
        "/notebooks/other.html": figures.questions("other", ASKED).page(),
        "/_static/progress.js": (ROOT / "book" / "_static" / "progress.js").read_text(encoding="utf-8"),
    }
    context, problems = browser.new_context(), []

    def answer(route):
        path = route.request.url.removeprefix("http://book.test").split("?")[0]
        kind = "text/javascript" if path.endswith(".js") else "text/html"
        if path in pages:
            route.fulfill(body=pages[path], content_type=f"{kind}; charset=utf-8")
        else:
            problems.append(route.request.url)
            route.abort()

    context.route("**/*", answer)

    def visit(path, page=None, before=""):
        page = page or context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        if before:
            page.add_init_script(before)
        page.goto(f"http://book.test{path}")
        return page

    yield visit
    context.close()
    assert [p for p in problems if "favicon" not in p] == []


def answer_rightly(page, *places):
    for place in places:
        if place:
            ask(page, place).get_by_role("textbox").fill({1: "600", 2: "1/2"}[place])
        else:
            page.get_by_role("radio", name="a", exact=True).check()
        ask(page, place).get_by_role("button", name="Check").click()


def listed(page):
    return page.locator("dt").all_text_contents()


@pytest.mark.browser
class TestProgress:
    def test_it_outlives_the_page_and_shows_in_the_list_of_lessons(self, site):
        page = site("/notebooks/own.html")
        answer_rightly(page, 0, 2)
        page.reload()
        assert done(page) == "2 of 3 answered rightly in this browser"
        marks = page.locator(".tk-qs-mark")
        assert [mark.is_visible() for mark in marks.all()] == [True, False, True]
        assert said(page, 0) == "", "asked anew, in case the reader wants to try again"
        stored = json.loads(page.evaluate("localStorage.getItem('memory-bound.progress.v1')"))
        assert stored == {"own": {"of": 3, "right": ["heads", "ratio"]}}

        answer_rightly(site("/notebooks/other.html", page), 1)
        intro = site("/intro.html", page)
        assert listed(intro) == [
            "1. Own · 75 minutes · 2 of 3 questions answered rightly",
            "2. Other · 60 minutes · 1 of 3 questions answered rightly",
        ]
        assert intro.get_by_text("Progress is kept in this browser only.").is_visible()

    def test_a_list_that_is_open_in_another_tab_follows(self, site):
        intro = site("/intro.html")
        assert listed(intro) == ["1. Own · 75 minutes", "2. Other · 60 minutes"]
        assert not intro.get_by_text("Progress is kept").is_visible(), "nothing to say yet"
        lesson = site("/notebooks/own.html")
        answer_rightly(lesson, 1)
        intro.get_by_text("1 of 3 questions answered rightly").wait_for()
        intro.get_by_role("button", name="Clear the progress of all lessons").click()
        lesson.get_by_text("0 of 3 answered rightly in this browser").wait_for()

    def test_a_lesson_clears_itself_and_the_list_clears_all(self, site):
        page = site("/notebooks/other.html")
        answer_rightly(page, 0)
        answer_rightly(site("/notebooks/own.html", page), 0, 1)
        page.get_by_role("button", name="Clear the answers to this lesson").click()
        assert done(page) == "0 of 3 answered rightly in this browser"
        assert page.evaluate("document.activeElement.textContent") == done(page), "focus is not lost"
        assert said(page, 1) == ask(page, 1).get_by_role("textbox").input_value() == ""
        page.reload()
        assert done(page) == "0 of 3 answered rightly in this browser"
        intro = site("/intro.html", page)
        assert listed(intro)[1] == "2. Other · 60 minutes · 1 of 3 questions answered rightly"
        intro.get_by_role("button", name="Clear the progress of all lessons").focus()
        intro.keyboard.press("Enter")
        assert listed(intro) == ["1. Own · 75 minutes", "2. Other · 60 minutes"]
        assert intro.evaluate("localStorage.length") == 0
        told = "The progress of all lessons was cleared."
        assert intro.evaluate("document.activeElement.textContent") == told, "focus is not lost"
        answer_rightly(site("/notebooks/own.html"), 0)  # another tab
        intro.get_by_text("Progress is kept in this browser only.").wait_for()
        assert done(site("/notebooks/other.html", page)) == "0 of 3 answered rightly in this browser"

    def test_a_lab_of_the_same_name_is_no_lesson(self, site):
        page = site("/notebooks/own.html")
        answer_rightly(page, 0)
        site("/all.html", page)
        assert listed(page) == ["1. Own · 75 minutes · 1 of 3 questions answered rightly", *["Own", "Own"]]

    def test_a_question_that_is_gone_counts_no_more(self, site):
        page = site("/notebooks/own.html")
        page.evaluate(
            "localStorage.setItem('memory-bound.progress.v1', "
            "JSON.stringify({own: {of: 9, right: ['gone', 'bytes', 'bytes']}}))"
        )
        page.reload()
        assert done(page) == "1 of 3 answered rightly in this browser"
        answer_rightly(page, 0)
        stored = json.loads(page.evaluate("localStorage.getItem('memory-bound.progress.v1')"))
        assert stored == {"own": {"of": 3, "right": ["bytes", "heads"]}}

    @pytest.mark.parametrize(
        "kept", ["{", "null", "7", '"own"', "[]", '[{"own": 1}]', '{"own": 3}', '{"own": {"right": "heads"}}']
    )
    def test_what_is_not_ours_under_the_key_does_no_harm(self, site, kept):
        page = site("/notebooks/own.html")
        page.evaluate("text => localStorage.setItem('memory-bound.progress.v1', text)", kept)
        page.reload()
        assert done(page) == "0 of 3 answered rightly in this browser"
        assert listed(site("/intro.html", page)) == ["1. Own · 75 minutes", "2. Other · 60 minutes"]
        answer_rightly(site("/notebooks/own.html", page), 0)
        page.reload()
        assert done(page) == "1 of 3 answered rightly in this browser"

    def test_the_list_stands_where_nothing_may_be_kept(self, site):
        throws = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });"
        assert listed(site("/intro.html", before=throws)) == ["1. Own · 75 minutes", "2. Other · 60 minutes"]

    def test_a_full_store_keeps_the_page_going(self, site):
        full = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"
        page = site("/notebooks/own.html", before=full)
        answer_rightly(page, 0, 1)
        assert done(page) == "2 of 3 answered rightly on this page, which can keep nothing"


def test_the_script_of_the_list_is_classic_and_asks_for_nothing():
    code = (ROOT / "book" / "_static" / "progress.js").read_text(encoding="utf-8")
    assert not re.search(r"\b(fetch|import|export|XMLHttpRequest|https?:|innerHTML|eval)\b", code)
    assert "memory-bound.progress.v1" in code
    assert "'memory-bound.progress.v1'" in (test_figures.FOLDER / "questions.js").read_text(encoding="utf-8")
