"""Traces: what a file may say, what is refused, in which words; made traces against their definitions."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import replace
from random import Random

import pytest

from conftest import unchecked
from teachkit import trace
from teachkit.trace import Trace, TraceError, TraceRequest, load, make, save

HEADER = '{"teachkit_trace": 1, "name": "a", "ignore_eos": true}\n'
LINE = '{"arrival_s": 0, "max_new_tokens": 5, "prompt": [1, 2]}\n'


def written(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


# Files


def test_a_trace_comes_back_as_it_was(tmp_path):
    one = TraceRequest(0.25, 7, (3, 1, 4), stop=("\n", "é"), temperature=0.5, top_k=3, top_p=0.9, seed=11)
    other = TraceRequest(0.5, 1, prompt_tokens=9, prompt_seed=2, prompt_shared=4, cancel_s=0.75)
    whole = Trace("naïve", (one, other), ignore_eos=True)
    save(whole, tmp_path / "t.jsonl")
    assert load(tmp_path / "t.jsonl") == whole
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"teachkit_trace": 1, "name": "naïve", "ignore_eos": true}'
    assert "temperature" in lines[1]
    assert "temperature" not in lines[2]  # at its default


def test_a_file_written_by_hand(tmp_path):
    line = '{"arrival_s": 1, "max_new_tokens": 5, "prompt": [1, 2], "stop": "x", "temperature": 1}\n'
    found = load(written(tmp_path, HEADER + "\n" + LINE + line))
    assert found == Trace(
        "a", (TraceRequest(0.0, 5, (1, 2)), TraceRequest(1.0, 5, (1, 2), stop=("x",), temperature=1.0)), True
    )
    short = load(written(tmp_path, '{"teachkit_trace": 1}\n' + LINE))
    assert (short.name, short.ignore_eos) == ("", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header and requests, got an empty file"),
        ("\n \n", "expected a header and requests, got an empty file"),
        (HEADER, "expected requests below the header, got none"),
        (LINE, "line 1: arrival_s: expected only teachkit_trace, name, ignore_eos"),
        ("{}\n", "line 1: teachkit_trace: expected version 1 in the first line; got None"),
        ('{"teachkit_trace": 2}\n', "line 1: teachkit_trace: expected version 1 in the first line; got 2"),
        ('{"teachkit_trace": 1, "name": 3}\n', "line 1: name: expected text; got 3"),
        ('{"teachkit_trace": 1, "ignore_eos": 1}\n', "line 1: ignore_eos: expected true or false; got 1"),
        ('{"teachkit_trace": 1, "x": 1}\n', "line 1: x: expected only teachkit_trace, name, ignore_eos"),
        (HEADER + LINE + '{"arrival_s": 0,\n', "line 3: expected a JSON object, got {"),
        (HEADER + "[1]\n", "line 2: expected a JSON object, got [1]"),
        (HEADER + '{"max_new_tokens": 5, "prompt": [1]}', "line 2: arrival_s: expected in every request"),
        (HEADER + '{"arrival_s": 5, "prompt": [1]}', "line 2: max_new_tokens: expected in every request"),
        (HEADER + "\n\n" + LINE.replace("0", "-1", 1), "line 4: arrival_s: expected a number of at least 0"),
        (HEADER + LINE.replace("0", "NaN", 1), "line 2: arrival_s: expected a number of at least 0; got nan"),
        (HEADER + LINE.replace("}", ', "temprature": 1}'), "line 2: temprature: expected only arrival_s"),
        (HEADER + LINE.replace("}", ', "top_k": 0}'), "line 2: top_k: expected a whole number of at least"),
        (HEADER + LINE.replace("[1, 2]", '[1, "2"]'), "line 2: prompt: expected token ids of at least 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_field(tmp_path, text, message):
    path = written(tmp_path, text)
    with unchecked(), pytest.raises(TraceError, match=re.escape(message)) as raised:
        load(path)
    assert str(raised.value).startswith(str(path))


def test_not_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match="expected text in UTF-8"):
        load(tmp_path / "a.jsonl")
    with pytest.raises(OSError, match="none"):
        load(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrival_s": -0.5}, "arrival_s: expected a number of at least 0; got -0.5"),
        ({"arrival_s": math.inf}, "arrival_s: expected a number of at least 0; got inf"),
        ({"arrival_s": "0"}, "arrival_s: expected a number of at least 0; got '0'"),
        ({"arrival_s": True}, "arrival_s: expected a number of at least 0; got True"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number of at least 1; got 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: expected a whole number of at least 1; got 1.5"),
        ({"max_new_tokens": True}, "max_new_tokens: expected a whole number of at least 1; got True"),
        ({"prompt": "text"}, "prompt: expected a list of token ids of at least 0; got 'text'"),
        ({"prompt": (1, -2)}, "prompt: expected token ids of at least 0; got -2"),
        ({"prompt": ()}, "prompt_tokens: expected a whole number of at least 1; got 0"),
        ({"prompt_tokens": 3}, "prompt_tokens: expected nothing beside a prompt; got 3"),
        ({"prompt": (), "prompt_tokens": 3, "prompt_shared": 4}, "prompt_shared: expected at most prompt_t"),
        ({"prompt": (), "prompt_tokens": 3, "prompt_seed": -1}, "prompt_seed: expected a whole number"),
        ({"temperature": -1.0}, "temperature: expected a number of at least 0; got -1.0"),
        ({"top_k": 3}, "temperature: expected more than 0 beside top_k or top_p; got 0"),
        ({"top_p": 0.5}, "temperature: expected more than 0 beside top_k or top_p; got 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p: expected a number in (0, 1]; got 0.0"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p: expected a number in (0, 1]; got 1.5"),
        ({"seed": 2**63}, "seed: expected a whole number of at least 0; got 9223372036854775808"),
        ({"stop": ("",)}, "stop: expected strings that are not empty; got ''"),
        ({"stop": "x"}, "stop: expected a list of strings that are not empty; got 'x'"),
        ({"cancel_s": 0.5}, "cancel_s: expected a number of at least 1; got 0.5"),
    ],
)  # fmt: skip
def test_each_field_is_checked(changes, message):
    with unchecked(), pytest.raises(TraceError, match=re.escape(message)):
        replace(TraceRequest(1.0, 5, (1, 2)), **changes)


def test_a_trace_has_requests():
    with pytest.raises(TraceError, match="requests: expected at least one; got 'none'"):
        Trace("a", ())


# Prompts of which only the length is known


def test_filled_prompts():
    several = [
        TraceRequest(0.0, 1, prompt_tokens=90, prompt_shared=40, prompt_seed=seed) for seed in (0, 1, 0)
    ]
    whole = Trace("a", (*several, TraceRequest(0.0, 1, (5, 6)))).filled(61)
    one, two, again, given = (request.prompt for request in whole.requests)
    assert len(one) == 90
    assert one == again
    assert one[:40] == two[:40]
    assert one[40:] != two[40:]
    assert given == (5, 6)
    assert min(one) >= 0
    assert max(one + two) <= 60
    assert len(set(one + two)) > 40  # of 61, in 140 draws
    assert whole.requests[0].n_prompt == several[0].n_prompt == 90


# Made traces


def test_the_same_arguments_give_the_same_trace():
    options = {"arrivals": "bursty", "rate_per_s": 3.0, "shared_prefix_tokens": 5}
    assert make(20, seed=4, **options) == make(20, seed=4, **options)
    assert make(20, seed=4, **options) != make(20, seed=5, **options)


def test_known_values():
    """Of another implementation: the definitions in the docstring, with Python's own random numbers."""
    times, lengths = Random("arrivals 7"), Random("lengths 7")
    normal, now = statistics.NormalDist(), 0.0
    for request in make(50, seed=7, arrivals="poisson", rate_per_s=4).requests:
        times.random()  # whether a group begins
        now += -math.log(1 - times.random()) / 4
        assert request.arrival_s == round(now, 6)
        prompt, output = (
            min(512, max(1, round(m * math.exp(0.8 * normal.inv_cdf(lengths.random()))))) for m in (64, 48)
        )
        assert (request.prompt_tokens, request.max_new_tokens) == (prompt, output)


