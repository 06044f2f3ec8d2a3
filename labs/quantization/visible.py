"""What students can check themselves: small inputs, once each."""

import torch

from teachgrade.scenario import visible


@visible("q1")
def two_rows(s, draw):
    s.see("scales of two rows, 8 bits", s.row_scales(torch.tensor([[1.0, -12.7, 3.0], [0.0, 0.5, 2.54]]), 8))
    s.see("scales, 4 bits", s.row_scales(torch.tensor([[1.0, -7.0], [0.0, 0.7]]), 4))
    s.see("scales where a row is all zeros", s.row_scales(torch.tensor([[0.0, 0.0], [3.5, 7.0]]), 4))


@visible("q2")
def there_and_back(s, draw):
    w = torch.tensor([[7.0, -3.4, 1.6, 0.0], [0.14, 0.05, -0.07, 0.11]])
    s.see("codes and scales, 4 bits", s.quantize(w, 4))
    codes = torch.tensor([[7, -3], [1, 0]], dtype=torch.int8)
    s.see("what codes stand for", s.dequantize(codes, torch.tensor([[0.5], [2.0]])))


@visible("q3")
def three_rows(s, draw):
    s.see("the worst error", s.worst_error(torch.tensor([[0.5], [2.0], [0.125]])))


@visible("q4")
def a_row(s, draw):
    codes = torch.tensor([[-8, 7, 0, 1]], dtype=torch.int8)
    s.see("packed", s.pack(codes))
    s.see("unpacked", s.unpack(torch.tensor([[240, 152]], dtype=torch.uint8)))
    s.see("three columns", s.pack(torch.tensor([[1, 2, 3]], dtype=torch.int8)))


@visible("q5")
def two_groups(s, draw):
    s.see("codes and scales", s.quantize_groups(torch.tensor([[7.0, -2.0, 0.7, 0.3]]), 4, 2))
    w = torch.tensor([[7.0, -2.0, 0.7, 0.3, 70.0, 20.0], [0.0, 0.0, 14.0, 4.0, -3.5, 1.0]])
    s.see("codes and scales of two rows", s.quantize_groups(w, 4, 2))
    s.see("groups of 4 in rows of 6", s.quantize_groups(w, 4, 4))
    s.see("bits of a weight, 4-bit codes, fp16 scales, groups of 64", s.bits_per_weight(4, 64, 16))


@visible("q6")
def by_hand(s, draw):
    x = torch.tensor([[127.0, -63.7], [1.27, 0.012]])
    codes = torch.tensor([[100, 127], [3, -5], [0, 1]], dtype=torch.int8)
    s.see("the product", s.w8a8(x, codes, torch.tensor([[0.5], [1.0], [2.0]])))
