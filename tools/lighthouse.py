"""Lighthouse on the built book: `python tools/lighthouse.py`, after `make book`. Needs Node.js and Chromium.

Serves _build/html over HTTP on this machine, compressed as hosts of static pages do, and runs Lighthouse (an
npm package, its version pinned here) on the first page and on the heaviest lesson, as a telephone and as a
desktop. Prints the scores and what costs them; the exit status is 1 where a score is below what is promised.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import book_pages
import chromium

VERSION = "13.5.0"
NODE = (22, 19)  # the first that this version runs on
TIMEOUT_S = 600.0
CATEGORIES = ("performance", "accessibility", "best-practices")
PROMISED = 95
PRESETS = ("mobile", "desktop")
FLAGS = "--headless=new --no-sandbox --disable-gpu"
COMPRESSED = (".html", ".css", ".js", ".json", ".svg", ".txt", ".xml", ".inv", ".py", ".ipynb", ".md")


class Compressing(SimpleHTTPRequestHandler):
    """Files of a folder, text of them in gzip for clients that take it, and kept by them for an hour."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".woff2": "font/woff2",
        ".html": "text/html; charset=utf-8",
    }

    def send_head(self) -> BytesIO | BinaryIO | None:
        path = Path(self.translate_path(self.path))
        if path.is_dir() and not self.path.split("?")[0].endswith("/"):
            return super().send_head()  # sends the browser on to the address with a slash
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return None
        body = path.read_bytes()
        squeeze = path.suffix in COMPRESSED and "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body, 6, mtime=0) if squeeze else body
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600")
        if squeeze:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.end_headers()
        return BytesIO(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the report is what is wanted."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which a folder is served while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Compressing, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Report:
    """Scores of 100 by category, what failed, and bytes transferred."""

    scores: dict[str, int]
    failing: list[str]
    n_bytes: int


def heaviest_lesson(root: Path, html: Path) -> str:
    """The largest page among the lessons, or of the book where it has none."""
    names = book_pages.names(root)
    lessons = [name for name in names if name.startswith("notebooks/")] or names
    return max(lessons, key=lambda name: (html / f"{name}.html").stat().st_size)


def read(report: dict[str, Any]) -> Report:
    """What counts of Lighthouse's own report: audits that take away from a score, heaviest first."""
    audits, failing = report["audits"], []
    for key in CATEGORIES:
        category = report["categories"][key]
        for reference in category["auditRefs"]:
            audit = audits[reference["id"]]
            score, weight = audit.get("score"), reference.get("weight", 0)
            if (
                score is not None
                and score < 0.9
                and audit.get("scoreDisplayMode") not in ("manual", "informative")
            ):
                lost = weight * (1 - score)
                text = f"{key}: {audit['title']} ({audit['id']}) {audit.get('displayValue', '')}".rstrip()
                failing.append((lost, f"{text}; costs {lost:.1f}"))
    scores = {key: round(100 * (report["categories"][key]["score"] or 0)) for key in CATEGORIES}
    requests = audits.get("network-requests", {}).get("details", {}).get("items", [])
    n_bytes = sum(int(item.get("transferSize", 0)) for item in requests)
    return Report(scores, [text for _, text in sorted(failing, key=lambda pair: -pair[0])], n_bytes)


def npx() -> str:
    """The path of npx. On Windows it is npx.cmd, which a bare name does not start.

    Raises  SystemExit: it is missing, or Node.js is older than this version of Lighthouse takes
    """
    path, said = shutil.which("npx"), _node()
    version = re.match(r"v(\d+)\.(\d+)", said)
    if path is None or version is None or (int(version[1]), int(version[2])) < NODE:
        raise SystemExit(
            f"Lighthouse {VERSION} needs npx, and Node.js {NODE[0]}.{NODE[1]} or later; "
            f"there is {said or 'none'}. The project itself does not need it."
        )
    return path


def _node() -> str:
    """What Node.js says of its version, as 'v22.19.0'; '' where there is none."""
    path = shutil.which("node")
    if path is None:
        return ""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def measure(npx: str, address: str, preset: str, out: Path) -> Report:
    """One run of Lighthouse, started by `npx`; its own report goes to `out`.

    Raises  RuntimeError: it failed, and what it said last; or it took longer than TIMEOUT_S
    """
    command = [npx, "--yes", f"lighthouse@{VERSION}", address, "--quiet", "--output=json"]
    command += [
        f"--output-path={out}",
        f"--chrome-flags={FLAGS}",
        f"--only-categories={','.join(CATEGORIES)}",
    ]
    command += ["--preset=desktop"] if preset == "desktop" else []
    path = chromium.installed()  # where there is none, Lighthouse looks for Chrome where it is installed
    environment = {**os.environ, **({"CHROME_PATH": path} if path else {})}
    out.unlink(missing_ok=True)  # that of an earlier run is no answer
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"lighthouse took longer than {TIMEOUT_S:.0f} s on {address}") from None
    if done.returncode or not out.is_file():
        raise RuntimeError(f"lighthouse failed: {(done.stderr or done.stdout)[-800:]}")
    return read(json.loads(out.read_text(encoding="utf-8")))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    parser.add_argument("--pages", nargs="*", help="default: the first page and the heaviest lesson")
    parser.add_argument("--presets", nargs="*", default=PRESETS, choices=PRESETS)
    options = parser.parse_args(argv)
    root = options.root.resolve()
    program = npx()
    html, out = book_pages.built(root), root / "build" / "lighthouse"
    out.mkdir(parents=True, exist_ok=True)
    pages = options.pages or [book_pages.names(root)[0], heaviest_lesson(root, html)]
    low = False
    with served(html) as address:
        for page in pages:
            for preset in options.presets:
                found = measure(
                    program, f"{address}{page}.html", preset, out / f"{page.replace('/', '-')}-{preset}.json"
                )
                low = low or min(found.scores.values()) < PROMISED
                scores = ", ".join(f"{key} {score}" for key, score in found.scores.items())
                print(f"{page}, {preset}: {scores}; {found.n_bytes / 1e6:.2f} MB")
                print("".join(f"  {line}\n" for line in found.failing), end="", flush=True)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
