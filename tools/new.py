"""Make the skeleton of a lesson or a lab, with all its parts, from the templates beside this file.

    python tools/new.py lesson flash_attention --title "Attention in tiles" --after overhead
    python tools/new.py lab flash_attention --title "Attention in tiles"
    python tools/new.py left        where an author still has to write

Templates lie below tools/templates/, at the place that the made file has in the repository: STEM in a name
becomes the stem, and `.txt` at the end falls away. Nothing is overwritten: if a file is there, none is made.
What the author has to write is marked TO WRITE; a test fails while the mark is in a lesson or a lab.
"""

from __future__ import annotations

import argparse
import json
import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"
MARK = "TO WRITE"
STEM = re.compile(r"[a-z][a-z0-9_]*")
# What the templates make; generated files follow from it.
WRITTEN = (
    "notebooks/*.py",
    "tests/faults/*.toml",
    "src/teachkit/questions/*.json",
    "labs/*/*.py",
    "labs/*/*.toml",
    "labs/*/*.md",
    "labs/*/*/*.py",
)


def checked_stem(stem: str) -> str:
    """The stem itself.

    Raises  ValueError: no Python identifier in lower case, which it must be: it names files and functions
    """
    if not STEM.fullmatch(stem) or keyword.iskeyword(stem):
        raise ValueError(f"stem: expected a Python identifier in lower case such as kv_cache, got {stem!r}")
    return stem


def checked_title(title: str) -> str:
    """The title, without spaces around it. Raises ValueError: empty, or not one line."""
    title = title.strip()
    if not title or not title.isprintable():
        raise ValueError(f"--title: expected one line of text, got {title!r}")
    return title


def filled(kind: str, stem: str, title: str) -> dict[str, str]:
    """{path in the repository: text} of a lesson or a lab. kind: a folder below templates/."""
    values = {"stem": stem, "title": title, "quoted": json.dumps(title, ensure_ascii=False), "mark": MARK}
    top = TEMPLATES / kind
    made = {}
    for path in sorted(top.rglob("*.txt")):
        place = path.relative_to(top).as_posix().removesuffix(".txt").replace("STEM", stem)
        made[place] = Template(path.read_text(encoding="utf-8")).substitute(values)
    return made


def with_entry(toc: str, entry: str, after: str) -> str:
    """The table of contents with one more chapter; all else in it, comments too, stays as it is.

    >>> print(with_entry("chapters:\\n  - file: a  # first\\n  - file: c\\n", "b", "a"))
    chapters:
      - file: a  # first
      - file: b
      - file: c
    <BLANKLINE>

    Raises  ValueError: no chapter `after`, or `entry` is there already
    """
    files = re.findall(r"^\s*- file:\s*(\S+)", toc, flags=re.M)
    if entry in files:
        raise ValueError(f"_toc.yml has {entry} already")
    if after not in files:
        raise ValueError(f"--after: _toc.yml has no {after}; it has {', '.join(files)}")
    # The chapter's line, and those that belong to it: they are indented more.
    chapter = re.compile(rf"^( *)- file:[ ]*{re.escape(after)}(?=\s).*\n(?:\1 +.*\n)*", re.M)
    return chapter.sub(lambda found: f"{found[0]}{found[1]}- file: {entry}\n", f"{toc.rstrip()}\n", count=1)


def place(kind: str, stem: str, after: str | None, toc: str) -> tuple[str, str]:
    """(entry of the table of contents, the one before it). A lab comes last if nothing else is said."""
    if kind == "lesson":
        return f"notebooks/{stem}", f"notebooks/{after}"
    labs = re.findall(r"^\s*- file:\s*(labs/\S+)", toc, flags=re.M)
    if not after and not labs:
        raise ValueError("_toc.yml has no lab after which this one could come: add the first by hand")
    return f"labs/{stem}/{stem}", f"labs/{after}/{after}" if after else labs[-1]


def make(root: Path, kind: str, stem: str, title: str, after: str | None) -> list[Path]:
    """Write all parts of a lesson or a lab, and its entry in the table of contents; returns the new files.

    Raises  ValueError: stem, title or place will not do
            FileExistsError: one of the files is there; nothing was written
    """
    files = filled(kind, checked_stem(stem), checked_title(title))
    toc = root / "_toc.yml"
    text = toc.read_text(encoding="utf-8")
    changed = with_entry(text, *place(kind, stem, after, text))
    derived = root / (f"notebooks/{stem}.ipynb" if kind == "lesson" else f"labs/{stem}")
    if there := [str(path) for path in (*(root / name for name in files), derived) if path.exists()]:
        raise FileExistsError(f"{stem}: nothing was written, since there is {', '.join(there)}")
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    toc.write_text(changed, encoding="utf-8")
    return [root / name for name in files]


def left(root: Path) -> Iterator[str]:
    """Every line with the mark, as path:line: text."""
    for path in sorted(path for pattern in WRITTEN for path in root.glob(pattern)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MARK in line:
                yield f"{path.relative_to(root).as_posix()}:{number}: {line.strip(' #')}"


def parse(argv: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    raw = argparse.RawDescriptionHelpFormatter  # the examples name the options of the commands
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    commands = parser.add_subparsers(dest="kind", required=True)
    for kind, whose in (("lesson", "the lesson"), ("lab", "the lab, by default the last,")):
        command = commands.add_parser(kind, help=f"make the skeleton of a {kind}")
        command.add_argument("stem", help="name of its files, such as kv_cache")
        command.add_argument("--title", required=True, help="heading of its page")
        command.add_argument("--after", required=kind == "lesson", help=f"stem of {whose} before it")
    commands.add_parser("left", help=f"list the places that are marked {MARK}; exit 1 if there are any")
    return parser, parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    parser, options = parse(argv)
    root = options.root.resolve()
    if options.kind == "left":
        lines = list(left(root))
        print("\n".join(lines) or "nothing is left to write")
        return 1 if lines else 0
    try:
        files = make(root, options.kind, options.stem, options.title, options.after)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    for path in files:
        print(path.relative_to(root).as_posix())
    hints = TEMPLATES / f"{options.kind}.next"
    print(f"\n{Template(hints.read_text(encoding='utf-8')).substitute(stem=options.stem)}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