def test_another_rate_leaves_the_requests_as_they_were():
    slow, fast = (make(30, seed=1, arrivals="poisson", rate_per_s=rate).requests for rate in (1, 8))
    assert [replace(one, arrival_s=0.0) for one in slow] == [replace(one, arrival_s=0.0) for one in fast]
    assert [one.arrival_s / 8 for one in slow] == pytest.approx([one.arrival_s for one in fast], abs=2e-6)


def test_at_once():
    assert {one.arrival_s for one in make(9).requests} == {0.0}
    assert make(9).name == "9 requests, at once, seed 0"
    assert make(9, name="mine", ignore_eos=False).name == "mine"
    assert make(9).ignore_eos


def test_poisson_gaps_are_exponential():
    times = [one.arrival_s for one in make(6_000, arrivals="poisson", rate_per_s=5).requests]
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert statistics.mean(gaps) == pytest.approx(0.2, rel=0.04)
    assert statistics.stdev(gaps) == pytest.approx(0.2, rel=0.04)
    assert sum(gap > 0.4 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-2), rel=0.1)


def test_bursts_have_their_size_and_the_rate_stays():
    times = [one.arrival_s for one in make(12_000, arrivals="bursty", rate_per_s=5, burst=8).requests]
    groups = sorted(set(times))
    assert len(times) / len(groups) == pytest.approx(8, rel=0.1)
    assert times[-1] / len(times) == pytest.approx(0.2, rel=0.1)
    alone = make(50, arrivals="bursty", rate_per_s=5, burst=1).requests
    assert [one.arrival_s for one in alone] == [
        one.arrival_s for one in make(50, arrivals="poisson", rate_per_s=5).requests
    ]


