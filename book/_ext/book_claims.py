"""The claims page: tables of published numbers beside our own, computed when the page is read.

- the directive `claims`: every claim of claims_data, with a field to search in and a choice of verdicts,
  which claims.js brings to life; without it the whole table shows;
- the directive `llm-analysis-times`: the published times of claims_llm_analysis, and its GPU-hours with the
  argument `hours`;
- the directive `llm-analysis-parts MODEL PHASE`: one step, part by part, theirs and ours, and why;
- the directives `llm-analysis-summary` and `llm-analysis-differences`: how near they come, and what differs.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import claims_links as links
import claims_llm_analysis as tables
from book_lessons import lessons
from claims_data import CLAIMS, SOURCES, VERDICTS, Claim, Value

HERE = Path(__file__).parent
INPUTS = {  # those whose names in code are not words
    "act_bits": "bits of activations",
    "card": "device",
    "cards": "devices",
    "gpu_hours": "GPU-hours",
    "gpu_years": "GPU-years",
    "gpus_per_vm": "GPUs a machine",
    "gradient_bits": "bits of gradients",
    "high_per_s": "tokens a second, high",
    "kv_bits": "bits of keys and values",
    "large_card": "larger device",
    "low_per_s": "tokens a second, low",
    "maths_s": "seconds for mathematics",
    "memory_gb": "GB of memory",
    "n": "shards",
    "n_bytes": "bytes",
    "n_tokens": "training tokens",
    "older": "compared with",
    "other_card": "other device",
    "phone_gb_per_s": "GB/s of a phone",
    "quick_s": "seconds, quick",
    "s_per_shard": "seconds a shard",
    "seen": "tokens a second, seen",
    "sentiment_s": "seconds for sentiment",
    "slow_s": "seconds, slow",
    "state_bits": "bits of a state",
    "tflops": "TFLOP/s",
    "tp": "devices sharing each matrix",
    "usd": "dollars",
    "usd_per_hour": "dollars an hour",
    "vms": "machines",
    "weight_bits": "bits of weights",
}
FILTER = """<form class="claims-filter" hidden>
<label>Search <input type="search" autocomplete="off" spellcheck="false"></label>
<label>Verdict <select><option value="">all</option>{options}</select></label>
<output aria-live="polite"></output>
</form>"""


def css_class(verdict: str) -> str:
    """
    >>> css_class("right in part")
    'claim-right-in-part'
    """
    return f"claim-{verdict.replace(' ', '-')}"


def value(given: Value) -> str:
    """
    >>> value(1e12), value(82432), value((2.15, 3)), value("a10"), value(0.5)
    ('10¹²', '82,432', '2.15, 3', 'a10', '0.5')
    """
    if isinstance(given, tuple):
        return ", ".join(map(value, given))
    if isinstance(given, str):
        return given
    if abs(given) >= 1e9:
        return _power(given)
    return (
        f"{given:,.6f}".rstrip("0").rstrip(".").replace("-", "−")
        if isinstance(given, float)
        else f"{given:,}"
    )


def _power(given: float) -> str:
    mantissa, exponent = f"{given:.3e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    raised = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if mantissa == "1" else f"{mantissa} · 10{raised}"


def input_words(claim: Claim) -> str:
    """The inputs as the page lists them: "model gpt-3; sequences 100"."""
    return "; ".join(
        f"{INPUTS.get(name, name.replace('_', ' '))} {value(given)}" for name, given in claim.inputs.items()
    )


class ClaimsDirective(SphinxDirective):
    """Shared by all: the page is read again when the data or what they are computed with have changed."""

    def depends(self) -> None:
        toc = Path(self.env.app.confdir) / "_toc.yml"
        notebooks = [lesson.path for lesson in lessons(self.env.app)]
        for path in [*HERE.glob("*claims*.py"), *notebooks, *([toc] if toc.is_file() else [])]:
            self.env.note_dependency(str(path))

    def inline(self, text: str) -> list[nodes.Node]:
        """Markdown within a line."""
        made, messages = self.state.inline_text(text, self.lineno)
        return [*made, *messages]

    def line(self, *content: str | nodes.Node, small: bool = False) -> nodes.paragraph:
        parts = [part for c in content for part in (self.inline(c) if isinstance(c, str) else [c])]
        return nodes.paragraph("", "", *parts, classes=["claims-small"] if small else [])


class Claims(ClaimsDirective):
    """All claims."""

    header: ClassVar = ("Claim", "Published", "Ours", "Verdict")

    def run(self) -> list[nodes.Node]:
        self.depends()
        counts = {verdict: sum(c.verdict == verdict for c in CLAIMS) for verdict in VERDICTS}
        options = "".join(
            f'<option value="{css_class(verdict)}">{verdict} ({n})</option>' for verdict, n in counts.items()
        )
        made = table(
            self.header, [26, 16, 24, 34], [[self.row(claim) for claim in CLAIMS]], "claims", "claims-cards"
        )
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
        summary = f"{len(CLAIMS)} claims: {verdicts}. {links.counted(self.env.app, CLAIMS)}"
        form = nodes.raw("", FILTER.format(options=options), format="html")
        return [nodes.paragraph("", summary), form, made]

    def row(self, claim: Claim) -> nodes.row:
        ours, why = claim.texts()
        name = nodes.reference("", claim.id, refuri=f"#{claim.id}", internal=True)
        details = [self.line(text, small=True) for text in (claim.formula, input_words(claim)) if text]
        verdict = nodes.strong("", claim.verdict, classes=["claims-verdict"])
        lesson = links.taught(self.env.app, self.env.docname, claim.places)
        cells = [
            [self.line(claim.says), self.line(name, " · ", SOURCES[claim.source], small=True)],
            [self.line(claim.printed)],
            [self.line(ours), *details],
            [self.line(verdict), self.line(why), self.line(*lesson, small=True)],
        ]
        made = row(cells, labels=(None, *self.header[1:3], None))
        made["ids"] = [claim.id]
        made["classes"] = [css_class(claim.verdict)]
        return made


class Times(ClaimsDirective):
    """The tool's published times, model by model; or its GPU-hours."""

    optional_arguments = 1
    columns: ClassVar = ("ms", "published", "profile", "ours", "ours, %")

    def run(self) -> list[nodes.Node]:
        self.depends()
        return [self.hours() if self.arguments == ["hours"] else self.milliseconds()]

    def milliseconds(self) -> nodes.table:
        groups = []
        for model, found in groupby(tables.cells(), key=lambda cell: cell.model):
            groups.append([row([[self.line(nodes.strong("", tables.NAMES[model]))], [], [], [], []])])
            groups[-1][0]["classes"] = ["claims-group"]
            groups[-1] += [
                self.figures(
                    setting(cell),
                    f"{cell.published:.2f}",
                    f"{cell.milliseconds(profile=True):.2f}",
                    f"{cell.milliseconds(profile=False):.2f}",
                    f"{cell.off(profile=False):+.1f}".replace("-", "−"),
                )
                for cell in found
            ]
        names = ("claims-figures", "claims-cards", "claims-times")
        return table(self.columns, [36, 16, 16, 16, 16], groups, *names)

    def hours(self) -> nodes.table:
        header, rows = ("A100-hours", "LLaMA paper", "published", "profile", "ours"), []
        for claim in (one for one in CLAIMS if one.unit == "GPU-hours"):
            found = claim.results()
            figures = (claim.published or 0, found["hours"], found["ours"])
            cells = [tables.NAMES[str(claim.inputs["model"])], value(claim.inputs["paper_hours"])]
            cells += [f"{hours:,.0f}" for hours in figures]
            rows.append(row([[self.line(cell)] for cell in cells], labels=(None, *header[1:])))
        return table(header, [28, 18, 18, 18, 18], [rows], "claims-figures", "claims-cards")

    def figures(self, name: str, *figures: str) -> nodes.row:
        return row([[self.line(one)] for one in (name, *figures)], labels=(None, *self.columns[1:]))


