"""The picture that messengers show beside a link to the book: `python tools/card.py`, after `make book`.

It is the first page's own figure with the title, and the subtitle from CITATION.cff, 1200 by 630 px,
photographed in Chromium and committed as book/_static/card.png. Run it again when one of these has changed.
"""

from __future__ import annotations

import argparse
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bs4 import BeautifulSoup

import book_pages
import chromium
import pdf_assemble

SIZE = (1200, 630)
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


def card(root: Path, html: Path) -> str:
    """The page that is photographed.

    Raises  SystemExit: the first page has no such figure
    """
    first = html / f"{book_pages.names(root)[0]}.html"
    page = BeautifulSoup(first.read_text(encoding="utf-8"), "html.parser")
    figure = page.select_one("figure.one-token")
    if figure is None:
        raise SystemExit(
            f"{first}: expected a figure of class one-token; the directive {{one-token}} makes it"
        )
    title = pdf_assemble.title_of(root, html)
    return CARD.format(
        base=first.as_uri(), title=escape(title.title), line=escape(title.subtitle), figure=figure
    )


def photograph(browser: Any, text: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:  # a file, since only a page from the disk may load files
        made = Path(folder) / "card.html"
        made.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(made.as_uri(), wait_until="load")
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.screenshot(path=target)
        page.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    parser.add_argument("--out", type=Path, help="default: book/_static/card.png")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    committed = root / "book" / "_static" / "card.png"
    text, target = card(root, book_pages.built(root)), options.out or committed
    with chromium.browser() as browser:
        photograph(browser, text, target)
    print(f"Card: {target}")
    if target == committed:
        print("      commit it, then `make book`: the built book still has the old one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
