"""Token batches: seeded, resumable at any step, every token seen once per epoch."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

SEPARATOR_ID = 0
CONTEXT = 1024
TOKENS_PER_STEP = 8192


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """Ids of each text, a separator before it."""
    return [np.array([SEPARATOR_ID, *e.ids], dtype=np.int64) for e in tokenizer.encode_batch(texts)]


class Batches:
    """Each epoch: files in a new order, joined, cut into rows of CONTEXT tokens, rows in a new order.

    Which rows a step sees depends on the seed and the step alone, so a run can stop and resume anywhere.
    """

    def __init__(self, files: list[np.ndarray], seed: int) -> None:
        self.files, self.seed = files, seed
        self.rows_per_epoch = sum(map(len, files)) // CONTEXT - 1
        self.rows_per_step = TOKENS_PER_STEP // CONTEXT
        self._epoch = -1

    def __call__(self, step: int, length: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, (TOKENS_PER_STEP / length, length) each."""
        epoch, i = divmod(step, self.rows_per_epoch // self.rows_per_step)
        if epoch != self._epoch:
            self._shuffle(epoch)
        starts = self._order[i * self.rows_per_step : (i + 1) * self.rows_per_step] * CONTEXT
        rows = torch.from_numpy(np.stack([self._stream[s : s + CONTEXT + 1] for s in starts]))
        return rows[:, :-1].reshape(-1, length), rows[:, 1:].reshape(-1, length)

    def _shuffle(self, epoch: int) -> None:
        rng = np.random.default_rng((self.seed, epoch))
        self._stream = np.concatenate([self.files[j] for j in rng.permutation(len(self.files))])
        self._order = rng.permutation(self.rows_per_epoch)
        self._epoch = epoch
