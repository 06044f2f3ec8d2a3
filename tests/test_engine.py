"""The engine: many requests give what each gives alone, whatever happens to the others."""

from __future__ import annotations

import inspect

import pytest
import torch

import teachkit as tk
import test_compiled
from conftest import tiny_config, tiny_model, unchecked
from engine_traces import FP64, KINDS, Recorder, check, model_of, play, random_trace
from teachkit import block_attention, paged, scheduler
from teachkit.cache import ContiguousCache
from teachkit.decode import generate
from teachkit.engine import Engine
from teachkit.paged import PagedMemory, PagedStep
from teachkit.quant_cache import QuantizedCache
from tolerance import LOGITS

SAMPLE = range(20)
PROMPT = [5, 7, 11, 13, 17, 19]
OTHERS = [[3, 1, 4], [2, 7, 1, 8, 2, 8], [31, 4, 15, 9, 26, 5, 35, 8]]


@pytest.fixture
def model():
    return model_of("windows")


def engine_of(model, **options):
    return Engine(model, **({"n_blocks": 31, "block_size": 3, "max_batch_tokens": 17} | options))


def alone(model, prompt, n, *args, **kwargs):
    return generate(model, prompt, n, *args, **kwargs).tokens


def submit_others(engine, n=9):
    return [engine.submit(prompt, n) for prompt in OTHERS]


def assert_as_alone(requests, n=9):
    """The other requests have had all that they have alone."""
    for prompt, request in zip(OTHERS, requests, strict=True):
        assert (request.finish, request.error) == ("length", None)
        assert request.tokens == alone(model_of("windows"), prompt, n)


# --- random traces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SAMPLE)
def test_each_request_of_a_trace_is_as_alone(seed):
    check(random_trace(seed))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1_000, 1_300))
def test_each_request_of_many_traces_is_as_alone(seed):
    check(random_trace(seed))


def test_the_sample_meets_what_it_is_there_for():
    """Preemption, cancelled requests, found blocks, steps of both kinds, budgets of 1, no reuse."""
    traces = [random_trace(seed) for seed in SAMPLE]
    with unchecked():
        played = [play(trace) for trace in traces]
    steps = [step for one in played for step in one.steps]
    assert sum(len(step.preempted) for step in steps) >= 5
    assert sum(step.reused for step in steps) >= 20
    assert sum(step.decode > 0 and step.prefill > 0 for step in steps) >= 20
    assert sum(request.finish == "cancelled" for one in played for request in one.requests) >= 5
    assert sum(len(one.recorded) for one in played) >= 20
    assert {trace.kind for trace in traces} == set(KINDS)
    assert {1} < {trace.options["max_batch_tokens"] for trace in traces}
    assert {True, False} == {trace.options["reuse"] for trace in traces}


# --- planted faults: each must be noticed by the sample ------------------------------------------------


def check_all(seeds):
    for seed in seeds:
        check(random_trace(seed))


