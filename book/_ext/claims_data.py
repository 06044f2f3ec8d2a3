"""Numeric claims of five teaching documents as data: what is claimed, and what computes it anew.

The table of book/claims.md is made from this. Texts are Markdown. `ours` and `why` are templates: between
braces stand names of inputs and results, so that a sentence cannot say another number than the function does.
A claim that does not follow from stated inputs has no function, or one that gives a bound and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import claims_formulas as work

RIGHT, ROUNDED, PART, WRONG, OPEN = (
    "right",
    "right after rounding",
    "right in part",
    "wrong",
    "not derivable",
)
VERDICTS = (RIGHT, ROUNDED, PART, WRONG, OPEN)

_TALK = "https://www.youtube.com/watch?v=mYRqvB1_gRk"
_EXAMPLES = "https://github.com/cli99/llm-analysis/blob/1c80683be2920414fe582ad6579857bcf22c2f12/examples/llama/README.md"
SOURCES = {  # the page says more of the first four
    "eecs": "Liu, *LLM-Systems Basics*",
    "talk": f"Lacroix, [*Latency/Throughput & Cost Space*]({_TALK})",
    "ucla": "Li and Li, [*Latency-Accuracy of LLMs*](https://bu9gy.github.io/)",
    "llma": f"llm-analysis, [*LLaMA Models*]({_EXAMPLES})",
    "splitwise": "[Splitwise](https://arxiv.org/abs/2311.18677), abstract",
    "distserve": "[DistServe](https://arxiv.org/abs/2401.09670), abstract",
    "flash": "[FlashAttention](https://arxiv.org/abs/2205.14135), abstract",
    "flash2": "[FlashAttention-2](https://arxiv.org/abs/2307.08691), abstract",
    "edge": "[*Generative AI on the Edge*](https://arxiv.org/abs/2411.17712), abstract",
    "keep": "[*Keep the Cost Down*](https://arxiv.org/abs/2407.18003), abstract",
    "list": "*Model Serving: Efficiency Inference*",
}

# Lessons that claims wait for, by stem, and what they will be about.
TO_COME: dict[str, str] = {}
# Sections without a number.
HEADINGS = {"claims": "What the sources claim, checked", "exercises": "Exercises"}

Value = int | float | str | tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """One claim.

    says       what is claimed, in our words
    printed    the value as the source prints it
    verdict    one of VERDICTS
    why        the reason, a template
    formula    short; "" where nothing is computed
    inputs     what `compute` takes, by name
    compute    inputs -> results by name, the first of which is the value that is shown
    unit       of the first result
    published  the source's value in that unit, where it is one number
    ours       how our value is shown, a template; by default the first result and its unit
    taught     where the book checks it, or teaches how our value is computed: lessons by stem and section,
               as "generation claims, latency_throughput 3"; "" where this page alone treats it
    """

    id: str
    source: str
    says: str
    printed: str
    verdict: str
    why: str
    formula: str = ""
    inputs: Mapping[str, Value] = field(default_factory=dict)
    compute: Callable[..., dict[str, float]] | None = None
    unit: str = ""
    published: float | None = None
    ours: str = ""
    taught: str = ""

    def results(self, **changed: Value) -> dict[str, float]:
        """Computed anew, with some inputs changed. Raises ValueError where there is no function."""
        if self.compute is None:
            raise ValueError(f"{self.id}: nothing is computed")
        return self.compute(**{**self.inputs, **changed})

    @property
    def places(self) -> list[tuple[str, str]]:
        """(stem of a lesson, its section or "") of `taught`."""
        split = (one.partition(" ") for one in self.taught.split(", ") if one)
        return [(stem, section) for stem, _, section in split]

    @property
    def factor(self) -> float | None:
        """The source's value over ours; None where there is no such pair."""
        return None if self.published is None else self.published / next(iter(self.results().values()))

    def texts(self) -> tuple[str, str]:
        """Our value and the reason, with the numbers in their places."""
        if self.compute is None:
            return self.ours or "–", self.why
        results = self.results()
        names: dict[str, Any] = {**self.inputs, **results, "factor": self.factor}
        shown = (
            self.ours.format(**names) if self.ours else f"{number(next(iter(results.values())))} {self.unit}"
        )
        return minus(shown.strip()), minus(self.why.format(**names))


def minus(text: str) -> str:
    """
    >>> minus("-5.58 %, claims-data, 16-bit")
    '−5.58 %, claims-data, 16-bit'
    """
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def number(value: float) -> str:
    """Four digits or so.

    >>> [number(x) for x in (77832.8, 471.86, 2.0, 0.2159, 8)]
    ['77,833', '471.9', '2.00', '0.216', '8']
    """
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


GPT3 = {"model": "gpt-3"}
LLAMA_2 = {"model": "llama-2-7b"}
GPU_HOURS_FORMULA = "FLOPs of all iterations ÷ (share of the peak · peak)"
LLAMA_HOURS = (82_432, 135_168, 530_432, 1_022_362)
LLAMA_TOKENS = (1.0e12, 1.0e12, 1.4e12, 1.4e12)


def _hours(n: int, name: str, model: str, printed: int, printed_difference: str) -> Claim:
    """The four rows of the GPU-hours table."""
    i = list(work.LLAMAS).index(model)
    return Claim(
        f"llma-{n:02d}",
        "llma",
        f"Training {name} takes {printed:,} A100-hours, {printed_difference} % from the LLaMA paper's",
        f"{printed:,} GPU-hours",
        RIGHT,
        "The tool's arithmetic gives {hours:,.0f}, {difference:+.2f} % from the paper's {paper_hours:,}. "
        "To agree with the "
        "paper, the share of the peak would have to be {needed:.3f} instead of {flops_efficiency}, which "
        "is assumed. Our "
        "counts (three matrices in the MLP, causal attention) need {ours:,.0f} hours at the same share; "
        "the run reached "
        "{mfu:.1f} % of the peak by them.",
        GPU_HOURS_FORMULA,
        {
            "model": model,
            "n_tokens": LLAMA_TOKENS[i],
            "tokens": 2048,
            "card": work.A100,
            "flops_efficiency": 0.5,
            "paper_hours": LLAMA_HOURS[i],
        },
        work.gpu_hours,
        "GPU-hours",
        printed,
        taught="cost_model 5",
    )


