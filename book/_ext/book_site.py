"""The book's own theme, and what its template asks of each page.

- title, description and card for search engines and messengers;
- chapters, and the sections of the page;
- style sheets and scripts: those of the theme and of book/_static, and no others;
- time to read, for pages of prose; a page to look things up in says `lookup: true` at its top;
- where the repository is known: links to edit the page and to report a mistake.

Every page names the chapters, so a changed title writes all pages again.
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
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

import book_cover
import book_lessons
import book_terms

THEME = Path(__file__).resolve().parent.parent / "_theme" / "memory_bound"
FACES = ("text-400", "text-600", "math")  # what the first lines of a page are set in; the last, of formulas
WORDS_A_MINUTE = 220
# A name that hides the words it stands on; roles that ARIA gave up, or whose children are of another kind.
MISLEADING = re.compile(r' aria-label="Toggle hidden content"| role="(?:doc-biblioentry|list|doc-footnote)"')
CARD = "card.png"
MARK = "\0"  # where a formula stood


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
    """The first paragraph of a page, cut at a word, and before the first sentence that holds a formula."""
    if doctree is None:
        return ""
    for paragraph in doctree.findall(nodes.paragraph):
        boxed = any("lesson-facts" in n.get("classes", []) for n in _above(paragraph))
        text = before_formulas(_words(paragraph))
        if not boxed and len(text) > 40:
            return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} …"
    return ""


def _words(node: nodes.Node) -> str:
    """Its text, with a mark for each formula: `astext` would give TeX."""
    if isinstance(node, nodes.math | nodes.math_block):
        return MARK
    return "".join(map(_words, node.children)) if node.children else node.astext()


def before_formulas(text: str) -> str:
    """The text up to the end of the last sentence before a formula; all of it, if it has none.

    >>> before_formulas("It is 3.5 long.  So says the sheet. Then it is \\0 wide. And so on.")
    'It is 3.5 long. So says the sheet.'
    >>> before_formulas("With \\0 heads.")
    ''
    """
    whole, formula, _ = re.sub(r"\s+", " ", text).strip().partition(MARK)
    ends = [found.end() for found in re.finditer(r"[.?!][)”’\"']*(?= )", whole)]
    return whole[: max(ends, default=0)] if formula else whole


def _above(node: nodes.Node) -> list[nodes.Element]:
    found, up = [], node.parent
    while up is not None:
        found.append(up)
        up = up.parent
    return found


def minutes_to_read(doctree: nodes.document) -> int:
    """Whole minutes, at least one, for the prose of a page; code and tables are not counted."""
    prose = (
        p
        for p in doctree.findall(nodes.paragraph)
        if not any(isinstance(one, nodes.entry) for one in _above(p))
    )
    words = sum(len(p.astext().split()) for p in prose)
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


def edited(path: Path) -> Path:
    """The file in which one changes a page: of a notebook its script, of a lab the source it is made from."""
    if path.suffix != ".ipynb":
        return path
    places = (path.with_name("source.py"), path.with_suffix(".py"))
    return next((place for place in places if place.is_file()), path)


def edit_and_issue(repository: str, branch: str, source: str, title: str) -> tuple[str, str]:
    """Where the page's source is edited, and where a mistake on it is reported; empty without a repository.

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
    names = ["book.js", "search.js"] if kind == "js" else ["book.css"]
    for file in context["css_files" if kind == "css" else "script_files"]:
        name = str(getattr(file, "filename", "") or "").removeprefix("_static/")
        if name and name not in names and _source(app, name):
            names.append(name)
    return [f"{context['pathto'](f'_static/{name}', 1)}?v={_stamp(app, name)}" for name in names]


def _stamp(app: Sphinx, name: str) -> str:
    path = _source(app, name)
    if path is None:
        raise FileNotFoundError(f"{THEME / 'static'}: expected {name}, a part of the theme")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def _source(app: Sphinx, name: str) -> Path | None:
    tops = [THEME / "static", *(Path(app.confdir) / path for path in app.config.html_static_path)]
    return next((top / name for top in tops if (top / name).is_file()), None)


def furnish(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put into `context` what layout.html asks of Sphinx's own context besides; mend the page's `body`."""
    plain = html.unescape(re.sub(r"<[^>]+>", "", context.get("title") or "")) or str(context["docstitle"])
    context["plain_title"] = plain
    context["page_title"] = plain if pagename == context["root_doc"] else f"{plain} · {context['docstitle']}"
    context["description"] = describe(doctree)
    context["author"] = app.config.author
    context["page_css"] = _assets(app, context, "css")
    context["page_js"] = _assets(app, context, "js")
    faces = FACES if "<math" in context.get("body", "") else FACES[:-1]
    context["fonts"] = [context["pathto"](f"_static/fonts/stix-two-{face}.woff2", 1) for face in faces]
    tree = context["toctree"](collapse=False, maxdepth=1, titles_only=True, includehidden=True)
    context["chapters"] = chapters(tree)
    context["page_toc"] = sections(context.get("toc", "") if doctree is not None else "")
    pages = app.env.found_docs
    context["cite_url"] = context["pathto"]("book/how_to_cite") if "book/how_to_cite" in pages else ""
    if app.config.html_baseurl:
        context["card_url"] = f"{app.config.html_baseurl.rstrip('/')}/_static/{CARD}"
        context["card_alt"] = book_cover.in_words(str(context["docstitle"]), book_cover.rate(app.env))
    if doctree is None:
        return
    context["body"] = MISLEADING.sub("", context["body"])
    options = app.config.html_theme_options
    source = edited(Path(app.env.doc2path(pagename)).resolve()).relative_to(Path(app.srcdir).resolve())
    context["repository"] = book_lessons.repository(options.get("repository_url", ""))
    context["edit_url"], context["issue_url"] = edit_and_issue(
        context["repository"], options.get("repository_branch", ""), source.as_posix(), plain
    )
    if pagename.startswith("book/") and not book_terms.for_lookup(app.env, pagename):
        minutes = minutes_to_read(doctree)
        said = f'<div class="lesson-facts"><p>{minutes} minute{"s" if minutes > 1 else ""} to read.</p></div>'
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{said}", 1)


def pages_to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """All, if a title differs from those that pages of the build before were written with."""
    titles = {name: title.astext() for name, title in env.titles.items()}
    before = getattr(env, "memory_bound_titles", titles)
    env.memory_bound_titles = titles  # type: ignore[attr-defined]  # kept with the environment
    return [] if titles == before else sorted(env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_theme("memory_bound", str(THEME))
    app.set_translator("html", Translator)
    app.add_node(Foldable, html=(_open_folded, _close_folded))
    app.add_directive("folded", Folded)
    app.add_config_value(
        "comments_config", {}, ""
    )  # Jupyter Book sets it for an extension that is not loaded
    app.connect("env-updated", pages_to_write)
    app.connect("html-page-context", furnish, priority=900)  # after those that add to a page
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