def wrapped(monkeypatch, owner, name, change):
    """Replace a method by ``change(original, *arguments)``."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: change(original, *args, **kwargs))


def restart_positions(original, memory, runs, *, packed):
    step = original(memory, runs, packed=packed)
    step.positions = torch.tensor([[t + (run.n == 1) * run.start for run in runs for t in range(run.n)]])
    return step


def without_their_maxima(original, top, total, mixed, reads):
    return original(torch.zeros_like(top), total, mixed, reads)


def keys_without_the_past(original, tokens, size, known=()):
    return [
        key for at in range(0, len(tokens) - size + 1, size) for key in original(tokens[at : at + size], size)
    ]


def keep_what_others_left(original, step, *args, **kwargs):
    original(step, *args, **kwargs)
    step.fresh = None


FAULTS = {
    "a block's offset is one too many": lambda patch: patch.setattr(
        paged, "divmod", lambda p, size: (p // size, (p + 1) % size), raising=False
    ),
    "positions start again after what was stored": lambda patch: wrapped(
        patch, PagedMemory, "step", restart_positions
    ),
    "a query sees one token too many": lambda patch: wrapped(
        patch,
        block_attention.BlockReads,
        "_seen",
        lambda f, self, first, ends, *rest: f(self, first, ends + 1, *rest),
    ),
    "a query does not see itself": lambda patch: wrapped(
        patch,
        block_attention.BlockReads,
        "_seen",
        lambda f, self, first, ends, *rest: f(self, first, ends - 1, *rest),
    ),
    "the window is one too wide": lambda patch: wrapped(
        patch,
        block_attention.BlockReads,
        "__init__",
        lambda f, *args, window, device: f(*args, window=window and window + 1, device=device),
    ),
    "the table of another row": lambda patch: wrapped(
        patch,
        block_attention.BlockReads,
        "__init__",
        lambda f, self, tables, *rest, **more: f(self, [*tables[1:], tables[0]], *rest, **more),
    ),
    "pieces are combined without their maxima": lambda patch: wrapped(
        patch, block_attention, "_combine", without_their_maxima
    ),
    "a chunk does not see the end of its past": lambda patch: wrapped(
        patch, paged, "_gather", lambda f, blocks, length: f(blocks.roll(1, 0), length)
    ),
    "logits of the wrong row are handed out": lambda patch: wrapped(
        patch, Engine, "_choose", lambda f, self, requests, logits: f(self, requests, logits.roll(1, 0))
    ),
    "logits after the wrong token": lambda patch: wrapped(
        patch, tk.Decoder, "readout", lambda f, self, x: f(self, x.roll(1, 1))
    ),
    "a block is known by its own tokens alone": lambda patch: wrapped(
        patch, scheduler, "block_keys", keys_without_the_past
    ),
    "what another left in a block is read": lambda patch: wrapped(
        patch, PagedStep, "__init__", keep_what_others_left
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_does_not_get_through(fault, monkeypatch):
    FAULTS[fault](monkeypatch)
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        check_all(SAMPLE)


def test_the_ways_of_planting_are_no_faults_themselves(monkeypatch):
    """Each wrapper, with nothing changed: the sample passes."""
    for owner, name in [
        (PagedMemory, "step"),
        (PagedStep, "__init__"),
        (block_attention.BlockReads, "_seen"),
        (block_attention.BlockReads, "__init__"),
        (block_attention, "_combine"),
        (paged, "_gather"),
        (scheduler, "block_keys"),
        (Engine, "_choose"),
        (tk.Decoder, "readout"),
    ]:
        wrapped(monkeypatch, owner, name, lambda original, *args, **kwargs: original(*args, **kwargs))
    check_all(list(SAMPLE)[:5])


# --- the bundled model, in fp32 ------------------------------------------------------------------------

TEXTS = [
    "import os\n",
    "def main():\n",
    "import os\nimport sys\n\n\ndef ",
    "class Reader:\n    def __init__(self",
    "for i in range(",
    '"""',
    "def main():\n    parser = argparse",
]


def test_bundled_weights_give_the_logits_of_each_text_alone(bundled, capsys):
    """Tokens may differ from those alone only where the two best logits are a tie within the tolerance."""
    atol = LOGITS[torch.float32]["atol"]
    engine = Engine(bundled, n_blocks=19, block_size=8, max_batch_tokens=29)
    recorders = [Recorder() for _ in TEXTS]
    requests = [engine.submit(text, 40, recorder) for text, recorder in zip(TEXTS, recorders, strict=True)]
    with unchecked():
        steps, compared, ties = engine.run(), 0, 0
    assert sum(len(step.preempted) for step in steps) > 0
    for text, request, recorder in zip(TEXTS, requests, recorders, strict=True):
        prompt = request.prompt_tokens
        with torch.inference_mode():
            whole = bundled(torch.tensor([prompt + request.tokens[:-1]]))[0, len(prompt) - 1 :]
        torch.testing.assert_close(torch.stack(recorder.rows), whole, **LOGITS[torch.float32])
        compared += len(whole)
        with unchecked():
            expected = generate(bundled, text, 40).tokens
        if request.tokens != expected:
            first = next(i for i, (a, b) in enumerate(zip(request.tokens, expected, strict=False)) if a != b)
            best = whole[first].topk(2).values
            assert best[0] - best[1] <= 2 * atol, f"{text!r}: token {first} differs, and is no tie"
            ties += 1
    with capsys.disabled():
        print(
            f"\nfp32, bundled weights: {compared} rows of logits, {ties} of {len(TEXTS)} texts part at a tie"
        )
    assert compared > 200
    assert ties <= 1


# --- each argument -------------------------------------------------------------------------------------


