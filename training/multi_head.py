"""From a trained multi-head sibling to its grouped conversion: pool, train on a little, compare, write cards.

    python training/train.py --shape multi-head --steps 1000 --out build/training_multi_head
    python training/multi_head.py                # stop it at any time; the same command resumes

Uptraining takes 5 % of the original steps, as in Ainslie et al. 2023, arXiv:2305.13245, and goes on with the
data where the original training stopped. The control is the sibling itself, trained on by as much with
all its heads: what pooling costs in the end is the difference to it. Each of the two is tried at the same few
peaks of the learning rate, and the one with the lowest *training* loss at the end is taken.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import corpus
import torch
from data import TOKENS_PER_STEP
from export import CHECKPOINTS, SHAPES, write_folder

import teachkit as tk
from teachkit.cli import describe
from teachkit.convert import group_heads

HERE = Path(__file__).parent
SHARE = 0.05
PEAKS = {"lr-muon": 5e-3, "lr-adam": 3e-3}  # of the training before, see train.py
FACTORS = (0.03, 0.1, 0.3, 1.0)
GROUPED = SHAPES["multi-head-grouped"]["num_key_value_heads"]


def rows_of(folder: Path) -> list[dict[str, float]]:
    """What train.py logged."""
    return [json.loads(row) for row in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def export(trained: Path, shape: str, folder: Path) -> None:
    state = torch.load(trained / "state.pt", weights_only=True)["model"]
    write_folder(state, shape, trained, folder)


def train_on(shape: str, factor: float, start: Path, seen: int, trained: Path) -> Path:
    """train.py from the checkpoint in ``start``; every step's rate is lower than the one before."""
    out = trained.with_name(f"{trained.name}_{shape}_{factor}")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained / name, out / name)
    steps = max(1, round(SHARE * seen))
    options = {
        "shape": shape, "start": start, "skip": seen, "steps": steps, "out": out,
        "warmup": 1, "decay": 1, "long": 0,
    } | {name: factor * peak for name, peak in PEAKS.items()}  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, str(HERE / "train.py"), *words, "--eager"], check=True)
    return out


def best(shape: str, start: Path, seen: int, trained: Path) -> tuple[float, Path]:
    """Factor and folder of the run with the lowest training loss over its last logged steps."""
    runs = {factor: train_on(shape, factor, start, seen, trained) for factor in FACTORS}
    factor = min(runs, key=lambda f: rows_of(runs[f])[-1]["loss"])
    return factor, runs[factor]


def scores(sibling: Path, grouped: Path, control: Path) -> dict[str, float]:
    """Held-out bits per byte in fp32 arithmetic on the stored bf16 weights; pooled ones are not rounded."""
    held = corpus.texts(corpus.collect(), "heldout")
    model = tk.load(sibling)
    models = {
        "multi_head": model,
        "mean": group_heads(model, GROUPED, "mean"),
        "first": group_heads(model, GROUPED, "first"),
        "random": group_heads(model, GROUPED, "random", seed=0),
        "mean_uptrained": tk.load(grouped),
        "multi_head_trained_on": tk.load(control),
    }
    found = {}
    for name, each in models.items():
        found[name] = round(tk.evaluate.bits_per_byte(each, held), 4)
        print(f"{name:22} {found[name]:.4f} bits per byte", flush=True)
    return found


def require_same_corpus() -> None:
    """The cards name the bundled model's manifest: it must be true of these models too."""
    manifest = json.loads((CHECKPOINTS / "bundled" / "manifest.json").read_text(encoding="utf-8"))
    listed = {f["path"]: f["sha256"] for f in manifest["files"]}
    here = {source.path: source.sha256 for source, _ in corpus.collect()}
    if listed != here:
        raise SystemExit(f"expected the files of {manifest['python']}, as in the bundled model's manifest")