def test_lengths_are_lognormal_and_capped():
    made = make(2_000, prompt_median=100, output_median=20, sigma=0.5, cap=300).requests
    prompts, outputs = ([getattr(one, n) for one in made] for n in ("prompt_tokens", "max_new_tokens"))
    assert statistics.median(prompts) == pytest.approx(100, rel=0.1)
    assert statistics.median(outputs) == pytest.approx(20, abs=1)
    assert statistics.stdev(math.log(n) for n in prompts if n < 300) == pytest.approx(0.48, abs=0.04)
    assert max(prompts) == 300
    assert min(one.max_new_tokens for one in make(500, output_median=1, sigma=2).requests) == 1
    assert {one.prompt_tokens for one in make(9, sigma=0).requests} == {64}


def test_prompts_are_cut_from_a_text():
    source = list(range(1000, 3000))
    made = make(40, shared_prefix_tokens=10, source=source).requests
    prefix = made[0].prompt[:10]
    assert prefix == tuple(range(prefix[0], prefix[0] + 10))
    for with_source, lengths in zip(made, make(40, shared_prefix_tokens=10).requests, strict=True):
        own = with_source.prompt[10:]
        assert with_source.prompt[:10] == prefix
        assert own == tuple(range(own[0], own[0] + len(own)))
        assert with_source.n_prompt == lengths.prompt_tokens
        assert lengths.prompt_shared == 10
    assert len({one.prompt[10] for one in made}) > 30  # at places of their own
    assert len({one.prompt_seed for one in make(40).requests}) == 40


def test_a_prompt_may_be_all_of_the_text():
    assert make(2, sigma=0, prompt_median=5, source=[7, 8, 9, 1, 2]).requests[0].prompt == (7, 8, 9, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: expected a whole number of at least 1; got 0"),
        ({"arrivals": "uniform"}, "arrivals: expected at once, poisson, bursty; got 'uniform'"),
        ({"rate_per_s": 2.0}, "rate_per_s: expected none where all come at once; got 2.0"),
        ({"arrivals": "poisson"}, "rate_per_s: expected more than 0; got None"),
        ({"arrivals": "bursty", "rate_per_s": 0.0}, "rate_per_s: expected more than 0; got 0.0"),
        ({"arrivals": "bursty", "rate_per_s": 1.0, "burst": 0.5}, "burst: expected a number of at least 1"),
        ({"prompt_median": 0.5}, "prompt_median: expected a number of at least 1; got 0.5"),
        ({"output_median": math.nan}, "output_median: expected a number of at least 1; got nan"),
        ({"sigma": -0.1}, "sigma: expected a number of at least 0; got -0.1"),
        ({"cap": 0}, "cap: expected a whole number of at least 1; got 0"),
        ({"shared_prefix_tokens": -1}, "shared_prefix_tokens: expected a whole number of at least 0; got -1"),
        ({"sigma": 0, "source": [1] * 63}, "source: expected at least 64 tokens, the longest prompt; got 63"),
    ],
)  # fmt: skip
def test_options_out_of_range(options, message):
    with unchecked(), pytest.raises(TraceError, match=re.escape(message)):
        make(**{"n": 3} | options)


def test_defaults_are_those_of_the_documentation():
    assert (trace.MEDIAN_PROMPT, trace.MEDIAN_OUTPUT, trace.SIGMA, trace.CAP) == (64, 48, 0.8, 512)


@pytest.mark.parametrize("text", ["a\u2028b", "a\u0085b", "a\rb", "a\nb"])
def test_a_line_is_what_ends_in_a_newline(text, tmp_path):
    """Python's splitlines() knows ten ends of a line, JSON lines one."""
    trace = Trace(text, (TraceRequest(0.0, 1, (1,), stop=(text,)),))
    save(trace, tmp_path / "t.jsonl")
    assert load(tmp_path / "t.jsonl") == trace


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '{"arrival_s": 1' + "0" * 400 + ', "max_new_tokens": 1, "prompt": [1]}',
            "arrival_s: expected a finite",
        ),
        ("[" * 100_000, "expected a JSON object"),
    ],
)
def test_what_no_float_and_no_parser_holds(line, words, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"teachkit_trace": 1, "name": ""}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(TraceError, match=f"line 2: {words}"):
        load(path)


def test_lengths_too_large_for_a_float_are_the_cap():
    lengths = {request.prompt_tokens for request in make(50, sigma=1000.0, cap=7).requests}
    assert lengths == {1, 7}


def test_a_seed_below_zero():
    with pytest.raises(TraceError, match="seed: expected a whole number of at least 0; got -1"):
        make(1, seed=-1)
