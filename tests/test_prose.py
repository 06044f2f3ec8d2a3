"""No figure in prose is typed in: a number with a unit is cited where it stands, or a cell computes it.

Looked at are the Markdown cells of lessons and the pages of the book. Left alone are numbers in a question of
a Predict paragraph (nobody claims them), in a sentence that supposes or that works an equation out, in code,
and in the names of products.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest

import lesson_guards as guards

PAGES = sorted((guards.ROOT / "book").glob("**/*.md"))

NUMBER = r"(?<![\w.,^_-])\d[\d,]*(?:\.\d+)?"
UNITS = [
    r"(?:[nmµμu]s|s|sec|min|h|(?:(?:milli|micro|nano)?second|minute|hour|day|month|year)s?)",
    r"(?:[kKMGTP]i?B|[kKMGT]?i?bits?)(?:/s)?",
    r"[kMGTPE]?(?:iga|era|eta)?FLOPs?(?:/s|S)?",
    r"(?:tokens?|requests?|words?|bytes|steps?)(?:/s|/min| (?:per|an?) (?:second|minute|hour))",
    r"bytes",
    r"bits? per \w+",
    r"(?:%|‰|per ?cent\b)",
    r"(?:k?W|k?Wh|k?J|[MG]Hz|°C)",
    r"(?:(?:thousand|million|billion|trillion)\b)",
    r"(?:parameters?|params)",
    r"(?:x|×|times|-?fold) (?:as (?:many|much|fast|slow|large|big|small|long)|\w+er|more|less|the \w+)",
    r"(?:dollars?|USD|EUR|€|\$)",
]
# K, M and B are counts where they touch the number or follow a fraction; elsewhere B is a dimension.
COUNT = rf"{NUMBER}[KMB]|(?<!\w)\d+\.\d+ [MB]"
FIGURE = re.compile(rf"(?:{NUMBER}[ \u00a0\u202f-]?(?:{'|'.join(UNITS)})|{COUNT})(?![\w*^²])")
# One to nine bytes are the size of a number format, as 16 bits are: a definition, not a measurement.
DEFINITION = re.compile(r"^\d[ -]bytes?$|^\d\d?[ -]?bits?$")
MONEY = re.compile(r"(?:\\\$|[€£]|\$(?=[\d,.]+[KMB]? (?:a|per|for)\b))\s?\d[\d,.]*")
CITED = re.compile(
    r"\]\(https?://|<https?://|\]\([^)]*references|\[\^[\w-]+\]|\{cite[\w:]*\}`|\barXiv:\d|\bdoi:1", re.I
)
RECORD = re.compile(r"\]\([^)]*benchmarks/results/")
WORKED = "(worked out)"
SUPPOSED = re.compile(r"\b(?:suppos|imagin|assum)(?:e|es|ed|ing)\b", re.I)
PRODUCT = re.compile(
    r"\b(?:Llama|LLaMA|Mistral|Mixtral|Qwen|Falcon|GPT|Gemma|SmolLM|TinyLlama|OPT|Pythia|Phi|BLOOM|[AHBVLT]\d+)"
    r"(?:[- ]?v?\d+(?:\.\d+)?)*[- ]\d+(?:\.\d+)?(?:[BM]|GB)\b"
)
MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(?!\s)([^$\n]+?)(?<![\s\\])\$(?!\d)", re.S)


def typed_figures(text: str) -> list[str]:
    """The figures in a piece of Markdown that nobody cites, each with the words around it.

    The source stands in the same paragraph, list item or table row. That of the puzzle which opens a page may
    stand in the paragraph after it, or in the next one that has figures.
    """
    parts = list(blocks(text))
    cited = [bool(CITED.search(part) or RECORD.search(part)) for part in parts]
    if len(parts) > 2 and parts[0].startswith("# "):
        with_figures = (i for i in range(2, len(parts)) if any(uncited(parts[i])))
        cited[1] |= cited[2] or cited[next(with_figures, 2)]
    return [figure for part, done in zip(parts, cited, strict=True) if not done for figure in uncited(part)]


def blocks(text: str) -> Iterator[str]:
    """Paragraphs, list items and table rows; without front matter, comments and fenced code."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", guards.FENCE.sub("", text), flags=re.S)
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        row = line.lstrip().startswith("|")
        if block and (
            row or not line.strip() or re.match(r"\s*(?:[-*+]|\d+[.)])\s|#|</?(?:details|summary)", line)
        ):
            yield " ".join(block)
            block = []
        if line.strip():
            block.append(line.strip())
        if row:
            yield " ".join(block)
            block = []


def uncited(block: str) -> Iterator[str]:
    for money in MONEY.finditer(block):
        yield _around(block, money)
    predicts = re.match(r"\W*Predict\b", block)
    for sentence in re.split(r"(?<=[.?!:])[*_)”\"]*\s+(?=[^a-z])", _plain(block)):
        if (
            SUPPOSED.search(sentence)
            or WORKED in sentence
            or (predicts and sentence.rstrip("*_ ").endswith("?"))
        ):
            continue
        yield from (_around(sentence, m) for m in FIGURE.finditer(sentence) if not DEFINITION.match(m[0]))


def _plain(block: str) -> str:
    """Without products' names; of mathematics only numbers, alone or with a unit; WORKED for an equation."""

    def mathematics(match: re.Match[str]) -> str:
        formula = match[1] or match[2]
        if re.search(r"\d[^=]*(?:=|\\approx)", formula):
            return WORKED
        figure = re.search(r"\\(?:text|mathrm)\b", formula) or re.fullmatch(rf"\D*{NUMBER}\W*", formula)
        return re.sub(r"\\(?:text|mathrm|,|;|!)|[{}]", " ", formula) if figure else "…"

    return PRODUCT.sub("…", re.sub(r"\s+", " ", MATH.sub(mathematics, block)))


