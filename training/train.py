"""Train the bundled checkpoint on two CPU cores, in about two hours: resumable, seeded, logged.

    python training/bpe.py
    python training/train.py                     # stop it at any time; the same command resumes
    python training/export.py                    # writes the folder that the package ships

With ``--shape multi-head`` it trains the multi-head sibling. With ``--start FOLDER`` it goes on from a
checkpoint, whose key/value heads are first averaged in groups where the shape has fewer of them: uptraining
(Ainslie et al. 2023, arXiv:2305.13245, section 2.1). ``training/multi_head.py`` runs all of that.

In the output folder: ``state.pt`` (to resume from), ``log.jsonl`` (loss, rate, held-out bits per byte),
``curve.svg``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import corpus
import torch
import torch.nn.functional as F
from data import TOKENS_PER_STEP, Batches, encode
from export import SHAPES
from tokenizers import Tokenizer
from torch import Tensor, nn

from teachkit.cache import LayerView, UncachedStep
from teachkit.config import ModelConfig
from teachkit.convert import group_heads
from teachkit.evaluate import bits_per_byte
from teachkit.model import Decoder
from teachkit.tokenizer import Tokenizer as TeachkitTokenizer
from teachkit.weights import load

SAVE_EVERY, LOG_EVERY, SCORE_EVERY = 100, 20, 400
LossOf = Callable[[Tensor, Tensor], Tensor]


class FusedStep(UncachedStep):
    """Attention by PyTorch's fused kernel: the same result as ours, and faster to differentiate."""

    def layer(self, index: int) -> LayerView:
        return _FusedLayer()


class _FusedLayer:
    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def initialise(model: Decoder) -> None:
    """Normal weights of 0.02; the matrices that write to the residual stream start at zero."""
    for name, p in model.named_parameters():
        if name.endswith(("attention.o.weight", "mlp.down.weight")):
            nn.init.zeros_(p)
        elif p.ndim == 2:
            nn.init.normal_(p, std=0.02)


def first_model(shape: str, start: Path | None) -> Decoder:
    """Fresh weights; or those of a checkpoint, in fp32, its key/value heads pooled to the shape's number."""
    config = ModelConfig.from_hugging_face(SHAPES[shape])
    if start is None:
        model = Decoder(config)
        initialise(model)
        return model
    model = group_heads(load(start), config.n_kv_heads)
    if model.config != config:
        raise ValueError(f"--start: expected {config}, got {model.config}")
    return model.train().requires_grad_(True)