def setting(cell: tables.Cell) -> str:
    """
    >>> setting(tables.Cell("llama-65b", "latency", "prefill", (16, 16), 2, tables.REAL, 159.47))
    'prefill, w16a16, 2 GPUs, 0.7 and 0.9 of the peaks'
    >>> setting(tables.Cell("llama-7b", "quantization", "decode", (4, 8), 1, tables.IDEAL, 1.85))
    'decode, w4a8'
    >>> setting(tables.Cell("llama-7b", "quantization", "decode", (16, 16), 1, tables.IDEAL, 6.73))
    'decode, w16a16, again'
    """
    words = [cell.phase, "w{}a{}".format(*cell.bits)]
    words += [f"{cell.tp} GPUs"] if cell.tp > 1 else []
    words += ["{} and {} of the peaks".format(*cell.efficiency)] if cell.efficiency != tables.IDEAL else []
    words += ["again"] if cell.table == "quantization" and cell.bits == (16, 16) else []
    return ", ".join(words)


class Parts(ClaimsDirective):
    """One step, part by part."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        self.depends()
        model, phase = self.arguments
        rows = [
            row(
                [
                    [self.line(part.name)],
                    [self.line(f"{part.theirs:.3f}")],
                    [self.line(f"{part.ours:.3f}")],
                    [self.line(part.why)],
                ],
                labels=(None, "theirs, ms", "ours, ms", None),
            )
            for part in tables.parts(model, phase)
        ]
        header = (f"{tables.NAMES[model]}, {phase}", "theirs, ms", "ours, ms", "why")
        return [table(header, [24, 12, 12, 52], [rows], "claims-parts", "claims-cards")]


class Summary(ClaimsDirective):
    """How near the profile and our counts come to the published times, and where a lesson derives them."""

    def run(self) -> list[nodes.Node]:
        self.depends()
        place, lead = [("cost_model", "4")], " Taken apart, step by step, in "
        lesson = links.taught(self.env.app, self.env.docname, place, lead)
        return [self.line(tables.summary(), *lesson, ".")]


class Differences(ClaimsDirective):
    """The tool's seven departures, each with what it does."""

    def run(self) -> list[nodes.Node]:
        self.depends()
        items = [nodes.list_item("", self.line(text)) for text in tables.differences()]
        return [nodes.enumerated_list("", *items, enumtype="arabic", prefix="", suffix=".")]


