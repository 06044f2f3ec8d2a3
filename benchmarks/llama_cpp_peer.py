"""llama.cpp's tokens per second on random weights of a shape, one JSON line per weight type.

    pip install llama-cpp-python gguf       # builds llama.cpp: some twenty minutes on two cores

Called by benchmarks/decode.py, which hands it the shape: its interpreter needs nothing else of this project.
Files are written once, to build/gguf.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGUFWriter

# As llama.h numbers its file types.
TYPES = {"f32": None, "f16": 1, "q8_0": 7, "q4_0": 2}
PROMPT = 64


def write_float(path: Path, config: Any) -> None:
    """A GGUF file in fp32: Llama's layers, tied embeddings, a vocabulary of placeholders."""
    rng = np.random.default_rng(0)
    C, D, V = config.d_model, config.head_dim, config.vocab_size
    file = GGUFWriter(str(path), "llama")
    file.add_context_length(config.context)
    file.add_embedding_length(C)
    file.add_block_count(config.n_layers)
    file.add_feed_forward_length(config.d_ff)
    file.add_head_count(config.n_heads)
    file.add_head_count_kv(config.n_kv_heads)
    file.add_layer_norm_rms_eps(config.norm_eps)
    file.add_rope_dimension_count(D)
    file.add_vocab_size(V)
    file.add_tokenizer_model("llama")
    special = [b"<unk>", b"<s>", b"</s>"]
    words = [f"<0x{i:02X}>".encode() for i in range(256)] + [f"w{i}".encode() for i in range(V - 259)]
    file.add_token_list(special + words)
    file.add_token_scores([0.0] * V)
    file.add_token_types([2, 3, 3] + [6] * 256 + [1] * (V - 259))

    def add(name: str, *size: int) -> None:
        values = np.ones(size) if len(size) == 1 else rng.standard_normal(size) * 0.02
        file.add_tensor(f"{name}.weight", values.astype(np.float32))

    add("token_embd", V, C)
    add("output_norm", C)
    for layer in range(config.n_layers):
        here = f"blk.{layer}."
        add(here + "attn_norm", C)
        add(here + "attn_q", config.n_heads * D, C)
        add(here + "attn_k", config.n_kv_heads * D, C)
        add(here + "attn_v", config.n_kv_heads * D, C)
        add(here + "attn_output", C, config.n_heads * D)
        add(here + "ffn_norm", C)
        add(here + "ffn_gate", config.d_ff, C)
        add(here + "ffn_up", config.d_ff, C)
        add(here + "ffn_down", C, config.d_ff)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def file_of(kind: str, folder: Path, config: Any, threads: int) -> Path:
    path, base = folder / f"{kind}.gguf", folder / "f32.gguf"
    if not base.exists():
        write_float(base, config)
    if not path.exists():
        how = llama_cpp.llama_model_quantize_default_params()
        how.ftype, how.nthread = TYPES[kind], threads
        if llama_cpp.llama_model_quantize(str(base).encode(), str(path).encode(), ctypes.byref(how)):
            raise SystemExit(f"llama.cpp could not write {kind}")
    return path


def rates(path: Path, tokens: int, rounds: int, threads: int) -> list[float]:
    """Tokens per second of ``rounds`` runs of ``tokens`` steps, each after a prompt of 64."""
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    found = []
    for _ in range(rounds):
        model.reset()
        model.eval(list(range(300, 300 + PROMPT)))
        started = time.perf_counter()
        for n in range(tokens):
            model.eval([400 + n])
        found.append(tokens / (time.perf_counter() - started))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="of the shape")
    parser.add_argument("--config", required=True, help="fields of teachkit's ModelConfig as JSON")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("build/gguf"))
    args = parser.parse_args()
    folder = args.folder / args.name
    folder.mkdir(parents=True, exist_ok=True)
    config = SimpleNamespace(**json.loads(args.config))
    for kind in args.types:
        path = file_of(kind, folder, config, args.threads)
        found = rates(path, args.tokens, args.rounds, args.threads)
        line = {"weights": kind, "tokens_per_s": statistics.median(found), "bytes": path.stat().st_size}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
