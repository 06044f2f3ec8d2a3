"""What the claims of book/claims.md are held against: functions of a claim's inputs.

Each takes the inputs by name and returns results by name; the first is the value that the page shows.
"""

from __future__ import annotations

import math
from dataclasses import replace

from teachkit import cost, llm_analysis, memory, roofline
from teachkit.config import ModelConfig
from teachkit.hardware import Device, device
from teachkit.shapes import shape

YEAR_H = 365 * 24
DAY_S = 24 * 3600


def _config(model: str) -> ModelConfig:
    return shape(model).config


def _n_parameters(model: str) -> int:
    return sum(cost.parameters(_config(model)).values())


def weights(model: str, weight_bits: float) -> dict[str, float]:
    n_bytes = _n_parameters(model) * weight_bits / 8
    return {"gb": n_bytes / 1e9, "gib": n_bytes / 2**30, "billions": _n_parameters(model) / 1e9}


def training_states(
    model: str, weight_bits: float, gradient_bits: float, state_bits: float, states: int
) -> dict[str, float]:
    numbers = _n_parameters(model)
    per_parameter = (weight_bits + gradient_bits + states * state_bits) / 8
    return {
        "state_gb": numbers * state_bits / 8e9,
        "gradient_gb": numbers * gradient_bits / 8e9,
        "per_parameter": per_parameter,
        "all_gb": numbers * per_parameter / 1e9,
    }


def training_devices(model: str, card: str, bytes_per_parameter: float) -> dict[str, float]:
    needed, part = _n_parameters(model) * bytes_per_parameter, device(card)
    return {
        "memory_gb": part.memory_gb,
        "devices": needed / part.memory_bytes,
        "devices_gb": needed / (part.memory_gb * 1e9),
    }


def training_years(model: str, n_tokens: float, context: int, card: str, tflops: float) -> dict[str, float]:
    config = _config(model)
    flops = cost.train_step(config, 1, context).flops / context * n_tokens
    seconds_per_year = YEAR_H * 3600
    return {
        "years": flops / (tflops * 1e12) / seconds_per_year,
        "rule": 6 * _n_parameters(model) * n_tokens / (tflops * 1e12) / seconds_per_year,
        "share": 100 * tflops * 1e12 / device(card).peak(16),
    }


def training_price(gpu_years: float, usd_per_hour: float) -> dict[str, float]:
    return {"musd": gpu_years * YEAR_H * usd_per_hour / 1e6}


def kv_cache(model: str, sequences: int, tokens: int, kv_bits: float) -> dict[str, float]:
    n_bytes = memory.memory(_config(model), sequences, tokens, kv_bits=kv_bits).kv_bytes
    return {
        "gb": n_bytes / 1e9,
        "gib": n_bytes / 2**30,
        "mb_token": n_bytes / sequences / tokens / 1e6,
        "with_queries_gb": 1.5 * n_bytes / 1e9,
    }


def kv_cache_gib(model: str, sequences: int, tokens: int, kv_bits: float) -> dict[str, float]:
    found = kv_cache(model, sequences, tokens, kv_bits)
    return {"gib": found["gib"], "gb": found["gb"], "kib_token": found["mb_token"] * 1e6 / 1024}


def ridge(card: str, bits: int) -> dict[str, float]:
    return {"flops_per_byte": roofline.ridge(device(card), bits)}


def two_ridges(card: str, bits: int, other_card: str) -> dict[str, float]:
    return ridge(card, bits) | {"other": ridge(other_card, bits)["flops_per_byte"]}


def attention_intensity(model: str, context: int, kv_bits: float) -> dict[str, float]:
    part = cost.decode_step(_config(model), 1, context, kv_bits=kv_bits)["attention scores"]
    return {
        "flops_per_byte": part.flops / part.bytes,
        "per_element": part.flops / (part.kv_bytes * 8 / kv_bits),
    }


def mlp_intensity(model: str, batch: int, weight_bits: float, card: str) -> dict[str, float]:
    part = cost.decode_step(_config(model), batch, 1, weight_bits=weight_bits)["mlp"]
    right = roofline.critical_batch(device(card), weight_bits=weight_bits)
    return {"flops_per_byte": part.flops / part.bytes, "critical": right, "implied": right / 2}


