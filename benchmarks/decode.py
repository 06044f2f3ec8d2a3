"""Decoding with a cache, against recomputing and against transformers: ratios from one run.

    python benchmarks/decode.py --out benchmarks/results/decode.jsonl

Batch 1, greedy, the bundled model in fp32. The calls take turns (A B C A B C), so that a slow spell of
the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import teachkit as tk
from teachkit import measure


def prompt_of(model: tk.Decoder, n_tokens: int) -> list[int]:
    """The first tokens of this very file, repeated: text of the kind that the model knows."""
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(Path(__file__).read_text(encoding="utf-8"))
    return (ids * (n_tokens // len(ids) + 1))[:n_tokens]


def step_calls(model: tk.Decoder, context: int) -> dict[str, Callable[[], object]]:
    """One more token at ``context`` tokens: from the cache, and from scratch."""
    prompt = prompt_of(model, context + 1)
    cache = tk.cache.ContiguousCache(model.config, 1, context + 1)
    tk.decode.prefill(model, cache, prompt[:-1])
    last, whole = torch.tensor([prompt[-1:]]), torch.tensor([prompt])

    @torch.inference_mode()
    def cached() -> None:
        model(last, cache=cache)
        cache.truncate(0, context)

    @torch.inference_mode()
    def recomputed() -> None:
        model(whole, last_only=True)

    return {"cached": cached, "recompute": recomputed}


def generate_calls(model: tk.Decoder, context: int, new_tokens: int) -> dict[str, Callable[[], object]]:
    """The whole of generation: prefill of ``context`` tokens, then ``new_tokens``, both with a cache."""
    prompt = prompt_of(model, context)
    peer = AutoModelForCausalLM.from_pretrained(tk.weights.find("bundled"), dtype=torch.float32).eval()
    batch = torch.tensor([prompt])
    settings = {
        "max_new_tokens": new_tokens,
        "min_new_tokens": new_tokens,
        "do_sample": False,
        "pad_token_id": 0,
    }
    ours = {"teachkit": lambda: tk.generate(model, prompt, new_tokens)}
    return ours | {
        "transformers": lambda: peer.generate(batch, attention_mask=torch.ones_like(batch), **settings)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decode.jsonl"))
    args = parser.parse_args()
    model = tk.load("bundled")
    config = {"model": "bundled", "batch": 1, "context": args.context, "new_tokens": args.new_tokens}
    results = []

    def record(name: str, slow: measure.Timing, fast: measure.Timing, unit: str) -> None:
        value = slow.median_s / fast.median_s
        results.append(measure.result(name, value, unit, timing=fast, config=config, dtype="float32"))
        print(
            f"{name:34} {value:6.2f} {unit}   "
            f"({slow.median_s * 1e3:.2f} ms against {fast.median_s * 1e3:.2f} ms)"
        )

    steps = measure.time_calls(step_calls(model, args.context), repeats=args.repeats)
    record("decode.cached_over_recompute", steps["recompute"], steps["cached"], "times faster")
    whole = measure.time_calls(generate_calls(model, args.context, args.new_tokens), repeats=args.repeats)
    record("generate.teachkit_over_transformers", whole["transformers"], whole["teachkit"], "times faster")
    measure.append(results, args.out)
    print(f"{len(results)} result records added to {args.out}")


if __name__ == "__main__":
    main()
