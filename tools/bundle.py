"""Pack the built book to be taken along: `python tools/bundle.py`, after `make book`.

dist/memory-bound-<version>.zip holds the pages, the PDF and a README; unpacked, it opens from the disk
without a network. The PDF is printed first, so that it is of the same book.

The same book gives the same bytes: names are sorted, times and permissions fixed; the date in the PDF is
SOURCE_DATE_EPOCH, which `make bundle` sets to the time of the last commit.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

import book_pages
import pdf

LEFT_OUT = {".buildinfo", "objects.inv"}  # for the next build, and for the builds of other books
TIME = (1980, 1, 1, 0, 0, 0)  # the first that the format knows
README = """{title}, version {version}

Open index.html in a browser. Everything works without a network, figures included.
{pdf} is the same book to print.

{licence}
"""


def version(root: Path) -> str:
    """From CITATION.cff.

    Raises  SystemExit: it does not say
    """
    cite = root / "CITATION.cff"
    said = yaml.safe_load(cite.read_text(encoding="utf-8")) if cite.is_file() else {}
    if not said.get("version"):
        raise SystemExit(f"{cite}: expected `version:`; the archive is named after it")
    return str(said["version"])


def files(html: Path) -> Iterator[tuple[str, Path]]:
    """What is packed of the built book, as (name in the book, file), sorted by name."""
    found = {path.relative_to(html).as_posix(): path for path in html.rglob("*") if path.is_file()}
    for name in sorted(found):
        if name not in LEFT_OUT:
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
    # An interrupted run leaves no half archive under the name of a release.
    made = target.with_suffix(".part")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(f"{folder}/{name}", TIME)
            entry.compress_type, entry.create_system, entry.external_attr = (
                zipfile.ZIP_DEFLATED,
                3,
                0o644 << 16,
            )
            archive.writestr(entry, entries[name])
    os.replace(made, target)
    return len(entries)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    root = parser.parse_args(argv).root.resolve()
    html, printed = book_pages.built(root), root / "_build" / pdf.NAME
    target = root / "dist" / f"memory-bound-{version(root)}.zip"  # asked for before a minute of printing
    status = pdf.main(["--root", str(root)])
    if status:
        return status
    n_files = pack(root, html, printed, target)
    print(f"Bundle: {target}\n        {n_files} files, {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
