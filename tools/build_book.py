"""Build the book: `python tools/build_book.py`, called by `make book`.

Lessons are executed, and what they gave is kept in build/jupyter_cache/<salt>. The salt is a hash of what
a lesson runs on besides its own cells (src/teachkit/, the lock, committed result records), so a change there
executes every lesson again; a change in one lesson executes that one. Warnings and failing cells fail the
build.

The repository's address stands in one place, `repository: url:` of _config.yml. While it is empty the
pages have no links to the repository and to places that run a notebook. Who publishes the book sets
BOOK_BASEURL to its address on the web: cards of messengers and canonical addresses need it.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SALTED = ("constraints.txt", "src/teachkit", "benchmarks/results")
EXTENSIONS = ("book/_ext", "book/_theme", "book/_static")  # they make pages, and lessons do not run on them
CELL_TIMEOUT_S = 600
# index.html: Jupyter Book's own has neither language nor title nor anything to follow by hand.
FRONT = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
{about}<meta http-equiv="refresh" content="0; url={page}.html"></head>
<body><main><h1>{title}</h1><p><a href="{page}.html">To the first page</a></p></main></body></html>
"""
# What the first page tells search engines and messengers, which do not follow a refresh.
ABOUT = re.compile(
    r'<meta (?:name="description"|property="og:|name="twitter:)[^>]*>|<link rel="canonical"[^>]*>'
)


def salt(root: Path, names: tuple[str, ...] = SALTED) -> str:
    """A hash of names and contents: by default, of what lessons run on besides their own cells."""
    digest = hashlib.sha256()
    for path in _salted_files(root, names):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def _salted_files(root: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        top = root / name
        found = sorted(top.rglob("*")) if top.is_dir() else [top]
        for path in found:
            hidden = any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts
            )
            if path.is_file() and not hidden:
                yield path


def derive_config(config: dict[str, Any], root: Path, cache: Path) -> dict[str, Any]:
    """What Jupyter Book gets: `config` with the cache's place, and no buttons that would lack an address."""
    derived = dict(config)
    derived["execute"] = {"timeout": CELL_TIMEOUT_S, **config.get("execute", {})}
    derived["execute"] |= {"execute_notebooks": "cache", "cache": str(cache)}
    derived["execute"] |= {"allow_errors": False, "show_tb": True}
    # The repository's root is the source folder: .venv, caches and builds lie in it.
    derived["only_build_toc_files"] = True
    derived["exclude_patterns"] = sorted(
        {*config.get("exclude_patterns", []), "_build", "build", ".*", "**/.*"}
    )
    if not (config.get("repository") or {}).get("url"):
        # Left out, these would fall back to Jupyter Book's own repository.
        derived["repository"] = {"url": "", "branch": ""}
        derived["launch_buttons"] = {}
    baseurl = os.environ.get("BOOK_BASEURL")
    if baseurl:  # known only where the book is published; messengers show a card only from a full address
        derived["html"] = {**derived.get("html", {}), "baseurl": baseurl}
    extensions = (config.get("sphinx") or {}).get("local_extensions")
    if extensions:  # these paths are relative to the configuration file, and it is not where it was
        absolute = {name: str(root / path) for name, path in extensions.items()}
        derived["sphinx"] = {**config["sphinx"], "local_extensions": absolute}
    return derived


def build(root: Path, *, fresh: bool = False) -> int:
    """Build root's book into root/_build/html; returns the exit status.

    Pages of an earlier build are reused only if it passed with the same salt, extensions, configuration and
    table of contents: a page that is not read again does not repeat its warnings, and one that is no longer
    in the book would stay.
    """
    work, output = root / "build" / "book", root / "_build"
    key = salt(root)
    cache = root / "build" / "jupyter_cache" / key
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(derive_config(config, root, cache), allow_unicode=True, sort_keys=False)

    passed, derived = work / "passed", work / "_config.yml"
    state = key + salt(root, EXTENSIONS) + text + (root / "_toc.yml").read_text(encoding="utf-8")
    warm = passed.is_file() and passed.read_text(encoding="utf-8") == state and not fresh
    passed.unlink(missing_ok=True)
    if not warm:
        shutil.rmtree(output / "html", ignore_errors=True)
        shutil.rmtree(output / ".doctrees", ignore_errors=True)
    if fresh:
        shutil.rmtree(cache, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    derived.write_text(text, encoding="utf-8")

    started = time.perf_counter()
    status = _jupyter_book(root, derived)
    seconds = time.perf_counter() - started
    index = output / "html" / "index.html"
    if status or not index.is_file():
        print(
            f"Book: failed after {seconds:.1f} s; the first warning or failing cell is above", file=sys.stderr
        )
        return status or 1
    first = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["root"]
    index.write_text(front(config["title"], first, index.parent / f"{first}.html"), encoding="utf-8")
    passed.write_text(state, encoding="utf-8")
    for stale in set(cache.parent.iterdir()) - {cache}:
        shutil.rmtree(stale, ignore_errors=True)
    print(f"Book: {index}\n      {index.as_uri()}\n      {'warm' if warm else 'cold'} build, {seconds:.1f} s")
    return 0


def front(title: str, page: str, path: Path) -> str:
    """index.html, which leads to `page` and says of itself what that page, at `path`, does."""
    first = path.read_text(encoding="utf-8")
    lang = re.search(r'<html[^>]* lang="([\w-]+)"', first)
    about = "".join(f"{line}\n" for line in ABOUT.findall(first))
    return FRONT.format(lang=lang[1] if lang else "en", title=html.escape(title), about=about, page=page)


def _jupyter_book(root: Path, config: Path) -> int:
    # Without the second import pages would carry the state of widgets, which nothing on them can show.
    program = (
        "import sys; from jupyter_book.cli.main import main; from nbclient import NotebookClient; "
        "NotebookClient.set_widgets_metadata = lambda self: None; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "build", str(root), "--config", str(config)]
    command += ["--toc", str(root / "_toc.yml"), "--path-output", str(root), "-W", "-n", "--keep-going", "-q"]
    return subprocess.run(command, cwd=root, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """Kernels find this interpreter's programs first, and say nothing about frozen modules."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with _config.yml and _toc.yml")
    parser.add_argument("--fresh", action="store_true", help="reuse neither pages nor executed lessons")
    options = parser.parse_args(argv)
    return build(options.root.resolve(), fresh=options.fresh)


if __name__ == "__main__":
    sys.exit(main())
