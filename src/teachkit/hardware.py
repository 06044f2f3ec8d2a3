"""Published peaks of devices: memory, bandwidth, dense arithmetic rates and link, each with its source.

A peak is what the maker prints, not what a program reaches. Knows nothing of torch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

Number = int | float

# Formats by the bits of an operand. Where a device has a rate for both, the first is meant.
OPERANDS: Mapping[Number, tuple[str, ...]] = MappingProxyType(
    {32: ("fp32",), 16: ("fp16", "bf16"), 8: ("int8", "fp8"), 4: ("int4", "fp4")}
)
FORMATS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "int4", "fp4")


@dataclass(frozen=True)
class Device:
    """What the maker of a device publishes.

    memory_gb         as the data sheet prints it; see ``memory_bytes``
    bytes_per_s       peak of the device's memory, reads and writes together; 1 GB/s is 1e9 bytes/s
    flops             number format -> operations per second, a multiply and an add counted as two.
                      Dense: since the A100, sheets print twice this beside it, or alone, for 2:4 sparsity.
                      Of the fastest unit that takes the format: tensor cores where there are any, except
                      for fp32, which is the vector unit's. Where a sheet tells accumulators apart, with
                      the fp32 one. No fp64: no LLM computes in it.
    source            address of the maker's data sheet, brief or white paper
    link_bytes_per_s  to other devices, per device and per direction, all lanes together: NVLink where the
                      part has it, else PCIe. Sheets print both directions added, so this is half of theirs.
                      None: the maker publishes no such link.
    price_usd_per_hour, price_date, price_source
                      what one device, with its share of a host, cost on demand on that day (YYYY-MM-DD); who
                      sold it, then after a comma the terms and where they are written. All three or none.
    note              what the numbers do not say

    Raises  ValueError: a size or rate that is not positive and finite, an unknown format, part of a price

    >>> a100 = device("A100-SXM4-80GB")
    >>> round(a100.peak(16) / a100.bytes_per_s, 1)  # FLOPs per byte at which the two bounds meet
    153.0
    """

    name: str
    memory_gb: Number
    bytes_per_s: Number
    flops: Mapping[str, Number] = field(hash=False)
    source: str
    link_bytes_per_s: Number | None = None
    price_usd_per_hour: Number | None = None
    price_date: str | None = None
    price_source: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        unknown = [name for name in self.flops if name not in FORMATS]
        if unknown:
            raise ValueError(
                f"{self.name}: flops: expected formats among {', '.join(FORMATS)}; got {', '.join(unknown)}"
            )
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        numbers |= {f"flops[{name!r}]": rate for name, rate in self.flops.items()}
        for name, value in numbers.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.name}: {name}: expected a positive, finite number, got {value!r}")
        price = (self.price_usd_per_hour, self.price_date, self.price_source)
        if None in price and price != (None, None, None):
            raise ValueError(f"{self.name}: expected a price with its date and its source, got {price}")
        object.__setattr__(self, "flops", MappingProxyType(dict(self.flops)))

    @property
    def memory_bytes(self) -> int:
        """``memory_gb`` times 2**30: the "GB" of these sheets are GiB.

        Memory chips come in powers of two, and tools confirm it: nvidia-smi reports 81,920 MiB for an A100
        of "80 GB", which is 80 GiB or 85.9e9 bytes, and 143,771 MiB (140.4 GiB) for an H200 of "141 GB".

        An upper bound. Driver and error correction keep up to 1 % of HBM, and 1/16 of GDDR6 with ECC on: a
        T4 reports 15,360 of 16,384 MiB. A unified memory also holds the operating system.
        """
        return int(self.memory_gb * 2**30)

    def number_format(self, bits: Number | str) -> str:
        """The format that ``bits`` stands for here: a format itself, or the bits of both operands.

        16 is fp16, else bf16; 8 is int8, else fp8; 4 is int4, else fp4; 32 is fp32, never tf32. Never a wider
        one either: 4-bit weights with 16-bit activations are multiplied in a 16-bit format.

        Raises  ValueError: no rate is published; names those that are
        """
        wanted = (bits.lower(),) if isinstance(bits, str) else OPERANDS.get(bits, ())
        for name in wanted:
            if name in self.flops:
                return name
        asked = repr(bits) if isinstance(bits, str) else f"{bits}-bit operands"
        raise ValueError(
            f"{self.name} has no published rate for {asked}: expected one of {', '.join(self.flops)}, or the "
            "bits of one (32, 16, 8, 4). If only weights are that narrow, ask for the activations' format"
        )

    def peak(self, bits: Number | str = 16) -> Number:
        """Dense operations per second in a format ("bf16") or for operands of 32, 16, 8 or 4 bits.

        Raises  ValueError: as ``number_format``

        >>> device("a100-80gb").peak(8) / device("a100-80gb").peak("tf32")
        4.0
        >>> device("v100-16gb").peak(8)
        Traceback (most recent call last):
        ValueError: NVIDIA V100 SXM2 16GB has no published rate for 8-bit operands: expected one of fp32, ...
        """
        return self.flops[self.number_format(bits)]


def device(name: str) -> Device:
    """The device of this name, in any spelling that names one part: "a100-80gb", "NVIDIA A100-SXM4-80GB".

    Maker, form factor SXM and kind of memory may be left out; the memory may where only one size is listed.

    Raises  ValueError: unknown, or more than one part ("a100"); names the nearest
    """
    plain = _plain(name)
    if plain in _KEYS:
        return DEVICES[_KEYS[plain]]
    longer = [known for known in _KEYS if plain and known.startswith(plain)]
    close = difflib.get_close_matches(plain, _KEYS, n=5, cutoff=0.5)
    shorter = [known for known in _KEYS if plain.startswith(known)]
    near = list(dict.fromkeys(_KEYS[known] for known in longer or close or shorter))
    raise ValueError(
        f"device: expected one of {', '.join(DEVICES)}; got {name!r}"
        + (f"; nearest: {', '.join(near)}" if near else "")
    )


def _plain(name: str) -> str:
    """Lower case, without punctuation, maker, form factor and kind of memory."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    words = [re.sub(r"^(nvidia|tesla|geforce|quadro|rtx|apple|raspberry)", "", word) for word in words]
    return "".join(word for word in words if not re.fullmatch(r"(sxm|hbm)\d?e?", word))


