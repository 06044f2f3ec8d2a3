"""What this machine reaches: bandwidth, arithmetic, the price of an operation. Measured outside any model.

A model that predicts the time of a step from these may be wrong; it cannot have been fitted to be right.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from teachkit.hardware import Device
from teachkit.measure import Result, Timing, device_name, result, time_call

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
READ_BYTES = 512 * 2**20  # several times any last-level cache that a CPU of today has
SLOW_S = 0.005  # at an eighth of the size; eight times the size takes 512 times as long
CALLS = 1000  # a single small operation is not much longer than a look at the clock


@dataclass(frozen=True)
class Machine:
    """Measured limits of one device.

    bytes_per_s   read from memory, beyond the last-level cache
    flops         operations per second of a large matrix product, by number format; formats that the
                  device cannot multiply are left out
    overhead_s    of one operation that has next to nothing to compute
    results       the records behind these, with spread and provenance
    """

    name: str
    bytes_per_s: float
    flops: dict[str, float]
    overhead_s: float
    results: tuple[Result, ...]

    def device(self, memory_bytes: int | None = None) -> Device:
        """The same as a :class:`teachkit.hardware.Device`, for :func:`teachkit.roofline.time_bound`."""
        memory_gb = (memory_bytes or READ_BYTES) / 2**30
        return Device(self.name, memory_gb, self.bytes_per_s, self.flops, source="measured on this machine")


def this_machine(
    device: torch.device | str = "cpu",
    *,
    formats: Iterable[str] = tuple(FORMATS),
    read_bytes: int = READ_BYTES,
    size: int = 2048,
    repeats: int = 10,
) -> Machine:
    """Measure a device: a few seconds on a laptop.

    device    "cpu", "cuda" or "mps"
    formats   number formats whose matrix product is timed
    read_bytes, size   of the data read, and of the square matrices
    Raises    ValueError: a format that is not known
    Why       the fastest of the repeats is the limit: what a shared machine did besides is not its peak
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise ValueError(f"formats: expected some of {', '.join(FORMATS)}, got {', '.join(sorted(unknown))}")
    read = read_bandwidth(read_bytes, device=device, repeats=repeats)
    products = {name: gemm(FORMATS[name], size, device=device, repeats=repeats) for name in formats}
    small = operation_overhead(device=device, repeats=repeats)
    done = [read, *(found for found in products.values() if found is not None), small]
    flops = {name: found.value for name, found in products.items() if found is not None}
    return Machine(device_name(device), read.value, flops, small.value, tuple(done))


def memory_bytes(device: torch.device | str = "cpu") -> int:
    """Memory of the device; of a CPU all that the machine has.

    Raises  ValueError: a system that does not say
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if kind == "mps":
        return int(torch.mps.recommended_max_memory())
    if sys.platform == "win32":
        kibibytes = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes)):
            return kibibytes.value * 2**10
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    raise ValueError(f"device: this system does not say how much memory {str(device)!r} has")


def read_bandwidth(n_bytes: int, *, device: torch.device | str = "cpu", repeats: int = 10) -> Result:
    """Bytes per second at which memory is read, by the faster of two programs that do little else."""
    x = torch.ones(n_bytes // 4, device=device)
    rows = x.view(-1, 1024) if x.numel() % 1024 == 0 else x[None]
    readers: dict[str, Callable[[], Tensor]] = {"sum": x.sum, "largest": lambda: rows.amax(1)}
    timings = {
        name: time_call(call, device=device, warmup=2, repeats=repeats) for name, call in readers.items()
    }
    name, timing = min(timings.items(), key=lambda item: min(item[1].times_s))
    config = {"bytes": n_bytes, "program": name}
    return _record("read bandwidth", n_bytes, "bytes/s", timing, config, device, torch.float32)


def gemm(
    dtype: torch.dtype, size: int, *, device: torch.device | str = "cpu", repeats: int = 10
) -> Result | None:
    """Operations per second of a (size, size) by (size, size) product; None where there is no such kernel.

    Why  a format without a kernel of its own may be a hundred times slower (fp16 on many a CPU): an eighth of
         the size is tried first, and reported if the whole would take seconds. Tried twice, and the fastest
         run of each try counts: a busy spell is no slow kernel
    """
    small = size // 8
    tries = (_timed_product(dtype, small, device, repeats) for _ in range(2))
    found = next(tries)
    if found is not None and _slow(found, small):
        found = next(tries)
    if found is None or _slow(found, small):
        return found
    return _timed_product(dtype, size, device, repeats) or found


def _slow(product: Result, size: int) -> bool:
    return 2 * size**3 / product.value > SLOW_S


def _timed_product(dtype: torch.dtype, size: int, device: torch.device | str, repeats: int) -> Result | None:
    if dtype == torch.int8:
        a, b = (torch.randint(-8, 8, (size, size), dtype=dtype, device=device) for _ in range(2))
        product: Callable[[], Any] = lambda: torch._int_mm(a, b)  # noqa: E731
    else:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        product = lambda: a @ b  # noqa: E731
    try:
        timing = time_call(product, device=device, warmup=2, repeats=repeats, budget_s=3.0)
    except (RuntimeError, NotImplementedError, TypeError):  # what PyTorch raises where a kernel is missing
        return None
    config = {"m": size, "n": size, "k": size}
    return _record("matrix product", 2 * size**3, "FLOP/s", timing, config, device, dtype)


def operation_overhead(*, device: torch.device | str = "cpu", repeats: int = 10) -> Result:
    """Seconds per operation, of many additions of 16 numbers in a row."""
    x = torch.ones(16, device=device)

    def many() -> None:
        for _ in range(CALLS):
            x + x

    timing = time_call(many, device=device, warmup=2, repeats=repeats)
    per_call = Timing(tuple(t / CALLS for t in timing.times_s))
    return result(
        "overhead of an operation",
        min(per_call.times_s),
        "s",
        timing=per_call,
        config={"calls": CALLS},
        device=device,
        dtype=torch.float32,
    )


def count_operations(call: Callable[[], object]) -> int:
    """Operations that PyTorch runs in ``call``, views left out: they move nothing and start no kernel."""
    counter = _Counter()
    with counter:
        call()
    return counter.n


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def _record(
    name: str,
    amount: int,
    unit: str,
    timing: Timing,
    config: dict[str, Any],
    device: torch.device | str,
    dtype: torch.dtype,
) -> Result:
    value = amount / min(timing.times_s)
    return result(name, value, unit, timing=timing, config=config, device=device, dtype=dtype)
