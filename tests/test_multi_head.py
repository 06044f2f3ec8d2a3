"""The multi-head sibling and its grouped conversion: transformers loads both; scores and cards are true."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors import safe_open

import teachkit as tk
from teachkit.convert import group_heads
from teachkit.evaluate import window_nats
from tolerance import LOGITS

FOLDERS = {name: tk.weights.find(name) for name in ("multi_head", "multi_head_grouped")}
HELDOUT = json.loads((tk.weights.find("bundled") / "heldout.json").read_text(encoding="utf-8"))
RECORDED = json.loads((FOLDERS["multi_head"] / "scores.json").read_text(encoding="utf-8"))
METHODS = ("mean", "first", "random")
# What the cards call the models that are scored.
ROWS = {
    "the multi-head sibling": "multi_head",
    "mean of each group": "mean",
    "first head of each group": "first",
    "random heads of the same scale (seed 0)": "random",
    "mean of each group, then uptrained": "mean_uptrained",
    "control: the sibling itself trained on for as many steps": "multi_head_trained_on",
}
each_folder = pytest.mark.parametrize("name", FOLDERS)


@pytest.fixture(scope="module")
def models():
    """Every scored model but the control, whose weights are not in the package."""
    sibling, grouped = (tk.load(folder) for folder in FOLDERS.values())
    pooled = {method: group_heads(sibling, grouped.config.n_kv_heads, method) for method in METHODS}
    return {"multi_head": sibling, **pooled, "mean_uptrained": grouped}


def card(name):
    return (FOLDERS[name] / "README.md").read_text(encoding="utf-8")


# --- the files -----------------------------------------------------------------------------------------


@each_folder
@torch.inference_mode()
def test_logits_agree_with_transformers(name):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(FOLDERS[name], dtype=torch.float32).eval()
    assert isinstance(theirs, transformers.LlamaForCausalLM)
    ours = tk.load(name)
    ids = ours.tokenizer.encode(max(HELDOUT.values(), key=len))[: ours.config.context]
    tokens = torch.tensor([ids])
    assert tokens.shape[1] == ours.config.context
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, **LOGITS[torch.float32])


@each_folder
def test_every_tensor_is_bf16(name):
    with safe_open(str(FOLDERS[name] / "model.safetensors"), framework="pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}  # noqa: SIM118


def test_shapes_differ_in_key_value_heads_alone(models):
    sibling, grouped = models["multi_head"].config, models["mean_uptrained"].config
    assert sibling.n_kv_heads == sibling.n_heads == 3 * grouped.n_kv_heads
    assert grouped == replace(sibling, n_kv_heads=grouped.n_kv_heads)
    texts = {name: json.loads((FOLDERS[name] / "config.json").read_text()) for name in FOLDERS}
    differing = {k for k in texts["multi_head"] if len({json.dumps(t.get(k)) for t in texts.values()}) > 1}
    assert texts["multi_head"].keys() == texts["multi_head_grouped"].keys()
    assert differing == {"num_key_value_heads"}


@each_folder
def test_tokenizer_is_the_bundled_one(name):
    """Held-out scores are then of the same tokens, and a text's ids can be shared."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (FOLDERS[name] / file).read_bytes() == (tk.weights.find("bundled") / file).read_bytes()


def test_uptraining_moved_every_matrix_a_little(models):
    """It is the pooled sibling trained on, not another model: all matrices are near, none is the same."""
    pooled, uptrained = (models[name].state_dict() for name in ("mean", "mean_uptrained"))
    for name, weight in pooled.items():
        if weight.ndim == 2:
            cosine = torch.cosine_similarity(weight.flatten(), uptrained[name].flatten(), dim=0).item()
            assert 0.7 < cosine < 0.9999, name


# --- the scores ----------------------------------------------------------------------------------------


def test_order_of_the_conversions():
    """One head of three, as it is, comes before their mean: the lesson says so, and what the paper found."""
    assert RECORDED["multi_head"] < RECORDED["first"] < RECORDED["mean"] < RECORDED["random"]


def test_uptraining_repairs_most_but_not_all():
    lost = RECORDED["mean"] - RECORDED["multi_head"]
    assert 0.5 * lost < RECORDED["mean"] - RECORDED["mean_uptrained"] < 0.9 * lost


def test_more_training_alone_gains_next_to_nothing():
    """So what uptraining gains is repair."""
    gained = RECORDED["multi_head"] - RECORDED["multi_head_trained_on"]
    assert abs(gained) < 0.05 * (RECORDED["mean"] - RECORDED["mean_uptrained"])


