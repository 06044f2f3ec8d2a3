"""Many requests through one model: each step computes what the scheduler planned, and hands out the tokens.

The tokens of a step, of however many requests, go through the matrices as one row (1, N): a chunk of a
prompt next to single tokens of requests that are decoding. Only attention needs to know which is whose, and
the paged step knows.

An engine belongs to one thread, and its model's weights stay as they are: stored keys and values are used
again. What a request gets does not depend on what else is served, but for the last bits of the logits, since
another number of rows adds the same products in another order, and for samplers without a seed, which share
PyTorch's random numbers.
"""

from __future__ import annotations

import collections.abc
import time
from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor

from teachkit.blocks import BlockPool
from teachkit.decode import prompt_ids, require_finite
from teachkit.measure import synchronise
from teachkit.model import Decoder
from teachkit.output import Output
from teachkit.paged import PagedMemory, Run
from teachkit.quant_cache import Bits
from teachkit.request import Request, StepMetrics, Work
from teachkit.sampling import Sampler, greedy
from teachkit.scheduler import Chunk, Plan, Scheduler, Sequence


class Engine:
    """Continuous batching of one model over one pool of blocks.

    n_blocks, block_size  of the pool: keys and values of n_blocks * block_size tokens, allocated now
    max_batch_tokens      tokens in one step: more make prefill faster, and make those who decode wait longer
    max_batch             requests that run at a time; None: as many as there are blocks for
    reuse                 begin with stored keys and values where a prompt begins like an earlier one
    kv_bits               8 or 4: keys and values as codes; None: in the dtype of the model
    clock                 seconds, for all times that are reported
    Raises                ValueError: a number below 1, other kv_bits
    """

    def __init__(
        self,
        model: Decoder,
        *,
        n_blocks: int = 256,
        block_size: int = 16,
        max_batch_tokens: int = 256,
        max_batch: int | None = None,
        reuse: bool = True,
        kv_bits: Bits | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.clock = model, clock
        self.pool = BlockPool(n_blocks, block_size)
        self.scheduler = Scheduler(
            self.pool, max_batch_tokens=max_batch_tokens, max_batch=max_batch, reuse=reuse
        )
        self.memory = PagedMemory(
            model.config, n_blocks, block_size, dtype=model.dtype, device=model.device, bits=kv_bits
        )
        self._requests: dict[Sequence, Request] = {}
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nobody waits or runs."""
        return not self._requests

    def submit(
        self,
        prompt: str | collections.abc.Sequence[int],
        max_new_tokens: int = 64,
        sampler: Sampler = greedy,
        seed: int | None = None,
        stop: str | collections.abc.Sequence[str] = (),
        stream: Callable[[str], object] | None = None,
        *,
        ignore_eos: bool = False,
    ) -> Request:
        """Queue a prompt for :meth:`Engine.step`; arguments as of :func:`teachkit.decode.generate`.

        seed        its own random numbers: its choices do not depend on what else is served
        stream      called within a step. What it raises ends this request, and no other
        ignore_eos  go on to max_new_tokens, whatever is generated: plays lengths that a trace gives
        Raises      ValueError: as ``generate``, a token outside the vocabulary, more tokens than the pool
                    holds; RuntimeError: the engine is closed. Nothing else is touched by any of these
        """
        if self._closed:
            raise RuntimeError("engine: closed; make a new one")
        model, submitted_s = self.model, self.clock()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if "" in stops:
            raise ValueError("stop: expected non-empty strings, got ''")
        ids = prompt_ids(model, prompt, needs_text=bool(stops) or stream is not None)
        low, high, last = min(ids), max(ids), model.config.vocab_size - 1
        if low < 0 or high > last:
            raise ValueError(f"prompt: expected ids from 0 to {last}, got {low if low < 0 else high}")
        budget = min(max_new_tokens, model.config.context - len(ids))
        sequence = Sequence(ids, budget, self.pool)
        output = Output(
            model.tokenizer,
            ("length", budget) if budget == max_new_tokens else ("context", budget),
            eos=() if ignore_eos else model.config.eos_token_ids,
            stops=stops,
            stream=stream,
        )
        generator = torch.Generator(model.device).manual_seed(seed) if seed is not None else None
        self.scheduler.add(sequence)
        request = Request(sequence, output, sampler, generator, submitted_s)
        self._requests[sequence] = request
        return request

    def cancel(self, request: Request) -> bool:
        """End a request now, also from within a ``stream``; its blocks are free. False: it had ended before.

        Raises  ValueError: a request of another engine
        """
        if request.done:
            return False
        if request.sequence not in self._requests:
            raise ValueError("request: expected one that was submitted to this engine")
        request.ended = "cancelled"
        self._forget(request)
        return True

    def step(self) -> StepMetrics | None:
        """Compute the next tokens of whoever is next, and hand them out. None when nobody waits or runs.

        Raises  whatever the model raises; the next step then computes the same tokens. An interrupt in a
                ``stream`` or a sampler goes on to the caller, too, and nobody loses a token by it
        """
        start_s = self.clock()
        plan = self.scheduler.plan()
        if not plan.chunks:
            return None
        work = tuple(self._work(chunk) for chunk in plan.chunks)
        for part in work:
            part.request.start(start_s)
        preempted = tuple(self._requests[sequence] for sequence in plan.preempted)
        blocks_used, (used, filled) = self.pool.n_used, self._slots()
        sequences = [chunk.sequence for chunk in plan.chunks if chunk.samples]
        logits = self._forward(plan)
        choices = self._choose([self._requests[sequence] for sequence in sequences], logits)
        self.scheduler.advance(plan)
        self._hand_out(sequences, choices)
        return StepMetrics(
            start_s=start_s,
            time_s=self.clock() - start_s,
            work=work,
            waiting=len(self.scheduler.waiting),
            preempted=preempted,
            reused=sum(sequence.reused for sequence in plan.admitted),
            blocks_used=blocks_used,
            slots_used=used,
            slots_filled=filled,
        )

    def run(self) -> list[StepMetrics]:
        """Step until nobody waits or runs; what each step did. Without an end in sight, call ``step``."""
        return list(iter(self.step, None))

    def close(self) -> None:
        """Take no more requests, and cancel those that are not done."""
        self._closed = True
        for request in list(self._requests.values()):
            self.cancel(request)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @torch.inference_mode()
    def _forward(self, plan: Plan) -> Tensor:
        """Logits (n, V) after the last known token of every chunk that reaches it."""
        device = self.model.device
        runs = [Run(chunk.sequence.table.blocks, chunk.start, chunk.n) for chunk in plan.chunks]
        step = self.memory.step(runs, packed=True)
        tokens = torch.tensor([[token for chunk in plan.chunks for token in chunk.tokens]], device=device)
        x = self.model.hidden(tokens, step)
        last, at = [], -1
        for chunk in plan.chunks:
            at += chunk.n
            if chunk.samples:
                last.append(at)
        logits = self.model.readout(x[:, last])[0] if last else x.new_empty(0, self.model.config.vocab_size)
        synchronise(device)
        return logits

    def _hand_out(self, sequences: list[Sequence], choices: list[int | Exception]) -> None:
        """The next token to each of these sequences; ends those for which it is the last."""
        now = self.clock()
        interrupt: BaseException | None = None
        for sequence, choice in zip(sequences, choices, strict=True):
            request = self._requests.get(sequence)
            if request is None:  # cancelled just now, from another request's stream
                continue
            if isinstance(choice, Exception):
                self._fail(request, choice)
                continue
            sequence.tokens.append(choice)
            request.times_s.append(now)
            try:
                request.output.add(choice)
            except Exception as error:  # whatever the caller's stream raises
                self._fail(request, error)
            except BaseException as error:  # an interrupt: goes on to the caller when all have their tokens
                interrupt = error
            if request.done and sequence in self._requests:  # else its own stream has cancelled it
                self._forget(request)
        if interrupt is not None:
            raise interrupt

    def _choose(self, requests: list[Request], logits: Tensor) -> list[int | Exception]:
        """A token for each row, or what its sampler raised. The greedy ones in one call."""
        if not requests:
            return []
        best = greedy(logits).tolist()
        finite = torch.isfinite(logits.amax(-1) - logits.amin(-1)).tolist()
        drawn = [(r.generator, r.generator.get_state()) for r in requests if r.generator is not None]
        try:
            return [
                best[row]
                if finite[row] and request.sampler is greedy
                else _sample(request, logits[row : row + 1])
                for row, request in enumerate(requests)
            ]
        except BaseException:  # an interrupt: the step will be repeated, with the same random numbers
            for generator, state in drawn:
                generator.set_state(state)
            raise

    def _fail(self, request: Request, error: Exception) -> None:
        request.error, request.ended = error, "error"
        request.sequence.table.withdraw()  # what it stored may be what was wrong with it
        if request.sequence in self._requests:
            self._forget(request)

    def _forget(self, request: Request) -> None:
        del self._requests[request.sequence]
        self.scheduler.remove(request.sequence)

    def _work(self, chunk: Chunk) -> Work:
        decode = chunk.n == 1 and chunk.samples and chunk.start >= chunk.sequence.n_prompt
        return Work(self._requests[chunk.sequence], chunk.start, chunk.n, decode)

    def _slots(self) -> tuple[int, int]:
        """Tokens for which the owned blocks have room, and those in them, or to be in this step."""
        size = self.pool.block_size
        used = self.pool.n_used * size
        tables = [sequence.table for sequence in self.scheduler.running]
        # Only the last block of a sequence is not full, and no other owns it.
        return used, used - sum(len(table.blocks) * size - table.length for table in tables)


def _sample(request: Request, logits: Tensor) -> int | Exception:
    """The choice of a request's own sampler, or what went wrong: with this request, not with the others."""
    try:
        require_finite(logits)
        token = int(request.sampler(logits, request.generator))
        if not 0 <= token < logits.shape[-1]:  # the model would refuse it, and with it the whole next step
            raise ValueError(f"sampler: expected a token from 0 to {logits.shape[-1] - 1}, got {token}")
        return token
    except Exception as error:
        return error