def table(
    header: tuple[str, ...], widths: list[int], bodies: list[list[nodes.row]], *names: str
) -> nodes.table:
    """A table of one body per group of rows."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=w) for w in widths), cols=len(header))
    group += nodes.thead("", row([[nodes.paragraph("", text)] for text in header]))
    group += [nodes.tbody("", *rows) for rows in bodies]
    return nodes.table("", group, classes=["claims-table", "colwidths-given", *names])


def row(cells: list[list[Any]], labels: tuple[str | None, ...] = ()) -> nodes.row:
    """Cells of paragraphs; a label is shown where there is no room for the header."""
    made = nodes.row()
    for i, content in enumerate(cells):
        if i < len(labels) and labels[i] and content:
            content[0].insert(0, nodes.inline("", f"{labels[i]}: ", classes=["claims-label"]))
        made += nodes.entry("", *content)
    return made


def add_assets(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Script and style, on pages with such a table only."""
    if re.search(r'class="[^"]*\bclaims-table\b', context.get("body", "")):
        app.add_css_file("claims.css")
        app.add_js_file("claims.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("claims", Claims)
    app.add_directive("llm-analysis-times", Times)
    app.add_directive("llm-analysis-parts", Parts)
    app.add_directive("llm-analysis-summary", Summary)
    app.add_directive("llm-analysis-differences", Differences)
    app.connect("html-page-context", add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
