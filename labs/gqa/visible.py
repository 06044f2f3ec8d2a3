"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def eight_over_two(s, draw):
    for head in (0, 3, 4, 7):
        s.see(f"head {head} of 8 over 2", s.shared_head(head, 8, 2))
    s.see("head 0 of 8 over 3", s.shared_head(0, 8, 3))


@visible("q2")
def four_over_two(s, draw):
    s.see(
        "two tokens of three",
        s.grouped_attention(draw.normal(1, 4, 2, 3), draw.normal(1, 2, 3, 3), draw.normal(1, 2, 3, 3)),
    )


@visible("q3")
def four_to_two(s, draw):
    weight = torch.tensor([[1.0], [2.0], [3.0], [4.0], [10.0], [20.0], [30.0], [40.0]])
    s.see("four heads of two numbers, pooled to two", s.pool_heads(weight, 4, 2))
    weight = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    s.see("two heads of one number each, pooled to one", s.pool_heads(weight, 2, 1))


@visible("q4")
def two_to_four(s, draw):
    s.see(
        "two heads of two numbers, spread to four",
        s.spread_heads(torch.tensor([[1.0], [2.0], [30.0], [40.0]]), 4, 2),
    )


@visible("q5")
def llama(s, draw):
    s.see("Llama 3 8B in bf16, bytes a token", s.kv_bytes_per_token(32, 8, 128, 2))
    s.see("its FLOPs per byte", s.attention_intensity(32, 8, 2))


@visible("q6")
def a_small_server(s, draw):
    s.see("heads of 12 that fit into 12.8 MB", s.most_kv_heads(12, 10, 64, 2, 1000, 12_800_000))
    s.see("into 7.68 MB", s.most_kv_heads(12, 10, 64, 2, 1000, 7_680_000))
    s.see("into 2 MB", s.most_kv_heads(12, 10, 64, 2, 1000, 2_000_000))