def reading(words_per_minute: float, words_per_token: float, model: str, card: str) -> dict[str, float]:
    target_s = 60 / words_per_minute * words_per_token
    step_s = roofline.time_bound(cost.decode_step(_config(model), 1, 512), device(card)).seconds
    return {"ms": 1e3 * target_s, "per_s": 1 / target_s, "step_ms": 1e3 * step_s, "faster": target_s / step_s}


def step_flops(model: str, batch: int, context: int) -> dict[str, float]:
    step, two_p = cost.decode_step(_config(model), batch, context), 2 * _n_parameters(model) * batch
    return {
        "gflop": step.flops / 1e9,
        "rule": two_p / 1e9,
        "scores": 100 * step["attention scores"].flops / two_p,
    }


def step_bytes(model: str, batch: int, context: int, weight_bits: float) -> dict[str, float]:
    step = cost.decode_step(_config(model), batch, context, weight_bits=weight_bits)
    return {
        "gb": step.bytes / 1e9,
        "billions": _n_parameters(model) / 1e9,
        "per_parameter": step.bytes / _n_parameters(model),
    }


def critical_batches(cards: str, weight_bits: float) -> dict[str, float]:
    found = {
        card: roofline.critical_batch(device(card), weight_bits=weight_bits) for card in cards.split(", ")
    }
    spoken = {f"{card} as spoken": 2 * roofline.ridge(device(card), 16) for card in found}
    return found | spoken


def below_critical(batch: int, card: str, weight_bits: float, model: str, context: int) -> dict[str, float]:
    critical = roofline.critical_batch(device(card), weight_bits=weight_bits)
    step = cost.decode_step(_config(model), batch, context, weight_bits=weight_bits)
    cache = 100 * step.total("kv_bytes") / step.bytes
    return {"share": 100 * batch / critical, "critical": critical, "cache": cache}


def width_and_depth(model: str) -> dict[str, float]:
    config = _config(model)
    return {"width": config.d_model, "layers": config.n_layers}


def largest_batch(
    model: str, context: int, card: str, weight_bits: float, kv_bits: float
) -> dict[str, float]:
    config, part = _config(model), device(card)
    one = memory.memory(config, 1, context, weight_bits=weight_bits, kv_bits=kv_bits)
    found: dict[str, float] = {}
    for unit, n_bytes in (("gib", part.memory_bytes), ("gb", part.memory_gb * 1e9)):
        found[unit] = memory.largest_batch(config, context, n_bytes, weight_bits=weight_bits, kv_bits=kv_bits)
        room = n_bytes - one.weights_bytes
        found[f"{unit}_exact"] = room / (one.kv_bytes + one.activations_bytes)
    return found


def _grouped_and_not(model: str) -> tuple[ModelConfig, ModelConfig]:
    """The model without its windows, and with as many key/value heads as heads."""
    grouped = replace(_config(model), windows=())
    return grouped, replace(grouped, n_kv_heads=grouped.n_heads)


def grouped_bytes(model: str, tokens: int, kv_bits: float) -> dict[str, float]:
    ours, full = (memory.memory(c, 1, tokens, kv_bits=kv_bits).kv_bytes for c in _grouped_and_not(model))
    return {"ratio": ours / full, "gb": ours / 1e9, "full_gb": full / 1e9}


def grouped_flops(model: str, context: int) -> dict[str, float]:
    ours, full = (cost.decode_step(c, 1, context) for c in _grouped_and_not(model))

    def share(name: str) -> float:
        return ours[name].flops / full[name].flops

    return {
        "step": ours.flops / full.flops,
        "scores": share("attention scores"),
        "projections": 100 * share("attention projections"),
    }


def narrower_weights(
    model: str, wide_bits: float, narrow_bits: float, scale_bits: float, group: int
) -> dict[str, float]:
    n_bytes = [_n_parameters(model) * bits / 8e9 for bits in (wide_bits, narrow_bits)]
    with_scales = _n_parameters(model) * (narrow_bits + scale_bits / group) / 8e9
    return {"times": n_bytes[0] / n_bytes[1], "gb": n_bytes[1], "scaled": n_bytes[0] / with_scales}


