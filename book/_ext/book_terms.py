"""Terms of the glossary are links where a page first uses them.

A word that has an everyday sense, too, is a link only in the chapter that introduces it: a step, a block.
Nothing is linked in headings, code, formulas and other links, nor on pages to look things up in
(`lookup: true`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

GLOSSARY = "book/glossary"
EVERYDAY = frozenset(
    [
        "attention",
        "bandwidth",
        "batch",
        "block",
        "bound",
        "capacity",
        "context",
        "decode",
        "gather",
        "greedy",
        "head",
        "kernel",
        "latency",
        "layer",
        "overhead",
        "parameter",
        "peak",
        "position",
        "residual",
        "sampling",
        "slot",
        "step",
        "temperature",
        "trace",
        "vocabulary",
    ]
)
CLOSED = (
    nodes.reference,
    nodes.literal,
    nodes.math,
    nodes.title,
    nodes.raw,
    nodes.term,
    addnodes.pending_xref,
)


def normal(form: str) -> str:
    """How forms are compared: a text may write a hyphen or a space.

    >>> normal("Grouped query\\nattention") == normal("grouped-query attention")
    True
    """
    return re.sub(r"[\s-]+", " ", form.lower())


def for_lookup(env: BuildEnvironment, docname: str) -> bool:
    """Whether the page says `lookup: true` at its top."""
    return str(env.metadata.get(docname, {}).get("lookup", "")).lower() == "true"


def forms(term: str) -> list[str]:
    """How a text may write a term, in lower case and the singular.

    >>> forms("top-k, top-p"), forms("grouped-query attention (GQA)")
    (['top-k', 'top-p'], ['grouped-query attention', 'gqa'])
    """
    long, short = re.fullmatch(r"(.*?)(?: \((.+)\))?", term).groups()  # type: ignore[union-attr]
    return [form.removesuffix("s").lower() for form in [*long.split(", "), *([short] if short else [])]]


def glossary(text: str) -> dict[str, tuple[str, str]]:
    """From the normal form to its term and the stem of the lesson that introduces it.

    >>> glossary("\\n\\nslot\\n  A place. ({lesson}`paged_cache`)\\n\\n")
    {'slot': ('slot', 'paged_cache')}
    """
    found = {}
    for term, meaning in re.findall(r"^(\w[^\n:`]*)\n((?:  [^\n]+\n)+)", text, flags=re.M):
        stem = re.search(r"\{lesson\}`(\w+)`", meaning)
        for form in forms(term):
            found[normal(form)] = (term, stem[1] if stem else "")
    return found


@cache
def _read(path: Path, written: int) -> tuple[dict[str, tuple[str, str]], re.Pattern[str]]:
    known = glossary(path.read_text(encoding="utf-8"))
    words = sorted(known, key=len, reverse=True)
    either = "|".join(re.escape(word).replace(r"\ ", r"[\s-]+") for word in words)
    return known, re.compile(rf"(?<![\w/.-])({either})(?:s|es)?(?![\w/]|-\w)", flags=re.I)


def link(app: Sphinx, doctree: nodes.document) -> None:
    docname = app.env.docname
    path = Path(app.srcdir) / f"{GLOSSARY}.md"
    if not path.is_file() or docname == GLOSSARY or for_lookup(app.env, docname):
        return
    app.env.note_dependency(str(path))
    known, pattern = _read(path, path.stat().st_mtime_ns)
    stem, done = docname.rsplit("/", 1)[-1], set()
    for text in list(doctree.findall(nodes.Text)):
        if _open(text):
            _link_in(text, docname, stem, known, pattern, done)


def _open(text: nodes.Text) -> bool:
    """Prose: in a paragraph, and in nothing that is a link, code or a heading."""
    up, prose = text.parent, False
    while up is not None:
        if isinstance(up, CLOSED) or "lesson-facts" in up.get("classes", []):
            return False
        prose = prose or isinstance(up, nodes.paragraph)
        up = up.parent
    return prose


def _link_in(
    text: nodes.Text,
    docname: str,
    stem: str,
    known: dict[str, tuple[str, str]],
    pattern: re.Pattern[str],
    done: set[str],
) -> None:
    made: list[nodes.Node] = []
    start, whole = 0, text.astext()
    for match in pattern.finditer(whole):
        form = normal(match[1])
        term, home = known[form]
        if term in done or (form in EVERYDAY and home != stem):
            continue
        done.add(term)
        made += [nodes.Text(whole[start : match.start()]), _term(docname, term, match[0])]
        start = match.end()
    if made:
        text.parent.replace(text, [*made, nodes.Text(whole[start:])])


def _term(docname: str, term: str, text: str) -> nodes.Element:
    to = addnodes.pending_xref(
        "", refdoc=docname, refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True
    )
    to += nodes.inline("", text, classes=["term"])
    return to


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", link, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
