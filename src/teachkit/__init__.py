"""teachkit: LLM inference in small files, on real weights.

>>> import teachkit as tk
>>> model = tk.load("bundled")
>>> tk.generate(model, "import ", max_new_tokens=4).finish
'length'
"""

from teachkit import (
    attention,
    cache,
    convert,
    decode,
    engine,
    evaluate,
    gptq,
    kernels,
    layers,
    linear,
    maps,
    measure,
    paged,
    quant,
    quant_cache,
    rolling,
    sampling,
    weights,
)
from teachkit.compiled import fast
from teachkit.config import ModelConfig
from teachkit.convert import group_heads
from teachkit.decode import Generation, generate
from teachkit.engine import Engine
from teachkit.model import Decoder
from teachkit.sampling import greedy, sampler
from teachkit.saved import save
from teachkit.schemes import quantize
from teachkit.tokenizer import Tokenizer
from teachkit.weights import load

__version__ = "0.1.0"

__all__ = [
    "Decoder",
    "Engine",
    "Generation",
    "ModelConfig",
    "Tokenizer",
    "attention",
    "cache",
    "convert",
    "decode",
    "engine",
    "evaluate",
    "fast",
    "generate",
    "gptq",
    "greedy",
    "group_heads",
    "kernels",
    "layers",
    "linear",
    "load",
    "maps",
    "measure",
    "paged",
    "quant",
    "quant_cache",
    "quantize",
    "rolling",
    "sampler",
    "sampling",
    "save",
    "weights",
]
