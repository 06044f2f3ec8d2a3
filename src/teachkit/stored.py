"""The safetensors files of one folder, opened together: names, shapes and types now, data when asked for."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

Shape = tuple[int, ...]


class WeightsError(ValueError):
    """A checkpoint that does not fit its config; names the tensor, what was expected and what came."""


class Stored:
    """What a folder holds in ``model.safetensors``, or in the files that its index names.

    Raises  FileNotFoundError: no such file; WeightsError: damaged, truncated or pickled
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handles: dict[str, safe_open] = {}
        for file in self._files(folder):
            if not file.exists():
                raise FileNotFoundError(f"{file}: named in the index, not found")
            try:
                handle = safe_open(str(file), framework="pt")
            except SafetensorError as error:
                raise WeightsError(f"{file}: damaged or truncated ({error})") from error
            self._handles |= dict.fromkeys(handle.keys(), handle)

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        index = folder / "model.safetensors.index.json"
        if index.exists():
            try:
                names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise WeightsError(f"{index}: expected JSON with a weight_map, got something else") from error
            return [folder / name for name in sorted(set(names))]
        single = folder / "model.safetensors"
        if single.exists():
            return [single]
        if pickles := sorted(
            p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")
        ):
            raise WeightsError(
                f"{folder}: expected safetensors, found only pickled weights ({pickles[0]}), which can run "
                "code when opened; convert them with transformers' save_pretrained"
            )
        raise FileNotFoundError(f"{single}: expected the weights, not found")

    @property
    def names(self) -> set[str]:
        """Of all tensors."""
        return set(self._handles)

    def shape_and_kind(self, name: str) -> tuple[Shape, str]:
        """Without reading the data. The kind is the file's word for a dtype: "F32", "BF16", "I8"."""
        part = self._handles[name].get_slice(name)
        return tuple(part.get_shape()), part.get_dtype()

    def read(self, name: str) -> Tensor:
        """The tensor, as stored, on the CPU."""
        return self._handles[name].get_tensor(name)
