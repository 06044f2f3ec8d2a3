"""Quantized models: against a plain model whose matrices are what the codes stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit import kernels
from teachkit.cache import ContiguousCache
from teachkit.gptq import collect_inputs, gptq
from teachkit.linear import Int4Linear, Int8Embedding, Int8Linear, KernelUse, W8A8Linear
from teachkit.model import Decoder
from teachkit.quant import int4, int8
from teachkit.schemes import SCHEMES, quantize
from tolerance import LOGITS

close = torch.testing.assert_close
LAYERED = {"norm": "layer", "gated_mlp": False}
GPT2 = LAYERED | {"position": "learned", "activation": "gelu_tanh", "n_kv_heads": 15}
BIASED = {"qkv_bias": True, "o_bias": True, "mlp_bias": True}
FALCON = LAYERED | {"parallel_residual": True, "activation": "gelu", "n_kv_heads": 1}
MODELS = {
    "llama": {},
    "llama, tied": {"tied": True, "qk_norm": True},
    "gpt-2": GPT2 | BIASED,
    "gpt-2, tied": GPT2 | BIASED | {"tied": True},
    "falcon": FALCON | {"parallel_norms": 1},
    "falcon, tied, biases": FALCON | BIASED | {"tied": True},
}
# Shapes that PyTorch's int4 product takes: outputs in sixteens, inputs in groups of 32.
FUSED = {"d_model": 96, "n_heads": 6, "n_kv_heads": 2, "head_dim": 16, "d_ff": 160}
TOKENS = random_tokens(2, 13)
each_model = pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)


def model_of(changes, dtype=torch.float32):
    model = tiny_model(tiny_config(**changes), dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    for matrix in (p for p in model.parameters() if p.ndim == 2):
        # rows of different sizes: the scale of another row would show
        matrix.mul_((0.5 + torch.rand(len(matrix), 1, generator=generator)).to(dtype))
    return model


def block_matrices(model):
    state = model.state_dict()
    return {n: t for n, t in state.items() if n.startswith("blocks.") and t.ndim == 2}


def stand_in(model, make, head="int8"):
    """An untied plain model, with the matrices that the codes stand for, in the model's dtype."""
    dtype, state = model.dtype, dict(model.state_dict())
    matrix = model.embedding.weight if model.head is None else model.head.weight
    state |= {name: values(make(weight), dtype) for name, weight in block_matrices(model).items()}
    state["head.weight"] = values(int8(matrix), dtype) if head == "int8" else matrix
    if model.head is None and head == "int8":
        state["embedding.weight"] = int8(matrix).dequantize(dtype)  # rounded to float32 on the way
    plain = Decoder(replace(model.config, tied=False)).to(dtype).eval().requires_grad_(False)
    plain.load_state_dict(state)
    return plain


def values(weight, dtype):
    """int8: code times scale in the dtype of the sums, as the scale is applied after them."""
    return (
        weight.q.to(dtype) * weight.scale.to(dtype)[:, None]
        if hasattr(weight, "q")
        else weight.dequantize(dtype)
    )


# --- logits --------------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("head", ["int8", "keep"])
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_int8_is_the_model_of_its_values(changes, per, head):
    model = model_of(changes, torch.float64)
    made = quantize(model, "int8", per=per, head=head)
    plain = stand_in(model, lambda weight: int8(weight, per=per), head)
    close(made(TOKENS), plain(TOKENS), **LOGITS[torch.float64])
    assert not torch.allclose(made(TOKENS), model(TOKENS), **LOGITS[torch.float32])


@each_model
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [32, 64])
def test_int4_without_a_kernel_is_the_model_of_its_values(changes, group_size, symmetric):
    """Groups that do not divide the rows: the plain product, in the dtype of the model."""
    model = model_of(changes, torch.float64)
    how = {"group_size": group_size, "symmetric": symmetric}
    made = quantize(model, "int4", **how)
    assert {use.kernel for use in made.kernels()[:-1]} == {kernels.DEQUANTIZE}
    close(made(TOKENS), stand_in(model, lambda w: int4(w, **how))(TOKENS), **LOGITS[torch.float64])


@each_model
def test_int4_with_a_kernel_is_the_model_of_its_values_but_for_bfloat16(changes):
    model = model_of(changes | FUSED | ({"n_kv_heads": 6} if changes.get("n_kv_heads") == 15 else {}))
    made = quantize(model, "int4", group_size=32)
    assert {use.kernel for use in made.kernels()[:-1]} == {kernels.INT4}
    plain = stand_in(model, lambda w: int4(w, group_size=32))
    close(made(TOKENS), plain(TOKENS), **LOGITS[torch.bfloat16])
    error = (made(TOKENS) - plain(TOKENS)).norm()
    assert error < 0.1 * (model(TOKENS) - plain(TOKENS)).norm(), "what bfloat16 costs is little beside int4"