def test_submit_takes_what_generate_takes():
    """The same names, order and defaults; but for a cache and its chunks, which are the engine's own."""
    ours = list(inspect.signature(Engine.submit).parameters.values())[1:]
    theirs = list(inspect.signature(generate).parameters.values())[1:]
    assert [(p.name, p.default) for p in ours if p.name != "ignore_eos"] == [
        (p.name, p.default) for p in theirs if p.name not in ("cache", "prefill_chunk")
    ]


def test_stop_stream_and_text_are_as_alone(bundled):
    engine = Engine(bundled, n_blocks=40, max_batch_tokens=64)
    pieces = [[] for _ in TEXTS]
    stops = [(), "\n", ["(", "\n\n"], ("self",), ")", (), "="]
    requests = [
        engine.submit(text, 25, stop=stop, stream=part.append)
        for text, stop, part in zip(TEXTS, stops, pieces, strict=True)
    ]
    with unchecked():
        engine.run()
    for text, stop, part, request in zip(TEXTS, stops, pieces, requests, strict=True):
        made = generate(bundled, text, 25, stop=stop)
        assert (request.text, request.tokens, request.finish) == (made.text, made.tokens, made.finish)
        assert "".join(part) == made.text
    assert {request.finish for request in requests} >= {"length", "stop"}


def test_end_of_text_and_context_end_a_request():
    model = tiny_model(tiny_config(eos_token_ids=(7, 11)), dtype=FP64)
    engine = engine_of(model)
    script = iter([5, 3, 11, 2])
    ended = engine.submit([1], 9, lambda logits, generator=None: torch.tensor([next(script)]))
    full = engine.submit([1] * 50, 10, lambda logits, generator=None: torch.tensor([1]))
    engine.run()
    assert (ended.tokens, ended.finish) == ([5, 3, 11], "eos")
    assert (full.tokens, full.finish) == ([1, 1, 1], "context")


def test_ignore_eos_goes_on_to_the_length_given():
    engine = engine_of(tiny_model(tiny_config(eos_token_ids=(7,))))
    ends, goes_on = (
        engine.submit([1], 4, lambda logits, generator=None: torch.tensor([7]), ignore_eos=ignore)
        for ignore in (False, True)
    )
    engine.run()
    assert (ends.tokens, ends.finish) == ([7], "eos")
    assert (goes_on.tokens, goes_on.finish) == ([7] * 4, "length")


def test_sampling_with_a_seed_is_as_alone(model):
    sample = tk.sampler(temperature=2.0, top_k=31)
    engine = engine_of(model, n_blocks=17)
    requests = {seed: engine.submit(PROMPT, 15, sample, seed) for seed in range(5)}
    submit_others(engine)
    engine.run()
    for seed, request in requests.items():
        assert request.tokens == alone(model, PROMPT, 15, sample, seed)
    assert len({tuple(request.tokens) for request in requests.values()}) == 5


def test_without_a_seed_the_global_numbers_decide(model):
    sample, made = tk.sampler(temperature=2.0), []
    for _ in range(2):
        torch.manual_seed(7)
        engine = engine_of(model)
        request = engine.submit(PROMPT, 9, sample)
        engine.run()
        made.append(request.tokens)
    torch.manual_seed(7)
    assert made[0] == made[1] == alone(model, PROMPT, 9, sample)


def test_blocks_and_their_size(model):
    engine = Engine(model, n_blocks=7, block_size=5)
    assert (engine.pool.n_blocks, engine.pool.block_size) == (7, 5)
    assert engine.memory.k.shape == (2, 7, 3, 5, 14)
    assert engine.memory.k.dtype == FP64
    assert (Engine(model).pool.n_blocks, Engine(model).pool.block_size) == (256, 16)


def test_tokens_of_a_step_are_bounded(model):
    engine = engine_of(model, max_batch_tokens=4)
    requests = submit_others(engine)
    steps = engine.run()
    assert max(step.decode + step.prefill for step in steps) == 4
    assert_as_alone(requests)


@pytest.mark.parametrize("most", [1, 2])
def test_requests_at_a_time_are_bounded(model, most):
    engine = engine_of(model, max_batch=most)
    requests = submit_others(engine)
    assert max(step.batch for step in engine.run()) == most
    assert_as_alone(requests)