def quantized_critical(card: str, weight_bits: int, act_bits: int) -> dict[str, float]:
    part = device(card)
    return {
        "weights": roofline.critical_batch(part, weight_bits=weight_bits, act_bits=act_bits),
        "both": roofline.critical_batch(part, weight_bits=weight_bits, act_bits=weight_bits),
        "neither": roofline.critical_batch(part, weight_bits=act_bits, act_bits=act_bits),
    }


def faster_arithmetic(card: str, wide_bits: int, narrow_bits: int) -> dict[str, float]:
    return {"bound": device(card).peak(narrow_bits) / device(card).peak(wide_bits)}


def int8_speedup(
    model: str, card: str, weight_bits: float, batch: int, context: int, large_batch: int, large_context: int
) -> dict[str, float]:
    def speedup(sequences: int, tokens: int) -> float:
        steps = (
            cost.decode_step(_config(model), sequences, tokens, weight_bits=bits)
            for bits in (16, weight_bits)
        )
        wide, narrow = (roofline.time_bound(step, device(card)).seconds for step in steps)
        return wide / narrow

    return {"alone": speedup(batch, context), "full": speedup(large_batch, large_context)}


def block_waste(model: str, block_tokens: int, large_block_tokens: int, kv_bits: float) -> dict[str, float]:
    token = memory.memory(_config(model), 1, 1, kv_bits=kv_bits).kv_bytes / 2**20
    return {"mib": (block_tokens - 1) * token, "large": (large_block_tokens - 1) * token}


def stall(model: str, tokens: int, card: str, large_card: str) -> dict[str, float]:
    config, parts = _config(model), (device(card), device(large_card))
    small, large = (1e3 * roofline.time_bound(cost.prefill(config, 1, tokens), p).seconds for p in parts)
    step = 1e3 * roofline.time_bound(cost.decode_step(config, 1, 512), parts[0]).seconds
    rule = 1e3 * 2 * _n_parameters(model) * tokens / parts[0].peak(16)
    return {"ms": small, "large_ms": large, "steps": small / step, "step_ms": step, "rule_ms": rule}


def capacity_ratio(model: str, older: str, context: int, card: str) -> dict[str, float]:
    found = [largest_batch(name, context, card, 16, 16)["gib_exact"] for name in (model, older)]
    widths = [_config(name).d_ff for name in (model, older)]
    return {"ratio": found[0] / found[1], "d_ff": widths[0], "older_d_ff": widths[1]}


def requests_a_day(
    model: str, card: str, requests: float, usd: float, batch: int, context: int
) -> dict[str, float]:
    part, rate = device(card), requests / DAY_S
    step_s = roofline.time_bound(cost.decode_step(_config(model), batch, context), part).seconds
    return {
        "tokens": batch / step_s / rate,
        "rate": rate,
        "usd_per_hour": usd / 24,
        "step_ms": 1e3 * step_s,
        "most": part.peak(16) / (2 * _n_parameters(model)) / rate,
        "usd_now": 24 * (part.price_usd_per_hour or math.nan),
    }


def int8_requests(model: str, card: str, batch: int, context: int, bits: int) -> dict[str, float]:
    config, part = _config(model), device(card)
    base = roofline.time_bound(cost.decode_step(config, batch, context), part).seconds
    weights_only = cost.decode_step(config, batch, context, weight_bits=bits)
    everything = cost.decode_step(config, batch, context, weight_bits=bits, act_bits=bits, kv_bits=bits)
    return {
        "weights": base / roofline.time_bound(weights_only, part).seconds,
        "all": base / roofline.time_bound(everything, part).seconds,
    }


def clock(minutes: float, seconds: float) -> dict[str, float]:
    return {"s": 60 * minutes + seconds}


def machines(model: str, card: str, gpus_per_vm: int, vms: int, weight_bits: float) -> dict[str, float]:
    config, part = _config(model), device(card)
    held = _n_parameters(model) * weight_bits / 8
    token = memory.memory(config, 1, 1).kv_bytes
    one_gb, one = gpus_per_vm * part.memory_gb * 1e9, gpus_per_vm * part.memory_bytes
    return {
        "vms": math.ceil(held / one),
        "weights_gb": held / 1e9,
        "one_gb": one_gb / 1e9,
        "exact": held / one,
        "tokens": (vms * one - held) / token,
        "tokens_gb": (vms * one_gb - held) / token,
    }


