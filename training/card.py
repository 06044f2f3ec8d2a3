"""Write the model card of the bundled checkpoint: every number in it is computed here.

python training/card.py
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
from pathlib import Path

import corpus
import torch
from data import TOKENS_PER_STEP

import teachkit as tk
from teachkit.cli import describe

FOLDER = tk.weights.find("bundled")
TRAINED = Path("build/training")
SAMPLER = {"temperature": 0.8, "top_p": 0.95}
PROMPTS = [
    "def ",
    "import ",
    "class ",
    "def read_config(path):\n",
    "class TestParser(unittest.TestCase):\n    def ",
    "for line in ",
    "try:\n    ",
    '    """Return the ',
    '    """Raise ValueError if ',
    '"""This module provides ',
]


def completions(model: tk.Decoder) -> list[dict[str, str]]:
    """What the model writes after each prompt: 60 tokens, seed 0, first try, unedited."""
    sample = tk.sampler(**SAMPLER)
    made = [tk.generate(model, prompt, 60, sample, seed=0) for prompt in PROMPTS]
    return [{"prompt": prompt, "text": g.text} for prompt, g in zip(PROMPTS, made, strict=True)]


def xz_bits_per_byte(held: list[str], train: list[str]) -> tuple[float, float]:
    """What xz -9e needs per byte: alone, and with the whole training text before it."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]

    def size(text: str) -> int:
        return len(lzma.compress(text.encode(), format=lzma.FORMAT_RAW, filters=filters))

    target, before = "".join(held), "".join(train)
    n_bytes = len(target.encode())
    return 8 * size(target) / n_bytes, 8 * (size(before + target) - size(before)) / n_bytes


def card(model: tk.Decoder, made: list[dict[str, str]]) -> str:
    files = corpus.collect()
    held, train = corpus.texts(files, "heldout"), corpus.texts(files, "train")
    alone, with_dictionary = xz_bits_per_byte(held, train)
    log = [json.loads(row) for row in (TRAINED / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    facts = describe(tk.load("bundled", dtype=torch.bfloat16))
    scores = {
        "bits_per_byte": tk.evaluate.bits_per_byte(model, held),
        "perplexity": tk.evaluate.perplexity(model, held),
    }
    sample = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in SAMPLER.items())
    blocks = "\n\n".join(f"```text\n{m['prompt']}{m['text']}\n```" for m in made)
    return TEMPLATE.format(
        **facts,
        **scores,
        python=manifest["python"],
        train_mb=manifest["bytes"]["train"] / 1e6,
        held_mb=manifest["bytes"]["heldout"] / 1e6,
        n_train=sum(f["split"] == "train" for f in manifest["files"]),
        n_held=sum(f["split"] == "heldout" for f in manifest["files"]),
        steps=log[-1]["step"],
        per_step=TOKENS_PER_STEP,
        tokens=log[-1]["step"] * TOKENS_PER_STEP / 1e6,
        xz_alone=alone,
        xz_dictionary=with_dictionary,
        sample=sample,
        blocks=blocks,
    )


TEMPLATE = """\
---
license: psf-2.0
library_name: transformers
pipeline_tag: text-generation
language: code
---
# The bundled model

A small decoder of Llama's architecture, trained for the course *Memory Bound*. It writes Python that looks
like the standard library's. It exists to be opened, measured and quantized, not to be used: what it writes
is seldom right and not to be run.

| | |
| --- | --- |
| architecture | RMSNorm, rotary positions, SwiGLU, tied embeddings, grouped-query attention |
| layers, width, feed-forward | {n_layers}, {d_model}, {d_ff} |
| heads | {n_heads} for queries over {n_kv_heads} for keys and values, of {head_dim} each |
| parameters | {parameters:,} ({weight_bytes:,} bytes in {dtype}) |
| vocabulary | {vocab_size} byte-level BPE tokens |
| context | {context} tokens |
| trained on | the standard library of {python}, tests included: {n_train} files, {train_mb:.1f} MB |
| training | {steps} steps of {per_step} tokens ({tokens:.1f} million), Muon and AdamW, on two CPU cores |
| held out | {n_held} library files, {held_mb:.2f} MB, in `heldout.json` |
| held-out bits per byte | **{bits_per_byte:.3f}** (fp32 arithmetic on the stored weights) |
| held-out perplexity per token | {perplexity:.2f} |
| `xz -9e` on the same text | {xz_alone:.2f} bits per byte; {xz_dictionary:.2f} after all training text |

`manifest.json` lists path, sha256, size and split of every file. A library file that is no test is held out
when `int(sha256(relative posix path), 16) % 20 == 0`. Left out on both sides: the machine-made character
tables of `encodings/`, files that a build of Python writes, and files that are not UTF-8. Score: a
separator first, windows of 512 tokens that do not overlap, all bytes counted
(`teachkit.evaluate.bits_per_byte`).

To train it again: `python training/bpe.py`, `python training/train.py`, `python training/export.py`,
`python training/card.py`. That gives a model as good, not the same numbers: sums in bf16 differ between
machines, and the first 800 steps of this run were made by an earlier version of the script, with the same
data, optimiser and schedule from other initial values. The manifest says which files it was trained on.

![Training loss and held-out bits per byte over the tokens seen](curve.svg)

## What it writes

Ten prompts, one try each, unedited: 60 tokens, {sample}, seed 0.

{blocks}

## Licence

The training text, the held-out text and so these weights come from CPython, (c) Python Software Foundation,
under the PSF licence, version 2 (`LICENSE-PSF.txt`).
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    model = tk.load("bundled")
    made = completions(model)
    (FOLDER / "completions.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    shutil.copy(TRAINED / "curve.svg", FOLDER / "curve.svg")
    (FOLDER / "README.md").write_text(card(model, made), encoding="utf-8")
    print(FOLDER / "README.md")


if __name__ == "__main__":
    main()
