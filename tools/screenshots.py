"""Photograph every page: `python tools/screenshots.py`, after `make book`.

Each page at 1280 and at 360 px, in light and in dark, into build/screenshots/<theme>-<width>/<page>.png,
with a contact sheet of each theme and width. A page longer than one can look at comes in pieces, <page>.1.png
and on. Needs Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

import book_pages
import chromium

WIDTHS = (1280, 360)
THEMES = ("light", "dark")
PIECE = {1280: 2000, 360: 2000}  # px of height
EXTRA = ("search", "genindex")  # pages that no table of contents names
THUMB = 180  # px of width on the contact sheet
COLUMNS = 8


def pages(root: Path, html: Path, only: list[str]) -> list[str]:
    """The pages to photograph: those whose name contains one of `only`, or all.

    Raises  SystemExit: `only` names no page
    """
    names = [*book_pages.names(root), *(name for name in EXTRA if (html / f"{name}.html").is_file())]
    chosen = [name for name in names if not only or any(part in name for part in only)]
    if not chosen:
        raise SystemExit(f"no page is called {' or '.join(only)}; there are: {', '.join(names)}")
    return chosen


# What stays in view while one scrolls would be in every piece.
STILL = """
() => {
  for (const node of document.body.querySelectorAll('*')) {
    if (getComputedStyle(node).position === 'sticky') node.style.position = 'static';
  }
}
"""

# A picture that is loaded once it comes into view is often not there yet when that view is photographed.
PICTURES = """
() => Promise.all([...document.images].map((image) => {
  image.loading = 'eager';
  return image.decode();
}))
"""


def photograph(browser: Any, address: str, *, theme: str, width: int, piece: int) -> list[Image.Image]:
    """The page from top to bottom, in pictures of at most `piece` pixels of height.

    Seen through a window of that height and scrolled: a picture of a whole long page takes Chromium minutes.

    Raises  playwright's Error: an image of the page cannot be loaded
    """
    context = browser.new_context(
        viewport={"width": width, "height": piece}, color_scheme=theme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.goto(address, wait_until="load")
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.evaluate(PICTURES)
        page.evaluate(STILL)
        height = page.evaluate("() => document.documentElement.scrollHeight")
        found = []
        for top in range(0, height, piece):
            page.evaluate("top => window.scrollTo({top, behavior: 'instant'})", top)
            seen = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
            # The last window shows the end of the page: what the one before has shown is cut off.
            found.append(seen.crop((0, max(0, top + piece - max(height, piece)), width, piece)))
        return found
    finally:
        context.close()


def save(pictures: list[Image.Image], folder: Path, name: str) -> list[Path]:
    """Write a page's pictures; those of an earlier run go."""
    stem = name.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / f"{stem}.png", *folder.glob(f"{stem}.[0-9]*.png")]:
        old.unlink(missing_ok=True)
    found = []
    for number, picture in enumerate(pictures, start=1):
        found.append(folder / (f"{stem}.png" if len(pictures) == 1 else f"{stem}.{number}.png"))
        picture.save(found[-1])
    return found


def contact_sheet(tops: list[tuple[str, Image.Image]], target: Path) -> None:
    """The upper end of every page, small, with its name."""
    height = THUMB * 3 // 2
    rows = -(-len(tops) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (THUMB + 12), rows * (height + 30)), "#8a94a3")
    draw = ImageDraw.Draw(sheet)
    for index, (name, picture) in enumerate(tops):
        x, y = (index % COLUMNS) * (THUMB + 12) + 6, (index // COLUMNS) * (height + 30) + 6
        part = picture.crop((0, 0, picture.width, min(picture.height, picture.width * 3 // 2)))
        sheet.paste(part.resize((THUMB, round(part.height * THUMB / part.width))), (x, y))
        draw.text((x, y + height + 4), name.rsplit("/", 1)[-1][:28], fill="#14181f")
    sheet.save(target)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    parser.add_argument("--only", nargs="*", default=[], help="pages whose name contains one of these")
    parser.add_argument("--out", type=Path, help="default: build/screenshots")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    html, out = book_pages.built(root), options.out or root / "build" / "screenshots"
    chosen, started, written = pages(root, html, options.only), time.perf_counter(), 0
    with chromium.browser() as browser:
        for theme in THEMES:
            for width in WIDTHS:
                folder, tops = out / f"{theme}-{width}", []
                for name in chosen:
                    address = (html / f"{name}.html").as_uri()
                    shots = photograph(browser, address, theme=theme, width=width, piece=PIECE[width])
                    written += len(save(shots, folder, name))
                    tops.append((name, shots[0]))
                contact_sheet(tops, out / f"{theme}-{width}.png")
    print(f"Screenshots: {out}\n             {written} pictures, {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
