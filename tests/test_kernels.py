import pytest
import torch

from teachkit import kernels

ROWS_OF_X = [(1, 1, 37), (1, 37), (37,), (2, 3, 37)]


def inputs(shape, dtype=torch.float32, n_out=41):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(n_out, shape[-1], generator=generator)
    return x.to(dtype), weight.to(dtype)


class TestChoose:
    def test_one_row_of_a_compiled_step_on_a_cpu_is_summed(self):
        assert kernels.choose(rows=1, device="cpu", compiled=True) == kernels.ROW_SUM

    @pytest.mark.parametrize(
        ("rows", "device", "compiled"), [(2, "cpu", True), (1, "cuda", True), (1, "cpu", False)]
    )
    def test_all_else_is_the_librarys(self, rows, device, compiled):
        assert kernels.choose(rows=rows, device=device, compiled=compiled) == kernels.LIBRARY

    def test_product_asks(self, monkeypatch):
        asked = []
        monkeypatch.setattr(kernels, "choose", lambda **what: asked.append(what) or kernels.ROW_SUM)
        x, weight = inputs((1, 1, 37))
        torch.testing.assert_close(kernels.product(x, weight), x @ weight.T)
        assert asked == [{"rows": 1, "device": "cpu", "compiled": False}]


def test_by_hand():
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3, -4], [5, 6], [0, 1]], dtype=torch.int8)
    scale, bias = torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.0, 10.0, 0.0])
    expected = torch.tensor([[-5.0, 18.5, 4.0]])
    for kernel in (kernels.library, kernels.row_sum):
        torch.testing.assert_close(kernel(x, weight, scale, bias), expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", ROWS_OF_X[:3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_row_sum_equals_a_product_in_float64(shape, dtype):
    x, weight = inputs(shape, dtype)
    out = kernels.row_sum(x, weight, None, None)
    assert out.dtype == dtype
    assert out.shape == (*shape[:-1], 41)
    torch.testing.assert_close(out.double(), x.double() @ weight.double().T, rtol=1e-5, atol=1e-5)


def test_row_sum_adds_in_fp32_whatever_comes_in():
    # 4,096 ones and a million: a running sum in bf16 would stop at 256
    x = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert kernels.row_sum(x, torch.ones(1, 4096, dtype=torch.bfloat16), None, None).item() == 4096


class TestInOrder:
    @pytest.mark.parametrize("shape", [(1, 37), (2, 37), (2, 3, 37), (64, 37), (256, 37), (257, 37), (37,)])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_is_the_product(self, shape, dtype):
        x, weight = inputs(shape, dtype)
        out = kernels.in_order(x, weight)
        assert (out.shape, out.dtype) == ((*shape[:-1], 41), dtype)
        tight = {"rtol": 0.02, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(out.double(), x.double() @ weight.double().T, **tight)

    @pytest.mark.parametrize(
        ("rows", "dtype", "first"),
        [
            (1, torch.float32, False),
            (2, torch.float32, True),
            (kernels.FEW_ROWS, torch.float32, True),
            (kernels.FEW_ROWS + 1, torch.float32, False),
            (8, torch.bfloat16, False),
            (8, torch.float64, False),
        ],
    )
    def test_few_rows_in_float32_have_the_weights_first(self, rows, dtype, first):
        out = kernels.in_order(*inputs((rows, 37), dtype))
        assert (out.stride() == (1, rows)) == first  # by columns


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", ROWS_OF_X)
def test_library_widens_int8(shape, dtype):
    x, weight = inputs(shape, dtype)
    codes = (weight * 30).round().clamp(-127, 127).to(torch.int8)
    scale = torch.rand(41) + 0.5
    out = kernels.library(x, codes, scale, None)
    assert out.dtype == dtype
    exact = (x.double() @ codes.double().T) * scale.double()
    tight = {"rtol": 1e-5, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 0.02, "atol": 2.0}
    torch.testing.assert_close(out.double(), exact, **tight)