def test_reuse_begins_with_what_is_stored(model):
    """Of a prompt of 13 tokens in blocks of 3, four blocks are found; the last token is always computed."""
    prompt = list(range(13))
    for reuse, found in ((True, 12), (False, 0)):
        engine = engine_of(model, reuse=reuse)
        first = engine.submit(prompt, 4)
        engine.run()
        again = engine.submit(prompt, 4)
        steps = engine.run()
        assert (steps[0].reused, steps[0].work[0].start, steps[0].work[0].n) == (found, found, 13 - found)
        assert first.tokens == again.tokens == alone(model, prompt, 4)


def test_an_empty_text_starts_from_the_beginning_of_text(bundled):
    engine = Engine(bundled)
    request = engine.submit("", 5)
    engine.run()
    assert request.tokens == alone(bundled, [bundled.tokenizer.bos], 5)


def test_closes_what_is_left(model):
    with engine_of(model) as engine:
        requests = submit_others(engine)
        engine.step()
        assert not engine.idle
    assert engine.idle
    assert {request.finish for request in requests} == {"cancelled"}
    assert engine.pool.n_used == 0
    assert engine.step() is None


def test_in_bf16():
    model = tiny_model(dtype=torch.bfloat16)
    engine, recorder = engine_of(model), Recorder()
    request = engine.submit(PROMPT, 9, recorder)
    submit_others(engine)
    engine.run()
    assert engine.memory.k.dtype == torch.bfloat16
    whole = tiny_model()(torch.tensor([PROMPT + request.tokens[:-1]]))[0, len(PROMPT) - 1 :]
    torch.testing.assert_close(torch.stack(recorder.rows).float(), whole, **LOGITS[torch.bfloat16])


# --- quantized, compiled -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 4])
def test_keys_and_values_as_codes(model, bits):
    engine = engine_of(model, kv_bits=bits)
    requests = submit_others(engine)
    engine.run()
    for prompt, request in zip(OTHERS, requests, strict=True):
        store = QuantizedCache(model.config, 1, 23, bits=bits)
        assert request.tokens == alone(model, prompt, 9, cache=store)
    assert engine.memory.k.bits == bits


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_quantized_weights(scheme):
    """Logits, not tokens: the products of several rows may be another program's."""
    model = tk.quantize(tiny_model(tiny_config(d_model=64, d_ff=96)), scheme, group_size=32)
    engine, recorders = engine_of(model), [Recorder() for _ in OTHERS]
    requests = [engine.submit(p, 9, recorder) for p, recorder in zip(OTHERS, recorders, strict=True)]
    engine.run()
    for prompt, request, recorder in zip(OTHERS, requests, recorders, strict=True):
        store, text = ContiguousCache(model.config, 1, 23), torch.tensor([prompt + request.tokens[:-1]])
        logits = [model(text[:, : len(prompt)], cache=store, last_only=True)[0]]
        logits += [model(token[None], cache=store)[0] for token in text[0, len(prompt) :, None]]
        torch.testing.assert_close(torch.stack(recorder.rows), torch.cat(logits), **LOGITS[torch.float32])


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_tokens():
    test_compiled.run("""
        from teachkit.engine import Engine
        model = tiny_model()
        prompts = [[3, 1, 4], [2, 7, 1, 8, 2, 8], [5]]
        for each in (fast(model), fast(tk.quantize(tiny_model(tiny_config(d_model=64, d_ff=96)), "int8"))):
            engine = Engine(each, n_blocks=31, block_size=3, max_batch_tokens=7)
            requests = [engine.submit(p, n) for p, n in zip(prompts, (9, 4, 13))]
            engine.run()
            for p, request in zip(prompts, requests):
                assert request.tokens == tk.generate(each, p, len(request.tokens)).tokens, p
                assert request.finish == "length"
    """)


# --- what is measured ----------------------------------------------------------------------------------


class Clock:
    """Stands still but for a second in each pass through the model."""

    def __init__(self, model):
        self.now_s, hidden = 0.0, model.hidden

        def slow(*args):
            self.now_s += 1.0
            return hidden(*args)

        model.hidden = slow

    def __call__(self):
        return self.now_s


