"""One built page made ready for paper: its article, with nothing left that only a screen can use.

What is folded on a page is treated by what it is. Folded code (set-up, drawing) is left out: it stands in the
notebook. Folded answers and hints leave a pointer and move to the end of their chapter. Anything else is
printed open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

import pdf_code
from pdf_code import add_class

SHORT_TABLE = 12  # rows

# No use on paper, or told by other means there.
DROPPED = (
    "script, style, link, noscript, template, form, input, select, button, iframe, audio, video, "
    "a.headerlink, .copybtn, .copy, .tk-live, .tk-table, .only-dark, .claims-label, .toctree-wrapper, "
    "svg.sd-octicon, .sd-summary-state-marker, .sd-summary-chevron-right"
)
# Ids stand in these: one, or several with spaces between.
REFERENCES = ("for", "headers", "aria-labelledby", "aria-describedby", "aria-controls", "aria-details")
DROPPED_ATTRIBUTES = re.compile(r"data-(?!page-of)|on[a-z]+$")


@dataclass
class Sheet:
    """A page of the book on its way to paper.

    name      as in _toc.yml
    slug      what ids of this page begin with, and the id of the page itself
    article   its content
    title     of its first heading, with the number if it has one
    sections  (id, title, title as markup) of the headings below
    styles    style sheets that figures brought along
    """

    name: str
    slug: str
    article: Tag
    title: str = ""
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)


def slug(name: str) -> str:
    """
    >>> slug("labs/kv_cache/kv_cache")
    'labs-kv_cache-kv_cache'
    """
    return name.replace("/", "-")


def read(html: Path, name: str, names: list[str], *, level: int) -> Sheet:
    """The article of page `name` of the built book `html`, ready for paper.

    names   every page that is printed: links to them become links inside the document
    level   of its first heading, 1 or 2: headings of pages that belong to a part stand below it
    Raises  ValueError: the page has no article, or the article has no heading
    """
    soup = BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article", class_="bd-article")
    if article is None:
        raise ValueError(f"{name}.html: expected an <article class='bd-article'>")
    sheet = Sheet(name, slug(name), article)
    sheet.styles = [style.get_text() for style in article.find_all("style")]
    _drop(article)
    _rewrite_ids(sheet)
    _rewrite_links(sheet, html, names)
    _move_answers(soup, sheet)
    _open_the_rest(article)
    for pre in article.find_all("pre"):
        pdf_code.listing(pre)
    for table in article.find_all("table"):
        if len(table.find_all("tr")) <= SHORT_TABLE:
            add_class(table, "short")
    for paragraph in article.find_all("p"):
        if paragraph.get_text().rstrip().endswith(":"):
            add_class(paragraph, "lead-in")
    _headings(sheet, level)
    return sheet


def _drop(article: Tag) -> None:
    for node in article.select(DROPPED):
        if not node.decomposed:
            node.decompose()
    for folded in article.select("details.hide"):
        cell = folded.parent
        folded.decompose()
        if cell is not None and cell.find("div", class_="cell_output") is None:
            cell.decompose()
    for node in article.find_all(True):
        for key in [key for key in node.attrs if DROPPED_ATTRIBUTES.match(key)]:
            del node[key]
        for key in ("tabindex", "contenteditable", "loading", "decoding"):
            node.attrs.pop(key, None)


def _rewrite_ids(sheet: Sheet) -> None:
    """Ids become the document's own; of an id that a page has twice (two equal figures), the first stays."""
    known: set[str] = set()
    for node in sheet.article.find_all(id=True):
        name = str(node["id"])
        if name in known:
            del node["id"]
        else:
            known.add(name)
            node["id"] = f"{sheet.slug}--{name}"
    for node in sheet.article.find_all(True):
        for key in REFERENCES:
            if key in node.attrs:
                words = " ".join(map(str, node.get_attribute_list(key))).split()
                node[key] = " ".join(f"{sheet.slug}--{word}" for word in words)
        for key, value in node.attrs.items():
            if isinstance(value, str) and "url(#" in value:
                node[key] = re.sub(r"url\(#([^)]+)\)", rf"url(#{sheet.slug}--\1)", value)
        if node.name == "use":
            for key in ("href", "xlink:href"):
                if str(node.get(key, "")).startswith("#"):
                    node[key] = f"#{sheet.slug}--{str(node[key])[1:]}"


def _rewrite_links(sheet: Sheet, html: Path, names: list[str]) -> None:
    folder = Path(sheet.name).parent.as_posix()
    for image in sheet.article.find_all(src=True):
        source = str(image["src"])
        if not urlsplit(source).scheme:
            image["src"] = (html / folder / unquote(source)).resolve().as_uri()
    for link in sheet.article.find_all("a", href=True):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        path = normpath(f"{folder}/{unquote(parts.path)}") if parts.path else f"{sheet.name}.html"
        target = path.removesuffix(".html")
        if target in names:
            fragment = unquote(parts.fragment)
            link["href"] = f"#{slug(target)}--{fragment}" if fragment else f"#{slug(target)}"
            if target == sheet.name:
                add_class(link, "same-page")
            if fragment.startswith("term-"):
                add_class(link, "term")  # of the glossary: a page number after each would be noise
        else:
            _name_of_file(link, Path(path).name)


