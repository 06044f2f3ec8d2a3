"""hardware.py: the published numbers, copied by hand once more; names found; what has no rate is an error."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import pytest

from teachkit.hardware import DEVICES, FORMATS, OPERANDS, Device, device

each_device = pytest.mark.parametrize("key", DEVICES)

# name -> GB, GB/s, TFLOP/s in fp32, 16, 8 and 4 bits, GB/s of the link in one direction; from the sheets.
SHEETS = {
    "v100-16gb": (16, 900, 15.7, 125, None, None, 150),
    "v100-32gb": (32, 900, 15.7, 125, None, None, 150),
    "t4": (16, 320, 8.1, 65, 130, 260, 16),
    "a10": (24, 600, 31.2, 125, 250, 500, 32),
    "a10g": (24, 600, 31.5, 70, 140, 280, 32),
    "l4": (24, 300, 30.3, 121, 242.5, None, 32),
    "a100-40gb": (40, 1555, 19.5, 312, 624, 1248, 300),
    "a100-80gb": (80, 2039, 19.5, 312, 624, 1248, 300),
    "a6000": (48, 768, 38.7, 154.8, 309.7, 619.3, 56.25),
    "h100": (80, 3350, 66.9, 989.4, 1978.9, None, 450),
    "h200": (141, 4800, 66.9, 989.4, 1978.9, None, 450),
    "b200": (180, 7700, 75, 2250, 4500, 9000, 900),
    "rtx-4090": (24, 1008, 82.6, 165.2, 660.6, 1321.2, 32),
    "m2": (24, 100, 3.579, 3.579, None, None, None),
    "m3-max": (128, 400, 14.316, 14.316, None, None, None),
    "pi-5": (8, 17.068, 0.1536, 0.3072, 0.6144, None, None),
}


# --- the numbers ---------------------------------------------------------------------------------------


def test_every_device_is_in_the_copy():
    assert set(SHEETS) == set(DEVICES)


@pytest.mark.parametrize("key", SHEETS)
def test_published_numbers(key):
    part = DEVICES[key]
    memory, bandwidth, fp32, sixteen, eight, four, link = SHEETS[key]
    assert part.memory_gb == memory
    assert part.bytes_per_s == round(bandwidth * 1e9)
    assert part.link_bytes_per_s == (None if link is None else link * 1e9)
    for bits, expected in ((32, fp32), (16, sixteen), (8, eight), (4, four)):
        if expected is None:
            with pytest.raises(ValueError, match=f"no published rate for {bits}-bit operands"):
                part.peak(bits)
        else:
            assert part.peak(bits) == round(expected * 1e12)


@pytest.mark.parametrize(
    ("key", "flops_per_byte"),
    [
        ("v100-16gb", 138.9),  # 125e12 / 900e9
        ("a100-40gb", 200.6),  # 312e12 / 1555e9
        ("a100-80gb", 153.0),  # 312e12 / 2039e9
        ("a10", 208.3),  # 125e12 / 600e9
        ("a10g", 116.7),  # 70e12 / 600e9
    ],
)
def test_ridge_points_by_hand(key, flops_per_byte):
    part = device(key)
    assert round(part.peak(16) / part.bytes_per_s, 1) == flops_per_byte


def test_derived_rates():
    """Cores x clock x lanes x 2, where the maker prints no rate."""
    assert device("m2").peak("fp32") == pytest.approx(10 * 1.398e9 * 128 * 2, rel=1e-3)
    assert device("m3-max").peak("fp32") == pytest.approx(40 * 1.398e9 * 128 * 2, rel=1e-3)
    pi = device("pi-5")
    assert pi.peak("fp32") == pytest.approx(4 * 2.4e9 * (2 * 128 / 32) * 2)
    assert pi.peak("int8") == pytest.approx(4 * 2.4e9 * (2 * 128 / 8) * 2)
    assert pi.bytes_per_s == pytest.approx(4267e6 * 32 / 8)
    for key in ("m2", "m3-max", "pi-5"):
        assert "derived" in device(key).note


def test_memory_in_bytes_is_what_tools_report():
    """MiB as nvidia-smi reports: an A100 exactly, the others a little less than the bound."""
    assert device("a100-80gb").memory_bytes == 81920 * 2**20 == 85_899_345_920
    assert device("a100-40gb").memory_bytes == 40960 * 2**20
    for key, mib in (("h100", 81559), ("h200", 143771), ("b200", 183359)):
        assert 0.99 < mib * 2**20 / device(key).memory_bytes < 1
    assert 15360 * 2**20 / device("t4").memory_bytes == 15 / 16  # ECC


# --- the registry --------------------------------------------------------------------------------------


@each_device
def test_complete_and_sourced(key):
    part = DEVICES[key]
    assert part.name
    assert re.fullmatch(r"https://[a-z0-9.-]+/\S*", part.source)
    assert {"fp32", "fp16"} <= set(part.flops) <= set(FORMATS)
    assert device(key) is part
    assert device(part.name) is part
    if part.price_usd_per_hour is not None:
        assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", part.price_date)
        assert "https://" in part.price_source
        assert 0.1 < part.price_usd_per_hour < 20


@each_device
def test_narrower_is_not_slower(key):
    rates = DEVICES[key].flops
    order = [["fp32"], ["tf32"], ["fp16", "bf16"], ["int8", "fp8"], ["int4", "fp4"]]
    present = [[rates[name] for name in names if name in rates] for names in order]
    present = [group for group in present if group]
    for wide, narrow in itertools.pairwise(present):
        assert max(wide) <= min(narrow)


@each_device
def test_dense_not_sparse(key):
    """Halving the operand at most doubles the rate; a sparse figure among dense ones would show as four."""
    rates = DEVICES[key].flops
    for wide, narrow in (("tf32", "fp16"), ("fp16", "fp8"), ("int8", "int4"), ("fp8", "fp4")):
        if wide in rates and narrow in rates:
            assert rates[narrow] / rates[wide] == pytest.approx(2, rel=0.05)


def test_registry_and_devices_are_frozen():
    part = device("t4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.memory_gb = 32
    with pytest.raises(TypeError):
        part.flops["fp16"] = 1.0
    with pytest.raises(TypeError):
        DEVICES["t4"] = part
    assert part in {part}


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("a100-sxm-80gb", "a100-80gb"),
        ("a100 80 GB", "a100-80gb"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("H100 SXM", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("Tesla T4", "t4"),
        ("NVIDIA A10G", "a10g"),
        ("a10", "a10"),
        ("L4 24GB", "l4"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("Apple M2", "m2"),
        ("M3Max", "m3-max"),
        ("Raspberry Pi 5", "pi-5"),
        ("raspberry-pi-5", "pi-5"),
    ],
)
def test_spellings(name, key):
    assert device(name) is DEVICES[key]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("a100", "a100-40gb, a100-80gb"),  # two parts: which?
        ("V100", "v100-16gb, v100-32gb"),
        ("A100-PCIE-80GB", "a100-80gb"),  # another part, with another bandwidth
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090"),
        ("h10", "h100"),
    ],
)
def test_other_parts_are_unknown_and_name_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"got '{name}'; nearest: {nearest}"):
        device(name)


@pytest.mark.parametrize("name", ["", "nvidia", "abacus", "RTX A4000", "Apple M2 Max", "H100 PCIe", "GB200"])
def test_unknown_names_list_what_there_is(name):
    with pytest.raises(ValueError, match=r"device: expected one of v100-16gb, .*pi-5; got "):
        device(name)


# --- rates ---------------------------------------------------------------------------------------------


def test_formats_of_bits():
    assert device("rtx-4090").number_format(8) == "int8"
    assert device("b200").number_format(4) == "fp4"
    assert device("a100-80gb").number_format(32) == "fp32"
    assert device("a100-80gb").number_format(16.0) == "fp16"
    assert device("a100-80gb").peak("TF32") == 156e12
    assert device("a100-80gb").peak() == 312e12
    assert sorted(name for names in OPERANDS.values() for name in names) == sorted(set(FORMATS) - {"tf32"})
    only_bf16 = dataclasses.replace(device("t4"), flops={"bf16": 3e12})
    assert only_bf16.peak(16) == 3e12


@pytest.mark.parametrize(
    ("key", "bits", "asked"),
    [
        ("v100-16gb", 8, "8-bit operands"),
        ("h100", 4, "4-bit operands"),
        ("t4", "bf16", "'bf16'"),
        ("t4", 3, "3-bit operands"),
        ("t4", -16, "-16-bit operands"),
        ("t4", "16", "'16'"),
    ],
)
def test_no_rate_is_an_error_that_names_those_there_are(key, bits, asked):
    part = device(key)
    expected = f"{part.name} has no published rate for {asked}: expected one of {', '.join(part.flops)}, or"
    with pytest.raises(ValueError, match=re.escape(expected)):
        part.peak(bits)


# --- a device of one's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["memory_gb", "bytes_per_s", "link_bytes_per_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_sizes_must_be_positive(field, value):
    with pytest.raises(ValueError, match=rf"NVIDIA T4: {field}: expected a positive, finite number, got"):
        dataclasses.replace(device("t4"), **{field: value})


def test_rates_must_be_positive():
    with pytest.raises(ValueError, match=r"flops\['fp16'\]: expected a positive, finite number, got 0"):
        dataclasses.replace(device("t4"), flops={"fp16": 0.0})


def test_formats_must_be_known():
    with pytest.raises(ValueError, match=r"flops: expected formats among fp32, .*; got fp12, float16"):
        dataclasses.replace(device("t4"), flops={"fp12": 1.0, "fp16": 1.0, "float16": 1.0})


def test_a_price_has_a_date_and_a_source():
    with pytest.raises(ValueError, match="expected a price with its date and its source"):
        dataclasses.replace(device("a10"), price_date=None)
    with pytest.raises(ValueError, match="price_usd_per_hour: expected a positive"):
        dataclasses.replace(device("a10"), price_usd_per_hour=-1.0)
    assert (
        dataclasses.replace(
            device("a10"), price_usd_per_hour=None, price_date=None, price_source=None
        ).price_date
        is None
    )


def test_made_without_a_link():
    mine = Device(name="mine", memory_gb=4, bytes_per_s=1e9, flops={"fp32": 1e9}, source="measured")
    assert mine.link_bytes_per_s is None
    assert mine.memory_bytes == 4 * 2**30