CLAIMS = (
    # --- LLM-Systems Basics
    Claim(
        "eecs-01",
        "eecs",
        "Training GPT-3 in half precision: the weights take 350 GB",
        "350 GB",
        ROUNDED,
        "The shape has {billions:.1f} billion parameters, which the name rounds to 175.",
        "parameters · bits / 8",
        {**GPT3, "weight_bits": 16},
        work.weights,
        "GB",
        350,
        taught="kv_cache 4",
    ),
    Claim(
        "eecs-02",
        "eecs",
        "Training GPT-3: activations, gradients and each state of the optimizer take 350 GB each",
        "350 GB each",
        PART,
        "Right for gradients in 16 bits ({gradient_gb:.1f} GB). A state of Adam is kept in 32 bits: twice "
        "as much. "
        "Activations follow from batch and length, not from the number of parameters. Weights, gradients and "
        "{states} states together: {per_parameter:.0f} bytes a parameter, {all_gb:,.0f} GB.",
        "parameters · bits / 8",
        {**GPT3, "weight_bits": 16, "gradient_bits": 16, "state_bits": 32, "states": 3},
        work.training_states,
        "GB per state",
        350,
        taught="cost_model claims",
    ),
    Claim(
        "eecs-03",
        "eecs",
        "The device for training GPT-3: V100s with 32 GB",
        "32 GB",
        RIGHT,
        "The part exists. Weights, gradients and optimizer alone fill {devices:.1f} of them if GB means "
        "GiB, {devices_gb:.1f} if it "
        "does not.",
        "data sheet",
        {**GPT3, "card": "v100-32gb", "bytes_per_parameter": 16},
        work.training_devices,
        "GB",
        32,
        taught="cost_model 5",
    ),
    Claim(
        "eecs-04",
        "eecs",
        "GPT-3's training on 300 billion tokens takes 355 GPU-years",
        "355 years of a V100",
        ROUNDED,
        "If a V100 sustains {tflops} TFLOP/s, {share:.1f} % of its peak, which the slide does not say. The "
        "rule of 6 FLOPs per "
        "parameter and token gives {rule:.1f} years; ours counts attention too.",
        "FLOPs of a training step per token · tokens ÷ FLOP/s",
        {**GPT3, "n_tokens": 300e9, "context": 2048, "card": "v100-32gb", "tflops": 28},
        work.training_years,
        "years",
        355,
        taught="cost_model 5",
    ),
    Claim(
        "eecs-05",
        "eecs",
        "That training costs more than 4.6 million dollars on V100s",
        "4.6 million dollars",
        ROUNDED,
        "At {usd_per_hour:.2f} dollars an hour, a price that the slide does not give. It follows from the "
        "years above and "
        "inherits their assumption.",
        "years · 8,760 h · price",
        {"gpu_years": 355, "usd_per_hour": 1.5},
        work.training_price,
        "million dollars",
        4.6,
    ),
    Claim(
        "eecs-06",
        "eecs",
        "Inference with GPT-3: the weights take 350 GB",
        "350 GB",
        ROUNDED,
        "As for training: {billions:.1f} billion parameters, {gib:.1f} GiB.",
        "parameters · bits / 8",
        {**GPT3, "weight_bits": 16},
        work.weights,
        "GB",
        350,
        taught="kv_cache 4",
    ),
    Claim(
        "eecs-07",
        "eecs",
        "GPT-3's KV cache for 100 sequences of 1,000 tokens takes about 700 GB",
        "700 GB",
        WRONG,
        "Too high by a factor of {factor:.2f}: {mb_token:.3f} MB a token. Counting queries as well would "
        "give "
        "{with_queries_gb:.1f} GB; that this is how it came about is a guess.",
        "2 · layers · width · bits / 8 · tokens · sequences",
        {**GPT3, "sequences": 100, "tokens": 1000, "kv_bits": 16},
        work.kv_cache,
        "GB",
        700,
        taught="kv_cache 4",
    ),
    Claim(
        "eecs-08",
        "eecs",
        "The V100's arithmetic intensity, from its bandwidth and its tensor cores, is about 140",
        "140 FLOPs per byte",
        ROUNDED,
        "The ridge: FLOPs that the device can do while it fetches a byte.",
        "peak FLOP/s ÷ bandwidth",
        {"card": "v100-32gb", "bits": 16},
        work.ridge,
        "FLOPs per byte",
        140,
        taught="roofline claims",
    ),
    Claim(
        "eecs-09",
        "eecs",
        "The A100's is about 200",
        "200 FLOPs per byte",
        ROUNDED,
        "For the part with 40 GB, whose bandwidth the slide prints. The one with 80 GB has faster memory: "
        "{other:.0f}.",
        "peak FLOP/s ÷ bandwidth",
        {"card": "a100-40gb", "bits": 16, "other_card": "a100-80gb"},
        work.two_ridges,
        "FLOPs per byte",
        200,
        taught="roofline claims",
    ),
    Claim(
        "eecs-10",
        "eecs",
        "The product of a vector and a matrix in attention has an intensity of about 2",
        "2, no unit",
        WRONG,
        "{per_element:.0f} is FLOPs per *number*. The table beside it is per *byte*, and there it is half "
        "of that in 16 bits. In int8, or "
        "if two queries share each key, it would be 2.",
        "4 · context · width ÷ bytes of queries, keys, values, output",
        {**GPT3, "context": 1000, "kv_bits": 16},
        work.attention_intensity,
        "FLOPs per byte",
        2,
        taught="roofline claims",
    ),
    Claim(
        "eecs-11",
        "eecs",
        "The MLP's matrix product has an intensity of about 2 times the batch",
        "2 · batch, no unit",
        WRONG,
        "Again per number: per byte of 16-bit weights it is the batch. Beside the slide's ridge, the 2 "
        "would put the "
        "V100's critical batch at {implied:.0f} instead of {critical:.0f}.",
        "2 · batch · weights ÷ bytes",
        {**GPT3, "batch": 16, "weight_bits": 16, "card": "v100-32gb"},
        work.mlp_intensity,
        "FLOPs per byte at batch 16",
        32,
        taught="roofline claims",
    ),
    Claim(
        "eecs-12",
        "eecs",
        "A figure of response lengths: 10,000 instructions, cut off at 512 tokens",
        "512 tokens",
        OPEN,
        "The caption of a measurement.",
        taught="generation 6",
    ),
    Claim(
        "eecs-13",
        "eecs",
        "A breakdown of inference FLOPs is for batch size 1",
        "1",
        OPEN,
        "A choice, not a result.",
    ),
    # --- Exploring the Latency/Throughput & Cost Space
    Claim(
        "talk-01",
        "talk",
        "People read 250 words a minute; a model that is faster does not bore them",
        "250 words a minute",
        ROUNDED,
        "Studies find 238 to 260 ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). At "
        "{words_per_token} words a "
        "token that is {per_s:.2f} tokens a second; an A10 alone with LLaMA-7B could be {faster:.1f} times "
        "as fast, at "
        "{step_ms:.1f} ms a token.",
        "60 s ÷ words a minute · words a token",
        {"words_per_minute": 250, "words_per_token": 0.75, "model": "llama-2-7b", "card": "a10"},
        work.reading,
        "ms a token",
        taught="generation claims, latency_throughput 3",
    ),
    Claim(
        "talk-02",
        "talk",
        "A decoding step takes two FLOPs per parameter and sequence",
        "2 · parameters · batch",
        PART,
        "Right for the matrices: {rule:.2f} GFLOP. At {context:,} tokens attention adds {scores:.1f} % of "
        "that; the embedding, "
        "which is looked up, takes none.",
        "FLOPs of a decode step",
        {**LLAMA_2, "batch": 1, "context": 4096},
        work.step_flops,
        "GFLOP",
        13.476831232,
        taught="model claims",
    ),
    Claim(
        "talk-03",
        "talk",
        "A decoding step moves about as much memory as the model has parameters",
        "parameters, no unit",
        PART,
        "Right in numbers. In bytes it is {per_parameter:.2f} times the {billions:.2f} billion parameters "
        "at 16 bits; bytes and "
        "parameters agree only at 8.",
        "bytes of a decode step",
        {**LLAMA_2, "batch": 1, "context": 1, "weight_bits": 16},
        work.step_bytes,
        "GB",
        6.738415616,
        taught="model claims",
    ),
    Claim(
        "talk-04",
        "talk",
        "The batch at which arithmetic takes as long as memory is twice the FLOP/s over the bandwidth",
        "2 · FLOP/s ÷ bandwidth",
        WRONG,
        "Too high by 2 in 16 bits: a weight takes 2 FLOPs per sequence and 2 bytes, so the twos cancel. "
        "It holds for weights of 4 bytes multiplied at the same rate. The slides from Michigan err by 2 "
        "the other way.",
        "peak FLOP/s · bytes per weight ÷ (2 · bandwidth)",
        {"cards": "a10", "weight_bits": 16},
        work.critical_batches,
        "sequences on an A10",
        416.67,
        taught="roofline claims",
    ),
    Claim(
        "talk-05",
        "talk",
        "That batch is 400 on an A10G and an A100",
        "400",
        WRONG,
        "The A10 and the A100 with 40 GB are near 200; the formula of the talk gives {a10 as spoken:.0f} and "
        "{a100-40gb as spoken:.0f}. The A10G has the A10's memory and little more than half its rate; and "
        "the talk's later "
        "example is the A100 with 80 GB.",
        "peak FLOP/s · bytes per weight ÷ (2 · bandwidth)",
        {"cards": "a10, a10g, a100-40gb, a100-80gb", "weight_bits": 16},
        work.critical_batches,
        "sequences",
        400,
        ours="{a10:.0f}, {a10g:.0f}, {a100-40gb:.0f}, {a100-80gb:.0f} (A10, A10G, A100 40, A100 80)",
        taught="roofline claims",
    ),
    Claim(
        "talk-06",
        "talk",
        "LLaMA-7B has a dimension of 4K and 32 layers",
        "4K, 32",
        RIGHT,
        "As the LLaMA paper's table 2.",
        "config",
        {"model": "llama-7b"},
        work.width_and_depth,
        ours="{width:,}, {layers}",
        published=4096,
        taught="kv_cache 4",
    ),
    Claim(
        "talk-07",
        "talk",
        "LLaMA-7B takes 14 GB in 16 bits",
        "14 GB",
        ROUNDED,
        "7 is {billions:.3f}; in GiB {gib:.2f}.",
        "parameters · bits / 8",
        {"model": "llama-7b", "weight_bits": 16},
        work.weights,
        "GB",
        14,
        taught="kv_cache 4",
    ),
    Claim(
        "talk-08",
        "talk",
        "LLaMA-7B's KV cache takes about 2 GB for a sequence of 4K tokens",
        "2 GB",
        RIGHT,
        "Exactly, in GiB: {kib_token:.0f} KiB a token; {gb:.3f} GB. The first LLaMA's context is 2K, its "
        "cache half of it.",
        "2 · layers · width · bits / 8 · tokens",
        {**LLAMA_2, "sequences": 1, "tokens": 4096, "kv_bits": 16},
        work.kv_cache_gib,
        "GiB",
        2,
        taught="kv_cache claims",
    ),
    Claim(
        "talk-09",
        "talk",
        "An A10 with 24 GB has room for about 5 sequences of 4K beside LLaMA-7B",
        "5",
        PART,
        "GB or GiB decides: {gb_exact:.2f} fit or {gib_exact:.2f}. The card's 24 are GiB, less what the "
        "driver keeps; nothing is "
        "set aside for the framework.",
        "(memory − weights) ÷ (cache + activations of a sequence)",
        {**LLAMA_2, "context": 4096, "card": "a10", "weight_bits": 16, "kv_bits": 16},
        work.largest_batch,
        published=5,
        ours="{gib} in GiB, {gb} in GB",
        taught="kv_cache claims",
    ),
    Claim(
        "talk-10",
        "talk",
        "An A100 with 80 GB has room for about 33",
        "33",
        PART,
        "Again GB or GiB decides: {gb_exact:.2f} fit or {gib_exact:.2f}.",
        "(memory − weights) ÷ (cache + activations of a sequence)",
        {**LLAMA_2, "context": 4096, "card": "a100-80gb", "weight_bits": 16, "kv_bits": 16},
        work.largest_batch,
        published=33,
        ours="{gib} in GiB, {gb} in GB",
        taught="kv_cache claims",
    ),
    Claim(
        "talk-11",
        "talk",
        "33 is far below 400, so decoding waits for memory",
        "33 against 400",
        PART,
        "The conclusion holds, the distance does not: 33 is {share:.1f} % of the right critical batch, "
        "{critical:.0f}. And each sequence brings its own cache, here {cache:.0f} % of what a step moves, "
        "which no "
        "batch makes worth more arithmetic.",
        "batch ÷ critical batch",
        {"batch": 33, "card": "a100-80gb", "weight_bits": 16, **LLAMA_2, "context": 4096},
        work.below_critical,
        "% of the critical batch",
        100 * 33 / 400,
        taught="roofline claims",
    ),
    Claim(
        "talk-12",
        "talk",
        "Mistral shares a key and a value among four queries, and needs a quarter of the memory for them",
        "1/4",
        RIGHT,
        "8 of 32 heads have keys and values: {gb:.3f} GB at {tokens:,} tokens instead of {full_gb:.3f}.",
        "key/value heads ÷ heads",
        {"model": "mistral-7b", "tokens": 4096, "kv_bits": 16},
        work.grouped_bytes,
        "",
        0.25,
        taught="latency_throughput 2, gqa claims",
    ),
    Claim(
        "talk-13",
        "talk",
        "The FLOPs stay the same with grouped queries",
        "1",
        PART,
        "Those of the scores do. The projections to keys and values shrink: attention's matrices take "
        "{projections:.1f} %, the whole "
        "step at {context:,} tokens {step:.3f} of what it took.",
        "FLOPs of a step, grouped ÷ multi-head",
        {"model": "mistral-7b", "context": 4096},
        work.grouped_flops,
        "",
        1,
        taught="gqa claims",
    ),
    Claim(
        "talk-14",
        "talk",
        "int8 halves the weights, int4 quarters them",
        "÷ 2, ÷ 4",
        PART,
        "Right for the bare numbers ({gb:.2f} GB in int4). With a {scale_bits}-bit scale for every {group} "
        "it is {scaled:.2f} times.",
        "wide bits ÷ (narrow bits + scale bits ÷ group)",
        {"model": "llama-7b", "wide_bits": 16, "narrow_bits": 4, "scale_bits": 16, "group": 32},
        work.narrower_weights,
        "times smaller in int4",
        4,
        taught="quantization claims",
    ),
    Claim(
        "talk-15",
        "talk",
        "Quantization does not change the critical batch: it depends on the hardware only",
        "unchanged",
        PART,
        "Right if weights *and* activations are narrow and the arithmetic is that much faster ({both:.0f}, "
        "as in 16 bits). If only the weights "
        "are, they are widened first: {weights:.1f} in int8, and in int4 half of that again.",
        "peak FLOP/s · bytes per weight ÷ (2 · bandwidth)",
        {"card": "a100-80gb", "weight_bits": 8, "act_bits": 16},
        work.quantized_critical,
        "sequences, 8-bit weights only",
        153.02,
        taught="roofline claims, quantization claims",
    ),
    Claim(
        "talk-16",
        "talk",
        "int8 arithmetic should be twice as fast; about 1.5 times is what one reaches",
        "1.5 times",
        OPEN,
        "A measurement, shapes not given. The data sheet bounds it at {bound:.1f}.",
        "peak in 8 bits ÷ peak in 16",
        {"card": "a100-80gb", "wide_bits": 16, "narrow_bits": 8},
        work.faster_arithmetic,
        ours="at most {bound:.2f} times",
        taught="quantization claims",
    ),
    Claim(
        "talk-17",
        "talk",
        "Where memory binds, int8 makes everything twice as fast",
        "2 times",
        PART,
        "Of the weights' time, yes. Keys and values stay in 16 bits: a single sequence of {context} tokens "
        "gains {alone:.2f}, "
        "{large_batch} of {large_context:,} only {full:.2f}.",
        "time of a decode step, 16-bit ÷ 8-bit weights",
        {
            **LLAMA_2,
            "card": "a100-80gb",
            "weight_bits": 8,
            "batch": 1,
            "context": 544,
            "large_batch": 33,
            "large_context": 4096,
        },
        work.int8_speedup,
        published=2,
        ours="{alone:.2f} times, {full:.2f} at batch {large_batch}",
        taught="latency_throughput 4, quantization claims",
    ),
    Claim(
        "talk-18",
        "talk",
        "Perhaps 10 % of users need the whole length that a rectangular cache reserves",
        "10 %",
        OPEN,
        "An illustration, said as one.",
        taught="paged_cache claims",
    ),
    Claim(
        "talk-19",
        "talk",
        "Paged attention hands out blocks of 16 or 32 tokens",
        "16, 32",
        RIGHT,
        "[vLLM's](https://arxiv.org/abs/2309.06180) default is 16. At most a block less one token is "
        "wasted per sequence: in LLaMA-7B "
        "{mib:.1f} MiB, or {large:.1f} with the larger ones.",
        "(block − 1) · bytes of a token",
        {**LLAMA_2, "block_tokens": 16, "large_block_tokens": 32, "kv_bits": 16},
        work.block_waste,
        "MiB wasted at most",
        taught="paged_cache claims",
    ),
    Claim(
        "talk-20",
        "talk",
        "Paged attention's authors claim 20 times the throughput of the standard implementation",
        "20 times",
        OPEN,
        "A matter of what it is compared with: the "
        "[paper](https://arxiv.org/abs/2309.06180) says 2 to 4 "
        "times against other serving systems at equal latency; 20 and more is against Hugging Face "
        "Transformers.",
        taught="paged_cache 7, paged_cache claims",
    ),
    Claim(
        "talk-21",
        "talk",
        "A prompt of 4K tokens raises everybody's latency",
        "no number",
        RIGHT,
        "On an A10 everybody waits for {steps:.0f} steps of {step_ms:.1f} ms; on an A100 the prompt takes "
        "{large_ms:.0f} ms. "
        "Two FLOPs a parameter alone would be {rule_ms:.0f} ms; the rest is attention.",
        "time of a prefill at the full peak",
        {**LLAMA_2, "tokens": 4096, "card": "a10", "large_card": "a100-80gb"},
        work.stall,
        "ms on an A10, at least",
        taught="latency_throughput claims, continuous_batching 5",
    ),
    Claim(
        "talk-22",
        "talk",
        "Grouped queries alone give Mistral 1.5 times LLaMA's throughput",
        "1.5 times",
        OPEN,
        "A measurement, and not of one change. The MLP is {d_ff:,} wide instead of "
        "{older_d_ff:,}, and there is a window. "
        "At {context:,} tokens {ratio:.1f} times as many sequences fit, which bounds the gain of a step "
        "that waits for weights.",
        "ratio of the batches that fit",
        {"model": "mistral-7b", "older": "llama-2-7b", "context": 4096, "card": "a10"},
        work.capacity_ratio,
        ours="at most {ratio:.2f} times by memory",
        taught="gqa claims",
    ),
    Claim(
        "talk-23",
        "talk",
        "Mistral 7B on an A10 serves a million requests a day for 15 dollars",
        "15 dollars a day",
        PART,
        "Only for short answers, and how long they are is not said. {rate:.1f} requests a second leave "
        "{tokens:.0f} tokens each at a batch of "
        "{batch} and {context} tokens of context ({step_ms:.1f} ms a step); no schedule gets beyond "
        "{most:.0f}, prompts included. 15 dollars "
        "a day are {usd_per_hour:.3f} an hour; the price in our table is {usd_now:.2f} a day.",
        "batch ÷ (time of a step · requests a second)",
        {"model": "mistral-7b", "card": "a10", "requests": 1e6, "usd": 15, "batch": 64, "context": 512},
        work.requests_a_day,
        ours="{tokens:.0f} tokens a request",
        taught="latency_throughput 5",
    ),
    Claim(
        "talk-24",
        "talk",
        "Another precision would double the requests",
        "2 times",
        PART,
        "Weights alone in int8 give {weights:.2f} at this batch; with activations, keys and values in int8 "
        "it is {all:.2f}.",
        "time of a decode step, 16 ÷ 8 bits",
        {"model": "mistral-7b", "card": "a10", "batch": 64, "context": 512, "bits": 8},
        work.int8_requests,
        "times, weights only",
        2,
        taught="latency_throughput claims, quantization claims",
    ),
    Claim(
        "talk-25",
        "talk",
        "Trying a device takes 20 minutes",
        "20 minutes",
        OPEN,
        "Advice.",
    ),
    Claim(
        "talk-26",
        "talk",
        "More languages might cost 0.1 % in English and gain 10 % in the others",
        "0.1 %, 10 %",
        OPEN,
        "Hypothetical, said as such.",
    ),
    Claim(
        "talk-27",
        "talk",
        "The recording lasts 30 minutes and 25 seconds, 1,825 seconds",
        "1,825 s",
        RIGHT,
        "The number of views beside it is of one day.",
        "60 · minutes + seconds",
        {"minutes": 30, "seconds": 25},
        work.clock,
        "s",
        1825,
    ),
    # --- Quantifying Latency-Accuracy of LLMs
    Claim(
        "ucla-01",
        "ucla",
        "GPT-4 was trained on 25,000 A100s",
        "25,000 GPUs",
        OPEN,
        "OpenAI has [published no such figure](https://arxiv.org/abs/2303.08774).",
    ),
    Claim(
        "ucla-02",
        "ucla",
        "Serving GPT-3 takes two machines of eight A100s with 40 GB",
        "2 machines",
        RIGHT,
        "The weights take {weights_gb:.1f} GB, just more than one machine: {exact:.3f} of it in GiB, and "
        "{one_gb:.0f} GB if GB are meant. Two leave room for "
        "{tokens:,.0f} tokens ({tokens_gb:,.0f} in GB).",
        "weights ÷ memory of a machine, rounded up",
        {**GPT3, "card": "a100-40gb", "gpus_per_vm": 8, "vms": 2, "weight_bits": 16},
        work.machines,
        "machines",
        2,
        taught="cost_model claims",
    ),
    Claim(
        "ucla-03",
        "ucla",
        "400 such instances cost 190.6 million dollars a year",
        "190.6 million dollars",
        RIGHT,
        "It implies {usd:.3f} dollars for an hour of a machine, {usd_gpu:.2f} for one of a GPU: plausible. "
        "The deck names no price.",
        "dollars ÷ (instances · machines · 8,760 h)",
        {"usd": 190.6e6, "instances": 400, "vms": 2, "gpus_per_vm": 8, "hours": 8760},
        work.implied_price,
        ours="{usd:.2f} dollars an hour and machine",
        taught="latency_throughput exercises",
    ),
    Claim(
        "ucla-04",
        "ucla",
        "The test machines: V100 with 16 GB or A100 with 40 GB (both “Cloud”), M2 with 16 GB, three A6000 "
        "with 48 GB",
        "16, 40, 16, 48 GB",
        RIGHT,
        "But LLaMA-13B is {share:.2f} times as large as the V100's memory, so “Cloud” must be an A100 "
        "there and may be a V100 elsewhere: one "
        "label for unlike devices.",
        "parameters · bits / 8",
        {"model": "llama-13b", "memory_gb": 16, "weight_bits": 16},
        work.against_memory,
        ours="{gb:.1f} GB of weights",
    ),
    Claim(
        "ucla-05",
        "ucla",
        "LLaMA-2-13B does not fit an M2 with 16 GB unless it is optimized",
        "16 GB",
        RIGHT,
        "In 16 bits it takes {share:.2f} times as much. In 4 bits it would fit.",
        "parameters · bits / 8",
        {"model": "llama-13b", "memory_gb": 16, "weight_bits": 16},
        work.against_memory,
        ours="{gb:.1f} GB",
        taught="quantization claims",
    ),
    Claim(
        "ucla-06",
        "ucla",
        "OpenSubtitles: 1,689 pairs of languages, 2.6 billion sentences, 60 languages",
        "1,689",
        RIGHT,
        "As in its [paper](https://aclanthology.org/L16-1147/), and below the {pairs:,} pairs that "
        "{languages} languages make. The test used one pair.",
        "languages · (languages − 1) / 2",
        {"languages": 60},
        work.pairs,
        ours="at most {pairs:,}",
    ),
    Claim(
        "ucla-07",
        "ucla",
        "Translation was one prompt per model: a file of 38 MB",
        "38 MB in 420 s",
        WRONG,
        "Not as one request. At 3 bytes a character it would be {per_s:,.0f} characters a second, "
        "{times:,.0f} times what an A6000 can decode for one "
        "sequence ({bound:.0f} tokens a second). The table's “per request” must be for a part, of unknown "
        "size.",
        "characters ÷ seconds",
        {"megabytes": 38, "bytes_per_character": 3, "seconds": 420, **LLAMA_2, "card": "a6000"},
        work.whole_file,
        "characters a second",
        taught="latency_throughput claims",
    ),
    Claim(
        "ucla-08",
        "ucla",
        "Logs: two shards of a checkpoint load in 13, 9 and 11 seconds",
        "13, 9, 11 s",
        ROUNDED,
        "Two shards times the seconds for each; the log shows whole seconds.",
        "shards · seconds",
        {"n": 2, "s_per_shard": (6.36, 4.48, 5.79)},
        work.shards,
        published=13,
        ours="{run 1:.2f}, {run 2:.2f}, {run 3:.2f} s",
    ),
    Claim(
        "ucla-09",
        "ucla",
        "Logs of Falcon-7B: an answer took 2.48 s, another 373.6 s, a third 3.93 s",
        "2.48, 373.6, 3.93 s",
        OPEN,
        "Lengths are not given. The log itself explains the factor of {times:.0f}: part of "
        "the model lay in the computer's "
        "memory, not in the GPU's.",
        "slow ÷ quick",
        {"slow_s": 373.596981, "quick_s": 2.478861},
        work.ratio,
        ours="{times:.1f} times apart",
    ),
    Claim(
        "ucla-10",
        "ucla",
        "The mathematics data set has 8 kinds of problems",
        "8",
        RIGHT,
        "Counted in its [source](https://github.com/google-deepmind/mathematics_dataset): algebra, "
        "arithmetic, calculus, comparison, "
        "measurement, numbers, polynomials, probability.",
        ours="8, counted",
    ),
    Claim(
        "ucla-11",
        "ucla",
        "500 problems were put to each model",
        "500",
        RIGHT,
        "The shares reported are whole numbers of problems: {share 1:.0f}, {share 2:.0f} and {share 3:.0f}.",
        "problems · share",
        {"prompts": 500, "percent": (13, 38, 29)},
        work.hits,
        ours="{share 1:.0f}, {share 2:.0f}, {share 3:.0f} solved",
    ),
    Claim(
        "ucla-12",
        "ucla",
        "SST-2 has 11,855 sentences and 215,154 phrases",
        "11,855; 215,154",
        PART,
        "Looked up: these are the numbers of the whole treebank. Its two-class form has "
        "67,349, 872 and 1,821 rows "
        "([data card](https://huggingface.co/datasets/stanfordnlp/sst2)).",
        ours="70,042 rows, looked up",
    ),
    Claim(
        "ucla-13",
        "ucla",
        "200 sentences, half positive, half negative, were put to each model",
        "200",
        PART,
        "Too few to rank them: 65.5 % is good to ±{half_width:.1f} points, 70 % to ±{other:.1f}, and the "
        "two lie {z:.2f} standard "
        "errors apart.",
        "1.96 · √(p · (1 − p) / n)",
        {"prompts": 200, "percent": 65.5, "other_percent": 70},
        work.two_shares,
        ours="±{half_width:.1f} points",
    ),
    Claim(
        "ucla-14",
        "ucla",
        "Accuracy = (TP + TN) / (FP + FN)",
        "a formula",
        WRONG,
        "That is right answers per wrong one: {slide:.3f} for {right} of {prompts}. The table's 65.5 % is "
        "the usual share, (TP + TN) / all.",
        "right ÷ all",
        {"right": 131, "prompts": 200},
        work.accuracy,
        published=131 / 69,
        ours="{share:.3f}",
    ),
    Claim(
        "ucla-15",
        "ucla",
        "Latency per request: 18 measurements, among them 420 s for a translation with LLaMA-2-7B on an "
        "A6000, 510 s with 13B",
        "420 s, 510 s",
        OPEN,
        "Lengths, batch and device are not stated. {seconds} s is at least {answers:.1f} "
        "answers of {tokens:,} tokens. By bytes, 13B takes "
        "{expected:.2f} times as long; here {measured:.2f}, and in four of six pairs it is *faster*.",
        "seconds ÷ (tokens · time of a step)",
        {
            **LLAMA_2,
            "larger": "llama-13b",
            "card": "a6000",
            "tokens": 4096,
            "seconds": 420,
            "larger_seconds": 510,
        },
        work.full_answers,
        ours="{step_ms:.1f} ms a token, at least",
        taught="latency_throughput claims",
    ),
    Claim(
        "ucla-16",
        "ucla",
        "Mathematics takes explicitly longer than classifying sentiment",
        "always",
        WRONG,
        "By the deck's own table in {rows} of {all} rows: on the A6000 yes, in the cloud no. It depends on "
        "how long the answers are.",
        "count of rows",
        {"sentiment_s": (2.15, 3.43, 3.93, 9.5, 4.98, 5.44), "maths_s": (16.93, 12.78, 8.25, 9.3, 2.3, 2.9)},
        work.slower_rows,
        published=6,
        ours="{rows} of {all} rows",
    ),
    Claim(
        "ucla-17",
        "ucla",
        "Accuracy: translation 60, 73, 68 %; sentiment 65.5, 70, 87.5 %; mathematics about 13, 38, 29 %",
        "9 shares",
        RIGHT,
        "Possible: sentiment and mathematics come out as whole numbers of prompts. All nine are the same "
        "to the digit on two platforms, no "
        "value stands for the M2, and the star on 29 has no note.",
        "prompts · share",
        {
            "sentiment_prompts": 200,
            "sentiment_percent": (65.5, 70, 87.5),
            "maths_prompts": 500,
            "maths_percent": (13, 38, 29),
        },
        work.whole_counts,
        ours="{sentiment 1:.0f}, {sentiment 2:.0f}, {sentiment 3:.0f} of 200; {maths 1:.0f}, {maths "
        "2:.0f}, {maths 3:.0f} of 500",
    ),
    Claim(
        "ucla-18",
        "ucla",
        "Models of 13B solve the mathematics problems",
        "solved",
        WRONG,
        "{share 1:.0f} of {prompts} by the deck's own table: most are not solved.",
        "problems · share",
        {"prompts": 500, "percent": (38.0,)},
        work.hits,
        published=500,
        ours="{share 1:.0f} of {prompts}",
    ),
    Claim(
        "ucla-19",
        "ucla",
        "vLLM has 14 to 24 times the throughput of Hugging Face Transformers",
        "14 to 24 times",
        OPEN,
        "A measurement, quoted from vLLM's "
        "[announcement](https://blog.vllm.ai/2023/06/20/vllm.html). Against other serving "
        "systems its [paper](https://arxiv.org/abs/2309.06180) says 2 to 4.",
        taught="paged_cache 7, paged_cache claims, continuous_batching claims",
    ),
    Claim(
        "ucla-20",
        "ucla",
        "MLC Chat with Llama 2: prefill 39.2, decode 0.4 tokens a second",
        "0.4 tokens a second",
        OPEN,
        "The device is not named. An M2 could do {per_s:.1f} at {weight_bits} bits, memory "
        "of {phone_gb_per_s} GB/s (a phone's) "
        "{phone:.1f}: {times:.0f} and {phone_times:.0f} times as many. Something else than bandwidth held "
        "it up.",
        "1 ÷ time of a decode step",
        {**LLAMA_2, "card": "m2", "weight_bits": 4.5, "phone_gb_per_s": 51.2, "seen": 0.4},
        work.decode_rate,
        ours="at most {per_s:.1f} tokens a second",
        taught="latency_throughput claims",
    ),
    Claim(
        "ucla-21",
        "ucla",
        "A chatbot's answer: −179q = −190q − 22 is not well-defined",
        "no solution",
        WRONG,
        "11q = −22.",
        "constant ÷ (left − right)",
        {"left": -179, "right": -190, "constant": -22},
        work.linear_equation,
        ours="q = {q:.0f}",
    ),
    # --- a reading list of abstracts
    Claim(
        "reading-01",
        "splitwise",
        "1.4 times the throughput at 20 % lower cost",
        "1.4 times, 20 %",
        OPEN,
        "A measurement on clusters. Together the two are {times:.2f} times the throughput for the money.",
        "throughput ÷ cost",
        {"throughput": 1.4, "relative_cost": 0.8},
        work.per_dollar,
        ours="{times:.2f} times per dollar",
    ),
    Claim(
        "reading-02",
        "splitwise",
        "2.35 times the throughput at the same cost and power",
        "2.35 times",
        OPEN,
        "A measurement.",
    ),
    Claim(
        "reading-03",
        "distserve",
        "7.4 times the requests or 12.6 times tighter limits on latency, kept for more than 90 % of requests",
        "7.4, 12.6 times",
        OPEN,
        "A measurement, and the best of several. The paper's first version said [4.48 and "
        "10.2]"
        "(https://arxiv.org/abs/2401.09670v1).",
        taught="latency_throughput 6",
    ),
    Claim(
        "reading-04",
        "flash",
        "15 % faster on BERT, 3 times on GPT-2, 2.4 times on long sequences",
        "15 %, 3, 2.4 times",
        OPEN,
        "Measurements. The direction is: the table of scores is neither written nor read.",
        taught="attention claims",
    ),
    Claim(
        "reading-05",
        "flash",
        "0.7 better perplexity, 6.4 points on long documents, 61.4 % and 63.1 % on Path-X and Path-256",
        "0.7; 6.4; 61.4 %; 63.1 %",
        OPEN,
        "The quality of trained models.",
    ),
    Claim(
        "reading-06",
        "flash2",
        "FlashAttention is 2 to 4 times as fast as before, and reaches 25 to 40 % of the peak",
        "25 to 40 %",
        OPEN,
        "A measurement. On an A100 it means the TFLOP/s beside.",
        "share · peak",
        {"low_percent": 25, "high_percent": 40, "card": "a100-80gb"},
        work.of_peak,
        ours="{low:.0f} to {high:.0f} TFLOP/s",
    ),
    Claim(
        "reading-07",
        "flash2",
        "FlashAttention-2 is about 2 times as fast as that, and reaches 50 to 73 % of the peak",
        "2 times",
        ROUNDED,
        "The shares are measurements; the factor follows from them: {low:.2f} at the low end, {high:.2f} "
        "at the high one.",
        "shares, new ÷ old",
        {"low": 50, "high": 73, "old_low": 25, "old_high": 40},
        work.ranges,
        "times",
        2,
    ),
    Claim(
        "reading-08",
        "flash2",
        "225 TFLOP/s on an A100 are 72 % of what it can do",
        "72 %",
        RIGHT,
        "It is the dense rate in 16 bits that is divided by.",
        "TFLOP/s ÷ peak",
        {"tflops": 225, "card": "a100-80gb"},
        work.share_of_peak,
        "%",
        72,
    ),
    Claim(
        "reading-09",
        "keep",
        "A KV cache turns the time of generation from quadratic to linear",
        "linear",
        PART,
        "Per token, yes. Over a whole text, twice the length takes {whole:.1f} times attention's FLOPs "
        "with a cache; computed again at each "
        "token, {again:.1f} times.",
        "attention's FLOPs at twice the length ÷ at the length",
        {**LLAMA_2, "tokens": 1000},
        work.attention_growth,
        "times at twice the length",
        2,
        taught="kv_cache claims",
    ),
    Claim(
        "reading-10",
        "edge",
        "A Raspberry Pi 5 generates 5 to 12 tokens a second with Yi, Phi and Llama 3",
        "5 to 12 tokens a second",
        PART,
        "Possible up to {low_gb:.1f} GB of weights at 5 and {high_gb:.1f} GB at 12. Not with Llama 3 8B at "
        "{weight_bits} bits, whose step reads {gb:.1f} GB.",
        "bandwidth ÷ bytes of a step",
        {"low_per_s": 5, "high_per_s": 12, "card": "pi-5", "model": "llama-3-8b", "weight_bits": 4.5},
        work.on_a_pi,
        ours="at most {per_s:.1f} tokens a second with 8B",
        taught="roofline claims",
    ),
    Claim(
        "reading-11",
        "list",
        "Lengths of 512 to 64K, dates and versions, “6G”",
        "labels",
        OPEN,
        "Settings and labels, not results.",
    ),
    # --- llm-analysis
    Claim(
        "llma-01",
        "llma",
        "LLaMA has 6.7, 13.0, 32.5 and 65.2 billion parameters",
        "6.7, 13.0, 32.5, 65.2 billion",
        RIGHT,
        "The last is cut off rather than rounded. The tool itself counts two matrices of width 4 · h in "
        "the MLP, and so fewer.",
        "sum over the parts of the config",
        {"vocab_size": 32000},
        work.llama_sizes,
        published=6.738,
        ours="{llama-7b:.3f}, {llama-13b:.3f}, {llama-33b:.3f}, {llama-65b:.3f} billion",
        taught="model claims",
    ),
    Claim(
        "llma-02",
        "llma",
        "The LLaMA paper's training ran at about 380 tokens a second and GPU on 2,048 A100s",
        "380",
        RIGHT,
        "From its GPU-hours, for 65B; {days:.1f} days. The smaller models' hours imply more.",
        "tokens ÷ GPU-hours",
        {"n_tokens": 1.4e12, "gpu_hours": 1_022_362, "gpus": 2048},
        work.tokens_per_gpu,
        "tokens a second and GPU",
        380,
        taught="cost_model claims",
    ),
    _hours(3, "LLaMA-7B", "llama-7b", 77_832, "−5.58"),
    _hours(4, "LLaMA-13B", "llama-13b", 148_047, "+9.53"),
    _hours(5, "LLaMA-33B", "llama-33b", 510_213, "−3.81"),
    _hours(6, "LLaMA-65B", "llama-65b", 1_015_701, "−0.65"),
    Claim(
        "llma-07",
        "llma",
        "The tool estimates training time well",
        "within 10 %",
        PART,
        "By its one free number. The share of the peak that would match the paper is {e7:.3f}, {e13:.3f}, "
        "{e33:.3f} and {e65:.3f}; 0.5 lies among "
        "them. By our counts the runs reached {low_mfu:.1f} to {high_mfu:.1f} % of the peak.",
        "GPU-hours at the full peak ÷ the paper's",
        {"n_tokens": LLAMA_TOKENS, "paper_hours": LLAMA_HOURS, "tokens": 2048, "card": work.A100},
        work.efficiencies,
        ours="shares {spread:.2f} times apart",
        taught="cost_model claims",
    ),
    Claim(
        "llma-08",
        "llma",
        "Training reaches 0.5 of the arithmetic peak and 0.9 of the bandwidth",
        "0.5, 0.9",
        OPEN,
        "Assumptions. The second does not enter the GPU-hours at all.",
        taught="cost_model 5",
    ),
    Claim(
        "llma-09",
        "llma",
        "At ideal efficiency the GPU-hours halve, since training is bound by arithmetic",
        "half",
        RIGHT,
        "By construction: the hours are FLOPs over a share of the peak. The tool's own time of a forward "
        "pass falls to {step:.3f}, because "
        "messages between GPUs get no faster.",
        "0.5 ÷ 1",
        {
            "model": "llama-65b",
            "tokens": 2048,
            "tp": 8,
            "card": work.A100,
            "flops_efficiency": 0.5,
            "memory_efficiency": 0.9,
        },
        work.ideal_ratio,
        "",
        0.5,
        taught="cost_model claims",
    ),
    Claim(
        "llma-10",
        "llma",
        "Then communication and the embedding take a larger share, all else a smaller one",
        "up, up, down",
        PART,
        "Communication goes from {communication_before:.1f} to {communication_after:.1f} %, attention from "
        "{attention_before:.1f} to "
        "{attention_after:.1f}, the MLP from {mlp_before:.1f} to {mlp_after:.1f}. But norms take more, "
        "too: they wait for memory, which gains less.",
        "time of a part ÷ time of a forward pass",
        {
            "model": "llama-65b",
            "tokens": 2048,
            "tp": 8,
            "card": work.A100,
            "flops_efficiency": 0.5,
            "memory_efficiency": 0.9,
        },
        work.shares,
        ours="communication {communication_before:.1f} → {communication_after:.1f} %",
    ),
    Claim(
        "llma-11",
        "llma",
        "On H100s the GPU-hours fall by 68 %",
        "68 %",
        ROUNDED,
        "If the share of the peak that is reached stays the same.",
        "1 − old peak ÷ new peak",
        {"card": "h100", "older": work.A100},
        work.less_time,
        "% less",
        68,
        taught="cost_model claims",
    ),
    Claim(
        "llma-12",
        "llma",
        "From A100 to H100 the peak rises more than threefold",
        "more than 3",
        RIGHT,
        "Dense rates in 16 bits, {times:.2f} times.",
        "new peak ÷ old peak",
        {"card": "h100", "older": work.A100},
        work.faster_device,
        "times",
        taught="cost_model claims",
    ),
    Claim(
        "llma-13",
        "llma",
        "The bandwidth rises from 2,032 to 3,350 GB/s",
        "2,032 GB/s",
        WRONG,
        "A slip, by a factor of {factor:.4f}: the data sheet says {gb_per_s:,.0f}, and the tool computes "
        "with that. The rise is {memory:.2f} times.",
        "data sheet",
        {"card": "h100", "older": work.A100},
        work.bandwidths,
        "GB/s",
        2032,
    ),
    Claim(
        "llma-14",
        "llma",
        "Communication takes a larger share on the H100 because the memory's bandwidth rises less than the "
        "arithmetic",
        "because of memory",
        WRONG,
        "Messages travel over NVLink, which is {faster:.2f} times as fast. The share goes from {older:.1f} "
        "to {share:.1f} %; with the A100's memory it would be "
        "{slow_memory:.1f}.",
        "time of messages ÷ time of a forward pass",
        {"model": "llama-65b", "tokens": 2048, "tp": 8, "card": "h100", "older": work.A100},
        work.communication_share,
        "% on the H100",
        taught="cost_model claims",
    ),
    Claim(
        "llma-15",
        "llma",
        "LLaMA-65B needs 2 GPUs in 16 bits",
        "2 GPUs",
        RIGHT,
        "The weights take {gb:.1f} GB, {exact:.2f} times the memory of one.",
        "weights ÷ memory, rounded up",
        {"model": "llama-65b", "card": work.A100, "weight_bits": 16},
        work.needed_devices,
        "GPUs",
        2,
        taught="cost_model claims",
    ),
    Claim(
        "llma-16",
        "llma",
        "The second pair of latency columns is at 0.5 of the peak (says the text; its heading says 0.7)",
        "31.89 ms at 0.5",
        WRONG,
        "The cells are at 0.7. At {flops_efficiency} they would be {ms:.2f}, {ms13:.2f}, {ms33:.2f} and "
        "{ms65:.2f} ms.",
        "the tool's prefill ÷ share of the peak",
        {"card": work.A100, "tokens": 512, "flops_efficiency": 0.5, "memory_efficiency": 0.9},
        work.prefill_at,
        "ms",
        31.89,
        taught="cost_model 4",
    ),
    Claim(
        "llma-17",
        "llma",
        "The setting: a prompt of 512 tokens, batch 1, 32 tokens to generate, an A100 with 80 GB",
        "512, 1, 32",
        OPEN,
        "Inputs.",
        taught="cost_model 4",
    ),
    Claim(
        "llma-18",
        "llma",
        "Faster integer arithmetic needs weights and activations that are both narrow",
        "no number",
        RIGHT,
        "Operands are multiplied at the width of the wider one. A prefill with 4-bit weights and 8-bit "
        "activations takes {mixed:.2f} ms, as with 8 bits "
        "for both ({wide:.2f}); with 4 for both {narrow:.2f}.",
        "time of a prefill",
        {"model": "llama-7b", "card": work.A100, "tokens": 512, "weight_bits": 4, "act_bits": 8},
        work.mixed_operands,
        "ms",
        taught="latency_throughput 4, quantization claims",
    ),
    Claim(
        "llma-19",
        "llma",
        "The file has 8.03 KB",
        "8.03 KB",
        RIGHT,
        "In units of 1,024 bytes.",
        "bytes / 1,024",
        {"n_bytes": 8222},
        work.file_size,
        "KiB",
        8.03,
    ),
)
