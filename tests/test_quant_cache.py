"""The quantized cache: what is stored, how far attention and logits move, and what it shares."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

import teachkit as tk
from conftest import random_tokens, tiny_config, tiny_model, unchecked
from teachkit.cache import Cache, CacheFull, LayerView, Step, Store
from teachkit.quant_cache import QuantizedCache, QuantizedRows
from tolerance import LOGITS, TOLERANCE

close = torch.testing.assert_close
FP32, FP64 = torch.float32, torch.float64
VARIANTS = {
    "rotary": {},
    "learned": {"position": "learned"},
    "window in one layer": {"windows": (None, 5)},
}
each_width = pytest.mark.parametrize("bits", [8, 4])


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys(), scope="module")
def model(request):
    return tiny_model(tiny_config(**request.param), dtype=FP64)


def normal(*shape, seed, dtype=FP32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FP64).to(dtype)


def parts_of(cache):
    return [*cache.k.parts, *cache.v.parts]


def rounded(x, bits):
    """The oracle: the rounding of each row, one number at a time, with its stored scale and zero."""
    rows = QuantizedRows.zeros(x.shape, bits)
    rows[...] = x
    flat = x.flatten(0, -2).double()
    scale = rows.parts[1].flatten().double().tolist()
    zero = rows.parts[2].flatten().double().tolist() if bits == 4 else [0.0] * len(flat)
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    out = [
        [min(max(round((number - z) / s), low), high) * s + z for number in row]
        for row, s, z in zip(flat.tolist(), scale, zero, strict=True)
    ]
    return torch.tensor(out, dtype=FP64).view(x.shape)


# --- rows that are kept as codes -----------------------------------------------------------------------


def test_eight_bits_by_hand():
    rows = QuantizedRows.zeros((2, 3), 8)
    rows[0] = torch.tensor([127.0, -64.0, 0.4])  # scale 1: the codes are the numbers, rounded
    codes, scale = rows.parts
    assert codes.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert scale[0].item() == 1.0
    assert rows.to(FP32).tolist() == [[127.0, -64.0, 0.0], [0.0, 0.0, 0.0]]


def test_four_bits_by_hand():
    rows = QuantizedRows.zeros((1, 3), 4)
    rows[0] = torch.tensor([0.0, 15.0, 6.4])  # scale 1, zero 8: codes 0, 15, 6
    packed, scale, zero = rows.parts
    assert (scale.item(), zero.item()) == (1.0, 8.0)
    assert packed.tolist() == [[15 << 4 | 0, 6]]
    assert rows.to(FP32).tolist() == [[0.0, 15.0, 6.0]]


@each_width
def test_is_a_store_as_a_tensor_is(bits):
    assert isinstance(QuantizedRows.zeros((2, 3), bits), Store)
    assert isinstance(torch.zeros(2, 3), Store)


@each_width
@pytest.mark.parametrize("width", [7, 14])
def test_reads_as_a_tensor_of_rounded_numbers(bits, width):
    rows, plain = QuantizedRows.zeros((2, 3, 5, width), bits), torch.zeros(2, 3, 5, width, dtype=FP64)
    assert rows.shape == plain.shape
    new = normal(3, 4, width, seed=1)
    rows[1][:, 1:5] = new
    plain[1][:, 1:5] = rounded(new, bits)
    which, slots = torch.tensor([0, 1, 0]), torch.tensor([4, 0, 2])
    new = normal(3, 3, width, seed=2)
    rows[which, :, slots] = new
    plain[which, :, slots] = rounded(new, bits)
    close(rows.to(FP64), plain, **TOLERANCE[FP32])
    close(rows[0][:, 2:].to(FP64), plain[0][:, 2:], **TOLERANCE[FP32])


@each_width
def test_each_token_and_head_has_its_own_scale(bits):
    """Half a step at most, of the extremes of that row alone, whatever its neighbours hold."""
    sizes = torch.tensor([1e-3, 1.0, 1e3])
    x = normal(3, 3, 14, seed=1) * sizes[:, None, None] * sizes.roll(1)[:, None]
    rows = QuantizedRows.zeros(x.shape, bits)
    rows[...] = x
    step = x.abs().amax(-1) / 127 if bits == 8 else (x.amax(-1) - x.amin(-1)) / 15
    worst = (rows.to(FP32) - x).abs().amax(-1) / step
    assert worst.max() < 0.5 * 1.02  # the scale is rounded up to bfloat16, and the zero to the nearest
    assert worst.min() > 0.1


@each_width
def test_reads_in_the_dtype_asked_for(bits):
    rows = QuantizedRows.zeros((3, 14), bits)
    rows[...] = normal(3, 14, seed=1)
    for dtype in (FP32, torch.bfloat16, FP64):
        assert rows.to(dtype).dtype == dtype
    close(rows.to(torch.bfloat16), rows.to(FP32).bfloat16(), atol=0, rtol=0)


def test_other_bits():
    for make in (lambda: QuantizedRows.zeros((2, 3), 2), lambda: QuantizedCache(tiny_config(), 1, 3, bits=2)):
        with unchecked(), pytest.raises(ValueError, match="bits: expected 4 or 8, got 2"):
            make()


# --- the cache: attention over rounded keys and values -------------------------------------------------


def test_keeps_the_protocol():
    cache = QuantizedCache(tiny_config(), 2, 5)
    step = cache.plan([1, 3])
    assert isinstance(cache, Cache)
    assert isinstance(step, Step)
    assert isinstance(step.layer(1), LayerView)
    assert (cache.capacity, cache.k.bits) == (5, 8)


@each_width
@pytest.mark.parametrize("dtype", [FP32, FP64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n_new", [[3, 3], [3, 2]], ids=["aligned", "ragged"])
def test_attends_to_what_was_rounded(bits, dtype, n_new):
    q, k, v = (normal(2, heads, 3, 14, seed=i, dtype=dtype) for i, heads in enumerate((15, 3, 3)))
    out = QuantizedCache(tiny_config(), 2, 5, bits=bits).plan(n_new).layer(0).attend(q, k, v, scale=0.7)
    assert out.dtype == dtype
    past = [rounded(x.float(), bits).to(dtype) for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *past, is_causal=True, enable_gqa=True, scale=0.7)
    tolerance = TOLERANCE[FP32 if dtype == FP64 else dtype]  # scales are found in fp32
    for row, n in enumerate(n_new):
        close(out[row, :, :n], theirs[row, :, :n], **tolerance)


@each_width
def test_the_window_of_a_layer(bits):
    cache = QuantizedCache(tiny_config(windows=(2, None)), 1, 7, bits=bits)
    q, k, v = (normal(1, heads, 5, 14, seed=i) for i, heads in enumerate((15, 3, 3)))
    out = cache.plan([5]).layer(0).attend(q, k, v)
    mask = torch.ones(5, 5, dtype=torch.bool).tril().triu(-1)
    past = [rounded(x, bits).float() for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *past, attn_mask=mask, enable_gqa=True)
    close(out, theirs, **TOLERANCE[FP32])


# --- the cache: logits ---------------------------------------------------------------------------------


def in_pieces(model, cache, tokens, sizes):
    pieces = tokens.split(sizes, 1)
    return torch.cat([model(piece, cache=cache) for piece in pieces], 1)


@each_width
@pytest.mark.parametrize("sizes", [[1] * 13, [5, 1, 7], [13]], ids=str)
def test_pieces_change_nothing(model, bits, sizes):
    """A token is rounded by itself: the logits do not depend on what it was stored together with."""
    tokens = random_tokens(2, 13)
    whole = in_pieces(model, QuantizedCache(model.config, 2, 13, bits=bits), tokens, [13])
    ours = in_pieces(model, QuantizedCache(model.config, 2, 13, bits=bits), tokens, sizes)
    # A sum in another order may tip a number over the edge between two codes: rarely, and by one of them.
    assert ((ours - whole).abs().amax(-1) < 1e-9).double().mean() > 0.9
    assert (ours - whole).abs().max() < 0.1


class RoundedStep(tk.cache.UncachedStep):
    """The oracle of a model over rounded keys and values: recomputation that rounds, and no cache."""

    def __init__(self, config, tokens, bits):
        super().__init__(config, tokens)
        self.bits = bits

    def layer(self, index):
        return RoundedLayer(super().layer(index), self.bits)


class RoundedLayer:
    def __init__(self, layer, bits):
        self.layer, self.bits = layer, bits

    def attend(self, q, k, v, *, scale=None):
        k, v = (rounded(x.float(), self.bits).to(q.dtype) for x in (k, v))
        return self.layer.attend(q, k, v, scale=scale)


@each_width
def test_logits_equal_recomputation_over_rounded_numbers(model, bits):
    tokens = random_tokens(2, 11)
    theirs = model(tokens, step=RoundedStep(model.config, tokens, bits))
    ours = in_pieces(model, QuantizedCache(model.config, 2, 11, bits=bits), tokens, [5, 1, 5])
    close(ours, theirs, **LOGITS[FP32])


# Of logits whose standard deviation is about 1.
MOVED = {8: 0.04, 4: 0.5}


@each_width
def test_logits_move_little(model, bits):
    tokens = random_tokens(2, 13)
    moved = in_pieces(model, QuantizedCache(model.config, 2, 13, bits=bits), tokens, [6, 1, 6]) - model(
        tokens
    )
    assert 1e-5 < moved.abs().max() < MOVED[bits]


@torch.inference_mode()
def test_real_weights_predict_real_text_as_well(bundled):
    """Over one held-out window: in bits per token, 8 bits within 0.3 %, 4 bits within 10 %."""
    held_out = json.loads((tk.weights.find("bundled") / "heldout.json").read_text(encoding="utf-8"))
    tokens = torch.tensor([bundled.tokenizer.encode(max(held_out.values(), key=len))[:513]])
    inputs, targets = tokens[:, :-1], tokens[0, 1:]
    exact = F.cross_entropy(bundled(inputs)[0], targets)
    for bits, limit in ((8, 0.003), (4, 0.1)):
        cache = QuantizedCache(bundled.config, 1, 512, bits=bits)
        loss = F.cross_entropy(in_pieces(bundled, cache, inputs, 64)[0], targets)
        assert abs(loss / exact - 1) < limit


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "head_dim", "row"),
    [(8, 14, 14 + 2), (4, 14, 7 + 2 + 2), (8, 6, 6 + 2), (4, 6, 3 + 2 + 2)],
)
def test_bytes(bits, head_dim, row):
    cache = QuantizedCache(tiny_config(head_dim=head_dim), 5, 11, bits=bits)
    assert cache.nbytes == 2 * 2 * 5 * 3 * 11 * row  # K and V, L, B, Hkv, capacity
    tensors = [part for part in parts_of(cache) if part.numel()]
    assert cache.nbytes == sum(part.untyped_storage().nbytes() for part in tensors)


@each_width
def test_writes_in_place(bits):
    cache = QuantizedCache(tiny_config(), 2, 7, bits=bits)
    places, n_bytes = [part.data_ptr() for part in parts_of(cache)], cache.nbytes
    tiny_model()(random_tokens(2, 7), cache=cache)
    assert ([part.data_ptr() for part in parts_of(cache)], cache.nbytes) == (places, n_bytes)


@each_width
def test_what_is_stored_stays_when_tokens_are_added(bits):
    model, cache = tiny_model(), QuantizedCache(tiny_config(), 2, 7, bits=bits)
    model(random_tokens(2, 4), cache=cache)
    before = [part[..., :4, :].clone() for part in parts_of(cache)]
    model(random_tokens(2, 3, seed=1), cache=cache)
    assert all(map(torch.equal, (part[..., :4, :] for part in parts_of(cache)), before))


def test_padding_is_not_stored():
    model, cache = tiny_model(), QuantizedCache(tiny_config(), 2, 7)
    model(random_tokens(2, 5), step=cache.plan([5, 2]))
    for codes, scale in (cache.k.parts, cache.v.parts):
        assert (scale[:, 1, :, :2] > 0).all()
        assert (scale[:, 1, :, 2:] == 0).all()
        assert (codes[:, 1, :, 2:] == 0).all()


@each_width
def test_lives_on_the_device_given(bits):
    cache = QuantizedCache(tiny_config(), 2, 3, bits=bits, device="meta")
    assert {part.device.type for part in (*parts_of(cache), cache.lengths)} == {"meta"}
    out = cache.plan([2, 2]).layer(0).attend(*(torch.empty(2, h, 2, 14, device="meta") for h in (15, 3, 3)))
    assert out.shape == (2, 15, 2, 14)


# --- what it shares with the contiguous cache ----------------------------------------------------------


@each_width
def test_truncate_then_continue_equals_a_fresh_start(bits):
    model, tokens = tiny_model(dtype=FP64), random_tokens(2, 11)
    cache = QuantizedCache(model.config, 2, 11, bits=bits)
    model(random_tokens(2, 9, seed=1), cache=cache)
    cache.truncate(0, 0)
    cache.truncate(1, 0)
    fresh = QuantizedCache(model.config, 2, 11, bits=bits)
    close(model(tokens, cache=cache), model(tokens, cache=fresh), **LOGITS[FP64])


@each_width
def test_generates(bits):
    model = tiny_model()
    prompt = random_tokens(1, 9)[0].tolist()
    done = tk.generate(model, prompt, 20, cache=QuantizedCache(model.config, 1, 29, bits=bits))
    text = torch.tensor([prompt + done.tokens])
    logits = in_pieces(model, QuantizedCache(model.config, 1, 29, bits=bits), text, [9] + [1] * 20)
    assert done.tokens == logits[0, 8:-1].argmax(-1).tolist()


def test_full_cache_refuses_and_stays_as_it_was():
    model, cache = tiny_model(), QuantizedCache(tiny_config(), 2, 7)
    model(random_tokens(2, 5), cache=cache)
    before = [part.clone() for part in parts_of(cache)]
    with pytest.raises(CacheFull, match="row 0: 5 tokens held and 3 new exceed the capacity of 7"):
        model(random_tokens(2, 3), cache=cache)
    assert all(map(torch.equal, parts_of(cache), before))
    assert cache.lengths.tolist() == [5, 5]


@pytest.mark.parametrize(("batch", "capacity"), [(0, 5), (2, 0)])
def test_sizes_below_one(batch, capacity):
    with pytest.raises(ValueError, match=f"batch, capacity: expected at least 1, got {batch} and {capacity}"):
        QuantizedCache(tiny_config(), batch, capacity)


def test_capacity_beyond_the_context():
    with pytest.raises(
        ValueError, match="capacity: expected at most the model's context of 53 tokens, got 54"
    ):
        QuantizedCache(tiny_config(), 1, 54)


def test_keys_of_another_shape_are_an_error():
    view = QuantizedCache(tiny_config(), 2, 7).plan([3, 3]).layer(0)
    with unchecked(), pytest.raises(RuntimeError):
        view.attend(torch.zeros(2, 15, 3, 14), torch.zeros(2, 5, 3, 14), torch.zeros(2, 3, 3, 14))
