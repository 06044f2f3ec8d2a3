"""The project's own kernel, ``cpp/dot.cpp``: compiled once for this processor, and how its weights lie.

It multiplies activations with int8 or int4 codes as they are stored, by sums of integers. PyTorch's kernels
for the CPU widen every code to a float first, which takes longer than reading the code from memory.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

SOURCE = Path(__file__).with_name("cpp") / "dot.cpp"
OUTPUTS, INPUTS = 16, 4  # of a tile, and of the sets of codes in it: as in the source
LARGEST_INPUT = 2**16  # a sum of more products of a byte with a digit might leave int32
_LOADING = threading.Lock()


def fits(n_out: int, n_in: int, group_size: int) -> bool:
    """Whether a matrix can be cut into tiles: outputs by 16, inputs by whole groups, groups by 8."""
    even = n_out % OUTPUTS == 0 and n_in % group_size == 0 and group_size % (2 * INPUTS) == 0
    return even and n_in < LARGEST_INPUT


def to_tiles(
    codes: UInt8[Tensor, "N K"], scales: Sequence[Float[Tensor, "N groups"]], bits: int
) -> UInt8[Tensor, "tiles bytes"]:
    """A matrix in the order in which the kernel reads it: tiles of 16 outputs.

    codes   from 0 to 255, or to 15
    scales  in int8 one matrix, in float32 and with one group; in int4 scales and zeros, in bfloat16
    A tile holds for each group the scales and then the codes of the 16 outputs: for four inputs after four,
    those of each output. In int4 a byte has in its low half a code of the first four of eight inputs, and in
    its high half one of the last four.
    """
    groups = scales[0].shape[1]
    sets = codes.reshape(len(codes) // OUTPUTS, OUTPUTS, groups, -1, INPUTS).permute(0, 2, 3, 1, 4)
    if bits == 4:
        low, high = sets.unflatten(2, (-1, 2)).unbind(3)
        sets = low | high << 4
    per_group = [
        t.reshape(-1, OUTPUTS, groups).transpose(1, 2).contiguous().view(torch.uint8) for t in scales
    ]
    return torch.cat([*per_group, sets.flatten(2)], -1).flatten(1)


def from_tiles(
    tiles: UInt8[Tensor, "tiles bytes"], bits: int, groups: int
) -> tuple[UInt8[Tensor, "N K"], list[Float[Tensor, "N groups"]]]:
    """Codes and scales again, in the plain order."""
    kinds = [torch.float32] if bits == 8 else [torch.bfloat16] * 2
    sizes = [OUTPUTS * kind.itemsize for kind in kinds]
    per_group = tiles.view(len(tiles), groups, -1)
    *scales, sets = per_group.split([*sizes, per_group.shape[-1] - sum(sizes)], -1)
    sets = sets.unflatten(2, (-1, OUTPUTS, INPUTS))
    if bits == 4:
        sets = torch.stack((sets & 15, sets >> 4), 3).flatten(2, 3)
    codes = sets.permute(0, 3, 1, 2, 4).reshape(len(tiles) * OUTPUTS, -1)
    return codes, [
        t.contiguous().view(kind).transpose(1, 2).reshape(-1, groups)
        for t, kind in zip(scales, kinds, strict=True)
    ]


def rows(
    tiles: UInt8[Tensor, "tiles bytes"], index: Int[Tensor, "*any"]
) -> tuple[UInt8[Tensor, "*any K"], Float[Tensor, "*any"]]:
    """Codes and scales of some rows of a matrix in int8."""
    tile, row = index // OUTPUTS, index % OUTPUTS
    end = OUTPUTS * torch.float32.itemsize
    scales = tiles[:, :end].view(torch.float32)
    sets = tiles[:, end:].unflatten(1, (-1, OUTPUTS, INPUTS))
    return sets[tile, :, row].flatten(-2), scales[tile, row]


def dot(
    x: Float[Tensor, "*any K"],
    matrices: Sequence[UInt8[Tensor, "_ bytes"]],
    *,
    bits: int,
    group_size: int,
    digits: int,
) -> Float[Tensor, "*any N"]:
    """x W^T for one matrix or for several with the same input, whose outputs follow each other.

    x           of any dtype, taken as float32; a row with NaN or infinity in it comes back as NaN
    matrices    in tiles; a code stands for (code - 128) * scale, or (code - 8) * scale + zero
    group_size  of int8 K
    digits      of an activation: 2, each off by less than absmax / 64,000; or 1, as W8A8, by absmax / 254
    Raises      RuntimeError: matrices of other shapes; x asks for gradients, of which this has none
    Why         two digits are closer than bfloat16 is for all but the smallest of a row, and cost no time: a
                step waits for the codes to arrive from memory
    """
    rows = x.reshape(-1, x.shape[-1]).float().contiguous()
    out = torch.ops.teachkit.dot(rows, list(matrices), bits, group_size, digits)
    return out.to(x.dtype).view(*x.shape[:-1], out.shape[-1])


def load() -> None:
    """Compile the kernel if it has not been compiled for this machine, and make it known to PyTorch.

    Raises  RuntimeError: no C++ compiler, or one that refuses, whose words are in the message; a cache folder
            that cannot be written
    """
    with _LOADING:
        # Asked of PyTorch, not of this module, which may be imported anew: a second library ends the process.
        if not hasattr(torch.ops.teachkit, "dot"):
            torch.ops.load_library(build())
            torch.library.register_fake("teachkit::dot", _shape)


def _shape(x: Tensor, matrices: list[Tensor], bits: int, group: int, digits: int) -> Tensor:
    """What comes out, for the compiler: it runs programs on tensors that hold nothing."""
    return x.new_empty(x.shape[0], sum(len(m) for m in matrices) * OUTPUTS)


def build() -> Path:
    """The compiled kernel: a file in the cache folder, named after all that decides what is in it."""
    command = [*shlex.split(os.environ.get("CXX") or "c++"), *_flags()]
    decides = [SOURCE.read_text(encoding="utf-8"), *command, torch.__version__, _processor()]
    name = hashlib.sha256("\n".join(decides).encode()).hexdigest()[:16]
    target = cache_folder() / f"dot_{name}.so"
    if not target.exists():
        _compile(command, target)
    return target


def cache_folder() -> Path:
    """Where compiled kernels are kept: $TEACHKIT_CACHE, or the user's folder for what can be made again."""
    given = os.environ.get("TEACHKIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teachkit"


def _compile(command: list[str], target: Path) -> None:
    # Under another name first: what an interruption leaves is never taken for the kernel; and of two
    # processes that compile at once the later one puts the same in its place.
    with _room(target.parent) as folder:
        made = Path(folder) / target.name
        try:
            done = subprocess.run(
                [*command, str(SOURCE), "-o", str(made), *_libraries()],
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise RuntimeError(f"no C++ compiler: {command[0]}: {error.strerror}; set CXX") from error
        if done.returncode:
            raise RuntimeError(f"{command[0]} did not compile {SOURCE.name}:\n{done.stderr[-2000:]}")
        made.replace(target)


def _room(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise RuntimeError(
            f"no room for the compiled kernel: {folder}: {error.strerror}; set TEACHKIT_CACHE to another"
        ) from error


def _flags() -> list[str]:
    include = Path(torch.__file__).parent / "include"
    flags = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-std=c++20", "-w"]
    flags += ["-fPIC", "-shared", f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
    # As PyTorch itself was compiled: of its wheels before 2.7 the strings are the old ones.
    flags += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    # Apple's compiler takes no -march=native for its own processors, and has no OpenMP: PyTorch's loops then
    # run on one thread.
    return flags if sys.platform == "darwin" else [*flags, "-march=native", "-fopenmp"]


def _libraries() -> list[str]:
    folder = Path(torch.__file__).parent / "lib"
    return [f"-L{folder}", f"-Wl,-rpath,{folder}", "-ltorch", "-ltorch_cpu", "-lc10"]


def _processor() -> str:
    """What -march=native goes by: a cache folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    says = ("flags", "model name", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(says)}))
