"""The bundled checkpoint: transformers loads it unchanged and agrees; score, manifest and card are true."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
import transformers
from safetensors import safe_open

import teachkit as tk
from tolerance import LOGITS

FOLDER = tk.weights.find("bundled")
PROMPTS = ["def ", "import ", 'class Reader:\n    """', "# Copyright (C) 2001", "x = [", "\n\n\n"]


def read_json(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def oracle():
    return transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def heldout():
    return read_json("heldout.json")


def test_is_a_llama_with_grouped_heads(oracle):
    assert isinstance(oracle, transformers.LlamaForCausalLM)
    config = tk.ModelConfig.from_folder(FOLDER)
    assert config.tied
    assert config.n_kv_heads < config.n_heads
    assert config.vocab_size == 4096
    assert 4e6 < oracle.num_parameters() < 7.5e6


def test_every_tensor_is_bf16():
    with safe_open(str(FOLDER / "model.safetensors"), framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


@torch.inference_mode()
def test_logits_agree_with_transformers(bundled, oracle, heldout):
    text = max(heldout.values(), key=len)
    tokens = torch.tensor([bundled.tokenizer.encode(text)[: bundled.config.context]])
    torch.testing.assert_close(bundled(tokens), oracle(tokens).logits, **LOGITS[torch.float32])


@pytest.mark.parametrize("prompt", PROMPTS, ids=repr)
def test_greedy_equals_transformers_generate_for_200_tokens(prompt, bundled, oracle):
    ids = bundled.tokenizer.encode(prompt)
    theirs = oracle.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=200,
        do_sample=False,
        pad_token_id=0,
    )[0, len(ids) :].tolist()
    ours = tk.generate(bundled, prompt, 200).tokens
    assert len(ours) == 200 or ours[-1] in bundled.config.eos_token_ids
    assert ours == theirs


def test_bits_per_byte_of_a_sample(bundled, heldout):
    """Three files of middling size, each within a fifth of the limit that holds for all together."""
    texts = sorted(heldout.values(), key=len)[15:18]
    assert tk.evaluate.bits_per_byte(bundled, texts) < 1.40 * 1.2


@pytest.mark.slow
def test_held_out_bits_per_byte(bundled, heldout):
    """Below what xz -9e reaches with all the training text as its dictionary, by a wide margin."""
    score = tk.evaluate.bits_per_byte(bundled, list(heldout.values()))
    assert score < 1.15
    assert f"**{score:.3f}**" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_manifest_follows_the_rule_and_matches_the_text(heldout):
    manifest = read_json("manifest.json")
    files = {f["path"]: f for f in manifest["files"]}
    assert len(files) == len(manifest["files"])
    for path, file in files.items():
        digest = int(hashlib.sha256(path.encode()).hexdigest(), 16)
        parts = path.split("/")
        test = any(p in {"test", "tests", "idle_test"} or p.startswith("test_") for p in parts)
        assert file["split"] == ("heldout" if digest % 20 == 0 and not test else "train"), path
        assert not path.startswith(("site-packages", "encodings"))
    assert set(heldout) == {path for path, f in files.items() if f["split"] == "heldout"}
    for path, text in heldout.items():
        data = text.encode()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (files[path]["bytes"], files[path]["sha256"])
    for split in ("train", "heldout"):
        assert manifest["bytes"][split] == sum(f["bytes"] for f in files.values() if f["split"] == split)


def test_training_text_is_not_in_the_package(heldout):
    assert sum(len(text.encode()) for text in heldout.values()) < 1e6
    allowed = {
        "README.md", "LICENSE-PSF.txt", "completions.json", "config.json", "curve.svg", "heldout.json",
        "manifest.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert {file.name for file in FOLDER.iterdir()} == allowed


@pytest.mark.slow
def test_card_shows_ten_completions_as_the_model_writes_them(bundled):
    made, card = read_json("completions.json"), (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(made) == 10
    assert {"def ", "import ", "class "} <= {m["prompt"] for m in made}
    sample = tk.sampler(temperature=0.8, top_p=0.95)
    for m in made:
        assert f"```text\n{m['prompt']}{m['text']}\n```" in card
        assert tk.generate(bundled, m["prompt"], 60, sample, seed=0).text == m["text"]


def test_card_states_what_the_files_hold(bundled):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    n = sum(p.numel() for p in bundled.parameters())
    assert f"{n:,} ({2 * n:,} bytes in bfloat16)" in card
    assert "Python Software Foundation" in (FOLDER / "LICENSE-PSF.txt").read_text(encoding="utf-8")