def implied_price(usd: float, instances: int, vms: int, gpus_per_vm: int, hours: float) -> dict[str, float]:
    per_vm = usd / (instances * vms * hours)
    return {"usd": per_vm, "usd_gpu": per_vm / gpus_per_vm}


def against_memory(model: str, memory_gb: float, weight_bits: float) -> dict[str, float]:
    gb = weights(model, weight_bits)["gb"]
    return {"gb": gb, "share": gb * 1e9 / (memory_gb * 2**30)}


def pairs(languages: int) -> dict[str, float]:
    return {"pairs": math.comb(languages, 2)}


def whole_file(
    megabytes: float, bytes_per_character: float, seconds: float, model: str, card: str
) -> dict[str, float]:
    characters = megabytes * 1e6 / bytes_per_character
    bound = 1 / roofline.time_bound(cost.decode_step(_config(model), 1, 1), device(card)).seconds
    return {"per_s": characters / seconds, "bound": bound, "times": characters / seconds / bound}


def shards(n: int, s_per_shard: tuple[float, ...]) -> dict[str, float]:
    return {f"run {i}": n * s for i, s in enumerate(s_per_shard, 1)}


def ratio(slow_s: float, quick_s: float) -> dict[str, float]:
    return {"times": slow_s / quick_s}


def hits(prompts: int, percent: tuple[float, ...]) -> dict[str, float]:
    return {f"share {i}": prompts * p / 100 for i, p in enumerate(percent, 1)}


def two_shares(prompts: int, percent: float, other_percent: float) -> dict[str, float]:
    p, q = percent / 100, other_percent / 100
    variance = [x * (1 - x) / prompts for x in (p, q)]
    mean = (p + q) / 2
    return {
        "half_width": 196 * math.sqrt(variance[0]),
        "other": 196 * math.sqrt(variance[1]),
        "z": abs(q - p) / math.sqrt(2 * mean * (1 - mean) / prompts),
    }


def accuracy(right: int, prompts: int) -> dict[str, float]:
    return {"share": right / prompts, "slide": right / (prompts - right)}