def test_times_and_metrics_by_hand():
    """Four tokens a step, blocks of four. A: 6 tokens and 3 new ones; B: 3 and 2, half a second later."""
    model = tiny_model()
    clock = Clock(model)
    engine = Engine(model, n_blocks=16, block_size=4, max_batch_tokens=4, clock=clock)
    a = engine.submit(PROMPT, 3)
    clock.now_s = 0.5
    b = engine.submit([1, 2, 3], 2)
    clock.now_s = 1.0
    steps = engine.run()
    assert [(step.start_s, step.time_s) for step in steps] == [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0)]
    work = [[(w.request, w.start, w.n, w.decode) for w in step.work] for step in steps]
    assert work == [
        [(a, 0, 4, False)],
        [(a, 4, 2, False), (b, 0, 2, False)],
        [(a, 6, 1, True), (b, 2, 1, False)],
        [(a, 7, 1, True), (b, 3, 1, True)],
    ]
    assert [(step.prefill, step.decode) for step in steps] == [(4, 0), (4, 0), (1, 1), (0, 2)]
    assert [step.waiting for step in steps] == [1, 0, 0, 0]
    assert [step.blocks_used for step in steps] == [1, 3, 3, 3]
    assert [(step.slots_filled, step.slots_used) for step in steps] == [(4, 4), (8, 12), (10, 12), (12, 12)]
    assert (a.queue_s, a.ttft_s, a.tpot_s) == (1.0, 3.0, 1.0)
    assert (b.queue_s, b.ttft_s, b.tpot_s) == (1.5, 3.5, 1.0)


def test_preemption_by_hand():
    """Five blocks of two: both fit at first; when the older one needs the last block, the other one waits."""
    model = model_of("windows")
    engine = Engine(model, n_blocks=5, block_size=2, max_batch_tokens=8, reuse=False)
    a, b = engine.submit([1, 2, 3], 6), engine.submit([4, 5], 4)
    steps = engine.run()
    lost = [at for at, step in enumerate(steps) if step.preempted]
    assert [steps[at].preempted for at in lost] == [(b,)]
    assert steps[lost[0]].waiting == 1
    assert (b.sequence.preempted, a.sequence.preempted) == (1, 0)
    again = next(work for step in steps[lost[0] :] for work in step.work if work.request is b)
    assert (again.start, again.decode) == (0, False)
    assert again.n > 2  # the prompt and what had been generated
    for request, prompt, n in ((a, [1, 2, 3], 6), (b, [4, 5], 4)):
        assert request.tokens == alone(model, prompt, n)


def test_shared_blocks_are_counted_once(model):
    engine, prompt = engine_of(model), list(range(12))
    engine.submit(prompt, 2)
    engine.run()
    engine.submit(prompt, 4)
    engine.submit(prompt, 4)
    step = engine.step()
    assert step.reused == 18  # three of four blocks each: the last token is computed
    assert (step.blocks_used, step.slots_used, step.slots_filled) == (5, 15, 15)


# --- bad input, and what goes wrong in the middle ------------------------------------------------------

