"""The bundled model for the reader's browser: the directive `page-model`, and the files that it loads.

The directive's content is the text that the page opens with; its tokens and what the model expects next are
computed when the page is read. The weights are written to `_static/page_model/` of the build, from the
checkpoint in the package: in the repository they lie once.
"""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import teachkit as tk
from teachkit import figures
from teachkit.figures import page_model_weights

PACKAGE = Path(tk.__file__).parent
CHECKPOINT = PACKAGE / "checkpoints" / "bundled"
FOLDER = "_static/page_model"


@cache
def models() -> dict[str, tk.Decoder]:
    """The checkpoint by the names of its weights; the first is what the page offers first."""
    model = tk.load("bundled")
    return {"int8": tk.quantize(model, "int8"), "int4": tk.quantize(model, "int4"), "bf16": model}


@cache
def files() -> dict[str, bytes]:
    """What the page's scripts load, by name."""
    return page_model_weights.export(models(), tokenizer_json())


def checksums() -> dict[str, int]:
    """What tells each of these from another of the same size."""
    return {name: zlib.crc32(content) for name, content in files().items()}


@cache
def tokenizer_json() -> dict[str, Any]:
    """The checkpoint's own description of its tokenizer."""
    described: dict[str, Any] = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))
    return described


def names(tokenizer: tk.Tokenizer) -> list[str]:
    """Every token as text; a special one, which decoding leaves out, by its name."""
    special = {added["id"]: added["content"] for added in tokenizer_json()["added_tokens"]}
    return [special.get(i) or tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


def figure(text: str, folder: str) -> figures.Figure:
    """The figure for a page from which the files lie in `folder`."""
    made = models()
    tokenizer = made["int8"].tokenizer
    assert tokenizer is not None  # of a checkpoint that has one
    ids = tokenizer.encode(text)
    with torch.inference_mode():
        probs = {name: model(torch.tensor([ids]))[0, -1].softmax(-1) for name, model in made.items()}
    vocabulary = page_model_weights.offer(files(), "vocabulary")
    return figures.page_model(
        text,
        list(zip(ids, tokenizer.pieces(text), strict=True)),
        names(tokenizer),
        probs,
        folder=folder,
        offers=page_model_weights.offers(files()),
        vocabulary={"nbytes": vocabulary.nbytes, "stamp": vocabulary.stamp},
    )


class PageModel(SphinxDirective):
    """The model, ready to be loaded; the content is the text that stands in its field."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        if not text:
            raise self.error("page-model: expected the text that the page opens with")
        for path in sources():
            self.env.note_dependency(str(path))
        up = "../" * self.env.docname.count("/")
        # Kept with the page, which may be read by another process, and is not read again in each build.
        self.env.metadata[self.env.docname]["page_model"] = json.dumps(checksums())
        return [nodes.raw("", figure(text, up + FOLDER).html, format="html")]


def sources() -> list[Path]:
    """What the page depends on besides its own text."""
    folder = PACKAGE / "figures"
    names = ("model.safetensors", "tokenizer.json")
    return [*(CHECKPOINT / name for name in names), *sorted(folder.glob("page_model*.*")), *scripts(folder)]


def scripts(folder: Path) -> list[Path]:
    """Those of the model itself."""
    return sorted((folder / "page_model").glob("*.js"))


def write_files(app: Sphinx, problem: Exception | None) -> None:
    """Write the files of a build that passed, where those that lie there are not the same."""
    if problem is not None or app.builder.format != "html":
        return
    wanted: dict[str, int] = {}
    for about in app.env.metadata.values():
        wanted |= json.loads(about.get("page_model", "{}"))
    folder = Path(app.outdir) / FOLDER
    there = {path.name: zlib.crc32(path.read_bytes()) for path in folder.glob("*.js")}
    for name in set(there) - set(wanted):
        (folder / name).unlink()
    for name in wanted:
        if there.get(name) != wanted[name]:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files()[name])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("page-model", PageModel)
    app.connect("build-finished", write_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