def test_uptraining_took_a_twentieth_of_the_steps():
    assert RECORDED["up_steps"] == 0.05 * RECORDED["steps"]
    assert RECORDED["tokens"] == pytest.approx(RECORDED["steps"] * RECORDED["per_step"] / 1e6)
    assert RECORDED["up_tokens"] == pytest.approx(RECORDED["up_steps"] * RECORDED["per_step"] / 1e6)


def windows():
    """Every eighth of the windows that the held-out files are cut into, as text."""
    tokenizer = tk.load("multi_head").tokenizer
    pieces = []
    for text in HELDOUT.values():
        ids = tokenizer.encode(text, special=False)
        pieces += [tokenizer.decode(ids[i : i + 511]) for i in range(0, len(ids), 511)]
    return pieces[::8]


def ratio(above, below):
    """Of two sums over a sample of windows, with its standard error."""
    estimate = above.sum() / below.sum()
    residuals = above - estimate * below
    return estimate.item(), (residuals.std() * len(above) ** 0.5 / below.sum()).item()


@pytest.mark.slow
def test_recorded_scores_agree_with_a_sample(models):
    """Within three standard errors: bits per byte of the sibling, and what multiple of it the others need.

    The windows are cut as those of the recorded scores are, but each has the separator before it.
    """
    texts = windows()
    assert len(texts) > 30
    n_bytes = torch.tensor([float(len(text.encode())) for text in texts], dtype=torch.float64)
    bits = {
        name: torch.cat([window_nats(model, [text]) for text in texts]) / math.log(2)
        for name, model in models.items()
    }
    found, error = ratio(bits["multi_head"], n_bytes)
    assert error < 0.06
    assert abs(found - RECORDED["multi_head"]) < 3 * error
    for name in ("mean", "first", "random", "mean_uptrained"):
        found, error = ratio(bits[name], bits["multi_head"])
        assert error < 0.08, name
        assert abs(found - RECORDED[name] / RECORDED["multi_head"]) < 3 * error, name


@pytest.mark.stress
@pytest.mark.parametrize("name", ["multi_head", "mean", "first", "random", "mean_uptrained"])
def test_recorded_scores_come_again(models, name):
    found = tk.evaluate.bits_per_byte(models[name], list(HELDOUT.values()))
    assert found == pytest.approx(RECORDED[name], abs=1.5e-4)  # recorded to four decimals


# --- the cards -----------------------------------------------------------------------------------------


@each_folder
def test_card_shows_the_recorded_scores(name):
    table = [line.strip("|").split("|") for line in card(name).splitlines() if line.count("|") == 3]
    shown = {row[0].strip(): row[1].strip() for row in table}
    for label, key in ROWS.items():
        assert shown[label] == f"{RECORDED[key]:.3f}", label
    assert set(ROWS.values()) == {key for key in RECORDED if isinstance(RECORDED[key], float)} - {
        "tokens", "up_tokens", "factor", "control_factor",
    }  # fmt: skip


@each_folder
def test_card_states_what_the_files_hold(name):
    text, model = card(name), tk.load(name)
    n = sum(p.numel() for p in model.parameters())
    config = model.config
    assert f"{n:,} ({2 * n:,} bytes in bfloat16)" in text
    assert f"| {config.n_layers}, {config.d_model}, {config.d_ff} |" in text
    heads = f"{config.n_heads} for queries over {config.n_kv_heads} for keys and values, of {config.head_dim}"
    assert heads in text
    assert f"{RECORDED['steps']} steps of {RECORDED['per_step']} tokens" in text
    assert f"{RECORDED['up_steps']} steps more ({RECORDED['up_tokens']:.2f} million tokens)" in text
    assert RECORDED["factors"] in text
    assert f"which is {RECORDED['factor']} for the grouped" in text
    assert f"{RECORDED['control_factor']} for the control" in text


@each_folder
def test_card_points_to_files_that_are_there(name):
    for target in ("bundled/heldout.json", "bundled/manifest.json", "bundled/LICENSE-PSF.txt"):
        assert f"../{target}" in card(name)
        assert (FOLDERS[name].parent / target).is_file()


@each_folder
def test_no_other_file_and_little_to_download(name):
    allowed = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    if name == "multi_head":
        allowed.add("scores.json")
    assert {file.name for file in FOLDERS[name].iterdir()} == allowed
    assert sum(file.stat().st_size for file in FOLDERS[name].iterdir()) < 6e6