def _spellings(devices: Mapping[str, Device]) -> dict[str, str]:
    """Plain spelling -> key: the key and the full name, with the memory and, if the key has none, without."""
    keys = {}
    for key, part in devices.items():
        size = f"{part.memory_gb:g}gb"
        for plain in (_plain(key), _plain(part.name)):
            keys[plain] = keys[plain.removesuffix(size) + size] = key
    return keys


def _rent(usd_per_hour: Number, terms: str = "") -> dict[str, Any]:
    """One seller's price; his list is of machines that are paid for while they run."""
    return {
        "price_usd_per_hour": usd_per_hour,
        "price_date": "2026-09-20",
        "price_source": _SELLER + terms,
    }


def _tera(**rates: Number) -> dict[str, float]:
    return {name: float(round(rate * 1e12)) for name, rate in rates.items()}


_NVIDIA = "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center"
_IMAGES = "https://images.nvidia.com"
_HOPPER = "https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper"
_SELLER = (
    "Lambda, on demand, billed by the minute while an instance runs, https://lambda.ai/instances "
    "as copied by https://github.com/api-evangelist/lambda-labs"
)
_V100 = Device(
    name="NVIDIA V100 SXM2 16GB",
    memory_gb=16,
    bytes_per_s=900e9,
    flops=_tera(fp32=15.7, fp16=125),
    source=f"{_IMAGES}/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf",
    link_bytes_per_s=150e9,
    note="Tensor cores take fp16 only.",
)
_A100 = _tera(fp32=19.5, tf32=156, fp16=312, bf16=312, int8=624, int4=1248)
_H100 = _tera(fp32=66.9, tf32=494.7, fp16=989.4, bf16=989.4, int8=1978.9, fp8=1978.9)

DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "v100-16gb": _V100,
        "v100-32gb": replace(_V100, name="NVIDIA V100 SXM2 32GB", memory_gb=32),
        "t4": Device(
            name="NVIDIA T4",
            memory_gb=16,
            bytes_per_s=320e9,
            flops=_tera(fp32=8.1, fp16=65, int8=130, int4=260),
            source=f"{_NVIDIA}/tesla-t4/t4-tensor-core-product-brief.pdf",
            link_bytes_per_s=16e9,
            note="PCIe 3.0 x16. The data sheet rounds the bandwidth to 300 GB/s.",
        ),
        "a10": Device(
            name="NVIDIA A10",
            memory_gb=24,
            bytes_per_s=600e9,
            flops=_tera(fp32=31.2, tf32=62.5, fp16=125, bf16=125, int8=250, int4=500),
            source=f"{_NVIDIA}/a10/pdf/datasheet-new/nvidia-a10-datasheet.pdf",
            link_bytes_per_s=32e9,
            **_rent(1.29),
            note="PCIe 4.0 x16.",
        ),
        "a10g": Device(
            name="NVIDIA A10G",
            memory_gb=24,
            bytes_per_s=600e9,
            flops=_tera(fp32=31.5, tf32=35, fp16=70, bf16=70, int8=140, int4=280),
            source="https://d1.awsstatic.com/product-marketing/ec2/NVIDIA_AWS_A10G_DataSheet_FINAL_02_17_2022.pdf",
            link_bytes_per_s=32e9,
            note="The A10 of AWS: the same memory, 56 % of the tensor rate. PCIe 4.0 x16.",
        ),
        "l4": Device(
            name="NVIDIA L4",
            memory_gb=24,
            bytes_per_s=300e9,
            flops=_tera(fp32=30.3, tf32=60, fp16=121, bf16=121, int8=242.5, fp8=242.5),
            source="https://www.nvidia.com/en-us/data-center/l4/",
            link_bytes_per_s=32e9,
            note="Half of the tensor rates printed, which are with sparsity. PCIe 4.0 x16.",
        ),
        "a100-40gb": Device(
            name="NVIDIA A100 SXM4 40GB",
            memory_gb=40,
            bytes_per_s=1555e9,
            flops=_A100,
            source=f"{_IMAGES}/aem-dam/en-zz/Solutions/data-center/nvidia-ampere-architecture-whitepaper.pdf",
            link_bytes_per_s=300e9,
            **_rent(1.99),
        ),
        "a100-80gb": Device(
            name="NVIDIA A100 SXM4 80GB",
            memory_gb=80,
            bytes_per_s=2039e9,
            flops=_A100,
            source=f"{_NVIDIA}/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
            link_bytes_per_s=300e9,
            **_rent(2.79, "; in machines of eight"),
            note="int4 is from the white paper of the 40 GB part; the PCIe part has 1,935 GB/s.",
        ),
        "a6000": Device(
            name="NVIDIA RTX A6000",
            memory_gb=48,
            bytes_per_s=768e9,
            flops=_tera(fp32=38.7, tf32=77.4, fp16=154.8, bf16=154.8, int8=309.7, int4=619.3),
            source="https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
            link_bytes_per_s=56.25e9,
            **_rent(1.09),
            note="The link is an NVLink bridge between two cards.",
        ),
        "h100": Device(
            name="NVIDIA H100 SXM5 80GB",
            memory_gb=80,
            bytes_per_s=3350e9,
            flops=_H100,
            source="https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet",
            link_bytes_per_s=450e9,
            **_rent(4.29),
            note=f"The sheet prints rates with sparsity; the dense ones are from {_HOPPER}",
        ),
        "h200": Device(
            name="NVIDIA H200 SXM 141GB",
            memory_gb=141,
            bytes_per_s=4800e9,
            flops=_H100,
            source="https://nvdam.widen.net/s/nb5zzzsjdf/hpc-datasheet-sc23-h200-datasheet-3002446",
            link_bytes_per_s=450e9,
            note=f"The H100's chip with more memory; the dense rates are from {_HOPPER}",
        ),
        "b200": Device(
            name="NVIDIA B200 SXM 180GB",
            memory_gb=180,
            bytes_per_s=7700e9,
            flops=_tera(fp32=75, tf32=1100, fp16=2250, bf16=2250, int8=4500, fp8=4500, fp4=9000),
            source="https://resources.nvidia.com/en-us-blackwell-architecture/datasheet",
            link_bytes_per_s=900e9,
            **_rent(6.99),
            note="As in HGX B200. Half of the tensor rates printed, which are with sparsity. Announced with "
            "192 GB and 8 TB/s, which many tables still give.",
        ),
        "rtx-4090": Device(
            name="NVIDIA GeForce RTX 4090",
            memory_gb=24,
            bytes_per_s=1008e9,
            flops=_tera(fp32=82.6, tf32=82.6, fp16=165.2, bf16=165.2, int8=660.6, fp8=330.3, int4=1321.2),
            source=f"{_IMAGES}/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf",
            link_bytes_per_s=32e9,
            note="With fp32 accumulators, as libraries use; with fp16 ones, fp16 and fp8 run twice as fast. "
            "The link is the rate of PCIe 4.0 x16; there is no NVLink.",
        ),
        "m2": Device(
            name="Apple M2",
            memory_gb=24,
            bytes_per_s=100e9,
            flops=_tera(fp32=3.579, fp16=3.579),
            source="https://www.apple.com/newsroom/2022/06/"
            "apple-unveils-m2-with-breakthrough-performance-and-capabilities/",
            note="8 and 16 GB are sold too; CPU and GPU share it. Rates derived: 10 GPU cores x 128 lanes x "
            "2 x 1.398 GHz, fp16 no faster (https://github.com/philipturner/metal-benchmarks).",
        ),
        "m3-max": Device(
            name="Apple M3 Max",
            memory_gb=128,
            bytes_per_s=400e9,
            flops=_tera(fp32=14.316, fp16=14.316),
            source="https://support.apple.com/en-us/117737",
            note="With 40 GPU cores (with 30: 300 GB/s). Less memory is sold too; CPU and GPU share it. "
            "Rates derived: 40 cores x 128 lanes x 2 x 1.398 GHz, a clock that others put at up to 1.6 GHz.",
        ),
        "pi-5": Device(
            name="Raspberry Pi 5 8GB",
            memory_gb=8,
            bytes_per_s=17.068e9,
            flops=_tera(fp32=0.1536, fp16=0.3072, int8=0.6144),
            source="https://datasheets.raspberrypi.com/rpi5/raspberry-pi-5-product-brief.pdf",
            note="All derived. Bandwidth: LPDDR4X-4267 on 32 bits. Rates: 4 Cortex-A76 cores x 2.4 GHz "
            "x 2 vector units of 128 bits x 2 for multiply-add; int8 by dot products. Other sizes are sold.",
        ),
    }
)
_KEYS = _spellings(DEVICES)