def card(name: str, folder: Path, facts: dict[str, float]) -> str:
    shape = describe(tk.load(folder, dtype=torch.bfloat16))
    return HEAD[name] + BODY.format(**shape, **facts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trained", type=Path, default=Path("build/training_multi_head"))
    parser.add_argument("--out", type=Path, default=CHECKPOINTS, help="the two folders are written here")
    args = parser.parse_args()
    require_same_corpus()
    seen = torch.load(args.trained / "state.pt", weights_only=True)["step"]
    if rows_of(args.trained)[-1].get("lr_factor", 1.0) > 0.1 or rows_of(args.trained)[-1]["step"] != seen:
        raise SystemExit(f"{args.trained}: the training has not ended, it is at step {seen}")
    sibling, grouped = args.out / "multi_head", args.out / "multi_head_grouped"
    export(args.trained, "multi-head", sibling)
    factor, run = best("multi-head-grouped", sibling, seen, args.trained)
    export(run, "multi-head-grouped", grouped)
    control_factor, control_run = best("multi-head", sibling, seen, args.trained)
    export(control_run, "multi-head", control_run / "checkpoint")

    found = scores(sibling, grouped, control_run / "checkpoint")
    steps = rows_of(run)[-1]["step"]
    facts = found | {
        "steps": seen,
        "per_step": TOKENS_PER_STEP,
        "tokens": seen * TOKENS_PER_STEP / 1e6,
        "up_steps": steps,
        "up_tokens": steps * TOKENS_PER_STEP / 1e6,
        "factor": factor,
        "control_factor": control_factor,
        "factors": ", ".join(map(str, FACTORS)),
    }
    for folder in (sibling, grouped):
        (folder / "README.md").write_text(card(folder.name, folder, facts), encoding="utf-8")
        print(folder / "README.md")
    (sibling / "scores.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


FRONT = """\
---
license: psf-2.0
library_name: transformers
pipeline_tag: text-generation
language: code
---
"""
HEAD = {
    "multi_head": FRONT
    + """\
# The multi-head sibling

A smaller sibling of the bundled model, with a key/value head of its own for every query head: what a
grouped model is converted from. It exists to be converted and measured in the course *Memory Bound*. What
it writes is seldom right and not to be run.
""",
    "multi_head_grouped": FRONT
    + """\
# The multi-head sibling, with grouped heads

The multi-head sibling in `../multi_head` after conversion: the projections of neighbouring key/value heads
were averaged in groups, and the whole model was trained on for a short while. It exists to be measured in
the course *Memory Bound*. What it writes is seldom right and not to be run.
""",
}
BODY = """
| | |
| --- | --- |
| architecture | RMSNorm, rotary positions, SwiGLU, tied embeddings |
| layers, width, feed-forward | {n_layers}, {d_model}, {d_ff} |
| heads | {n_heads} for queries over {n_kv_heads} for keys and values, of {head_dim} each |
| parameters | {parameters:,} ({weight_bytes:,} bytes in {dtype}) |
| vocabulary | {vocab_size} byte-level BPE tokens, the bundled model's tokenizer |
| context | {context} tokens |
| training of the sibling | {steps} steps of {per_step} tokens ({tokens:.1f} million), Muon and AdamW |
| uptraining | {up_steps} steps more ({up_tokens:.2f} million tokens), fresh optimisers, falling rate |

## What conversion costs

| keys and values | held-out bits per byte |
| --- | ---: |
| the multi-head sibling | {multi_head:.3f} |
| mean of each group | {mean:.3f} |
| first head of each group | {first:.3f} |
| random heads of the same scale (seed 0) | {random:.3f} |
| mean of each group, then uptrained | {mean_uptrained:.3f} |
| control: the sibling itself trained on for as many steps | {multi_head_trained_on:.3f} |

Scored as the bundled model is, on the same held-out text (`../bundled/heldout.json`), in fp32 arithmetic on
the stored bf16 weights; pooled weights are not rounded again. Training and held-out files are those in
`../bundled/manifest.json`. The rate of uptraining falls in a line from a peak that is a factor of the peak
before: of {factors}, the one with the lowest training loss at the end, which is {factor} for the grouped
model and {control_factor} for the control.

Conversion and uptraining are those of Ainslie et al. 2023 (arXiv:2305.13245). To do it again: copy the
bundled model's `tokenizer.json` and `tokenizer_config.json` to a folder `build/training_multi_head`, then
`python training/train.py --shape multi-head --steps {steps} --out build/training_multi_head` and
`python training/multi_head.py`.

## Licence

The training text and so these weights come from CPython, (c) Python Software Foundation, under the PSF
licence, version 2 (`../bundled/LICENSE-PSF.txt`).
"""


if __name__ == "__main__":
    main()