def _around(text: str, match: re.Match[str]) -> str:
    return f"{match[0]!r} in “{text[max(0, match.start() - 40) : match.end() + 40].strip()}”"


@pytest.mark.parametrize("path", guards.LESSONS, ids=lambda path: path.stem)
def test_lesson_has_no_typed_figure(path):
    lesson = nbformat.read(path, as_version=4)
    found = {i: figures for i, cell in guards.prose_cells(lesson) if (figures := typed_figures(cell.source))}
    assert not found, "cite it, or let a cell compute the sentence and display it as Markdown"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_has_no_typed_figure(path):
    assert typed_figures(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "A step takes 12 ms.",
        "A step takes 12.5ms here.",
        "It took 3 s and then 4 minutes.",
        "The weights take 4.2 GB.",
        "The weights take 4 GiB of memory.",
        "The file is 9,500,000 bytes long.",
        "It writes 120 tokens/s.",
        "Why does it give you 100 tokens a second?",
        "The GPU can do 312 TFLOP/s.",
        "That is 2e9... or 5 GFLOPs.",
        "Reading is 5 times faster.",
        "Reading is 5x faster.",
        "It needs 4 times as many bytes.",
        "The cache is 8× smaller.",
        "It reaches 30% of the peak.",
        "It reaches 30 % of the peak.",
        "It reaches 30 percent.",
        "We score 1.25 bits per byte.",
        "It has 5.3 M parameters.",
        "It has 5.3 million parameters.",
        "A model of 7B reads much.",
        "It has 4,096 parameters in a row.",
        "A request costs \\$3.50 a day.",
        "It costs $15 a day.",
        "It runs at 2.4 GHz and draws 65 W.",
        "Bandwidth is $20\\,\\text{GB/s}$.",
        "The peak is $312$ TFLOP/s.",
        "# Title\n\nText.\n\nIt does 312 TFLOP/s.\n\nSee [this](https://example.org).",
        "It is $2 + 2 = 4$. A step takes 12 ms.",
        "A step takes $t = 12$ ms.",
        "| decode | 31.5 GB/s |",
        "- the first token after 40 ms",
        "> It took 12 ms.",
        "Read [the notation](notation.md): a step takes 12 ms.",
        "**Predict.** A step takes 12 ms. How long do two take?",
        "```{note}\nA step takes 12 ms.\n```",
        "A step takes 12 ms.\n\nSee [a paper](https://arxiv.org/abs/1706.03762).",
        "| [a](https://example.org) | x |\n| decode | 31.5 GB/s |",
        "- see [a](https://example.org)\n- the first token after 40 ms",
        "# Title\n\nIt does 312 TFLOP/s. Why?\n\nA course.\n\nIt does.\n\nSee [this](https://example.org).",
        "# Title\n\nIt does 312 TFLOP/s. Why?\n\nA course.\n\nAs 12 ms does.\n\nSee [this](https://example.org).",
    ],
)
def test_detector_finds_typed_figures(text):
    assert len(typed_figures(text)) >= 1, text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A sequence of 512 tokens, 8 heads, 64 numbers each.",
        "The scores are 0, 1 and 2, and $1/\\sqrt{64}$ is 0.125.",
        "Section 3 and chapter 2, in 2017; Python 3.10 to 3.13.",
        "An A100 does 312 TFLOP/s ([data sheet](https://www.nvidia.com/x.pdf)).",
        "An A100 does 312 TFLOP/s (Choquette 2021, arXiv:2101.00001).",
        "An A100 does 312 TFLOP/s {cite:p}`nvidia2020`.",
        "An A100 does 312 TFLOP/s[^a].",
        "It took 12 ms ([record](../benchmarks/results/decode.jsonl)).",
        "| A100 | 312 TFLOP/s | [data sheet](https://example.org) |",
        "Take Llama-3.2-1B, SmolLM2-135M, Llama 3 8B or an A100-80GB.",
        "In bf16 a number takes 2 bytes, in fp32 4 bytes; int8 is an 8-bit format of 8 bits.",
        "Suppose that a device reads 100 GB/s.",
        "**Predict.** Does a step take 1 ms, 10 ms or 100 ms?",
        "Noise costs $\\log_2 16 = 4$ bits per token.",
        "# Title\n\nIt does 312 TFLOP/s. Why?\n\nThe figure is [NVIDIA's](https://example.org).",
        "# Title\n\nIt does 312 TFLOP/s. Why?\n\nA course.\n\nIt does 312 TFLOP/s ([data sheet](https://example.org)).",
        "The two differ by 7.4 %, since $2^{30} / 10^9 = 1.074$.",
        "Layout is (B, H, T, D), with $2BHTSD$ products and $4$ terms.",
        "```python\ntime_s = 12  # 12 ms\n```",
        "<!-- 12 ms -->",
        "---\ntitle: 12 ms\n---\n\nA page.",
        "A matrix of 3 × 4 numbers, a stack of 2 x 3 blocks.",
        "In float32, fp16 and int8.",
        "A product of $3B$ rows, or 3 B in words; $2^{30}$ bytes are a GiB.",
        "Do it 3 times.",
    ],
)
def test_detector_leaves_other_numbers_alone(text):
    assert typed_figures(text) == []


def test_detector_says_what_and_where():
    assert typed_figures("First. A step takes 12 ms here.") == ["'12 ms' in “A step takes 12 ms here.”"]
