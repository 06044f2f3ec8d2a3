"""How far two correct computations may differ, by dtype. Tests take tolerances from here and nowhere else.

Use: ``torch.testing.assert_close(ours, theirs, **TOLERANCE[torch.float32])``.
"""

from __future__ import annotations

import torch

# One operation, or a few: attention, a norm, an MLP.
TOLERANCE: dict[torch.dtype, dict[str, float]] = {
    # eps 2.2e-16; sums of about 100 products of unit size in another order.
    torch.float64: {"atol": 1e-12, "rtol": 1e-12},
    # eps 1.2e-7; the same sums, and exp, whose relative error grows with its argument.
    torch.float32: {"atol": 2e-6, "rtol": 2e-5},
    # eps 9.8e-4: operands are rounded to it, and so is the result; sums are kept in fp32.
    torch.float16: {"atol": 4e-3, "rtol": 4e-3},
    # eps 7.8e-3, otherwise as fp16.
    torch.bfloat16: {"atol": 3e-2, "rtol": 3e-2},
}

# Logits of a whole model, of unit size or a little more: errors add up over layers.
LOGITS: dict[torch.dtype, dict[str, float]] = {
    # Frequencies and angles of rotary positions are fp32, but the same fp32 on both sides.
    torch.float64: {"atol": 1e-10, "rtol": 1e-10},
    # The promise of the package: the same logits as transformers to 1e-4.
    torch.float32: {"atol": 1e-4, "rtol": 1e-4},
    # Each layer rounds its output to 10 bits (3 decimal digits) a few times.
    torch.float16: {"atol": 3e-2, "rtol": 3e-2},
    # Each layer rounds its output to 8 bits (2 decimal digits) a few times.
    torch.bfloat16: {"atol": 2e-1, "rtol": 1e-1},
}
