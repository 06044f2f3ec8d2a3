"""The whole book as one HTML document for paper: cover, contents, parts, chapters, one style sheet."""

from __future__ import annotations

import html as markup
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, Tag

import book_pages
import pdf_page
from pdf_page import Sheet

STYLE = Path(__file__).with_name("pdf.css")
# Sections whose title stands in more chapters than this ("Exercises") are left out of the contents.
COMMON = 3


@dataclass(frozen=True)
class Title:
    """What stands on the cover, all of it read from the sources."""

    title: str
    subtitle: str
    author: str
    version: str
    licence: str
    mark: str
    built: datetime

    @property
    def date(self) -> str:
        return f"{self.built.day} {self.built:%B %Y}"


def title_of(root: Path, html: Path) -> Title:
    """From _config.yml, CITATION.cff where there is one, and the time at which the book was built.

    The subtitle is what follows the colon in CITATION.cff's title. SOURCE_DATE_EPOCH (the convention of
    reproducible builds) stands in for the time, which is the first page's.
    """
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    cite = root / "CITATION.cff"
    citation = yaml.safe_load(cite.read_text(encoding="utf-8")) if cite.is_file() else {}
    _, _, subtitle = citation.get("title", "").partition(": ")
    logo = root / str(config.get("logo") or "")
    stamp = os.environ.get("SOURCE_DATE_EPOCH") or _first_page(root, html).stat().st_mtime
    built = datetime.fromtimestamp(float(stamp), timezone.utc)
    return Title(
        title=config.get("title", "Book"),
        subtitle=subtitle[:1].upper() + subtitle[1:],
        author=config.get("author", ""),
        version=str(citation.get("version", "")),
        licence=(config.get("html") or {}).get("extra_footer", ""),
        mark=logo.read_text(encoding="utf-8") if logo.suffix == ".svg" and logo.is_file() else "",
        built=built,
    )


def _first_page(root: Path, html: Path) -> Path:
    return html / f"{book_pages.names(root)[0]}.html"


def assemble(root: Path, html: Path) -> str:
    """The document. Page numbers in it are still 000, in elements with data-page-of: see pdf_print.

    Raises  ValueError: a link leads nowhere, or an id stands twice
    """
    parts = book_pages.parts(root)
    names = [name for part in parts for name in part.pages]
    sheets = {
        name: pdf_page.read(html, name, names, level=2 if part.caption else 1)
        for part in parts
        for name in part.pages
    }
    title = title_of(root, html)
    front = [_cover(title), _contents(parts, sheets)]
    openings = [_part(number, part, sheets) if part.caption else "" for number, part in enumerate(parts)]
    _verify([*front, *openings], list(sheets.values()))
    body = front
    for part, opening in zip(parts, openings, strict=True):
        body += [opening, *(_chapter(sheets[name], names) for name in part.pages)]
    text = "\n".join(body)
    head = _head(title, html, list(sheets.values()))
    return (
        f'<!doctype html>\n<html lang="en" data-theme="light">\n<head>{head}</head>\n'
        f"<body>\n{text}\n</body>\n</html>\n"
    )


def _verify(made: list[str], sheets: list[Sheet]) -> None:
    """Of elements, not of text: a listing may show markup with ids and links of its own."""
    trees = [*(BeautifulSoup(text, "html.parser") for text in made), *(sheet.article for sheet in sheets)]
    nodes = [node for tree in trees for node in tree.find_all(True)]
    ids = Counter([*(sheet.slug for sheet in sheets), *(str(node["id"]) for node in nodes if node.get("id"))])
    inside = (str(node.get(key, "")) for node in nodes for key in ("href", "xlink:href"))
    links = {link[1:] for link in inside if link.startswith("#")}
    twice, lost = [name for name, times in ids.items() if times > 1], sorted(links - set(ids))
    if twice or lost:
        raise ValueError(f"ids that stand twice: {twice[:8]}; links that lead nowhere: {lost[:8]}")


def _head(title: Title, html: Path, sheets: list[Sheet]) -> str:
    figures = dict.fromkeys(style for sheet in sheets for style in sheet.styles)
    styles = [*_font_faces(html), *figures, STYLE.read_text(encoding="utf-8"), *_running_heads(sheets)]
    meta = f'<meta charset="utf-8"><title>{markup.escape(title.title)}</title>'
    meta += f'<meta name="author" content="{markup.escape(title.author)}">'
    return meta + "".join(f"<style>{style}</style>" for style in styles)


