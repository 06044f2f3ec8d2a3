"""The project's own kernel: against float64 and whole numbers, in any order of work, and how it is built."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teachkit import native
from teachkit.quant import int8, quantize_tokens, w8a8_matmul

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="PyTorch for Windows links with Microsoft's compiler, which takes other flags",
)


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    native.load()


def random_matrix(N, K, bits, group, seed=0):
    """Codes, scales and the matrix that they stand for, in float64."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (N, K), generator=generator).to(torch.uint8)
    scales = [torch.rand(N, K // group, generator=generator) + 0.01]
    if bits == 4:
        scales = [scales[0].bfloat16(), torch.randn(N, K // group, generator=generator).bfloat16()]
    scale, *zero = (t.double().repeat_interleave(group, 1) for t in scales)
    values = (codes.double() - 2 ** (bits - 1)) * scale + (zero[0] if zero else 0)
    return codes, scales, values


def product(x, codes, scales, bits, group, digits=2):
    tiles = native.to_tiles(codes, scales, bits)
    return native.dot(x, [tiles], bits=bits, group_size=group, digits=digits)


# --- tiles ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(tiles=st.integers(1, 4), groups=st.integers(1, 5), eighths=st.integers(1, 9), seed=st.integers(0, 99))
def test_tiles_give_codes_and_scales_back(tiles, groups, eighths, seed):
    for bits, n in ((4, groups), (8, 1)):
        codes, scales, _ = random_matrix(16 * tiles, n * 8 * eighths, bits, 8 * eighths, seed)
        made = native.to_tiles(codes, scales, bits)
        assert made.shape == (tiles, codes[:16].numel() * bits // 8 + n * 64)
        back, back_scales = native.from_tiles(made, bits, n)
        assert torch.equal(back, codes)
        for found, expected in zip(back_scales, scales, strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
        if bits == 8:
            index = torch.randint(16 * tiles, (2, 3))
            found, of_rows = native.rows(made, index)
            assert torch.equal(found, codes[index])
            assert torch.equal(of_rows, scales[0][index, 0])


def test_the_bytes_of_a_tile_by_hand():
    """Row n, input k: the code 16 k + n of int8 and, of int4, k of even rows and 15 - k of odd ones."""
    n, k = torch.arange(16)[:, None], torch.arange(8)
    (tile,) = native.to_tiles((16 * k + n).to(torch.uint8), [torch.full((16, 1), 1.0)], 8).tolist()
    assert tile[:8] == [0, 0, 128, 63] * 2  # 1.0 in float32, of 16 outputs
    assert tile[64:72] == [0, 16, 32, 48, 1, 17, 33, 49]  # four inputs of output 0, then of output 1
    assert tile[128:132] == [64, 80, 96, 112]  # inputs 4 to 7 of output 0
    nibbles = torch.where(n % 2 == 0, k, 15 - k).to(torch.uint8)
    scales = [torch.full((16, 1), v, dtype=torch.bfloat16) for v in (1.0, 2.0)]
    (tile,) = native.to_tiles(nibbles, scales, 4).tolist()
    assert tile[:4] == [128, 63] * 2  # 1.0 in bfloat16: 16 scales, then 16 zeros
    assert tile[32:36] == [0, 64] * 2
    assert tile[64:72] == [0x40, 0x51, 0x62, 0x73, 0xBF, 0xAE, 0x9D, 0x8C]  # low: inputs 0 to 3, high: 4 to 7
    assert len(tile) == 128


def test_which_shapes_fit():
    assert native.fits(16, 8, 8)
    assert native.fits(48, 96, 32)
    assert native.fits(16, 2**16 - 8, 2**16 - 8)
    assert not native.fits(16, 2**16, 2**16), "sums might leave int32"
    assert not native.fits(40, 96, 32)
    assert not native.fits(48, 80, 32), "a short last group"
    assert not native.fits(48, 32, 64), "a group longer than the row"
    assert not native.fits(48, 100, 100), "groups of 8"


# --- products -------------------------------------------------------------------------------------------

K = 256
ROWS = {
    "random": torch.randn(K, generator=torch.Generator().manual_seed(1)),
    "zeros": torch.zeros(K),
    "outlier": torch.randn(K, generator=torch.Generator().manual_seed(2)).index_fill(0, torch.tensor(7), 1e4),
    "constant": torch.full((K,), -0.3),
    "small": torch.full((K,), 1e-30) * torch.linspace(-1, 1, K),
    "tiny": torch.full((K,), 1e-35) * torch.linspace(-1, 1, K),
    "large": torch.full((K,), 1e34) * torch.linspace(-1, 1, K),
    "alternating": torch.ones(K) - 2 * (torch.arange(K) % 2),
}


def bound(x, values, divisor):
    """What the digits may put it off, and what float32 may: three roundings a group, a few at the end."""
    digits = x.abs().amax(-1, keepdim=True).double() / divisor
    rounding = 2.0**-24 * 40 * x.abs().amax(-1, keepdim=True).double()
    return (digits * 1.005 + rounding) * values.abs().sum(1) + 2.0**-148


@pytest.mark.parametrize(("bits", "group"), [(8, K), (4, 32), (4, 128)])
def test_two_digits_are_as_close_as_said(bits, group):
    codes, scales, values = random_matrix(48, K, bits, group)
    x = torch.stack(list(ROWS.values()))
    error = (product(x, codes, scales, bits, group).double() - x.double() @ values.T).abs()
    allowed = bound(x, values, 2 * 127 * 254)
    for name, found, most in zip(ROWS, error, allowed, strict=True):
        assert (found <= most).all(), (name, (found / most).max().item())


@pytest.mark.parametrize(("digits", "divisor"), [(1, 254), (2, 2 * 127 * 254)])
def test_no_activation_is_off_by_more_than_half_a_step(digits, divisor):
    """A product with the unit matrix shows each: in a sum of many, errors of both signs hide one another."""
    codes = (128 + torch.eye(K)).to(torch.uint8)
    x = torch.stack(list(ROWS.values()))
    error = (product(x, codes, [torch.ones(K, 1)], 8, K, digits) - x).double().abs()
    allowed = x.abs().amax(-1, keepdim=True).double() * (1.005 / divisor + 2.0**-22)
    assert (error <= allowed).all()
    assert error[0].max() > 0.9 * allowed[0, 0], "nor are there more digits than said"


@pytest.mark.parametrize("value", [1.7e-36, 2.3e-36, 3.1e-36, 0.3, 2e33])
def test_a_row_of_one_value_is_off_by_rounding_only(value):
    """Its digits are 127 and 0; of tiny rows the 254th part of the scale would be no normal number."""
    codes, scales, values = random_matrix(48, K, 8, K)
    x = torch.full((1, K), value)
    error = (product(x, codes, scales, 8, K).double() - x.double() @ values.T).abs()
    assert (error <= 2.0**-21 * value * values.sum(1).abs() + 2.0**-22 * value).all()


@pytest.mark.parametrize(("bits", "group"), [(8, K), (4, 32)])
def test_digits_are_those_said_exactly(bits, group):
    """Scales of one and x of whole digits: the sums of integers, to the last bit of float32."""
    generator = torch.Generator().manual_seed(3)
    codes, scales, _ = random_matrix(16, K, bits, group)
    scales = [torch.ones_like(scales[0]), *(torch.zeros_like(t) for t in scales[1:])]
    first = torch.randint(-127, 128, (3, K), generator=generator)
    first[:, 0] = 127  # the scale is one
    found = product(first.float(), codes, scales, bits, group, digits=1)
    exact = first @ (codes.long() - 2 ** (bits - 1)).T
    assert torch.equal(found.double(), exact.double())


def test_one_digit_is_w8a8():
    weight = int8(torch.randn(48, K) * torch.logspace(-3, 3, 48)[:, None])
    x = torch.cat((torch.stack(list(ROWS.values())), torch.randn(5, K)))
    codes = (weight.q.to(torch.int16) + 128).to(torch.uint8)
    found = product(x, codes, [weight.scale[:, None]], 8, K, digits=1)
    # The same whole number and the same two factors, in another order: two roundings apart.
    torch.testing.assert_close(found, w8a8_matmul(x, weight), rtol=2.0**-22, atol=1e-38)
    assert quantize_tokens(x)[0].abs().amax() == 127


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("bits", "digits"), [(8, 2), (8, 1), (4, 2)])
def test_a_row_that_is_not_finite_comes_back_as_nan_alone(bits, digits, bad):
    codes, scales, _ = random_matrix(32, K, bits, K)
    x = torch.randn(3, K)
    clean = product(x, codes, scales, bits, K, digits)
    x[1, 100] = bad
    found = product(x, codes, scales, bits, K, digits)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("bits", [4, 8])
def test_the_longest_rows_of_extreme_codes_stay_in_int32(bits):
    K = 2**16 - 8
    top = 2**bits - 1
    codes = torch.zeros(16, K, dtype=torch.uint8)
    codes[1::2] = top
    scales = [torch.ones(16, 1, dtype=torch.float32 if bits == 8 else torch.bfloat16)]
    scales += [torch.zeros(16, 1, dtype=torch.bfloat16)] * (bits == 4)
    for sign in (1, -1):
        found = product(torch.full((1, K), 127.0 * sign), codes, scales, bits, K)[0].double()
        exact = sign * 127.0 * K * (codes[:, 0].double() - 2 ** (bits - 1))
        torch.testing.assert_close(found, exact, rtol=2.0**-22, atol=0)


@pytest.mark.parametrize(("bits", "group"), [(8, K), (4, 64)])
@pytest.mark.parametrize("digits", [1, 2])
def test_the_same_bits_in_whatever_company(bits, group, digits):
    matrices = [random_matrix(N, K, bits, group, seed=N)[:2] for N in (128, 16, 48)]
    tiles = [native.to_tiles(*m, bits) for m in matrices]
    x, how = torch.randn(7, K), {"bits": bits, "group_size": group, "digits": digits}
    together = native.dot(x, tiles, **how)
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            alone = torch.cat([native.dot(row, [t], **how) for row in x[:, None] for t in tiles], 1)
            again = native.dot(x, tiles, **how)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(alone.view(7, -1), together)
        assert torch.equal(again, together)


def test_shapes_and_dtypes_of_x():
    codes, scales, _ = random_matrix(48, K, 8, K)
    for shape in ((K,), (1, K), (2, 3, K), (0, K), (2, 0, K)):
        assert product(torch.ones(shape), codes, scales, 8, K).shape == (*shape[:-1], 48)
    x = torch.randn(K, 5).T  # not contiguous
    expected = product(x.contiguous(), codes, scales, 8, K)
    assert torch.equal(product(x, codes, scales, 8, K), expected)
    double = product(x.double(), codes, scales, 8, K)
    assert torch.equal(double, expected.double()), "float64 is taken as float32"
    half = product(x.bfloat16(), codes, scales, 8, K)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, product(x.bfloat16().float(), codes, scales, 8, K).bfloat16())


# --- what is refused ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named():
    op = torch.ops.teachkit.dot
    tiles = native.to_tiles(*random_matrix(16, 64, 8, 64)[:2], 8)
    x = torch.ones(1, 64)
    for arguments, message in [
        ((x.double(), [tiles], 8, 64, 2), "x: expected float32 rows"),
        ((x[0], [tiles], 8, 64, 2), "x: expected float32 rows"),
        ((x.expand(3, 64), [tiles], 8, 64, 2), "x: expected float32 rows"),
        ((x, [tiles], 5, 64, 2), "bits, digits: expected 4 or 8, 1 or 2"),
        ((x, [tiles], 8, 64, 3), "bits, digits: expected 4 or 8, 1 or 2"),
        ((x, [tiles], 8, 0, 2), "group: expected a divisor of 64"),
        ((x, [tiles], 4, 24, 2), "group: expected a divisor of 64"),
        ((x, [tiles], 8, 32, 2), "sums of this many products are not exact"),
        ((torch.ones(1, 2**16), [tiles], 8, 2**16, 2), "sums of this many products are not exact"),
        ((torch.ones(1, 72), [tiles], 8, 72, 2), "matrices: expected tiles for 72 inputs"),
        ((x, [tiles[:, :-1]], 8, 64, 2), "matrices: expected tiles for 64 inputs"),
        ((x, [tiles.expand(2, -1)], 8, 64, 2), "matrices: expected tiles for 64 inputs"),
        ((x, [tiles.view(torch.int8)], 8, 64, 2), "Byte"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            op(*arguments)


def test_gradients_are_refused_not_left_out():
    codes, scales, _ = random_matrix(16, 64, 8, 64)
    x = torch.ones(1, 64, requires_grad=True)
    with pytest.raises(RuntimeError, match="x: this product has no gradient"):
        product(x, codes, scales, 8, 64)
    with torch.no_grad():
        assert not product(x, codes, scales, 8, 64).requires_grad


# --- building -------------------------------------------------------------------------------------------


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def python(code, cache, **environment):
    """Start a process of its own that keeps its kernels in ``cache``."""
    changed = os.environ | {"TEACHKIT_CACHE": str(cache)} | environment
    command = [sys.executable, "-c", "from teachkit import native\n" + code]
    return subprocess.Popen(
        command, env=changed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


COMPARE = """
import torch
from test_native import K, ROWS, product, random_matrix
native.load()
x = torch.stack(list(ROWS.values()))
out = [product(x, *random_matrix(48, K, b, g)[:2], b, g, d) for b, g in ((8, K), (4, 32)) for d in (1, 2)]
torch.save(torch.cat(out), "%s")
print(torch.ops.teachkit.has_vnni())
"""


def test_without_the_processors_instruction_the_same_bits(tmp_path):
    """And two processes that build at once: each compiles, and both find a whole kernel."""
    makes = {"own": "c++", "loop": "c++ -U__AVX512VNNI__"}
    files = {name: tmp_path / f"{name}.pt" for name in makes}
    runs = [python(COMPARE % files[name], tmp_path / name, CXX=cxx) for name, cxx in makes.items()]
    runs.append(python(COMPARE % (tmp_path / "again.pt"), tmp_path / "own", CXX="c++"))
    vnni = [finished(process).strip() for process in runs]
    cpuinfo = Path("/proc/cpuinfo")
    has = cpuinfo.exists() and "avx512_vnni" in cpuinfo.read_text()
    assert vnni == [str(has), "False", str(has)]
    own, loop, again = (torch.load(f) for f in (*files.values(), tmp_path / "again.pt"))
    assert torch.equal(own, loop)
    assert torch.equal(own, again)
    for folder in ("own", "loop"):
        assert [f.suffix for f in (tmp_path / folder).iterdir()] == [".so"], "nothing else is left"


def test_built_once_and_named_after_what_decides(tmp_path, monkeypatch):
    log = tmp_path / "log"
    fake = script(
        tmp_path / "cc", f'echo x >> {log}\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n'
    )
    cache = tmp_path / "cache"
    monkeypatch.setenv("TEACHKIT_CACHE", str(cache))
    monkeypatch.setenv("CXX", fake)
    first = native.build()
    assert first.parent == cache
    assert first.read_text() == "made\n"
    assert native.build() == first
    assert log.read_text() == "x\n", "the second call starts no compiler"
    other = tmp_path / "dot.cpp"
    other.write_text(native.SOURCE.read_text() + "\n")
    paths = {first}
    for what in (
        lambda m: m.setattr(native, "SOURCE", other),
        lambda m: m.setenv("CXX", f"{fake} -g"),
        lambda m: m.setattr(torch, "__version__", "0.0"),
        lambda m: m.setattr(native, "_processor", lambda: "another"),
    ):
        with monkeypatch.context() as changed:
            what(changed)
            paths.add(native.build())
    assert len(paths) == 5
    assert set(cache.iterdir()) == paths


@pytest.mark.parametrize("xdg", ["given", None])
def test_cache_folder(xdg, monkeypatch, tmp_path):
    monkeypatch.delenv("TEACHKIT_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / xdg) if xdg else "")
    assert native.cache_folder() == tmp_path / (xdg or ".cache") / "teachkit"


def test_a_compiler_that_is_missing_or_fails(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("TEACHKIT_CACHE", str(cache))
    refuses = script(tmp_path / "refuses", 'echo "error: no such instruction" >&2\nexit 1\n')
    for compiler, message in [
        ("no-such-compiler", r"no C\+\+ compiler: no-such-compiler: No such file.*; set CXX"),
        (str(tmp_path), r"no C\+\+ compiler: .*: Permission denied; set CXX"),
        (refuses, r"refuses did not compile dot.cpp:\nerror: no such instruction"),
    ]:
        monkeypatch.setenv("CXX", compiler)
        with pytest.raises(RuntimeError, match=message):
            native.build()
        assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEACHKIT_CACHE", str(tmp_path / "file" / "inside"))
    with pytest.raises(
        RuntimeError, match=r"no room for the compiled kernel: .*inside: .*; set TEACHKIT_CACHE"
    ):
        native.build()


def test_loaded_again_even_by_a_module_imported_anew(tmp_path):
    """A second library of the same operators would end the process."""
    code = """
import importlib
native.load()
native.load()
importlib.reload(native)
native.SOURCE = native.SOURCE.parent / "other"
native.load()
print("alive")
"""
    assert finished(python(code, native.cache_folder())) == "alive\n"


def test_the_source_is_in_the_package():
    assert native.SOURCE.is_relative_to(Path(native.__file__).parent)
    assert native.SOURCE.exists()
