"""Scaled dot-product attention against a pencil, against plain loops, against torch."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import unchecked
from teachkit.attention import attention_probs, scaled_dot_product_attention, visible
from tolerance import TOLERANCE

close = torch.testing.assert_close
B, HKV, G, T, S, D, DV = 2, 3, 5, 7, 11, 13, 17
H = HKV * G


def qkv(t=T, s=S, *, heads=H, dv=D, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, heads, t, D), (B, HKV, s, D), (B, HKV, s, dv)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def random_mask(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def by_loops(q, k, v, *, mask=None, causal=False, window=None, scale=None):
    """The definition, one number at a time, in Python floats."""
    (n_rows, n_heads, n_queries, width), (_, n_kv_heads, n_keys, _) = q.shape, k.shape
    scale = 1 / math.sqrt(width) if scale is None else scale
    out = torch.zeros(n_rows, n_heads, n_queries, v.shape[3], dtype=torch.float64)
    mask = torch.ones((), dtype=torch.bool) if mask is None else mask
    mask = mask.expand(n_rows, n_heads, n_queries, n_keys).tolist()
    q, k, v = q.tolist(), k.tolist(), v.tolist()
    for b in range(n_rows):
        for h in range(n_heads):
            shared = h // (n_heads // n_kv_heads)
            for i in range(n_queries):
                at = n_keys - n_queries + i
                weights = {}
                for j in range(n_keys):
                    too_new = causal and j > at
                    too_old = window is not None and j <= at - window
                    if mask[b][h][i][j] and not too_new and not too_old:
                        dot = sum(x * y for x, y in zip(q[b][h][i], k[b][shared][j], strict=True))
                        weights[j] = math.exp(dot * scale)
                for j, weight in weights.items():
                    share = weight / sum(weights.values())
                    out[b, h, i] += share * torch.tensor(v[b][shared][j], dtype=torch.float64)
    return out


# --- numbers found with a pencil -----------------------------------------------------------------------


ROOT2 = math.sqrt(2)
PENCIL_Q = torch.tensor([[[[ROOT2 * math.log(3), 0.0], [0.0, ROOT2 * math.log(2)]]]])
PENCIL_K = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
PENCIL_V = torch.tensor([[[[4.0, 8.0], [12.0, 0.0]]]])


def test_two_tokens_by_hand():
    # scores / sqrt(2): [[ln 3, 0], [0, ln 2]]; exp: [[3, 1], [1, 2]]
    probs = attention_probs(PENCIL_Q, PENCIL_K)
    close(probs, torch.tensor([[[[3 / 4, 1 / 4], [1 / 3, 2 / 3]]]]), **TOLERANCE[torch.float32])
    out = scaled_dot_product_attention(PENCIL_Q, PENCIL_K, PENCIL_V)
    close(out, torch.tensor([[[[6.0, 6.0], [28 / 3, 8 / 3]]]]), **TOLERANCE[torch.float32])


def test_causal_by_hand():
    out = scaled_dot_product_attention(PENCIL_Q, PENCIL_K, PENCIL_V, causal=True)
    close(out, torch.tensor([[[[4.0, 8.0], [28 / 3, 8 / 3]]]]), **TOLERANCE[torch.float32])


def test_scale_by_hand():
    # twice the scale squares the exponentials: [[9, 1], [1, 4]]
    probs = attention_probs(PENCIL_Q, PENCIL_K, scale=2 / ROOT2)
    close(probs, torch.tensor([[[[9 / 10, 1 / 10], [1 / 5, 4 / 5]]]]), **TOLERANCE[torch.float32])


def test_zero_scale_is_taken_as_it_is():
    probs = attention_probs(PENCIL_Q, PENCIL_K, scale=0.0)
    close(probs, torch.full((1, 1, 2, 2), 0.5), **TOLERANCE[torch.float32])


def test_heads_of_a_group_are_neighbours():
    # With one key the output is its value: query heads 0 and 1 read key head 0; 2 and 3 read key head 1.
    v = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
    out = scaled_dot_product_attention(torch.ones(1, 4, 1, 3), torch.ones(1, 2, 1, 3), v)
    assert out.flatten().tolist() == [5, 5, 7, 7]


def test_visible_by_hand():
    assert visible(3, 3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert visible(2, 5).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert visible(3, 2).int().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert visible(2, 5, window=1).int().tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert visible(2, 5, window=3).int().tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]


# --- loops and torch as oracles ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"scale": 0.3},
        {"causal": True},
        {"causal": True, "window": 3},
        {"mask": random_mask(T, S)},
        {"mask": random_mask(B, H, T, S), "causal": True},
        {"mask": random_mask(B, 1, 1, S), "causal": True, "window": 5, "scale": 0.7},
    ],
    ids=lambda s: "+".join(s) or "plain",
)
def test_equals_loops(settings_):
    q, k, v = qkv(dtype=torch.float64, dv=DV)
    ours = scaled_dot_product_attention(q, k, v, **settings_)
    assert ours.shape == (B, H, T, DV)
    close(ours, by_loops(q, k, v, **settings_), **TOLERANCE[torch.float64])


@pytest.mark.parametrize("n_queries", [1, 2, 5, 11, 13])
@pytest.mark.parametrize("window", [None, 1, 3, 11, 12])
def test_causal_aligns_to_the_bottom_right(n_queries, window):
    q, k, v = qkv(n_queries, 11, dtype=torch.float64)
    ours = scaled_dot_product_attention(q, k, v, causal=True, window=window)
    close(ours, by_loops(q, k, v, causal=True, window=window), **TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_equals_torch(dtype, causal):
    q, k, v = qkv(S, S, dv=DV, dtype=dtype)
    ours = scaled_dot_product_attention(q, k, v, causal=causal)
    wide = [x.double() for x in (q, k, v)]
    theirs = F.scaled_dot_product_attention(*wide, is_causal=causal, enable_gqa=True).to(dtype)
    assert ours.dtype == dtype
    close(ours, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(S,), (T, S), (T, 1), (1, 1, T, S), (B, 1, 1, S), (B, H, T, S)], ids=str)
def test_mask_broadcasts_as_in_torch(shape):
    q, k, v = qkv()
    mask = random_mask(*shape)
    mask[..., 0] = True  # torch gives NaN for a row without a key; ours has a test of its own
    theirs = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask.expand(B, 1, T, S) if mask.ndim < 2 else mask, enable_gqa=True
    )
    close(scaled_dot_product_attention(q, k, v, mask=mask), theirs, **TOLERANCE[torch.float32])


def test_mask_and_causal_combine_as_and():
    q, k, v = qkv()
    mask = random_mask(T, S)
    mask[:, 0] = True
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask & visible(T, S), enable_gqa=True)
    ours = scaled_dot_product_attention(q, k, v, mask=mask, causal=True)
    close(ours, theirs, **TOLERANCE[torch.float32])


@pytest.mark.parametrize("heads", [HKV, 2 * HKV, H])
def test_grouped_equals_repeated_keys(heads):
    q, k, v = qkv(heads=heads)
    repeated = [x.repeat_interleave(heads // HKV, dim=1) for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *repeated)
    close(scaled_dot_product_attention(q, k, v), theirs, **TOLERANCE[torch.float32])


def test_strided_input():
    # The model passes transposed views: (B, T, H, D) -> (B, H, T, D)
    q, k, v = qkv()
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    ours = scaled_dot_product_attention(*strided)
    close(ours, scaled_dot_product_attention(q, k, v), **TOLERANCE[torch.float32])


def test_follows_the_device_of_q():
    q, k, v = (x.to("meta") for x in qkv())
    assert scaled_dot_product_attention(q, k, v, causal=True, window=3).device.type == "meta"
    assert visible(2, 3, device="meta").device.type == "meta"


# --- windows and empty rows ----------------------------------------------------------------------------


def test_window_of_one_reads_only_itself():
    q, k, v = qkv(S, S, heads=HKV)
    close(scaled_dot_product_attention(q, k, v, causal=True, window=1), v, **TOLERANCE[torch.float32])


@pytest.mark.parametrize("window", [S, S + 1])
def test_window_as_long_as_the_keys_is_causal(window):
    q, k, v = qkv(S, S)
    windowed = scaled_dot_product_attention(q, k, v, causal=True, window=window)
    close(windowed, scaled_dot_product_attention(q, k, v, causal=True), rtol=0, atol=0)


def test_window_one_shorter_than_the_keys_hides_the_first_from_the_last():
    q, k, _ = qkv(S, S)
    probs = attention_probs(q, k, causal=True, window=S - 1)
    assert (probs[:, :, -1, 0] == 0).all()
    assert (probs[:, :, -1, 1:] > 0).all()
    assert (probs[:, :, -2, :-1] > 0).all()


def test_row_that_sees_nothing_is_zero():
    q, k, v = qkv()
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[4] = False
    out = scaled_dot_product_attention(q, k, v, mask=mask)
    assert (out[:, :, 4] == 0).all()
    others = [i for i in range(T) if i != 4]
    close(out[:, :, others], scaled_dot_product_attention(q, k, v)[:, :, others], **TOLERANCE[torch.float32])


def test_more_queries_than_keys_leaves_the_first_without_any():
    q, k, v = qkv(5, 3)
    out = scaled_dot_product_attention(q, k, v, causal=True)
    assert (out[:, :, :2] == 0).all()
    assert out[:, :, 2:].abs().amin((0, 1, 3)).gt(0).all()


def test_no_keys_give_zeros():
    q, k, v = qkv(1, 0, dv=DV)
    assert torch.equal(scaled_dot_product_attention(q, k, v, causal=True), torch.zeros(B, H, 1, DV))


def test_gradient_of_a_row_that_sees_nothing_is_zero():
    q, k, v = (x.requires_grad_() for x in qkv())
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[4] = False
    scaled_dot_product_attention(q, k, v, mask=mask).square().sum().backward()
    assert (q.grad[:, :, 4] == 0).all()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))
    assert q.grad[:, :, 3].abs().sum() > 0


# --- number formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
     (torch.float64, torch.float64)],
    ids=str,
)  # fmt: skip
def test_softmax_in_at_least_fp32(dtype, kept):
    # 4099 equal weights: in fp16 or bf16 each would be rounded by up to 4e-3, and so would their sum.
    probs = attention_probs(torch.zeros(1, 1, 1, 2, dtype=dtype), torch.ones(1, 1, 4099, 2, dtype=dtype))
    assert probs.dtype == kept
    close(probs, torch.full_like(probs, 1 / 4099), **TOLERANCE[kept])
    close(probs.sum(), torch.tensor(1.0, dtype=kept), **TOLERANCE[kept])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_large_scores_do_not_overflow(dtype):
    # Scaled scores are +-30,000: exp overflows any format unless the maximum is taken off first.
    q, k = torch.full((1, 1, 1, 4), 100.0, dtype=dtype), torch.full((1, 1, 2, 4), 150.0, dtype=dtype)
    k[0, 0, 1] = -150
    v = torch.tensor([[2.0], [3.0]], dtype=dtype).view(1, 1, 2, 1)
    assert scaled_dot_product_attention(q, k, v).item() == 2


# --- properties ----------------------------------------------------------------------------------------


seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, causal=st.booleans(), window=st.sampled_from([None, 1, 4]), masked=st.booleans())
def test_rows_sum_to_one_or_zero_and_hide_what_is_masked(seed, causal, window, masked):
    q, k, _ = qkv(seed=seed)
    mask = random_mask(B, H, T, S, seed=seed) if masked else torch.ones(B, H, T, S, dtype=torch.bool)
    seen = mask & visible(T, S, window=window) if causal else mask
    probs = attention_probs(q, k, mask=mask, causal=causal, window=window if causal else None)
    assert (probs[~seen] == 0).all()
    assert (probs >= 0).all()
    close(probs.sum(-1), seen.any(-1).float(), **TOLERANCE[torch.float32])


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_order_of_keys_does_not_matter(seed):
    q, k, v = qkv(dtype=torch.float64, seed=seed)
    mask = random_mask(B, H, T, S, seed=seed)
    order = torch.randperm(S, generator=torch.Generator().manual_seed(seed))
    shuffled = scaled_dot_product_attention(q, k[:, :, order], v[:, :, order], mask=mask[..., order])
    close(shuffled, scaled_dot_product_attention(q, k, v, mask=mask), **TOLERANCE[torch.float64])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, causal=st.booleans())
def test_adding_one_vector_to_all_keys_does_not_matter(seed, causal):
    # It adds the same number to every score of a row.
    q, k, _ = qkv(dtype=torch.float64, seed=seed)
    shift = torch.randn(B, HKV, 1, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shifted = attention_probs(q, k + shift, causal=causal)
    close(shifted, attention_probs(q, k, causal=causal), **TOLERANCE[torch.float64])


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_output_lies_between_the_values(seed):
    q, k, v = qkv(seed=seed, heads=HKV)
    out = scaled_dot_product_attention(q, k, v)
    slack = TOLERANCE[torch.float32]["atol"]
    assert (out <= v.amax(2, keepdim=True) + slack).all()
    assert (out >= v.amin(2, keepdim=True) - slack).all()


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "k", "v", "message"),
    [
        ((2, 3, 5), (2, 3, 5, 7), (2, 3, 5, 7), r"q, k: expected \(batch, .*, head_dim\); got \(2, 3, 5\)"),
        ((2, 3, 5, 7), (2, 3, 5), (2, 3, 5, 7), r"q, k: expected .* and \(2, 3, 5\)"),
        ((2, 3, 5, 7), (1, 3, 5, 7), (1, 3, 5, 7), "k: expected batch 2 and head_dim 7.*got 1 and 7"),
        ((2, 3, 5, 7), (2, 3, 5, 8), (2, 3, 5, 8), "k: expected batch 2 and head_dim 7.*got 2 and 8"),
        ((2, 3, 5, 7), (2, 2, 5, 7), (2, 2, 5, 7), "q: expected a multiple of the 2 key/value heads, got 3"),
        ((2, 3, 5, 7), (2, 3, 5, 7), (2, 3, 4, 7), r"v: expected .*\(2, 3, 5\).*got \(2, 3, 4, 7\)"),
        ((2, 3, 5, 7), (2, 3, 5, 7), (2, 3, 5), r"v: expected \(2, 3, 5\) as k has.*; got \(2, 3, 5\)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(q, k, v, message):
    q, k, v = (torch.zeros(shape) for shape in (q, k, v))
    with unchecked(), pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(q, k, v)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):  # and the annotations say no less
        scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(T, S + 1, dtype=torch.bool),
        torch.ones(T + 1, S, dtype=torch.bool),
        torch.ones(3, B, H, T, S, dtype=torch.bool),
        torch.ones(1, B, H, T, S, dtype=torch.bool),
        torch.ones(T, S),
    ],
    ids=["keys", "queries", "rank 5", "rank 5, one", "fp32"],
)
def test_mask_that_does_not_fit(mask):
    with (
        unchecked(),
        pytest.raises(ValueError, match=r"mask: expected bool, broadcast to \(2, 15, 7, 11\); got "),
    ):
        scaled_dot_product_attention(*qkv(), mask=mask)


def test_mask_may_not_add_rows():
    q, k, _ = (x[:1] for x in qkv())
    with pytest.raises(ValueError, match="mask: expected"):
        attention_probs(q, k, mask=torch.ones(B, 1, T, S, dtype=torch.bool))


@pytest.mark.parametrize("window", [0, -1])
def test_window_below_one(window):
    with pytest.raises(ValueError, match=f"window: expected at least 1 .*got {window}"):
        visible(2, 3, window=window)
    with pytest.raises(ValueError, match=f"window: expected at least 1 .*got {window}"):
        scaled_dot_product_attention(*qkv(), causal=False, window=window)
    with pytest.raises(ValueError, match=f"window: expected at least 1 .*got {window}"):
        scaled_dot_product_attention(*qkv(1), causal=True, window=window)


def test_window_without_causal():
    with pytest.raises(ValueError, match="window: expected together with causal=True"):
        scaled_dot_product_attention(*qkv(), window=3)


def test_shapes_are_checked_in_tests():
    q, k, _ = qkv()
    with pytest.raises(jaxtyping.TypeCheckError):
        attention_probs(q, k[..., :-1])
