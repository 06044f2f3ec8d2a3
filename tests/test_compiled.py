"""The compiled decoder, in processes of its own: under these tests' shape checks nothing compiles whole."""

import subprocess
import sys
import textwrap
from pathlib import Path

HEAD = """
import torch, teachkit as tk
from teachkit.cache import ContiguousCache
from teachkit.compiled import fast
from teachkit import kernels
from torch._dynamo.utils import counters
from conftest import tiny_config, tiny_model
from tolerance import LOGITS

torch.set_grad_enabled(False)

def steps(model, cache, prompt, tokens):
    out = [model(torch.tensor([prompt]), cache=cache, last_only=True)]
    return torch.cat(out + [model(torch.tensor([[t]]), cache=cache) for t in tokens], 1)

def cache(model, capacity=23):
    return ContiguousCache(model.config, 1, capacity, dtype=model.norm.weight.dtype)
"""


def run(code):
    """Run code after HEAD, as a user would; its prints are what it shows."""
    result = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parent,  # where conftest is
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


# What differs between families: norms, biases, learned positions, one or two norms in parallel, windows.
FAMILIES = {
    "llama": {"tied": True, "qk_norm": True, "windows": (5, 5)},
    "gpt-2": {
        "norm": "layer",
        "position": "learned",
        "gated_mlp": False,
        "activation": "gelu_tanh",
        "qkv_bias": True,
        "o_bias": True,
        "mlp_bias": True,
        "n_kv_heads": 15,
    },
    "falcon": {
        "norm": "layer",
        "parallel_residual": True,
        "gated_mlp": False,
        "activation": "gelu",
        "n_kv_heads": 1,
    },
}


def test_same_logits_as_before():
    families = repr(FAMILIES)
    run(f"""
        for name, changes in {families}.items():
            model = tiny_model(tiny_config(**changes))
            quick = fast(model)
            prompt, tokens = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8]
            expected = steps(model, cache(model), prompt, tokens)
            found = steps(quick, cache(quick), prompt, tokens)
            torch.testing.assert_close(found, expected, **LOGITS[torch.float32], msg=lambda m: name + m)
        assert not counters["graph_break"], counters["graph_break"]
    """)


def test_nothing_is_compiled_after_it_returns():
    out = run("""
        quick = fast(tk.load("bundled"))
        before = counters["stats"]["unique_graphs"]
        for n in (3, 40):
            tk.generate(quick, "import " * n, max_new_tokens=30)
        print(before, counters["stats"]["unique_graphs"], len(counters["graph_break"]))
    """)
    before, after, breaks = map(int, out.split())
    assert before > 0
    assert (after, breaks) == (before, 0)


def test_one_row_runs_compiled_and_prefill_does_not():
    out = run("""
        from torch.profiler import profile

        quick = fast(tiny_model())
        c = cache(quick)
        for tokens in ([[3, 1, 4]], [[3]]):
            with profile() as seen:
                quick(torch.tensor(tokens), cache=c)
            print(sum(event.count for event in seen.key_averages() if event.key == "aten::mm"))
    """)
    # Seven products in each of two blocks and the head by the library; then none.
    assert out.split() == ["15", "0"]


def test_shares_weights_and_leaves_the_model_alone():
    out = run("""
        model = tiny_model()
        quick = fast(model)
        pairs = zip(model.parameters(), quick.parameters(), strict=True)
        same = [a.data_ptr() == b.data_ptr() for a, b in pairs]
        print(all(same), "forward" in vars(model.blocks[0]), quick.tokenizer is model.tokenizer)
    """)
    assert out.split() == ["True", "False", "True"]


def test_rows_side_by_side_run_as_before():
    out = run("""
        model = tiny_model()
        quick = fast(model)
        caches = [ContiguousCache(model.config, 2, 11) for _ in range(2)]
        for tokens in ([[3, 1], [4, 1]], [[5], [9]]):
            a, b = (m(torch.tensor(tokens), cache=c) for m, c in zip((model, quick), caches, strict=True))
            print(torch.equal(a, b))
    """)
    assert out.split() == ["True", "True"]


def test_bundled_model_in_bf16():
    out = run("""
        model = tk.load("bundled", dtype=torch.bfloat16)
        quick = fast(model)
        ids = model.tokenizer.encode("def parse(text):")
        wide = steps(tk.load("bundled"), cache(tk.load("bundled"), 60), ids, ids)
        errors = [(steps(m, cache(m, 60), ids, ids) - wide).abs().mean().item() for m in (model, quick)]
        print(*errors)
    """)
    plain, compiled = map(float, out.split())
    # The compiler keeps fp32 inside a loop where the plain step rounds: no further from the truth.
    assert compiled < 1.2 * plain


# Shapes that the own kernel takes: outputs in sixteens, inputs in groups of 32.
TILED = {
    "vocab_size": 64,
    "d_model": 96,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 16,
    "d_ff": 160,
    "tied": True,
}


def test_quantized_models_by_the_own_kernel(tmp_path):
    """Against the same values in float64; w8a8 against its own plain form, as it rounds activations too."""
    run(f"""
        import pytest
        from dataclasses import replace
        from teachkit.dot_linear import DotLinear
        from teachkit.linear import QuantizedLinear
        from teachkit.model import Decoder

        def in_float64(made):
            held = {{n: p for n, p in made.named_modules() if isinstance(p, QuantizedLinear)}}
            state = {{n: t for n, t in made.state_dict().items() if not n.startswith(tuple(held))}}
            state |= {{n + ".weight": p.weight.dequantize() for n, p in held.items()}}
            state["embedding.weight"] = state["head.weight"]
            plain = Decoder(replace(made.config, tied=False)).double().eval()
            plain.load_state_dict(state)
            return plain

        model = tiny_model(tiny_config(**{TILED!r})).requires_grad_(True)
        prompt, tokens = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3]
        for scheme in ("int8", "int4", "w8a8"):
            made = tk.quantize(model, scheme, group_size=32)
            quick = fast(made)
            assert {{use.kernel for use in quick.kernels()}} == {{kernels.DOT}}, scheme
            assert [u.nbytes for u in quick.kernels()] == [u.nbytes for u in made.kernels()]
            found = steps(quick, cache(quick), prompt, tokens)
            if scheme == "w8a8":
                expected = steps(made, cache(made), prompt, tokens)
            else:
                truth = in_float64(made)
                expected = truth(torch.tensor([prompt + tokens]))[:, len(prompt) - 1:].float()
            # Two digits: 1 in 64,516 of the largest activation. One digit: a tie may fall the other way.
            off = (found - expected).abs().max() / expected.abs().max()
            assert off < (2e-2 if scheme == "w8a8" else 5e-4), (scheme, off)
            assert isinstance(quick.head, DotLinear)
            assert quick.embedding._tied[0] is quick.head, "codes held once"
            assert not any(p.requires_grad for p in quick.parameters())
            folder = {str(tmp_path)!r} + "/" + scheme
            tk.save(quick, folder)
            back = tk.load(folder)
            for use in made.kernels():
                a, b = (m.get_submodule(use.name).weight for m in (made, back))
                assert torch.equal(a.dequantize(), b.dequantize()), use.name
            with pytest.raises(ValueError, match="model: expected one that is not compiled"):
                tk.quantize(quick, "int8")
            with pytest.raises(RuntimeError, match="made fast for the CPU, not for meta"):
                quick.to("meta")
    """)
