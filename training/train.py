"""Train the bundled checkpoint: resumable, seeded, logged.

    python training/train.py --steps 3600 --out build/training
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

C, L, H, HKV, FF, V, D = 256, 6, 4, 2, 704, 4096, 64
CONTEXT, TOKENS_PER_STEP = 1024, 8192


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(C, eps=1e-5)
        self.mlp_norm = nn.RMSNorm(C, eps=1e-5)
        self.q = nn.Linear(C, H * D, bias=False)
        self.k = nn.Linear(C, HKV * D, bias=False)
        self.v = nn.Linear(C, HKV * D, bias=False)
        self.o = nn.Linear(H * D, C, bias=False)
        self.gate = nn.Linear(C, FF, bias=False)
        self.up = nn.Linear(C, FF, bias=False)
        self.down = nn.Linear(FF, C, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.q(h).view(B, T, H, D).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(B, T, HKV, D).transpose(1, 2), cos, sin)
        v = self.v(h).view(B, T, HKV, D).transpose(1, 2)
        k, v = (t.repeat_interleave(H // HKV, 1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(out.transpose(1, 2).reshape(B, T, H * D))
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.blocks = nn.ModuleList(Block() for _ in range(L))
        self.norm = nn.RMSNorm(C, eps=1e-5)
        angle = torch.arange(CONTEXT)[:, None] / 10000 ** (torch.arange(0, D, 2) / D)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)
            if name.endswith(("o.weight", "down.weight")):
                nn.init.zeros_(p)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        T = x.shape[1]
        cos, sin = self.cos[:T].bfloat16(), self.sin[:T].bfloat16()
        h = self.embedding(x)
        for block in self.blocks:
            h = block(h, cos, sin)
        logits = F.linear(self.norm(h), self.embedding.weight)
        return F.cross_entropy(logits.view(-1, V).float(), y.reshape(-1), reduction="none", ignore_index=-1)


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return [np.array([0, *e.ids], dtype=np.int64) for e in tokenizer.encode_batch(texts)]


class Batches:
    """Every epoch: files in a new order, cut into rows of CONTEXT + 1, rows in a new order."""

    def __init__(self, files: list[np.ndarray], seed: int) -> None:
        self.files, self.seed, self.epoch = files, seed, -1
        self.rows_per_epoch = sum(map(len, files)) // CONTEXT - 1

    def __call__(self, step: int, length: int) -> tuple[Tensor, Tensor]:
        n = TOKENS_PER_STEP // CONTEXT
        per_epoch = self.rows_per_epoch // n
        epoch, i = divmod(step, per_epoch)
        if epoch != self.epoch:
            rng = np.random.default_rng((self.seed, epoch))
            self.stream = np.concatenate([self.files[j] for j in rng.permutation(len(self.files))])
            self.order, self.epoch = rng.permutation(self.rows_per_epoch), epoch
        starts = self.order[i * n : (i + 1) * n] * CONTEXT
        rows = torch.from_numpy(np.stack([self.stream[s : s + CONTEXT + 1] for s in starts]))
        return rows[:, :-1].reshape(-1, length), rows[:, 1:].reshape(-1, length)


@torch.no_grad()
def bits_per_byte(model: nn.Module, files: list[np.ndarray], n_bytes: int) -> float:
    nats, rows = 0.0, []
    for tokens in files:
        tokens = np.append(tokens, 0)  # the last 0 only pads; the separator is first
        for s in range(0, len(tokens) - 2, 512):
            row = tokens[s : min(s + 513, len(tokens) - 1)]
            rows.append(np.pad(row, (0, 513 - len(row)), constant_values=-1))
    for i in range(0, len(rows), 16):
        b = torch.from_numpy(np.stack(rows[i : i + 16]))
        with torch.autocast("cpu", torch.bfloat16):
            nats += model(b[:, :-1].clamp_min(0), b[:, 1:]).double().sum().item()
    return nats / math.log(2) / n_bytes


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """Warm up, hold, then fall linearly to zero over the last part."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (steps * decay)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr-muon", type=float, default=5e-3)
    parser.add_argument("--lr-adam", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.6)
    parser.add_argument("--long", type=float, default=0.85)
    parser.add_argument("--stop", type=int, default=10**9)
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    files = corpus.collect()
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    train_files = encode(tokenizer, corpus.texts(files, "train"))
    held_texts = corpus.texts(files, "heldout")
    held = encode(tokenizer, held_texts)
    held_bytes = sum(len(t.encode()) for t in held_texts)
    batches = Batches(train_files, args.seed)
    print("train tokens", sum(map(len, train_files)), "held", sum(map(len, held)), held_bytes, flush=True)

    model = Model()
    print("parameters", sum(p.numel() for p in model.parameters()))
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [model.embedding.weight, *(p for p in model.parameters() if p.ndim == 1)]
    opts = [
        torch.optim.Muon(matrices, lr=args.lr_muon, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=args.lr_adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    base = [o.param_groups[0]["lr"] for o in opts]
    start, state_file = 0, args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for o, s in zip(opts, state["opts"], strict=True):
            o.load_state_dict(s)
        start = state["step"]
    compiled = model if args.eager else torch.compile(model, dynamic=False)
    log = (args.out / "log.jsonl").open("a")

    def save(step: int) -> None:
        tmp = state_file.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step}, tmp)
        os.replace(tmp, state_file)

    t0, running = time.time(), []
    for step in range(start, min(args.steps, args.stop)):
        factor = schedule(step, args.steps, 100, args.decay)
        for o, b in zip(opts, base, strict=True):
            o.param_groups[0]["lr"] = b * factor
        x, y = batches(step, 512 if step < args.long * args.steps else 1024)
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(x, y).mean()
        loss.backward()
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        running.append(loss.item())
        if (step + 1) % 20 == 0:
            row = {"step": step + 1, "loss": round(sum(running) / len(running), 4), "lr": round(factor, 4), "s": round(time.time() - t0, 1)}
            running = []
            if (step + 1) % 400 == 0 or step + 1 == args.steps:
                row["bits_per_byte"] = round(bits_per_byte(compiled, held, held_bytes), 4)
            print(row, flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            save(step + 1)


if __name__ == "__main__":
    main()
