"""Figures for notebooks and the book: interactive ones with a static twin, and plots in light and dark.

    from teachkit import figures

    figures.attention_explorer(tokens, attention)  # tokens: S strings; attention (L, H, S, S)
    figures.block_table(recorder.frames)           # blocks filled, shared, kept, found again
    figures.decode_steps(tokens, n_prompt, shape)  # each step with and without a cache
    figures.kv_memory(model, device, context)      # a cache beside weights and memory
    figures.latency_plane(models, devices, predict, reading_ms=180)  # time per token, tokens/s
    figures.logit_lens(tokens, pieces, probs)      # what a model would say after each layer
    figures.next_token(prompts, logits, names)     # under temperature, top-k and top-p
    figures.questions("kv_cache")                  # on a lesson, answered in the page
    figures.page_model(text, tokens, ...)          # the bundled model, run by the reader's browser
    figures.request_timeline([timeline_of(...)])   # what each step computes for whom
    figures.roofline(devices, models)              # the parts of a step under a device's roofs
    figures.step_breakdown(models, devices, predict)  # the parts of a decode step, stacked
    figures.static(draw, alt="...")                # draw() returns a matplotlib Figure
    figures.show(name, data, alt="...")            # any figures/<name>.js
    figures.live(draw, twin, n=(1, 9))             # draw(n) runs in the kernel
    with figures.style("dark"): ...                # the house matplotlib style by itself
    figures.use_style()                            # the same for the rest of the session
    figures.colours()["accent"]                    # of the style in force, inside draw()

Each of those up to `show` returns a `Figure`; make it the last expression of a cell. It displays as HTML that
needs no server, no network and no kernel. Without scripts, in print and in an untrusted notebook, the static
twin shows. `live` needs a kernel, and shows its twin where there is none.

Writing a new figure: `<name>.js` is a classic script (no modules, no fetch: `file://` must work) that sets
`window.teachkitFigures["<name>"] = { render(element, data) }`; `<name>.css` beside it is optional. `data` is
whatever JSON can say; floats are rounded, so that a page does not change with the CPU that made it.
"""

from teachkit.figures.attention_explorer import attention_explorer, visible
from teachkit.figures.block_frames import Recorder
from teachkit.figures.block_table import block_table
from teachkit.figures.decode_steps import DecodeShape, decode_steps
from teachkit.figures.html import Figure, show, static
from teachkit.figures.kv_memory import kv_memory
from teachkit.figures.latency_plane import latency_plane
from teachkit.figures.live import Live, live
from teachkit.figures.logit_lens import logit_lens
from teachkit.figures.next_token import next_token
from teachkit.figures.page_model import page_model
from teachkit.figures.plots import PALETTE, colours, style, use_style
from teachkit.figures.questions import questions
from teachkit.figures.request_timeline import request_timeline
from teachkit.figures.roofline import roofline
from teachkit.figures.step_breakdown import step_breakdown
from teachkit.figures.timeline import Cell, Timeline, TimelineStep, timeline_of

__all__ = [
    "PALETTE",
    "Cell",
    "DecodeShape",
    "Figure",
    "Live",
    "Recorder",
    "Timeline",
    "TimelineStep",
    "attention_explorer",
    "block_table",
    "colours",
    "decode_steps",
    "kv_memory",
    "latency_plane",
    "live",
    "logit_lens",
    "next_token",
    "page_model",
    "questions",
    "request_timeline",
    "roofline",
    "show",
    "static",
    "step_breakdown",
    "style",
    "timeline_of",
    "use_style",
    "visible",
]