BAD = {
    "no new tokens": ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1, got 0"),
    "negative": ({"max_new_tokens": -3}, "max_new_tokens: expected at least 1, got -3"),
    "nothing": ({"prompt": []}, "prompt: expected at least one token, got none"),
    "no such token": ({"prompt": [1, 61]}, r"prompt: expected ids from 0 to 60, got 61"),
    "below 0": ({"prompt": [-1]}, r"prompt: expected ids from 0 to 60, got -1"),
    "context": ({"prompt": [1] * 53}, "fewer than 53 tokens .*, got 53"),
    "pool": ({"prompt": [1] * 30, "max_new_tokens": 23}, "need 18 blocks of 3 tokens, the pool has 17"),
    "empty stop": ({"stop": ["a", ""]}, "stop: expected non-empty strings"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_refused_leaves_the_others_alone(what, model):
    options, words = BAD[what]
    engine = engine_of(model, n_blocks=17)
    others = submit_others(engine)
    engine.step()
    used, waiting = engine.pool.n_used, len(engine.scheduler.waiting)
    with pytest.raises(ValueError, match=words):
        engine.submit(**({"prompt": PROMPT} | options))
    assert (engine.pool.n_used, len(engine.scheduler.waiting)) == (used, waiting)
    engine.run()
    assert_as_alone(others)


@pytest.mark.parametrize("wish", [{"prompt": "text"}, {"stop": "x"}, {"stream": print}], ids=str)
def test_text_without_a_tokenizer(wish):
    with pytest.raises(ValueError, match="no tokenizer"):
        engine_of(tiny_model()).submit(**({"prompt": [1]} | wish))


def test_submit_after_close(model):
    engine = engine_of(model)
    engine.close()
    with pytest.raises(RuntimeError, match="engine: closed; make a new one"):
        engine.submit(PROMPT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": 0}, "n_blocks, block_size: expected at least 1, got 31 and 0"),
        ({"n_blocks": -1}, "n_blocks, block_size: expected at least 1, got -1 and 3"),
        ({"max_batch_tokens": 0}, "max_batch_tokens, max_batch: expected at least 1, got 0 and None"),
        ({"max_batch": 0}, "max_batch_tokens, max_batch: expected at least 1, got 17 and 0"),
        ({"kv_bits": 3}, "bits: expected 4 or 8, got 3"),
    ],
    ids=str,
)
def test_numbers_that_make_no_engine(model, options, words):
    with unchecked(), pytest.raises(ValueError, match=words):
        engine_of(model, **options)


def test_cancel(model):
    engine = engine_of(model, max_batch=1)
    running, waiting, *others = (engine.submit(prompt, 9) for prompt in (PROMPT, PROMPT, *OTHERS))
    engine.step()
    n = len(running.tokens)
    assert engine.cancel(running)
    assert engine.cancel(waiting)
    assert not engine.cancel(running)  # it has ended already
    assert (running.finish, waiting.finish) == ("cancelled", "cancelled")
    assert engine.pool.n_used == 0
    engine.run()
    assert (len(running.tokens), waiting.tokens) == (n, [])
    assert_as_alone(others)
    assert not engine.cancel(others[0])
    assert others[0].finish == "length"


def test_cancel_of_another_engines_request(model):
    other = engine_of(model).submit(PROMPT)
    with pytest.raises(ValueError, match="request: expected one that was submitted to this engine"):
        engine_of(model).cancel(other)
    assert not other.done


def test_a_stream_may_cancel_submit_and_close(model):
    engine, made = engine_of(model), []

    def cancel_all_but_others(piece):
        if len(itself.tokens) == 3:
            made.append(engine.submit(PROMPT, 5))
            assert engine.cancel(itself)
            assert engine.cancel(before)
            assert engine.cancel(behind)

    before = engine.submit([1, 2], 9)
    itself = engine.submit([3, 4], 9, stream=cancel_all_but_others)
    others = submit_others(engine)
    behind = engine.submit([5, 6], 9)
    engine.run()
    assert {r.finish for r in (before, itself, behind)} == {"cancelled"}
    assert len(itself.tokens) == 3
    assert made[0].tokens == alone(model, PROMPT, 5)
    assert_as_alone(others)

    engine = engine_of(model)
    requests = [*submit_others(engine), engine.submit(PROMPT, 9, stream=lambda piece: engine.close())]
    engine.run()
    assert engine.idle
    assert {request.finish for request in requests} == {"cancelled"}


def raising(error, after=2):
    """A sampler and a stream in one, which raises at the call after so many."""
    calls = iter([None] * after + [error] * 99)

    def call(logits, generator=None):
        if (what := next(calls)) is not None:
            raise what
        return None if isinstance(logits, str) else logits.argmax(-1)

    return call


@pytest.mark.parametrize("which", ["sampler", "stream"])
def test_who_raises_ends_alone(model, which):
    engine, error = engine_of(model), OSError("the pipe is gone")
    first = engine.submit(PROMPT, 9, **{which: raising(error)})
    others = submit_others(engine)
    engine.run()
    assert (first.finish, first.error) == ("error", error)
    assert first.tokens == alone(model, PROMPT, 9)[: 2 + (which == "stream")]
    assert_as_alone(others)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (61, "expected a token from 0 to 60, got 61"),
        (-1, "expected a token from 0 to 60, got -1"),
        ([1, 2], ""),
    ],
    ids=str,
)
def test_a_sampler_that_chooses_no_token(model, choice, words):
    """The model would refuse such a token, and the whole step with it, again and again."""
    engine = engine_of(model)
    first = engine.submit(PROMPT, 9, lambda logits, generator=None: torch.tensor(choice))
    others = submit_others(engine)
    with unchecked():
        engine.run()
    assert first.finish == "error"
    assert words in str(first.error)
    assert_as_alone(others)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_of_one_request_that_are_not_finite(value, monkeypatch):
    """Whatever has damaged one row of the logits, the other rows are handed out."""
    model = model_of("windows")
    engine = engine_of(model)
    readout = tk.Decoder.readout

    def damaged(self, x):
        logits = readout(self, x).clone()
        logits[:, 1, 3] = value
        return logits

    first, second, third = submit_others(engine)
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(tk.Decoder, "readout", damaged)
        engine.step()
    engine.run()
    assert second.finish == "error"
    assert "logits: expected finite numbers" in str(second.error)
    assert second.tokens == alone(model, OTHERS[1], 1)
    for prompt, request in ((OTHERS[0], first), (OTHERS[2], third)):
        assert (request.finish, request.tokens) == ("length", alone(model, prompt, 9))


