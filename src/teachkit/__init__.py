"""teachkit: LLM inference in small files, on real weights.

>>> import teachkit as tk
>>> model = tk.load("bundled")
>>> tk.generate(model, "import ", max_new_tokens=4).finish
'length'
"""

from teachkit import attention, cache, decode, evaluate, layers, maps, measure, sampling, weights
from teachkit.config import ModelConfig
from teachkit.decode import Generation, generate
from teachkit.model import Decoder
from teachkit.sampling import greedy, sampler
from teachkit.tokenizer import Tokenizer
from teachkit.weights import load

__version__ = "0.1.0"

__all__ = [
    "Decoder",
    "Generation",
    "ModelConfig",
    "Tokenizer",
    "attention",
    "cache",
    "decode",
    "evaluate",
    "generate",
    "greedy",
    "layers",
    "load",
    "maps",
    "measure",
    "sampler",
    "sampling",
    "weights",
]