def whole_numbers(weight, bias, x):
    """x @ weight.T with both rounded to 8 bits, the sums in integers of 64 bits."""
    made, wide = int8(weight), x.float()
    scale = wide.abs().amax(-1, keepdim=True) / 127
    sums = (wide / scale).round().long() @ made.q.long().T
    return (sums.double() * scale.double() * made.scale.double()).float() + (0 if bias is None else bias)


@each_model
def test_w8a8_is_the_model_with_integer_products(changes, monkeypatch):
    model = model_of(changes)
    plain = stand_in(model, int8)
    originals = block_matrices(model)
    for name, layer in plain.named_modules():
        if f"{name}.weight" in originals:
            weight = originals[f"{name}.weight"]
            monkeypatch.setattr(layer, "forward", lambda x, w=weight, b=layer.bias: whole_numbers(w, b, x))
    close(quantize(model, "w8a8")(TOKENS), plain(TOKENS), **LOGITS[torch.float32])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_cache_changes_nothing(scheme):
    """One token at a time, after a prefill: the products of one row."""
    made = quantize(model_of({"tied": True} | FUSED), scheme, group_size=32)
    cache = ContiguousCache(made.config, 2, 13)
    steps = [TOKENS[:, :5], *TOKENS[:, 5:].split(1, 1)]
    found = torch.cat([made(step, cache=cache) for step in steps], 1)
    tolerance = LOGITS[torch.float32 if scheme == "int8" else torch.bfloat16]
    close(found, made(TOKENS), **tolerance)


# --- what is replaced, what is shared, what is left alone -----------------------------------------------


@each_model
@pytest.mark.parametrize(
    ("scheme", "kind"), [("int8", Int8Linear), ("int4", Int4Linear), ("w8a8", W8A8Linear)]
)
def test_every_matrix_of_the_blocks_is_replaced_and_its_bias_kept(changes, scheme, kind):
    model = model_of(changes)
    made = quantize(model, scheme)
    for name, weight in block_matrices(model).items():
        layer = made.get_submodule(name.removesuffix(".weight"))
        assert type(layer) is kind
        assert (layer.out_features, layer.in_features) == tuple(weight.shape)
        bias = model.get_submodule(name.removesuffix(".weight")).bias
        assert layer.bias is bias is None or torch.equal(layer.bias, bias)
    assert type(made.head) is Int8Linear
    assert isinstance(made.embedding, Int8Embedding) == model.config.tied


@each_model
@pytest.mark.parametrize("head", ["int8", "keep"])
def test_the_model_is_untouched_and_what_is_not_quantized_is_shared(changes, head):
    model = model_of(changes)
    before, modules = {n: t.clone() for n, t in model.state_dict().items()}, dict(model.named_modules())
    made = quantize(model, "int8", head=head)
    assert dict(model.named_modules()) == modules
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name])
    held, gone = made.state_dict(), set(block_matrices(model))
    if head == "int8":
        gone |= {"embedding.weight" if model.config.tied else "head.weight"}
    for name in set(before) - gone:
        assert held[name].data_ptr() == model.state_dict()[name].data_ptr(), name
    assert not gone & set(held)
    assert made.tokenizer is model.tokenizer
    assert made.config == model.config


def test_a_dtype_for_the_new_model_is_none_for_the_given_one():
    model = model_of({"tied": True})
    made = quantize(model, "int8").to(torch.bfloat16)
    assert made(TOKENS).dtype == torch.bfloat16
    assert {t.dtype for t in model.state_dict().values()} == {torch.float32}
    wide = quantize(model, "int8").to(torch.float64)(TOKENS)
    close(wide.float(), quantize(model, "int8")(TOKENS), **LOGITS[torch.float32])


def test_gptq_takes_each_layers_own_inputs():
    model = model_of(FUSED)
    batches = [random_tokens(3, 29, seed=seed) for seed in (1, 2)]
    made = quantize(model, "int4", method="gptq", group_size=32, symmetric=True, calibration=iter(batches))
    hessians = collect_inputs(model, batches)
    for name, weight in block_matrices(model).items():
        layer = name.removesuffix(".weight")
        expected = gptq(weight, hessians[layer], group_size=32, symmetric=True)
        found = made.get_submodule(layer).weight
        assert torch.equal(found.packed, expected.packed), name
        assert torch.equal(found.scale, expected.scale)
    assert not torch.equal(found.packed, int4(weight, group_size=32, symmetric=True).packed)


# --- kernels and bytes ---------------------------------------------------------------------------------