def _font_faces(html: Path) -> Iterator[str]:
    """The book's own fonts, from its style sheets, with addresses that hold outside of them."""
    for sheet in sorted((html / "_static").rglob("*.css")):
        for face in re.findall(r"@font-face\s*\{[^}]*\}", sheet.read_text(encoding="utf-8")):
            yield re.sub(r"url\(['\"]?([^)'\"]+)['\"]?\)", partial(_absolute, sheet), face)


def _absolute(sheet: Path, url: re.Match[str]) -> str:
    if re.match(r"[a-z]+:", url[1]):
        return url[0]
    return f'url("{(sheet.parent / re.split(r"[?#]", url[1])[0]).resolve().as_uri()}")'


def _running_heads(sheets: list[Sheet]) -> Iterator[str]:
    """A page style for each chapter: its title stands in the foot of its pages."""
    for number, sheet in enumerate(sheets):
        text = json.dumps(sheet.title, ensure_ascii=False)
        yield f"@page p{number} {{ @bottom-left {{ content: {text} }} }}\n#{sheet.slug} {{ page: p{number} }}"


def _page_of(target: str) -> str:
    return f'<span class="folio" data-page-of="{target}">000</span>'


def _cover(title: Title) -> str:
    lines = [f'<p class="subtitle">{markup.escape(title.subtitle)}</p>'] if title.subtitle else []
    version = f"Version {title.version}, built on" if title.version else "Built on"
    lower = (title.author, f"{version} {title.date}", title.licence)
    foot = "".join(f"<p>{markup.escape(line)}</p>" for line in lower if line)
    return (
        f'<section class="cover"><div class="mark" aria-hidden="true">{title.mark}</div>'
        f'<div class="names"><p class="title">{markup.escape(title.title)}</p>{"".join(lines)}</div>'
        f'<div class="imprint">{foot}</div></section>'
    )


def _contents(parts: list[book_pages.Part], sheets: dict[str, Sheet]) -> str:
    rows = []
    lessons = [sheet for sheet in sheets.values() if sheet.name.startswith("notebooks/")]
    often = Counter(text for sheet in lessons for _, text, _ in sheet.sections)
    for number, part in enumerate(parts):
        if part.caption:
            rows.append(_row("of-part", f"part-{number}", markup.escape(part.caption)))
        for name in part.pages:
            sheet = sheets[name]
            rows.append(_row("of-chapter" if part.caption else "of-part", sheet.slug, _numbered(sheet.title)))
            if sheet in lessons:
                shown = [(target, look) for target, text, look in sheet.sections if often[text] <= COMMON]
                rows += [_row("of-section", target, look) for target, look in shown]
    return f'<nav class="contents" id="contents"><h1>Contents</h1>{"".join(rows)}</nav>'


def _row(kind: str, target: str, text: str) -> str:
    return (
        f'<p class="row {kind}"><a href="#{target}"><span class="text">{text}</span>'
        f'<span class="leader"></span>{_page_of(target)}</a></p>'
    )


def _numbered(title: str) -> str:
    """A chapter's number in a column of its own."""
    number, _, rest = title.partition(" ")
    if not number.isdigit():
        return markup.escape(title)
    return f'<span class="number">{number}</span>{markup.escape(rest)}'


def _part(number: int, part: book_pages.Part, sheets: dict[str, Sheet]) -> str:
    pages = [sheets[name] for name in part.pages]
    rows = "".join(_row("of-chapter", sheet.slug, _numbered(sheet.title)) for sheet in pages)
    label = f'<p class="part-number">Part {number}</p>' if part.numbered else ""
    return (
        f'<section class="part" id="part-{number}">{label}'
        f'<h1>{markup.escape(part.caption)}</h1><div class="part-contents">{rows}</div></section>'
    )


def _chapter(sheet: Sheet, names: list[str]) -> str:
    _page_references(sheet, {pdf_page.slug(name) for name in names})
    kind = sheet.name.split("/")[0]
    return f'<section class="sheet from-{kind}" id="{sheet.slug}">{sheet.article.decode_contents()}</section>'


def _page_references(sheet: Sheet, slugs: set[str]) -> None:
    """After a link in running text to another chapter: the page, which a reader of paper has to know."""
    for link in sheet.article.select('a[href^="#"]:not(.same-page, .term)'):
        target = str(link["href"]).removeprefix("#")
        elsewhere = target.split("--")[0] in slugs
        if not elsewhere or link.find_parent(["table", "pre", "h1", "h2", "h3", "h4"]):
            continue
        if link.find_parent(class_=["bibtex-citation", "asked", "answer-of"]):
            continue
        number = Tag(name="span", attrs={"class": "page-ref", "data-page-of": target})
        number.string = "000"
        link.insert_after(number)
