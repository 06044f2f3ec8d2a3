"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def small(s, draw):
    s.see("softmax of a row", s.softmax(torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]])))


@visible("q1")
def large(s, draw):
    s.see("softmax of large numbers", s.softmax(torch.tensor([1000.0, 1000.0, 998.0])))


@visible("q2")
def by_hand(s, draw):
    q = torch.tensor([[[[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 2.0]]]])
    k = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]]])
    s.see("the scores", s.scaled_scores(q, k))


@visible("q3")
def square_and_not(s, draw):
    s.see("the mask of 3 queries and 3 keys", s.causal_mask(3, 3))
    s.see("the mask of 2 queries and 5 keys", s.causal_mask(2, 5))


@visible("q4")
def two_keys(s, draw):
    q = torch.tensor([[[[4.0, 0.0, 0.0, 0.0]]]])
    k = torch.tensor([[[[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [8.0, 0.0, 0.0, 0.0]]]])
    v = torch.tensor([[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 9.0, 9.0, 9.0]]]])
    s.see("attention to the first two of three", s.attention(q, k, v, torch.tensor([True, True, False])))
    s.see("attention to nothing", s.attention(q, k, v, torch.tensor([False, False, False])))


@visible("q5")
def four_heads_over_two(s, draw):
    q, k, v = draw.normal(1, 4, 2, 3), draw.normal(1, 2, 2, 3), draw.normal(1, 2, 2, 3)
    mask = torch.tensor([[True, False], [True, True]])
    s.see("attention of four query heads", s.grouped_attention(q, k, v, mask))


@visible("q6")
def two_blocks(s, draw):
    online = s.OnlineAttention(draw.normal(2, 3))
    online.add(draw.normal(4, 3), draw.normal(4, 3))
    s.see("the result after one block", online.result())
    online.add(draw.normal(5, 3), draw.normal(5, 3))
    s.see("the result after two", online.result())