def full_answers(
    model: str, larger: str, card: str, tokens: int, seconds: float, larger_seconds: float
) -> dict[str, float]:
    def step_s(name: str) -> float:
        return roofline.time_bound(cost.decode_step(_config(name), 1, tokens // 2), device(card)).seconds

    return {
        "answers": seconds / (tokens * step_s(model)),
        "step_ms": 1e3 * step_s(model),
        "expected": step_s(larger) / step_s(model),
        "measured": larger_seconds / seconds,
    }


def slower_rows(sentiment_s: tuple[float, ...], maths_s: tuple[float, ...]) -> dict[str, float]:
    ratios = [m / s for m, s in zip(maths_s, sentiment_s, strict=True)]
    return {
        "rows": sum(r > 1 for r in ratios),
        "all": len(ratios),
        "mean": math.prod(ratios) ** (1 / len(ratios)),
    }


def whole_counts(
    sentiment_prompts: int,
    sentiment_percent: tuple[float, ...],
    maths_prompts: int,
    maths_percent: tuple[float, ...],
) -> dict[str, float]:
    sentiment = [sentiment_prompts * p / 100 for p in sentiment_percent]
    maths = [maths_prompts * p / 100 for p in maths_percent]
    return {
        "off": max(abs(n - round(n)) for n in sentiment + maths),
        **{f"sentiment {i}": n for i, n in enumerate(sentiment, 1)},
        **{f"maths {i}": n for i, n in enumerate(maths, 1)},
    }


def decode_rate(
    model: str, card: str, weight_bits: float, phone_gb_per_s: float, seen: float
) -> dict[str, float]:
    step = cost.decode_step(_config(model), 1, 1, weight_bits=weight_bits)
    tablet = device(card)
    phone = replace(tablet, bytes_per_s=phone_gb_per_s * 1e9)
    rates = [1 / roofline.time_bound(step, part).seconds for part in (tablet, phone)]
    return {"per_s": rates[0], "phone": rates[1], "times": rates[0] / seen, "phone_times": rates[1] / seen}


def linear_equation(left: float, right: float, constant: float) -> dict[str, float]:
    return {"q": constant / (left - right)}


def per_dollar(throughput: float, relative_cost: float) -> dict[str, float]:
    return {"times": throughput / relative_cost}


def of_peak(low_percent: float, high_percent: float, card: str) -> dict[str, float]:
    tera = device(card).peak(16) / 1e12
    return {"low": low_percent / 100 * tera, "high": high_percent / 100 * tera}


def ranges(low: float, high: float, old_low: float, old_high: float) -> dict[str, float]:
    return {"middle": (low + high) / (old_low + old_high), "low": low / old_low, "high": high / old_high}


def share_of_peak(tflops: float, card: str) -> dict[str, float]:
    return {"percent": 100 * tflops * 1e12 / device(card).peak(16)}


def attention_growth(model: str, tokens: int) -> dict[str, float]:
    """All steps of a text together: the pairs that a causal mask lets through are those that they look at."""
    config = _config(model)
    short, long = (cost.prefill(config, 1, n)["attention scores"].flops for n in (tokens, 2 * tokens))
    steps = [cost.decode_step(config, 1, n)["attention scores"].flops for n in (tokens, 2 * tokens)]
    again = [
        sum(cost.prefill(config, 1, t)["attention scores"].flops for t in range(1, n + 1))
        for n in (tokens // 10, 2 * (tokens // 10))
    ]
    return {"whole": long / short, "step": steps[1] / steps[0], "again": again[1] / again[0], "flops": short}


def on_a_pi(
    low_per_s: float, high_per_s: float, card: str, model: str, weight_bits: float
) -> dict[str, float]:
    step = cost.decode_step(_config(model), 1, 1, weight_bits=weight_bits)
    part = device(card)
    return {
        "per_s": 1 / roofline.time_bound(step, part).seconds,
        "low_gb": part.bytes_per_s / low_per_s / 1e9,
        "high_gb": part.bytes_per_s / high_per_s / 1e9,
        "gb": step.total("weight_bytes") / 1e9,
    }


LLAMAS = ("llama-7b", "llama-13b", "llama-33b", "llama-65b")
LLAMA_TP = {"llama-7b": 1, "llama-13b": 1, "llama-33b": 1, "llama-65b": 2}
A100 = "a100-80gb"


def llama_sizes(vocab_size: int) -> dict[str, float]:
    return {
        name: sum(cost.parameters(replace(_config(name), vocab_size=vocab_size)).values()) / 1e9
        for name in LLAMAS
    }


def tokens_per_gpu(n_tokens: float, gpu_hours: float, gpus: int) -> dict[str, float]:
    return {"per_s": n_tokens / (gpu_hours * 3600), "days": gpu_hours / gpus / 24}


def gpu_hours(
    model: str, n_tokens: float, tokens: int, card: str, flops_efficiency: float, paper_hours: float
) -> dict[str, float]:
    config, peak = _config(model), device(card).peak(16)
    theirs = llm_analysis.training_flops(config, n_tokens, tokens=tokens) / peak / 3600
    ours = cost.train_step(config, 1, tokens).flops / tokens * n_tokens / peak / 3600
    return {
        "hours": theirs / flops_efficiency,
        "difference": 100 * (theirs / flops_efficiency / paper_hours - 1),
        "needed": theirs / paper_hours,
        "ours": ours / flops_efficiency,
        "mfu": 100 * ours / paper_hours,
    }


def efficiencies(
    n_tokens: tuple[float, ...], paper_hours: tuple[float, ...], tokens: int, card: str
) -> dict[str, float]:
    found = [
        gpu_hours(name, n, tokens, card, 1.0, hours)
        for name, n, hours in zip(LLAMAS, n_tokens, paper_hours, strict=True)
    ]
    needed = [one["needed"] for one in found]
    return {
        "spread": max(needed) / min(needed),
        **dict(zip(("e7", "e13", "e33", "e65"), needed, strict=True)),
        "low_mfu": min(one["mfu"] for one in found),
        "high_mfu": max(one["mfu"] for one in found),
    }


def _profile(step: cost.Cost, part: Device, fe: float = 1.0, me: float = 1.0) -> roofline.Bound:
    return roofline.time_bound(
        step, part, flops_efficiency=fe, memory_efficiency=me, message_s=llm_analysis.MESSAGE_S
    )


def ideal_ratio(
    model: str, tokens: int, tp: int, card: str, flops_efficiency: float, memory_efficiency: float
) -> dict[str, float]:
    step = llm_analysis.prefill(_config(model), 1, tokens, tp=tp)
    real = _profile(step, device(card), flops_efficiency, memory_efficiency)
    return {"hours": flops_efficiency, "step": _profile(step, device(card)).seconds / real.seconds}


def shares(
    model: str, tokens: int, tp: int, card: str, flops_efficiency: float, memory_efficiency: float
) -> dict[str, float]:
    step, part = llm_analysis.prefill(_config(model), 1, tokens, tp=tp), device(card)
    bounds = {
        "before": _profile(step, part, flops_efficiency, memory_efficiency),
        "after": _profile(step, part),
    }
    return {
        f"{name}_{when}": 100 * bound[name].seconds / bound.seconds
        for name in ("communication", "embedding", "norms", "attention", "mlp")
        for when, bound in bounds.items()
    }


def faster_device(card: str, older: str) -> dict[str, float]:
    new, old = device(card), device(older)
    return {
        "times": new.peak(16) / old.peak(16),
        "less": 100 * (1 - old.peak(16) / new.peak(16)),
        "memory": new.bytes_per_s / old.bytes_per_s,
        "gb_per_s": old.bytes_per_s / 1e9,
    }


def less_time(card: str, older: str) -> dict[str, float]:
    return {"less": faster_device(card, older)["less"]}


def bandwidths(card: str, older: str) -> dict[str, float]:
    found = faster_device(card, older)
    return {name: found[name] for name in ("gb_per_s", "memory")}


def communication_share(model: str, tokens: int, tp: int, card: str, older: str) -> dict[str, float]:
    step, new, old = llm_analysis.prefill(_config(model), 1, tokens, tp=tp), device(card), device(older)

    def share(part: Device) -> float:
        bound = _profile(step, part)
        return 100 * bound["communication"].seconds / bound.seconds

    times = [_profile(step, part)["communication"].seconds for part in (old, new)]
    return {
        "share": share(new),
        "older": share(old),
        "slow_memory": share(replace(new, bytes_per_s=old.bytes_per_s)),
        "faster": times[0] / times[1],
    }


def needed_devices(model: str, card: str, weight_bits: float) -> dict[str, float]:
    held, part = weights(model, weight_bits)["gb"] * 1e9, device(card)
    return {
        "devices": math.ceil(held / part.memory_bytes),
        "gb": held / 1e9,
        "exact": held / part.memory_bytes,
    }


def prefill_at(card: str, tokens: int, flops_efficiency: float, memory_efficiency: float) -> dict[str, float]:
    def milliseconds(name: str) -> float:
        step = llm_analysis.prefill(_config(name), 1, tokens, tp=LLAMA_TP[name])
        return 1e3 * _profile(step, device(card), flops_efficiency, memory_efficiency).seconds

    return dict(zip(("ms", "ms13", "ms33", "ms65"), map(milliseconds, LLAMAS), strict=True))


def mixed_operands(model: str, card: str, tokens: int, weight_bits: int, act_bits: int) -> dict[str, float]:
    def milliseconds(w: int, a: int) -> float:
        step = cost.prefill(_config(model), 1, tokens, weight_bits=w, act_bits=a, kv_bits=a)
        return 1e3 * roofline.time_bound(step, device(card)).seconds

    return {
        "mixed": milliseconds(weight_bits, act_bits),
        "wide": milliseconds(act_bits, act_bits),
        "narrow": milliseconds(weight_bits, weight_bits),
    }


def file_size(n_bytes: int) -> dict[str, float]:
    return {"kib": n_bytes / 1024}
