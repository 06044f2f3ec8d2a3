"""Pictures on pages: each has words, lies in a file of its own, and is loaded when it comes into view.

A cell's output holds its picture inside, so that a notebook is whole in one file. A page may have many: here
each becomes a file, named after its content, with its size said, so that nothing moves when it comes. Style
sheets and scripts that figures bring along stand once on a page. A picture without words fails the build.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)
FOLDER = "_images"
INLINE = re.compile(r'src="data:image/png;base64,([A-Za-z0-9+/=\s]+)"')
IMG = re.compile(r"<img\b[^>]*>")
SVG = re.compile(r"<svg\b[^>]*>")
FILE_NAME = re.compile(r"[\w./-]*\.(png|svg|jpe?g|gif|webp)$", re.I)


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG file, in pixels.

    >>> size(b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0\\0\\0\\rIHDR" + struct.pack(">II", 640, 480))
    (640, 480)
    """
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def to_files(body: str, folder: Path, address: str) -> str:
    """The body with each inlined PNG in `folder`, referred to below `address`."""

    def moved(match: re.Match[str]) -> str:
        tag = match[0]
        found = INLINE.search(tag)
        if not found:
            return tag
        png = base64.b64decode(found[1])
        name = f"{hashlib.sha256(png).hexdigest()[:20]}.png"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).is_file():
            (folder / name).write_bytes(png)
        tag = tag.replace(found[0], f'src="{address}/{name}"')
        return tag[:4] + _room(tag, png) + ' loading="lazy" decoding="async"' + tag[4:]

    return IMG.sub(moved, body)


def _room(tag: str, png: bytes) -> str:
    """The height that belongs to the tag's width; both, where it has none."""
    width, height = size(png)
    if " height=" in tag:
        return ""
    shown = re.search(r' width="(\d+)"', tag)
    if shown:
        return f' height="{round(int(shown[1]) * height / width)}"'
    return f' width="{width}" height="{height}"'


def once(body: str) -> str:
    """Of equal style sheets and equal scripts, the first.

    >>> once("<style>a</style>x<style>a</style><script>b</script><script>c</script><script>b</script>")
    '<style>a</style>x<script>b</script><script>c</script>'
    """
    seen: set[str] = set()

    def kept(match: re.Match[str]) -> str:
        if match[0] in seen and "data-tk-ready" not in match[0]:
            return ""
        seen.add(match[0])
        return match[0]

    return re.sub(r"<style>.*?</style>|<script>.*?</script>", kept, body, flags=re.DOTALL)


def without_words(body: str) -> list[str]:
    """Tags of pictures that say nothing to who cannot see them.

    >>> without_words('<img alt="A line." src="a"><img src="b"><svg aria-hidden="true"><svg>')
    ['<img src="b">', '<svg>']
    >>> without_words('<img alt="../_images/plot.png" src="c">')
    ['<img alt="../_images/plot.png" src="c">']
    """
    text = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)
    mute = []
    for tag in IMG.findall(text):
        alt = re.search(r'\salt="([^"]*)"', tag)
        if not alt or not alt[1].strip() or FILE_NAME.fullmatch(alt[1].strip()):
            mute.append(tag)
    mute += [
        t for t in SVG.findall(text) if not re.search(r'aria-(hidden="true"|label="[^"]|labelledby=")', t)
    ]
    return mute


def improve(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    body = context.get("body")
    if not body or doctree is None:
        return
    address = context["pathto"](FOLDER, 1).rstrip("/")
    context["body"] = once(to_files(body, Path(app.outdir) / FOLDER, address))
    for tag in without_words(context["body"]):
        log.warning("a picture without words: %s", tag[:200], location=pagename)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", improve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