def fail_in(monkeypatch, at_pass, error):
    """The model raises in the last layer of one pass: all others have stored their keys and values."""
    attend, layers = paged._PagedLayer.attend, iter(range(1_000))

    def broken(self, *args, **kwargs):
        if next(layers) == 2 * at_pass + 1:
            raise error
        return attend(self, *args, **kwargs)

    monkeypatch.setattr(paged._PagedLayer, "attend", broken)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("at_pass", range(7))
def test_a_model_that_raises_leaves_all_as_it_was(at_pass, error, monkeypatch):
    engine = engine_of(model_of("windows"), max_batch_tokens=7, n_blocks=11)
    fail_in(monkeypatch, at_pass, error)
    requests = submit_others(engine)
    for _ in range(at_pass):
        engine.step()
    before = [(list(r.tokens), r.sequence.computed) for r in requests if r.sequence.status == "running"]
    with pytest.raises(type(error)):
        engine.step()
    after = [(r.tokens, r.sequence.computed) for r in requests if r.sequence.status == "running"]
    assert after[: len(before)] == before
    engine.pool.check()
    engine.run()
    assert_as_alone(requests)


def test_room_taken_for_content_is_noticed(monkeypatch):
    """The planted fault for the test above: what was reserved counts as computed."""
    monkeypatch.setattr(scheduler.Sequence, "start", property(lambda self: self.table.length))
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        test_a_model_that_raises_leaves_all_as_it_was(3, RuntimeError("out of memory"), patch)


@pytest.mark.parametrize("place", ["plan", "advance"])
@pytest.mark.parametrize("at_step", range(6))
def test_an_interrupt_around_the_model_loses_nothing(place, at_step, monkeypatch):
    """As a plan is made, or when what it says is stored but no token has been handed out."""
    engine = engine_of(model_of("windows"), max_batch_tokens=7, n_blocks=21)
    requests = submit_others(engine)
    for _ in range(at_step):
        engine.step()
    done = getattr(engine.scheduler, place)
    with monkeypatch.context() as patch:
        patch.setattr(engine.scheduler, place, lambda *plan: interrupted(done, *plan))
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    engine.pool.check()
    engine.run()
    assert_as_alone(requests)


def interrupted(call, *arguments):
    """Do it, then be interrupted."""
    call(*arguments)
    raise KeyboardInterrupt


def test_an_interrupted_step_draws_the_same_numbers_again():
    model = model_of("windows")
    engine = engine_of(model)
    seeded = engine.submit([1, 2], 9, sampler=tk.sampler(temperature=1.5), seed=1)
    engine.submit([3], 9, sampler=raising(KeyboardInterrupt(), 3))
    interrupts = 0
    for _ in range(30):
        try:
            if engine.step() is None:
                break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts
    expected = tk.generate(model, [1, 2], 9, sampler=tk.sampler(temperature=1.5), seed=1)
    assert seeded.tokens == expected.tokens[: len(seeded.tokens)]
    assert len(seeded.tokens) >= 3


@pytest.mark.parametrize("which", ["sampler", "stream"])
def test_an_interrupt_goes_on_to_the_caller_and_loses_nothing(model, which):
    """As Ctrl-C does, in a sampler or in a stream, which is where most of an engine's Python is."""
    engine = engine_of(model)
    before, after = engine.submit([1, 2], 9), None
    stopped = engine.submit(PROMPT, 9, **{which: raising(KeyboardInterrupt(), 3)})
    others, after = submit_others(engine), engine.submit([5, 6], 9)
    seen = 0
    for _ in range(3 + 9 + 99):  # raised in each further step, till the end
        try:
            if engine.step() is None:
                break
        except KeyboardInterrupt:
            seen += 1
            if which == "sampler":
                stopped.sampler = tk.greedy
    assert seen == (1 if which == "sampler" else 6)
    for request, prompt in ((before, [1, 2]), (stopped, PROMPT), (after, [5, 6])):
        assert (request.finish, request.tokens) == ("length", alone(model, prompt, 9))
    assert_as_alone(others)
