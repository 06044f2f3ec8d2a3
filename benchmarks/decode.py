"""Tokens per second of one sequence, beside transformers and llama.cpp, and each beside its own bound.

    python benchmarks/decode.py                                  # SmolLM2-135M's shape, random weights
    python benchmarks/decode.py --llama-python PATH/TO/python    # an interpreter that has llama-cpp-python

All take turns (A B C, A B C), so that a slow spell of the machine falls on each alike; a row gives the median
of the turns. A row's bound is the time in which its own bytes are read at the bandwidth measured before and
after; its share is how much of that bandwidth it reached. Same threads for all; 64 tokens after 64.
What is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from predict import random_model

import teachkit as tk
from teachkit import bench, measure
from teachkit.shapes import shape as published

PROMPT, TOKENS = 64, 64
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Row:
    """One contestant: what it is, the bytes of weights that a token reads, and its turns so far."""

    name: str
    dtype: str
    n_bytes: int
    bits: dict[str, float] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return statistics.median(self.turns)


SCHEMES = ("fp32", "bf16", "int8", "int4", "w8a8", "int8, bf16 head", "int4, bf16 head")


def ours(config: tk.ModelConfig, scheme: str) -> tk.Decoder:
    """The model as a user makes it: loaded, quantized, compiled.

    The head is quantized to 8 bits, as in llama.cpp's files, unless the scheme names another.
    int4 is that of `teachkit bench`: groups of 64, a scale and a zero each. GPTQ would give other codes in as
    many bytes; of random weights there is no better choice.
    """
    if scheme in DTYPES:
        return tk.fast(random_model(config, DTYPES[scheme]))
    kind, _, head = scheme.partition(", ")
    model = random_model(config, torch.bfloat16 if head else torch.float32)
    return tk.fast(tk.quantize(model, kind, head="keep" if head else "int8"))


def turn_of_ours(model: tk.Decoder) -> float:
    out = tk.generate(model, list(range(300, 300 + PROMPT)), TOKENS)
    if len(out.tokens) < TOKENS:
        raise SystemExit("a random model ended its text; choose another seed")
    return 1 / out.tpot_s


def transformers_model(config: tk.ModelConfig, dtype: torch.dtype) -> object:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    theirs = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        intermediate_size=config.d_ff,
        tie_word_embeddings=config.tied,
        max_position_embeddings=config.context,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(theirs).to(dtype).eval()


@torch.inference_mode()
def turn_of_transformers(model: object) -> float:
    """From the time of 65 tokens less that of one, so that the prompt is not counted."""
    prompt = torch.arange(300, 300 + PROMPT)[None]

    def seconds(n: int) -> float:
        started = time.perf_counter()
        model.generate(prompt, max_new_tokens=n, min_new_tokens=n, do_sample=False)  # type: ignore[attr-defined]
        return time.perf_counter() - started

    return TOKENS / (seconds(TOKENS + 1) - seconds(1))


def llama_cpp(
    python: str, shape: str, config: tk.ModelConfig, threads: int
) -> Iterator[tuple[str, float, int]]:
    """One turn of each of llama.cpp's weight types: name, tokens/s, bytes of the file."""
    script = Path(__file__).with_name("llama_cpp_peer.py")
    names = ("vocab_size", "d_model", "head_dim", "context", "n_layers", "d_ff", "n_heads", "n_kv_heads")
    fields = json.dumps({name: getattr(config, name) for name in (*names, "norm_eps")})
    command = [python, str(script), "--name", shape, "--config", fields]
    command += ["--rounds", "1", "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        yield f"llama.cpp {found['weights']}", found["tokens_per_s"], found["bytes"]


def contestants(config: tk.ModelConfig, kept: list[str]) -> Iterator[tuple[Row, Callable[[], float]]]:
    for scheme in kept:
        model = ours(config, scheme)
        bits = {use.name: use.bits_per_weight for use in model.kernels()}
        yield Row("teachkit", scheme, model.weight_bytes(), bits), lambda m=model: turn_of_ours(m)
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed: left out")
        return
    for name, dtype in DTYPES.items():
        model = transformers_model(config, dtype)
        n_bytes = sum(p.nbytes for p in model.parameters())  # type: ignore[attr-defined]
        yield Row("transformers", name, n_bytes), lambda m=model: turn_of_transformers(m)


def report(rows: list[Row], bytes_per_s: float) -> None:
    print(
        f"\n{'':14}{'weights':16}{'MB a token':>11}{'bits, head':>12}{'tokens/s':>10}{'bound':>8}{'share':>7}"
    )
    for row in rows:
        bound = bytes_per_s / row.n_bytes
        layer, head = (row.bits.get(n) for n in ("blocks.0.mlp.gate", "head"))
        bits = f"{layer:.2f}, {head:.2f}" if layer and head else ""
        print(
            f"{row.name:14}{row.dtype:16}{row.n_bytes / 1e6:11,.1f}{bits:>12}{row.tokens_per_s:10.1f}"
            f"{bound:8.1f}{row.tokens_per_s / bound:7.0%}"
        )


def ratios(rows: list[Row]) -> Iterator[tuple[str, float]]:
    rate = {(row.name, row.dtype): row.tokens_per_s for row in rows}
    pairs = [("fp32", "fp32"), ("bf16", "bf16"), ("int8", "bf16"), ("int4", "bf16")]
    peers = [("teachkit", a, "transformers", b) for a, b in pairs]
    peers += [
        ("teachkit", a, "llama.cpp", b) for a, b in zip(("fp32", "bf16", "int8", "int4"), LLAMA, strict=True)
    ]
    for name, a, peer, b in peers:
        if (name, a) in rate and (peer, b) in rate:
            yield f"{name} {a} / {peer} {b}", rate[name, a] / rate[peer, b]


LLAMA = ("f32", "f16", "q8_0", "q4_0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument(
        "--llama-python", default=None, help="an interpreter that has llama-cpp-python and gguf"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decode.jsonl"))
    args = parser.parse_args()
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    config = published(args.shape).config
    python = args.llama_python or (sys.executable if importlib.util.find_spec("llama_cpp") else None)
    if python is None:
        print("llama-cpp-python is not installed: left out (see benchmarks/llama_cpp_peer.py)")
    bandwidth = [bench.read_bandwidth(bench.READ_BYTES)]
    runs = list(contestants(config, args.schemes))
    rows = [row for row, _ in runs]
    theirs: dict[str, Row] = {}
    for turn in range(args.turns + 1):  # the first is a warm-up
        for row, call in runs:
            gc.collect()
            rate = call()
            if turn:
                row.turns.append(rate)
        for name, rate, n_bytes in llama_cpp(python, args.shape, config, threads) if python and turn else ():
            kind, dtype = name.split()
            theirs.setdefault(dtype, Row(kind, dtype, n_bytes)).turns.append(rate)
        bandwidth.append(bench.read_bandwidth(bench.READ_BYTES, repeats=5))
    rows += theirs.values()
    best = max(bandwidth, key=lambda found: found.value)
    low = min(found.value for found in bandwidth)
    print(
        f"{best.device}, {threads} threads; reads {low / 1e9:.1f} to {best.value / 1e9:.1f} GB/s in this run"
    )
    report(rows, best.value)
    found = [best]
    for row in rows:
        about = {
            "who": row.name,
            "weights": row.dtype,
            "shape": args.shape,
            "bytes": row.n_bytes,
            "bits": row.bits,
        }
        timing = measure.Timing(tuple(1 / t for t in row.turns))
        found.append(measure.result("decode", row.tokens_per_s, "tokens/s", timing=timing, config=about))
    print()
    for name, ratio in ratios(rows):
        print(f"{name:40}{ratio:6.2f}")
    measure.append(found, args.out)
    print(f"{len(found)} result records added to {args.out}")


if __name__ == "__main__":
    main()
