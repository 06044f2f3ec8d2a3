"""The picture that messengers show beside a link to the book: `python tools/card.py`, after `make book`.

It is the first page's own figure with the title, 1200 by 630 px, photographed in Chromium and committed as
book/_static/card.png. Run it again when the figure or the title has changed.
"""

from __future__ import annotations

import re
import sys
from html import escape

import yaml

import book_pages
import chromium

SIZE = (1200, 630)
LINE = "How LLM inference works, and why it is slow"
CARD = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><base href="{base}">
<link rel="stylesheet" href="../_static/book.css">
<style>
body {{ width: 1200px; height: 630px; padding: 64px 76px; overflow: hidden; }}
h1 {{ display: flex; align-items: center; gap: 28px; margin: 0; font: 600 84px/1.1 var(--serif); }}
p {{ margin: 14px 0 62px; color: var(--muted); font: 38px/1.3 var(--serif); }}
.bd-article .one-token {{ max-width: none; margin: 0; font-size: 27px; }}
.bd-article .one-token figcaption {{ font-size: 27px; margin-bottom: 18px; }}
.bd-article .one-token li {{ grid-template-columns: 270px minmax(0, 1fr) 140px; margin-bottom: 14px; }}
.one-token .bar {{ height: 46px; }}
.one-token .bar b {{ min-width: 5px; }}
</style>
<h1><img src="../_static/mark.svg" width="84" height="84" alt="">{title}</h1>
<p>{line}</p><div class="bd-article">{figure}</div></html>"""


def main() -> int:
    root = book_pages.ROOT
    html = book_pages.built(root)
    first = html / f"{book_pages.names(root)[0]}.html"
    figure = re.search(
        r'<figure class="one-token">.*?</figure>', first.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if not figure:
        print("the first page has no figure of this kind", file=sys.stderr)
        return 1
    title = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["title"]
    page_html = CARD.format(base=first.as_uri(), title=escape(title), line=LINE, figure=figure[0])
    made = root / "build" / "card.html"
    made.write_text(page_html, encoding="utf-8")
    target = root / "book" / "_static" / "card.png"
    with chromium.browser() as browser:
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(made.as_uri())
        page.evaluate("document.fonts.ready")
        page.screenshot(path=target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
