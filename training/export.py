"""Write a training state as a Hugging Face folder; the bundled one with manifest and held-out text.

python training/export.py
python training/export.py --shape multi-head --state build/training_multi_head/state.pt
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import corpus
import torch
from safetensors.torch import save_file
from torch import Tensor

from teachkit.config import ModelConfig
from teachkit.weights import sources_of

CHECKPOINTS = Path(__file__).parents[1] / "src/teachkit/checkpoints"
BUNDLED: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 704,
    "max_position_embeddings": 1024,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "dtype": "bfloat16",
}
# The sibling has a key/value head for every query head, so that there is something to convert to groups. It
# is smaller, for it is trained to be compared with its own conversion, not to write well. A group of three:
# a mean of two heads would lose too little to show, and six heads in one group would be multi-query.
MULTI_HEAD = BUNDLED | {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "intermediate_size": 512,
}
SHAPES = {
    "bundled": BUNDLED,
    "multi-head": MULTI_HEAD,
    "multi-head-grouped": MULTI_HEAD | {"num_key_value_heads": 2},
}


def to_hugging_face(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our names to theirs, in bf16; every tensor of ours is used, none twice."""
    theirs = {source.name: state.pop(source.ours[0]) for source in sources_of(config, "model.")}
    assert not state, f"left over: {sorted(state)}"
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in theirs.items()}


def write_folder(state: dict[str, Tensor], shape: str, trained: Path, folder: Path) -> None:
    """config.json, model.safetensors, tokenizer.json, tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = ModelConfig.from_hugging_face(SHAPES[shape])
    save_file(to_hugging_face(state, config), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(SHAPES[shape], indent=2) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained / name, folder / name)


def write_heldout(folder: Path) -> None:
    """The held-out files in one JSON (path: text), their licence, and the manifest of the whole corpus."""
    files = corpus.collect()
    held = {source.path: text for source, text in files if source.split == "heldout"}
    (folder / "heldout.json").write_text(
        json.dumps(held, indent=0, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.copy(corpus.stdlib() / "LICENSE.txt", folder / "LICENSE-PSF.txt")
    corpus.write_manifest(files, folder / "manifest.json", f"CPython {platform.python_version()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="bundled")
    parser.add_argument("--state", type=Path, default=Path("build/training/state.pt"))
    parser.add_argument("--out", type=Path, help="default: the package's folder of that shape")
    args = parser.parse_args()
    folder = args.out or CHECKPOINTS / args.shape.replace("-", "_")
    state = torch.load(args.state, weights_only=True)["model"]
    write_folder(state, args.shape, args.state.parent, folder)
    if args.shape == "bundled":
        write_heldout(folder)
    print(folder)


if __name__ == "__main__":
    main()
