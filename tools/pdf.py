"""Print the built book as one PDF: `python tools/pdf.py`, after `make book`.

The pages become one document (pdf_assemble, pdf_page), a headless Chromium prints it until the page numbers
in it are its own (pdf_print), the file is made smaller and gets its metadata, and is read back and checked
(pdf_check). Needs Chromium or Chrome; never builds the book.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import pikepdf

import book_pages
import chromium
import pdf_assemble
import pdf_check
import pdf_page
import pdf_print

NAME = "memory-bound.pdf"


def write(root: Path, html: Path, target: Path, browser: Any) -> list[str]:
    """The book of `root`, built in `html`, as the PDF `target`; returns what is wrong with it.

    A PDF with something wrong is not put at `target`: it stays at `unchecked(target)`, to be looked at.

    Raises  ValueError, RuntimeError: it cannot be assembled or printed; see pdf_assemble and pdf_print
    """
    work = root / "build" / "pdf"
    work.mkdir(parents=True, exist_ok=True)
    document = work / "book.html"
    document.write_text(pdf_assemble.assemble(root, html), encoding="utf-8")
    printed, pages = pdf_print.print_document(browser, document)
    title = pdf_assemble.title_of(root, html)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = unchecked(target)
    finish(printed, made, title)
    slugs = [pdf_page.slug(name) for name in book_pages.names(root)]
    wrong = pdf_check.problems(made, expected=pages, slugs=slugs, title=title.title)
    if not wrong:
        os.replace(made, target)
    return wrong


def unchecked(target: Path) -> Path:
    """Where a PDF lies until its check has passed: beside the place it is made for."""
    return target.with_suffix(".unchecked.pdf")


def finish(printed: bytes, target: Path, title: pdf_assemble.Title) -> None:
    """What Chromium leaves open: who wrote it and under which licence; bookmarks folded; objects packed."""
    with pikepdf.open(io.BytesIO(printed)) as document:
        info = document.docinfo
        info["/Author"], info["/Subject"] = title.author, f"{title.subtitle}. {title.licence}".strip(". ")
        info["/Creator"] = "tools/pdf.py"
        stamp = f"D:{title.built:%Y%m%d%H%M%S}Z"
        info["/CreationDate"], info["/ModDate"] = stamp, stamp
        document.Root.PageMode = pikepdf.Name.UseOutlines
        document.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)
        with document.open_outline() as outline:
            for item in outline.root:
                _fold(item)
        packed = pikepdf.ObjectStreamMode.generate
        document.save(target, object_stream_mode=packed, recompress_flate=True, deterministic_id=True)


def _fold(item: Any) -> None:
    item.is_closed = True
    for below in item.children:
        _fold(below)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    parser.add_argument("--out", type=Path, help=f"default: _build/{NAME}")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    html, target = book_pages.built(root), options.out or root / "_build" / NAME
    started = time.perf_counter()
    with chromium.browser() as browser:
        wrong = write(root, html, target, browser)
    for sentence in wrong:
        print(f"PDF: {sentence}", file=sys.stderr)
    if wrong:
        print(f"PDF: not written; look at {unchecked(target)}", file=sys.stderr)
        return 1
    with pikepdf.open(target) as document:
        n_pages = len(document.pages)
    size, seconds = target.stat().st_size / 1e6, time.perf_counter() - started
    print(f"PDF: {target}\n     {n_pages} pages, {size:.1f} MB, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