def _name_of_file(link: Tag, name: str) -> None:
    """A link to a file beside the book: paper has its name."""
    downloaded = "download" in link.attrs
    link.name = "span"
    link.attrs = {"class": "file"}
    if downloaded and name not in link.get_text():
        link.append(f" ({name})")


def _move_answers(soup: BeautifulSoup, sheet: Sheet) -> None:
    """Answers and hints stand at the end of their chapter: who turns the page has decided to.

    Ids made here have two pairs of hyphens. A section's own id has one, after the page's slug.
    """
    plain = sheet.article.select("details:not([class]), details.tk-qs-answers")
    folded = [details for details in plain if details.find_parent("details") is None]
    if not folded:
        return
    top = sheet.article.find("section") or sheet.article
    end = soup.new_tag("section", id=f"{sheet.slug}--all--answers", attrs={"class": "answers"})
    end.append(_markup(f"<h2>{_kinds(folded)}</h2>"))
    place = ""
    for number, details in enumerate(folded, start=1):
        name = _section(details)
        if name and name != place:
            end.append(_markup(f"<h3>{escape(name)}</h3>"))
            place = name
        end.append(_answer(details, f"{sheet.slug}--asked--{number}", f"{sheet.slug}--answer--{number}"))
    top.append(end)


def _answer(details: Tag, here: str, there: str) -> Tag:
    """What was folded, as it is printed at `there`; at `here`, where it stood, remains a pointer to it."""
    text, asked = _summary(details), _question(details)
    summary = details.find("summary")
    if summary is not None:
        summary.extract()
    details.replace_with(_markup(f'<p class="asked" id="{here}">{_with_page(there, text)}</p>'))
    details.name, details.attrs = "div", {"class": "answer", "id": there}
    details.insert(0, _markup(f'<p class="answer-of">{_with_page(here, asked or text)}</p>'))
    return details


def _with_page(target: str, text: str) -> str:
    """A link, and the page it leads to."""
    page = f'<span class="page-ref" data-page-of="{target}">000</span>'
    return f'<a href="#{target}">{escape(text)}</a>{page}'


def _markup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


def _kinds(folded: list[Tag]) -> str:
    hints = sum("hint" in _summary(details).lower() for details in folded)
    return "Hints" if hints == len(folded) else "Answers and hints" if hints else "Answers"


def _section(details: Tag) -> str:
    """The title of the section it stands in, '' where it stands in none."""
    section = details.find_parent("section")
    heading = section.find(re.compile(r"^h[1-6]$")) if section else None
    return _title(heading) if heading else ""


def _question(details: Tag) -> str:
    """What an exercise is called: the bold words that begin the paragraph before it. 'Predict' is no name."""
    before = details.find_previous_sibling()
    if before is None or before.name != "p":
        return ""
    first = before.find("strong")
    name = first.get_text().strip().rstrip(".:") if first else ""
    return name if name != "Predict" and before.get_text().strip().startswith(name) else ""


def _summary(details: Tag) -> str:
    summary = details.find("summary")
    return summary.get_text(" ").strip() if summary else "Answer"


def _open_the_rest(article: Tag) -> None:
    for summary in article.find_all("summary"):
        summary.name, summary.attrs = "p", {"class": "unfolded"}
    for details in article.find_all("details"):
        details.name = "div"


def _headings(sheet: Sheet, level: int) -> None:
    """The page's first heading gets `level`; those below keep their distance to it."""
    found = sheet.article.find_all(re.compile(r"^h[1-6]$"))
    if not found:
        raise ValueError(f"{sheet.name}.html: expected a heading")
    first = found[0]
    for number in first.select(".section-number"):
        # The space within: pdf.css keeps it there, and Chromium's bookmarks have it.
        number.string = number.get_text().strip().rstrip(".") + " "
    sheet.title = _title(first)
    top = int(first.name[1])
    shift = level - top
    for heading in found:
        depth = int(heading.name[1])
        place = heading.parent.get("id") if heading.parent else None
        if heading is not first and depth == top + 1 and place:
            sheet.sections.append((str(place), _title(heading), heading.decode_contents().strip()))
        heading.name = f"h{min(6, depth + shift)}"
        add_class(heading, f"depth-{min(6, depth)}")


def _title(heading: Tag) -> str:
    """As text; of a formula in it, what is seen and not its source."""
    hidden = {id(text) for note in heading.find_all("annotation") for text in note.strings}
    text = "".join(str(text) for text in heading.strings if id(text) not in hidden)
    return re.sub(r"\s+", " ", text).strip()