def optimisers(model: Decoder, lr_muon: float, lr_adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks (Jordan et al. 2024), AdamW for the embedding and the norms."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [model.embedding.weight, *(p for p in model.parameters() if p.ndim == 1)]
    return [
        torch.optim.Muon(matrices, lr=lr_muon, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr_adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor of the learning rate: warm up, hold, fall linearly to zero over the last part of the run.

    Why  until the fall begins the rate does not depend on ``steps``: the length can be set late
    """
    return min(1.0, (step + 1) / warmup, (steps - step) / (steps * decay))


def loss_function(model: Decoder, *, compiled: bool) -> LossOf:
    """Mean cross-entropy in nats per token, forward in bf16."""

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = model.hidden(inputs, FusedStep(model.config, inputs))
            logits = model.project(model.norm(x))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return torch.compile(loss_of, dynamic=False) if compiled else loss_of


class Run:
    """The state of a run: what is saved, and what a resumed run starts from."""

    def __init__(self, model: Decoder, opts: list[torch.optim.Optimizer], file: Path) -> None:
        self.model, self.opts, self.file, self.step = model, opts, file, 0
        self.base_lr = [o.param_groups[0]["lr"] for o in opts]
        if file.exists():
            state = torch.load(file, weights_only=True)
            model.load_state_dict(state["model"])
            for o, saved in zip(opts, state["opts"], strict=True):
                o.load_state_dict(saved)
            self.step = state["step"]

    def save(self) -> None:
        """Whole or not at all: a run that is killed here resumes from the state before."""
        part = self.file.with_suffix(".part")
        opts = [o.state_dict() for o in self.opts]
        torch.save({"model": self.model.state_dict(), "opts": opts, "step": self.step}, part)
        os.replace(part, self.file)

    def update(self, loss_of: LossOf, batch: tuple[Tensor, Tensor], factor: float) -> float:
        loss = loss_of(*batch)
        loss.backward()
        for o, lr in zip(self.opts, self.base_lr, strict=True):
            o.param_groups[0]["lr"] = lr * factor
            o.step()
            o.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()


def draw_curve(log: Path, to: Path) -> None:
    """Training loss and held-out bits per byte over the tokens seen."""
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, left = plt.subplots(figsize=(7, 3.5), layout="constrained")
    left.plot([r["step"] * TOKENS_PER_STEP / 1e6 for r in rows], [r["loss"] for r in rows], color="0.6")
    left.set(xlabel="million tokens seen", ylabel="training loss, nats per token (grey)")
    scored = [r for r in rows if "bits_per_byte" in r]
    right = left.twinx()
    right.plot(
        [r["step"] * TOKENS_PER_STEP / 1e6 for r in scored], [r["bits_per_byte"] for r in scored], "o-"
    )
    right.set(ylabel="held-out bits per byte (blue)")
    figure.savefig(to, metadata={"Date": None})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2500, help=f"of {TOKENS_PER_STEP} tokens")
    parser.add_argument("--shape", choices=SHAPES, default="bundled")
    parser.add_argument("--start", type=Path, help="go on from this checkpoint folder")
    parser.add_argument("--skip", type=int, default=0, help="steps of the data that it has seen")
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr-muon", type=float, default=5e-3)
    parser.add_argument("--lr-adam", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps in which the rate rises")
    parser.add_argument("--decay", type=float, default=0.55, help="share of the run in which the rate falls")
    parser.add_argument("--long", type=float, default=0.85, help="rows of 512 until here, then of 1024")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    folder, log = args.out, args.out / "log.jsonl"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    files = corpus.collect()
    batches = Batches(encode(tokenizer, corpus.texts(files, "train")), args.seed)
    heldout = corpus.texts(files, "heldout")

    model = first_model(args.shape, args.start)
    run = Run(model, optimisers(model, args.lr_muon, args.lr_adam), folder / "state.pt")
    loss_of = loss_function(model, compiled=not args.eager)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, from step {run.step} of {args.steps}")

    losses: list[float] = []
    started, first = time.perf_counter(), run.step
    while run.step < args.steps:
        length = 512 if run.step < args.long * args.steps else 1024
        factor = schedule(run.step, args.steps, args.warmup, args.decay)
        losses.append(run.update(loss_of, batches(args.skip + run.step, length), factor))
        done = run.step == args.steps
        if run.step % LOG_EVERY == 0 or done:
            row = {
                "step": run.step,
                "loss": round(sum(losses) / len(losses), 4),
                "lr_factor": round(factor, 4),
            }
            losses.clear()
            if run.step % SCORE_EVERY == 0 or done:
                row["bits_per_byte"] = round(score(model, folder, heldout), 4)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            left_s = (time.perf_counter() - started) / (run.step - first) * (args.steps - run.step)
            print(row, f"{left_s / 60:.0f} min left", flush=True)
        if run.step % SAVE_EVERY == 0 or done:
            run.save()
    draw_curve(log, folder / "curve.svg")


def score(model: Decoder, folder: Path, heldout: list[str]) -> float:
    """Held-out bits per byte as the package computes it, in bf16 for speed."""
    model.tokenizer = model.tokenizer or TeachkitTokenizer(folder)
    with torch.autocast("cpu", torch.bfloat16):
        return bits_per_byte(model, heldout)


if __name__ == "__main__":
    main()