def test_kernels_by_hand():
    made = quantize(model_of({"n_layers": 1, "tied": True} | FUSED | {"d_ff": 168}), "int4", group_size=32)
    fused = [
        ("attention.q", 96, 96),
        ("attention.k", 32, 96),
        ("attention.v", 32, 96),
        ("attention.o", 96, 96),
    ]
    plain = [("mlp.gate", 168, 96), ("mlp.up", 168, 96), ("mlp.down", 96, 168)]
    uses = [KernelUse(f"blocks.0.{n}", (N, K), "int4", 5.0, kernels.INT4) for n, N, K in fused]
    # 168 outputs are no multiple of 16; 168 inputs make five groups of 32 and one of 8.
    bits = (5.0, 5.0, 8 * (84 + 6 * 4) / 168)
    uses += [
        KernelUse(f"blocks.0.{n}", (N, K), "int4", b, kernels.DEQUANTIZE)
        for (n, N, K), b in zip(plain, bits, strict=True)
    ]
    uses += [KernelUse("head", (61, 96), "int8", 8 + 32 / 96, kernels.LIBRARY)]
    assert made.kernels() == uses


@each_model
def test_kernels_of_a_plain_model_name_every_matrix_once(changes):
    model = model_of(changes, torch.bfloat16)
    shapes = {n.removesuffix(".weight"): tuple(t.shape) for n, t in block_matrices(model).items()}
    uses = model.kernels()
    assert {use.name: use.shape for use in uses} == shapes | {"head": (61, 37)}
    assert len(uses) == len(shapes) + 1
    assert {(use.scheme, use.bits_per_weight, use.kernel) for use in uses} == {
        ("bfloat16", 16, kernels.LIBRARY)
    }


@pytest.mark.parametrize(("head", "scheme"), [("int8", "int8"), ("keep", "float32")])
@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_named_as_it_is(head, scheme, tied):
    assert quantize(model_of({"tied": tied}), "int8", head=head).kernels()[-1].scheme == scheme


def test_a_compiled_model_says_so():
    made = quantize(model_of({}), "int8")
    made.compiled = True
    assert {use.kernel for use in made.kernels()} == {kernels.ROW_SUM}
    assert {use.kernel for use in made.kernels(rows=2)} == {kernels.LIBRARY}


def test_bytes_of_the_bundled_model_by_hand(bundled):
    # Of a block: q and o 256 x 256, k and v 128 x 256, three matrices of 704 x 256; the tied head 4096 x 256.
    blocks, head = 6 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 704 * 256), 4096 * 256
    rows = 6 * (2 * 256 + 2 * 128 + 2 * 704 + 256)
    int8_head = head + 4 * 4096
    assert bundled.weight_bytes() == 4 * (blocks + head)
    assert tk.load("bundled", dtype=torch.bfloat16).weight_bytes() == 2 * (blocks + head)
    for scheme in ("int8", "w8a8"):
        assert quantize(bundled, scheme).weight_bytes() == blocks + 4 * rows + int8_head
    assert quantize(bundled, "int8", head="keep").weight_bytes() == blocks + 4 * rows + 4 * head
    for size in (32, 64, 128):  # four bytes of scale and zero for each group; of 704 the last 64 are one, too
        groups = sum(6 * n_out * -(-n_in // size) for n_out, n_in in ((768, 256), (1408, 256), (256, 704)))
        assert (
            quantize(bundled, "int4", group_size=size).weight_bytes() == blocks // 2 + 4 * groups + int8_head
        )


def test_the_package_exports_the_function():
    assert tk.quantize is quantize
    with pytest.raises(ImportError):
        import teachkit.quantize  # noqa: F401


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("int3", {}, "scheme: expected one of int8, int4, w8a8; got 'int3'"),
        ("int4", {"method": "awq"}, "method: expected one of rtn, gptq; got 'awq'"),
        ("int8", {"head": "int4"}, "head: expected 'int8' or 'keep', got 'int4'"),
        ("int4", {"group_size": 48}, "group_size: expected 32, 64, 128; got 48"),
        ("int8", {"per": "row"}, "per: expected 'channel' or 'tensor', got 'row'"),
        ("int8", {"method": "gptq", "calibration": [TOKENS]}, "method: expected 'rtn' for int8, got 'gptq'"),
        ("w8a8", {"method": "gptq", "calibration": [TOKENS]}, "method: expected 'rtn' for w8a8, got 'gptq'"),
        ("int4", {"method": "gptq"}, "calibration: expected texts or batches of tokens for gptq, got None"),
        (
            "int4",
            {"method": "gptq", "calibration": "x = 1"},
            "calibration: expected a list of texts, got 'x = 1'",
        ),
        ("int4", {"method": "gptq", "calibration": []}, "inputs: expected at least one row, got none"),
    ],
)
def test_what_is_not_offered(scheme, options, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        quantize(model_of({}), scheme, **options)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantizing_twice(scheme):
    made = quantize(model_of({}), scheme)
    with pytest.raises(
        ValueError, match=r"model: expected one that is not quantized, but blocks\.0\.attention\.q is"
    ):
        quantize(made, "int8")


def test_quantizing_a_compiled_model():
    model = model_of({})
    model.compiled = True
    with pytest.raises(ValueError, match="model: expected one that is not compiled; quantize the original"):
        quantize(model, "int8")
