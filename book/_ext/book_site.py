"""The book's own theme, and what its template asks of each page.

- title, description and card for search engines and messengers;
- chapters, and the sections of the page;
- style sheets and scripts: those of the theme and of book/_static, and no others;
- time to read, for pages of prose; a page to look things up in says `lookup: true` at its top;
- where the repository is known: links to edit the page and to report a mistake.
"""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

THEME = Path(__file__).resolve().parent.parent / "_theme" / "memory_bound"
WORDS_A_MINUTE = 220
# A name that hides the words it stands on; roles that ARIA gave up, or whose children are of another kind.
MISLEADING = re.compile(r' aria-label="Toggle hidden content"| role="(?:doc-biblioentry|list|doc-footnote)"')
CARD = "card.png"
CARD_ALT = (
    "Memory Bound. One token of Llama 2 7B on an A100: arithmetic takes 0.043 ms, reading the weights "
    "6.6 ms, and 9.5 ms were measured."
)


class Translator(HTML5Translator):
    """Tables scroll by themselves."""

    def visit_table(self, node: nodes.Element) -> None:
        self.body.append('<div class="table-scroll">')
        super().visit_table(node)

    def depart_table(self, node: nodes.Element) -> None:
        super().depart_table(node)
        self.body.append("</div>\n")


class Foldable(nodes.Element):
    """What a reader may open; its summary is `title`."""


class Folded(SphinxDirective):
    """````{folded} Title` around anything."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        node = Foldable(title=self.arguments[0])
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def _open_folded(self: HTML5Translator, node: Foldable) -> None:
    self.body.append(f"<details><summary>{html.escape(node['title'])}</summary>\n")


def _close_folded(self: HTML5Translator, node: Foldable) -> None:
    self.body.append("</details>\n")


def describe(doctree: nodes.document | None, limit: int = 200) -> str:
    """The first paragraph of a page, cut at a word."""
    if doctree is None:
        return ""
    for paragraph in doctree.findall(nodes.paragraph):
        boxed = any("lesson-facts" in n.get("classes", []) for n in _above(paragraph))
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if not boxed and len(text) > 40:
            return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} …"
    return ""


def _above(node: nodes.Node) -> list[nodes.Element]:
    found, up = [], node.parent
    while up is not None:
        found.append(up)
        up = up.parent
    return found


def minutes_to_read(doctree: nodes.document) -> int:
    """Whole minutes, at least one, for the prose of a page; code and tables are not counted."""
    words = sum(len(p.astext().split()) for p in doctree.findall(nodes.paragraph))
    return max(1, round(words / WORDS_A_MINUTE))


def chapters(tree: str) -> str:
    """The table of contents as Sphinx gives it, without what a list of links does not need."""
    soup = BeautifulSoup(tree or "", "html.parser")
    for caption in soup.find_all("p", class_="caption"):
        caption.attrs = {}
    for link in soup.find_all("a"):
        now = "current" in link.get("class", [])
        link.attrs = {"href": link["href"], **({"class": "current", "aria-current": "page"} if now else {})}
    for part in soup.find_all(["ul", "li"]):
        part.attrs = {}
    return str(soup)


def sections(toc: str, levels: int = 2) -> str:
    """The sections of a page, without its title, down to `levels`; empty where there are fewer than two."""
    soup = BeautifulSoup(toc or "", "html.parser")
    top = soup.select_one("ul > li > ul")
    if top is None or len(top.find_all("li")) < 2:
        return ""
    for deep in top.select(" ".join(["ul"] * levels)):
        deep.decompose()
    for tag in top.find_all(True):
        tag.attrs = {"href": tag["href"]} if tag.name == "a" else {}
    return str(top)


def edit_and_issue(repository: str, branch: str, source: str, title: str) -> tuple[str, str]:
    """
    >>> edit_and_issue("https://github.com/a/b", "main", "book/intro.md", "Memory Bound")
    ('https://github.com/a/b/edit/main/book/intro.md', 'https://github.com/a/b/issues/new?title=Page%20%22Memory%20Bound%22')
    >>> edit_and_issue("", "main", "book/intro.md", "Memory Bound")
    ('', '')
    """
    if not repository:
        return "", ""
    issue = repository + "/issues/new?title=" + quote(f'Page "{title}"')
    return f"{repository}/edit/{branch or 'main'}/{source}", issue


def _assets(app: Sphinx, context: dict[str, Any], kind: str) -> list[str]:
    """Addresses of the page's style sheets or scripts that lie in the book or its theme."""
    names = ["search.js", "book.js"] if kind == "js" else ["book.css"]
    for file in context["css_files" if kind == "css" else "script_files"]:
        name = str(getattr(file, "filename", "") or "").removeprefix("_static/")
        if name and name not in names and _source(app, name):
            names.append(name)
    made = []
    for name in names:
        content = Path(_source(app, name) or THEME).read_bytes()
        made.append(f"{context['pathto'](f'_static/{name}', 1)}?v={hashlib.sha256(content).hexdigest()[:8]}")
    return made


def _source(app: Sphinx, name: str) -> Path | None:
    tops = [THEME / "static", *(Path(app.confdir) / path for path in app.config.html_static_path)]
    return next((top / name for top in tops if (top / name).is_file()), None)


def furnish(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    plain = html.unescape(re.sub(r"<[^>]+>", "", context.get("title") or "")) or str(context["docstitle"])
    context["plain_title"] = plain
    context["page_title"] = plain if pagename == context["root_doc"] else f"{plain} · {context['docstitle']}"
    context["description"] = describe(doctree)
    context["page_css"] = _assets(app, context, "css")
    context["page_js"] = _assets(app, context, "js")
    tree = context["toctree"](collapse=False, maxdepth=1, titles_only=True, includehidden=True)
    context["chapters"] = chapters(tree)
    context["page_toc"] = sections(context.get("toc", "") if doctree is not None else "")
    pages = app.env.found_docs
    context["cite_url"] = context["pathto"]("book/how_to_cite") if "book/how_to_cite" in pages else ""
    if app.config.html_baseurl:
        context["card_url"] = f"{app.config.html_baseurl.rstrip('/')}/_static/{CARD}"
        context["card_alt"] = CARD_ALT
    if doctree is None:
        return
    context["body"] = MISLEADING.sub("", context["body"])
    options = app.config.html_theme_options
    source = Path(app.env.doc2path(pagename)).resolve().relative_to(Path(app.srcdir).resolve()).as_posix()
    context["edit_url"], context["issue_url"] = edit_and_issue(
        options.get("repository_url", ""), options.get("repository_branch", ""), source, plain
    )
    if pagename.startswith("book/") and "lookup" not in app.env.metadata.get(pagename, {}):
        minutes = minutes_to_read(doctree)
        said = f'<div class="lesson-facts"><p>{minutes} minute{"s" if minutes > 1 else ""} to read.</p></div>'
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{said}", 1)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_theme("memory_bound", str(THEME))
    app.set_translator("html", Translator)
    app.add_node(Foldable, html=(_open_folded, _close_folded))
    app.add_directive("folded", Folded)
    app.add_config_value(
        "comments_config", {}, ""
    )  # Jupyter Book sets it for an extension that is not loaded
    app.connect("html-page-context", furnish, priority=900)  # after those that add to a page
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
