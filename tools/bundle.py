"""Pack the built book to be taken along: `python tools/bundle.py`, after `make book`.

dist/memory-bound-<version>.zip holds the pages, the PDF and a README; unpacked, it opens from the disk
without a network. The same book gives the same bytes: names are sorted, times and permissions fixed. The PDF
is printed first if there is none or if it is older than the pages.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

import book_pages
import pdf

# Made by the build for the build, or in languages that the book is not in.
LEFT_OUT = re.compile(
    r"(^|/)(\.buildinfo[^/]*|\.nojekyll|objects\.inv|.*\.map|.*\.doctree|\.doctrees/.*|.*\.po|.*\.mo)$"
    r"|^_static/locales/|^jupyter_execute/"
)
TIME = (1980, 1, 1, 0, 0, 0)  # the first that the format knows
README = """{title}, version {version}

Open index.html in a browser. Everything works without a network, figures included.
{pdf} is the same book to print.

{licence}
"""


def version(root: Path) -> str:
    """From CITATION.cff.

    Raises  KeyError, FileNotFoundError: it does not say
    """
    return str(yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["version"])


def files(html: Path) -> Iterator[tuple[str, Path]]:
    """What is packed of the built book, as (name in the book, file), sorted by name."""
    found = {path.relative_to(html).as_posix(): path for path in html.rglob("*") if path.is_file()}
    for name in sorted(found):
        if not LEFT_OUT.search(name):
            yield name, found[name]


def readme(root: Path) -> str:
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    licence = (config.get("html") or {}).get("extra_footer", "")
    return README.format(title=config["title"], version=version(root), pdf=pdf.NAME, licence=licence)


def pack(root: Path, html: Path, printed: Path, target: Path) -> int:
    """Write `target`; returns how many files are in it. All lie in one folder, named as the archive."""
    folder = target.stem
    target.parent.mkdir(parents=True, exist_ok=True)
    entries = {name: path.read_bytes() for name, path in files(html)}
    entries |= {pdf.NAME: printed.read_bytes(), "README.txt": readme(root).encode()}
    for licence in ("LICENSE", "LICENSE-TEXT"):
        if (root / licence).is_file():
            entries[licence] = (root / licence).read_bytes()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(f"{folder}/{name}", TIME)
            entry.compress_type, entry.create_system, entry.external_attr = (
                zipfile.ZIP_DEFLATED,
                3,
                0o644 << 16,
            )
            archive.writestr(entry, entries[name])
    return len(entries)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    root = parser.parse_args(argv).root.resolve()
    html, printed = book_pages.built(root), root / "_build" / pdf.NAME
    newest = max((html / f"{name}.html").stat().st_mtime for name in book_pages.names(root))
    if not printed.is_file() or printed.stat().st_mtime < newest:
        status = pdf.main(["--root", str(root)])
        if status:
            return status
    target = root / "dist" / f"memory-bound-{version(root)}.zip"
    n_files = pack(root, html, printed, target)
    print(f"Bundle: {target}\n        {n_files} files, {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
