# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   teachkit:
#     stem: generation
#     modules: [decode, sampling, tokenizer]
#     objectives:
#       - Turn text into tokens with merge rules that you apply yourself, and say what a prompt's last character changes
#       - Write the generation loop, and count how often the model runs and what it is fed
#       - Define TTFT and TPOT exactly, measure both, and predict the time of an answer from them
#       - Build temperature, top-k and top-p, and show that what is drawn agrees with the probabilities
#       - Stop at a string without ever showing half of it
#       - Measure how long answers get, and compute what not knowing costs a server
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # One token at a time
#
# Two people send the same request, letter for letter and setting for setting, to the same model on the same machine. Answers are
# drawn at random. Nobody waits for anybody else. One has the whole answer in less than a tenth of the other's time. **What could the
# server have known when the two requests came in?**
#
# Write your answer down in a line.
#
# **Afterwards you can**
#
# - turn text into tokens with merge rules that you apply yourself, and say what a prompt's last character changes;
# - write the generation loop, and count how often the model runs and what it is fed;
# - define TTFT and TPOT exactly, measure both, and predict the time of an answer from them;
# - build temperature, top-k and top-p, and show that what is drawn agrees with the probabilities;
# - stop at a string without ever showing half of it;
# - measure how long answers get, and compute what not knowing costs a server.
#
# **You need** the lessons on attention and on the model: tokens go in, and for each of them $V$ *logits* come out, one score for every token
# that could come next; their softmax is the model's probability for each. No GPU, and no network once `teachkit` is installed. Allow an hour, and
# half an hour for the exercises.

# %% tags=["setup", "hide-input"]
# Set-up. If teachkit is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lesson carries; a copy without an address says what to do. If teachkit is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachkit") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachkit is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that teachkit can work with stays as it is.
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True
    )

# %% tags=["nbval-ignore-output", "hide-input", "remove-output"]
import itertools
import json
import math
import random
import re
import statistics
import time
from importlib import resources

import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

import teachkit as tk
from teachkit import figures

started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. Text in pieces
#
# Letters would do as tokens, but then writing `return` takes six passes through the model. Words would
# do, but a new one turns up in every file. *Byte-level byte-pair encoding*, BPE, lies between
# ([Sennrich et al. 2016](https://arxiv.org/abs/1508.07909) for the merges; on bytes in
# [GPT-2, section 2.2](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)):
#
# 1. Cut the text into words by a fixed rule, and write each word as its bytes. The bytes, 0 to 255, are the first tokens, so any text can be written.
# 2. In the training text, make the most frequent pair of neighbours one new token, and note the rule. Repeat until the vocabulary is full.
#
# What remains is an ordered list of rules. It is stored in `tokenizer.json` beside the model's weights:

# %%
model = tk.load("bundled")
tokenizer = model.tokenizer
V = model.config.vocab_size
START = tokenizer.bos  # one token is both a text's beginning (bos) and its end (eos)
folder = resources.files("teachkit") / "checkpoints" / "bundled"
bpe = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]

# The file writes each byte as one visible character: its own, if it has one, or else the next
# free character from number 256 on.
VISIBLE = {b: chr(b) for b in range(256) if chr(b).isprintable() and b != 32}
others = sorted(set(range(256)) - VISIBLE.keys())
VISIBLE |= {b: chr(256 + n) for n, b in enumerate(others)}
BYTE = {character: byte for byte, character in VISIBLE.items()}


def as_text(characters):
    return bytes(BYTE[c] for c in characters).decode()


print(f"{V:,} tokens: 256 bytes, {len(bpe['merges']):,} merges, 1 for the end of a text")
for left, right in bpe["merges"][:9]:
    print(f"{as_text(left)!r:8} + {as_text(right)!r:12} -> {as_text(left + right)!r}")

# %% [markdown]
# What occurs most often in Python is indentation. Rule 7 builds on rule 5; rule 9 is *self*.
#
# **Build.** To encode a word, apply the earliest rule that fits any two neighbours, and again, until none fits. The rule that cuts words
# is one regular expression. Here a space belongs to the word *before* it, and an indentation to the line end before it.

# %%
WORD = re.compile(
    r"""[^\w\s]*\n+[ ]*      # line ends, signs before them, the indentation behind them
      | [^\w\s]?[^\W\d]+[ ]?  # letters, one sign before, one space behind
      | \d[ ]?                # one digit
      | [^\w\s]+[ ]?          # signs
      | \s+                   # other white space""",
    re.VERBOSE,
)
RANK = {tuple(pair): rank for rank, pair in enumerate(bpe["merges"])}


def merge(word):
    """The pieces of a word: start with its bytes, join by the earliest rule until none fits"""
    parts = [VISIBLE[byte] for byte in word.encode()]
    while pairs := list(itertools.pairwise(parts)):
        first = min(pairs, key=lambda pair: RANK.get(pair, math.inf))
        if first not in RANK:
            break
        at = pairs.index(first)
        parts[at : at + 2] = ["".join(first)]
    return parts


def encode(text):
    return [bpe["vocab"][part] for word in WORD.findall(text) for part in merge(word)]


# Files of the library that neither the model nor its tokenizer was trained on.
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
code = held_out["functools.py"]
line = "    return self._value\n"
print("a line       ", tokenizer.pieces(line))
print("pieces join  ", "".join(tokenizer.pieces(line)) == line)
texts = list(held_out.values())
encoded = [encode(text) for text in texts]
print(f"all {len(texts)} files", encoded == [tokenizer.encode(text) for text in texts])
print("and back     ", [tokenizer.decode(ids) for ids in encoded] == texts)

# %% [markdown]
# At the start of a text the four spaces are a token of their own; inside a file they belong to the line end before them.
#
# **Predict.** On Python this tokenizer puts about four bytes into a token. How many does it put into a token of English prose,
# and of Greek?

# %%
# The first sentence of article 1 of the Universal Declaration of Human Rights
TEXTS = {
    "Python": code,
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα "
    "δικαιώματα.",
}
n_tokens = {name: len(tokenizer.encode(text)) for name, text in TEXTS.items()}
print("          bytes  tokens  bytes per token")
for name, text in TEXTS.items():
    n_bytes = len(text.encode())
    print(f"{name:8} {n_bytes:6} {n_tokens[name]:7} {n_bytes / n_tokens[name]:10.1f}")
print([tokenizer.decode([token]) for token in tokenizer.encode(TEXTS["English"])][:9])

# %% [markdown]
# **Explain.** No rule was learnt from Greek, so each of its bytes stays a token of its own, two for most letters. The same sentence
# ([United Nations](https://www.un.org/en/about-us/universal-declaration-of-human-rights)) has six times the tokens in Greek, so to write it takes six times the passes.
# Even tokenizers trained on many languages may need several times as many tokens for one as for another ([Petrov et al. 2023](https://arxiv.org/abs/2305.15425)).
#
# ## 2. The loop
#
# The logits in the last row say what may follow the text. Choose a token, append it, ask again. To take the most likely token each time is
# *greedy*:


# %%
@torch.inference_mode()
def continue_greedily(ids, n):
    ids = list(ids)
    for _ in range(n):
        logits = model(torch.tensor([ids]))  # (1, T, V); only the last row is used
        ids.append(logits[0, -1].argmax().item())
    return ids[-n:]


def start_of(text):
    return [START, *tokenizer.encode(text)]


prompt = start_of("def read_config(path):\n    ")
ours = continue_greedily(prompt, 24)
theirs = tk.generate(model, prompt, max_new_tokens=24)
print(theirs.text)
print("same tokens:", ours == theirs.tokens)

# %% [markdown]
# No later token changes the keys and values of an earlier one (lesson on attention). `tk.generate` keeps
# them in a *KV cache*, the subject of the next chapter, so each pass after the first is fed only the token just chosen. The logits are the same.
#
# **Predict.** The prompt has $T$ tokens and $n$ are written. How often does the model run, and how many tokens is it fed altogether, with the cache and
# without? Try $T = 6$, $n = 24$.
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# It runs $n$ times either way. With the cache: the prompt once, then one token at a time. The last token is chosen and fed to nobody, so $T + n - 1 = 29$. Without:
# $T$, then $T + 1$, and so on, $nT + n(n-1)/2 = 420$.
#
# </details>


# %%
def tokens_fed(call):
    """How many tokens each pass of the model was given"""
    fed = []

    def count(_, inputs):
        fed.append(inputs[0].numel())

    hook = model.register_forward_pre_hook(count)  # called before each pass, with its inputs
    try:
        call()
    finally:
        hook.remove()
    return fed


with_cache = tokens_fed(lambda: tk.generate(model, prompt, max_new_tokens=24))
without = tokens_fed(lambda: continue_greedily(prompt, 24))
for name, fed in {"with cache": with_cache, "without": without}.items():
    print(f"{name:10}  {len(fed)} passes, {sum(fed):3} tokens: {fed[:6]} ...")

# %% [markdown]
# ### Where a prompt ends
#
# **Predict.** Two pairs of prompts, each alike but for white space at the end. Does it change what follows?
# (*finish* says why the loop ended: section 5.)

# %%
header = "def read_config(path):"
for text in ("import", "import ", header + "\n", header + "\n    "):
    answer = tk.generate(model, start_of(text), max_new_tokens=8)
    last = tokenizer.pieces(text)[-1]
    print(f"last token {last!r:9} then {answer.text!r:42} finish: {answer.finish}")

# %% [markdown]
# **Explain.** (␣ is a space, ⏎ a line end.) The statement is the token `import␣`. A bare `import` is the
# beginning of another word, and the model completes one: *importing*. In the other pair, bracket, colon, line end and four spaces are one token, `):⏎␣␣␣␣`. With the
# line end alone they are cut otherwise, and the last token, `⏎`, says that no indentation follows: here is no body, and the likeliest token is the end of text.
#
# White space that you hardly see changes the tokens. End a prompt where a token of the text that you hope for ends:
# here behind the space; before it, with a tokenizer that gives the space to the next word.

# %% [markdown]
# ## 3. Two phases, two times
#
# The first pass feeds the whole prompt. It is called **prefill**. Each later pass feeds one token per answer: **decode**. They are measured
# separately:
#
# - **TTFT**, *time to first token*: from the call until the first new token is known. It contains tokenizing, prefill and the first choice; on a busy server also
#   waiting in a queue.
# - **TPOT**, *time per output token*: the mean distance between tokens after the first. With the last of $n$ tokens known at $t_n$,
#
# $$\mathrm{TPOT} = \frac{t_n - t_1}{n - 1}, \qquad \text{latency} = t_n = \mathrm{TTFT} + (n - 1)\,\mathrm{TPOT}$$
#
# First, on invented times:

# %%
known_s = [0.30, 0.35, 0.45, 0.50]  # when each of four tokens was known
example = tk.Generation(text="", tokens=[1, 2, 3, 4], finish="length", times_s=known_s)
print(f"TTFT {example.ttft_s:.2f} s, TPOT {example.tpot_s:.3f} s")

# %% [markdown]
# **Predict.** The prompt grows from 16 tokens to 896. By what factor does TTFT grow, and by what factor TPOT? (The prompts are token ids already,
# so tokenizing takes no part.)

# %%
document = start_of(code)
n_prompts, n_new = (16, 64, 256, 896), 32
runs = {n: [] for n in n_prompts}
for n in n_prompts * 5:  # in turn: a slow spell of the machine falls on all alike
    runs[n].append(tk.generate(model, document[:n], max_new_tokens=n_new))
ttft_s = {n: statistics.median(run.ttft_s for run in runs[n][1:]) for n in n_prompts}
tpot_s = {n: statistics.median(run.tpot_s for run in runs[n][1:]) for n in n_prompts}
in_pieces = {"max_new_tokens": 1, "prefill_chunk": 128}  # the prompt, 128 tokens at a time
pieces_s = [tk.generate(model, document[:896], **in_pieces).ttft_s for _ in range(5)]

# %% tags=["nbval-ignore-output", "hide-input"]
short, long = n_prompts[0], n_prompts[-1]
ttft_growth, tpot_growth = ttft_s[long] / ttft_s[short], tpot_s[long] / tpot_s[short]
best = max(n_prompts, key=lambda n: n / ttft_s[n])
advantage = best / ttft_s[best] * tpot_s[best]


def two_digits(x):
    return f"{float(f'{x:.2g}'):,.0f}"


rows = "\n".join(
    f"| {n} | {ttft_s[n] * 1e3:.0f} | {tpot_s[n] * 1e3:.1f} "
    f"| {two_digits(n / ttft_s[n])} | {two_digits(1 / tpot_s[n])} |"
    for n in n_prompts
)
if tpot_growth < 1.3:
    growth = "hardly changes"
elif tpot_growth < ttft_growth / 3:
    growth = "grows far less"
else:
    growth = "grows, too"
if advantage > 1.5:
    cheaper = f"{advantage:.0f} times as many tokens per second as decode"
else:
    cheaper = "no more tokens per second than decode, on this machine"
pieces = statistics.median(pieces_s[1:]) / ttft_s[long]
chunked = ""
if best < long and pieces < 0.9:
    chunked = (
        f"With {long} tokens it handles fewer: in one pass, attention writes and reads a table of {long} × {long} scores "
        f"in each head. Fed in pieces of 128, the same prompt takes {pieces:.0%} of the time."
    )
Markdown(f"""
| prompt, tokens | TTFT, ms | TPOT, ms | prefill, tokens/s | decode, tokens/s |
| ---: | ---: | ---: | ---: | ---: |
{rows}

From {short} tokens to {long}, TTFT grows {ttft_growth:.0f} times, TPOT {tpot_growth:.1f} times: it {growth}. At best, with {best} tokens, prefill handles {cheaper}.
{chunked}

{tk.measure.caption()}
""")

# %% tags=["nbval-ignore-output", "hide-input"]
shown = {n: sorted(runs[n][1:], key=lambda run: run.times_s[-1])[1] for n in (short, long)}


def draw_times():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for marker, (n, run) in zip("os", shown.items()):
        times_ms, count = [t * 1e3 for t in run.times_s], range(1, len(run.times_s) + 1)
        ax.plot(times_ms, count, marker=marker, markersize=3, label=f"prompt of {n} tokens")
    ttft_ms, muted = shown[long].ttft_s * 1e3, figures.colours()["muted"]
    ax.axvline(ttft_ms, color=muted, linewidth=0.8, linestyle=":")
    place = {"xytext": (-4, -4), "textcoords": "offset points", "ha": "right", "va": "top"}
    ax.annotate("TTFT", (ttft_ms, n_new), **place)
    ax.set(xlabel="ms since the call", ylabel="tokens known", xlim=(0, None), ylim=(0, None))
    ax.legend(loc="center")
    return fig


times = figures.static(
    draw_times,
    alt=f"Tokens known over time for prompts of {short} and {long} tokens. The first token "
    f"comes after {shown[short].ttft_s * 1e3:.0f} and {shown[long].ttft_s * 1e3:.0f} ms; then "
    f"one every {shown[short].tpot_s * 1e3:.1f} and {shown[long].tpot_s * 1e3:.1f} ms.",
)
display(times)
Markdown(f"*Where a line begins is TTFT; its slope is 1/TPOT.* {tk.measure.caption()}")

# %% [markdown]
# **Explain.** Prefill takes every token of the prompt through the model; TTFT grows with that work. A step of decode feeds one token, however long the prompt was; only its attention reads the
# past, and only that share of the step can grow with the prompt.
#
# The last two columns need an explanation. A token of the prompt and a token of the answer pass through the same matrices, so their
# arithmetic is nearly the same (decode needs the output head for every token, prefill only once: here about a quarter more, far too little for the difference). Two possible causes: a decode step starts as many operations as a whole prefill, and reads as many
# weights, all for one token. Part II finds out which counts where. And decode cannot take many tokens at once, as prefill does: token $i + 1$ has to wait until token $i$ has been chosen.
#
# ### How fast is fast enough
#
# If the reader reads as the text comes, TPOT has a natural bound: the reader's own speed.
#
# **Predict.** Take 250 words a minute, as a talk does (claims table, below), and the rule of thumb of 3/4 of a word per token
# ([OpenAI](https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them)). What TPOT keeps up?
# And with the tokenizer of section 1, which cuts English smaller: does it have to be faster or may it be slower?

# %%
words_per_token = len(TEXTS["English"].split()) / n_tokens["English"]


def reading_ms(words_per_minute, words_per_token):
    """TPOT that keeps up with a reader, in ms"""
    return 60_000 / words_per_minute * words_per_token


print(f"3/4 of a word per token      {reading_ms(250, 3 / 4):.0f} ms")
ours_ms = reading_ms(250, words_per_token)
print(f"our tokenizer, {words_per_token:.2f} of a word  {ours_ms:.0f} ms")

# %% [markdown]
# Smaller tokens must come faster. So a bound on TPOT belongs to a tokenizer and a language, and to compare the tokens per second of two models with different
# tokenizers, convert them to bytes or words per second, on the same kind of text.

# %% [markdown]
# ## 4. Choosing
#
# The model gives a distribution, and somebody has to choose. Greedy takes the top. In longer texts that ends in repetition:

# %%
print(tk.generate(model, start_of("import "), max_new_tokens=32).text)

# %% [markdown]
# To measure it, here is the loop for several prompts of one length, with any way of choosing. The cache only saves time: it
# reserves a row for each prompt, and `last_only` computes logits for the last token alone. An answer that has ended is computed on until all have; `up_to` cuts it off.


# %%
def up_to(ends, tokens):
    """The tokens up to and including the first that is in `ends`"""
    at = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: at + 1]


@torch.inference_mode()
def write(prompts, steps, choose, ends=()):
    """New tokens of each prompt: `steps` of them, or up to the first in `ends`"""
    tokens = torch.tensor(prompts)
    cache = tk.cache.ContiguousCache(model.config, len(prompts), tokens.shape[1] + steps)
    chosen, ended = [], torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(steps):
        logits = model(tokens, cache=cache, last_only=True)[:, -1]
        chosen.append(choose(logits))
        ended |= torch.isin(chosen[-1], torch.tensor(ends, dtype=torch.long))
        if ended.all():
            break
        tokens = chosen[-1][:, None]
    return [up_to(ends, row) for row in torch.stack(chosen, 1).tolist()]


def repeated(tokens, n=4):
    """Share of the runs of n tokens that stood earlier in the same continuation"""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


@torch.inference_mode()
def bits_per_token(before, after):
    """Mean of -log2 p over the tokens in `after`, each row of them given that of `before`"""
    ids = torch.tensor([b + a for b, a in zip(before, after)])
    n = len(before[0])
    loss = F.cross_entropy(model(ids)[:, n - 1 : -1].flatten(0, 1), ids[:, n:].flatten())
    return loss.item() / math.log(2)


# %% [markdown]
# **Predict.** From 24 files that the model was not trained on, take 32 tokens as a prompt. Three continuations, 120 tokens each: the greedy one; one whose tokens are drawn with the
# probabilities that the model gives (an end of text stops neither); and the authors' own. In each, what share of all runs of four tokens has stood in it before?

# %%
at = 300  # a place behind the licence and the imports
long_files = [ids for ids in encoded if len(ids) > at + 151][:24]
openings = [[START, *ids[at : at + 31]] for ids in long_files]
generator = torch.Generator().manual_seed(0)
sample = tk.sampler(temperature=1.0)
continuations = {
    "greedy": write(openings, 120, tk.greedy),
    "drawn from the model's distribution": write(
        openings, 120, lambda logits: sample(logits, generator)
    ),
    "the authors'": [ids[at + 31 : at + 151] for ids in long_files],
}
share = {name: statistics.mean(map(repeated, rows)) for name, rows in continuations.items()}
bits = {name: bits_per_token(openings, rows) for name, rows in continuations.items()}
alone = tk.generate(model, openings[0], max_new_tokens=32).tokens
print("control: greedy in a batch = alone:", continuations["greedy"][0][:32] == alone)

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(f"| {name} | {share[name]:.0%} | {bits[name]:.1f} |" for name in share)
Markdown(f"""
| 24 continuations | runs of four tokens that stood in it before | bits per token |
| --- | ---: | ---: |
{rows}

{tk.measure.caption()}
""")

# %% [markdown]
# The last column is what the model makes of the texts: the fewer bits, the likelier. Now look at a loop from inside: how likely is the whole line, once it stands there
# 0, 1, 2 ... times?


# %%
@torch.inference_mode()
def next_logits(texts):
    """(N, V): the logits after each text"""
    tokens = [torch.tensor([start_of(text)]) for text in texts]
    return torch.cat([model(row, last_only=True)[:, -1] for row in tokens])


first = start_of("import unittest\n")
line = tokenizer.encode("from test.support import import_helper\n")
for copies in range(5):
    probability = 2 ** -(len(line) * bits_per_token([first + line * copies], [line]))
    print(f"after {copies} copies  {probability:.2f}")
probs = next_logits(["import "])[0].softmax(-1)
tail = probs[probs < 1e-4].sum().item()
print(f"next token after `import `: {tail:.1%} lie on tokens with less than 0.0001 each")

# %% [markdown]
# **Explain.** The more often the line stands there, the likelier the model finds it: it has learnt to copy (lesson on attention, section 8). To the model, repetitive text is far *more* likely
# than what people write; in open text, the likeliest is the wrong aim ([Holtzman et al. 2019](https://arxiv.org/abs/1904.09751), with larger models). Drawing takes the line only as often as
# its probability says, and so leaves the loop.
#
# Drawing has the opposite fault: thousands of tokens have a tiny probability each, most of them make no sense here, and together they are likely enough to be hit now and then.
# Three settings stand between the two:
#
# - **Temperature** $\tau$ divides the logits before the softmax: $p_i \propto e^{z_i / \tau}$. Below 1 the likely get likelier, above 1 less likely; $\tau \to 0$ is greedy.
# - **Top-k** keeps the $k$ most likely tokens ([Fan et al. 2018](https://arxiv.org/abs/1805.04833)).
# - **Top-p**, or *nucleus*, keeps the most likely tokens until their probabilities reach $p$: few where the model is sure, many where it is not
#   ([Holtzman et al. 2019](https://arxiv.org/abs/1904.09751)).
#
# What is left is divided by its sum. `teachkit` takes temperature first, then top-k, then top-p of what top-k has left. llama.cpp by default takes temperature
# last ([`--samplers`](https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md)), and with the same three numbers draws from another distribution (exercise 2 swaps the other two).
#
# **Predict.** Four tokens are equally likely, and top-p is 0.5. How many remain?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Two: they reach 0.5, and reaching is enough. Which two? The definition does not say; `teachkit` takes equals in the order of the
# vocabulary.
#
# </details>
#
# **Build.** With plain floats:


# %%
def distribution(logits, temperature=1.0, top_k=None, top_p=1.0):
    """(V,) logits -> (V,) probabilities that are drawn from"""
    order = logits.argsort(descending=True, stable=True).tolist()[:top_k]
    highest = logits.max().item()
    weight = [math.exp((logits[i].item() - highest) / temperature) for i in order]
    total, reached, kept = sum(weight), 0.0, []
    for w in weight:
        kept.append(w)
        reached += w / total
        if reached >= top_p:
            break
    probs = torch.zeros(len(logits))
    probs[order[: len(kept)]] = torch.tensor(kept) / sum(kept)
    return probs


generator = torch.Generator().manual_seed(1)
noise = 2 * torch.randn(300, generator=generator)
real = next_logits(["    for i in "])[0]
settings = [
    {"temperature": 0.5},
    {"top_k": 5},
    {"top_p": 0.5},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.7},
]
print("                 tokens kept of\nequals teachkit  4 equal  300 random  4,096 real")
for setting in settings:
    same, kept = [], []
    for logits in (torch.zeros(4), noise, real):
        ours = distribution(logits, **setting)
        theirs = tk.sampling.probabilities(logits, **setting)
        same.append(torch.allclose(ours, theirs, atol=1e-5))
        kept.append(int((theirs > 0).sum()))
    print(f"{all(same)!s:15} {kept[0]:8} {kept[1]:11} {kept[2]:11}   {setting}")

# %% [markdown]
# Watch how many tokens can be drawn, which, and how uncertain the choice is: the *entropy*
# $-\sum p \log_2 p$ is 0 bits for a certain choice and $\log_2 n$ for $n$ equally likely ones. In a running notebook, the cell also has a field for a prompt of your own; mind the space at its end.

# %% tags=["nbval-ignore-output"]
NAMES = [tokenizer.decode([token]) or "<end>" for token in range(V)]
PROMPTS = ["import ", "    for i in ", "    return ", header + "\n    ", "        raise Value"]


def look(text, temperature=0.8, top_p=0.95):
    settings = {"temperature": temperature, "top_p": top_p}
    return figures.next_token([text], next_logits([text]), NAMES, **settings)


figures.live(
    look,
    figures.next_token(PROMPTS, next_logits(PROMPTS), NAMES),
    with_twin=True,  # below the controls, the figure that works without Python
    text="    def __init__(self, ",
    temperature=(0.0, 2.0, 0.05),
    top_p=(0.05, 1.0, 0.05),
)

# %%
for temperature in (1.0, 1.5):
    probs = (next_logits(["        raise Value"])[0] / temperature).softmax(-1)
    name = NAMES[probs.argmax()]
    print(f"after `raise Value`, temperature {temperature}: {name!r} {probs.max():.1%}")

# %% [markdown]
# **Explain.** After `raise Value` one token leads even at a temperature of 1.5. After `import␣` dozens of modules share the
# probability, and top-k with a small k throws good ones away; top-p with one setting keeps few tokens there and many here. Now set a high temperature and no cut,
# and read the figure's last row, the sum over the tokens not listed: it soon holds most of the probability.
#
# **Measure.** Is what is drawn distributed as it was computed? One way to draw: lay the probabilities end to end on a line, and take the
# token on whose piece a random number $u$ between 0 and 1 falls. The control draws from the same logits at another temperature, and must fail the test.


# %%
def pick(probs, u):
    """(B, V) probabilities, (B,) numbers from 0 to 1 -> (B,) tokens"""
    borders = probs.cumsum(-1)
    u = u[:, None] * borders[:, -1:]  # after rounding, the last border need not be 1
    return torch.searchsorted(borders, u, right=True)[:, 0]


def agrees(tokens, probs):
    """No impossible token; counts (mean np, variance np(1 - p)) within 5 deviations, and 3"""
    n = len(tokens)
    counts = torch.bincount(tokens, minlength=len(probs))
    allowed = 5 * (n * probs * (1 - probs)).sqrt() + 3 * (probs > 0)
    return bool(((counts - n * probs).abs() <= allowed).all())


n_draws, setting = 2000, {"temperature": 0.8, "top_p": 0.9}
import_logits = next_logits(["import "])[0]
logits = import_logits.expand(n_draws, V)
expected = tk.sampling.probabilities(import_logits, **setting)
generator = torch.Generator().manual_seed(2)
drawn = {
    "ours": pick(expected.expand(n_draws, V), torch.rand(n_draws, generator=generator)),
    "teachkit": tk.sampler(**setting)(logits, generator),
    "control": tk.sampler(temperature=1.0, top_p=0.9)(logits, generator),
}
for name, tokens in drawn.items():
    print(f"{name:8} agrees with the probabilities: {agrees(tokens, expected)}")

# %% [markdown]
# The argument `seed` of `tk.generate` fixes the random numbers, and so, on one machine, the text. Another processor may round differently; where a draw is close
# (in `pick`, $u$ near a border), the text goes another way from there on.

# %% [markdown]
# ## 5. When does it end?
#
# Four things end the loop: the model chooses the end-of-text token; the text contains a *stop string*; the number of new
# tokens that was asked for is reached; or prompt and answer together have 1,024 tokens, the model's context.

# %%
ends = {
    "end of text": tk.generate(model, start_of(header + "\n"), max_new_tokens=8),
    "stop string": tk.generate(model, start_of("import "), max_new_tokens=64, stop="\nfrom"),
    "tokens asked for": tk.generate(model, start_of("import "), max_new_tokens=8),
    "context": tk.generate(model, document[:1020], max_new_tokens=64),
}
for why, answer in ends.items():
    count, text = len(answer.tokens), answer.text[:24]
    print(f"{why:17} finish {answer.finish:8} {count} tokens, text {text!r}")

# %% [markdown]
# **Predict.** The stop string was `⏎from`. The model writes it in two tokens, `⏎` and `from␣`; the space behind it is no part of it. A reader watches the text as it comes. When the token `⏎` has just been chosen, may it be
# shown?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Not yet. If `from` follows, the answer has ended *before* the line end, and what has been shown cannot be taken back. If anything else follows, the line end is shown then.
# A stream has to hold back whatever may be the beginning of a stop string.
#
# </details>


# %%
def until_stop(pieces, stop):
    """Pass text on; end before `stop`, and never show a part of it"""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        # the longest beginning of `stop` that `held` ends with
        keep = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held


def shown_pieces(pieces):
    return [piece for piece in until_stop(pieces, "\nfrom") if piece]


streamed = []
tk.generate(model, start_of("import "), 64, stop="\nfrom", stream=streamed.append)
pieces = [tokenizer.decode([token]) for token in ends["stop string"].tokens]
print("tokens  ", pieces)
print("ours    ", shown_pieces(pieces))
print("teachkit", streamed)
print("a false alarm, then a real one", shown_pieces(["a", "\n", "import", "\n", "from ", "b"]))

# %% [markdown]
# There is a second reason to hold text back. A token may end inside a character: most letters outside a–z take several bytes, here often several tokens.

# %%
ids = tokenizer.encode("naïve 🙂")
print("each token alone", [tokenizer.decode([token]) for token in ids])
print("streamed        ", list(tokenizer.stream(ids)))

# %% [markdown]
# So the first *text* may come later than the first *token*. TTFT counts the token.

# %% [markdown]
# ## 6. How long will it be?
#
# The request: *complete this docstring*. The answer ends with the first token that contains `"""`, or with the end of text (that token is counted). Sixty-four people send it; each answer is
# drawn from the model's own distribution, with no cut.
#
# **Predict.** How many tokens do the shortest answer, the middle one and the longest have? No answer may have more than 192.

# %%
LIMIT = 192
CLOSING = [token for token, name in enumerate(NAMES) if '"""' in name or token == START]
request = start_of('def read_config(path):\n    """')


def at_random(seed):
    generator = torch.Generator().manual_seed(seed)

    def choose(logits):
        return pick(logits.softmax(-1), torch.rand(len(logits), generator=generator))

    return choose


answers = sorted(write([request] * 64, LIMIT, at_random(3), CLOSING), key=len)
lengths = [len(answer) for answer in answers]
greedy = write([request] * 3, LIMIT, tk.greedy, CLOSING)
print("control: lengths of three greedy answers", [len(answer) for answer in greedy])

# For comparison, the docstrings that people wrote, in the files that the model never saw
PLACE = re.compile(r'def [^\n]*:\n +"""')
starts = [text[m.end() : m.end() + 4000] for text in texts for m in PLACE.finditer(text)]
by_authors = [len(up_to(CLOSING, tokenizer.encode(start)[:LIMIT])) for start in starts]

# %% tags=["nbval-ignore-output", "hide-input"]
groups = {
    f"one prompt, {len(lengths)} times": lengths,
    f"authors, {len(by_authors)} places": sorted(by_authors),
}


def draw_survival():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for name, values in groups.items():
        going = [sum(v > n for v in values) / len(values) for n in range(LIMIT)]
        ax.step(range(LIMIT), going, where="post", label=name)
    ax.axvline(LIMIT, color=figures.colours()["muted"], linewidth=0.8, linestyle=":")
    place = {"xytext": (-4, -4), "textcoords": "offset points", "ha": "right", "va": "top"}
    ax.annotate("limit", (LIMIT, 0.3), **place)
    ax.set(xlabel="tokens written", ylabel="share still being written")
    ax.set(xlim=(0, LIMIT + 4), ylim=(0, 1))
    ax.legend()
    return fig


def median_of(values):
    return f"{statistics.median(values):g}"


def excerpt(answer, length=64):
    text = " ".join(tokenizer.decode(answer).split())
    return text if len(text) <= length else text[:length] + " ..."


rows = "\n".join(
    f"| {name} | {values[0]} | {median_of(values)} | "
    f"{values[-1]}{' (limit)' * (values[-1] == LIMIT)} "
    f"| {sum(v == LIMIT for v in values)} |"
    for name, values in groups.items()
)
medians = "; ".join(f"{name}, {median_of(values)} tokens" for name, values in groups.items())
display(
    Markdown(f"""
| docstrings, in tokens | shortest | median | longest | stopped at {LIMIT} |
| --- | ---: | ---: | ---: | ---: |
{rows}

The shortest, the middle one and the beginning of the longest:

```text
{excerpt(answers[0])}
{excerpt(answers[len(answers) // 2])}
{excerpt(answers[-1])}
```

{tk.measure.caption()}
"""),
    figures.static(
        draw_survival,
        alt=f"Share of answers still being written after so many tokens. Medians: {medians}.",
    ),
)

# %% [markdown]
# **Explain.** Each token is drawn, the choice is fed back, and the next distribution depends on it: two answers that differ in one word may differ in
# everything after it. The authors' docstrings differ in length, too, but each stands at another place; this does not show what one prompt allows. Different requests may differ in
# length on average; the prompt of the puzzle is one and the same. Greedy answers have one length (here they run into the limit), and even that is known only once one has been written.
#
# Does a server know more as the answer goes on?
#
# **Predict.** An answer has 40 tokens already, which is longer than most answers to this prompt. Is it nearly done, is as much still to come as at the start, or more?


# %%
def still_to_come(n, values):
    """Median of the tokens still to come, over the answers longer than n tokens"""
    return statistics.median(v - n for v in values if v > n)


# A control in which waiting tells nothing, with the same median: each step ends the answer with
# the same probability.
goes_on = 0.5 ** (1 / statistics.median(lengths))
coin = random.Random(0)
# Longer than n with probability goes_on ** n: draw the probability, solve for n.
steady = [math.ceil(math.log(1 - coin.random()) / math.log(goes_on)) for _ in range(10_000)]
columns = {"one prompt": lengths, "authors": by_authors, "control": steady}
left = {name: [still_to_come(n, columns[name]) for n in (0, 10, 20, 40)] for name in columns}

# %% tags=["nbval-ignore-output", "hide-input"]
rows = "\n".join(
    f"| {n} | {sum(v > n for v in lengths)} | "
    + " | ".join(f"{left[name][i]:g}" for name in left)
    + " |"
    for i, n in enumerate((0, 10, 20, 40))
)


def change(name):
    ratio = left[name][-1] / left[name][0]
    if ratio > 1.3:
        return "has more to come than a new one"
    if ratio < 1 / 1.3:
        return "has less to come than a new one"
    return "has about as much to come as a new one"


cut = statistics.median_high([v for v in lengths if v > 40]) >= LIMIT
both = [change("one prompt"), change("authors")]
neither = (
    "" if any("less" in text for text in both) else "In neither does waiting announce the end."
)
bound = "The limit cuts half of the answers in the last row: a lower bound." if cut else ""
Markdown(f"""
| tokens so far | answers still going, of {len(lengths)} | still to come (median): one prompt | authors | control |
| ---: | ---: | ---: | ---: | ---: |
{rows}

From this model, an answer with 40 tokens {both[0]}; from the authors, one {both[1]}. {neither} {bound}

{tk.measure.caption()}
""")

# %% [markdown]
# ## 7. What follows
#
# Now predict a time. TTFT and TPOT of this request come from short runs; the test is one more answer, once its length is known:

# %% tags=["nbval-ignore-output"]
sampled = {"sampler": tk.sampler(temperature=1.0)}
short_runs, tests = [], []
for seed in range(6):  # in turn, as in section 3
    short_runs.append(tk.generate(model, request, 32, seed=seed, **sampled))
    if seed % 2:
        tests.append(tk.generate(model, request, LIMIT, seed=6, stop='"""', **sampled))
ttft = statistics.median(run.ttft_s for run in short_runs[1:])
tpot = statistics.median(run.tpot_s for run in short_runs[1:])


def latency_of(n):
    """Seconds until an answer of n tokens is there"""
    return ttft + (n - 1) * tpot


n = len(tests[0].tokens)
measured_ms = statistics.median(test.times_s[-1] for test in tests) * 1e3
print(f"{n} tokens: predicted {latency_of(n) * 1e3:.0f} ms, measured {measured_ms:.0f} ms")

# %% [markdown]
# What does not knowing cost? Two simple servers: one reserves cache for the limit as soon as a request comes in; one starts 8 requests together and
# takes no new one until the longest is done (500 batches, drawn from the 64 lengths).

# %%
n_row = len(request) + LIMIT - 1  # positions to reserve: the last token is fed to nobody
unused = 1 - statistics.mean((len(request) + n - 1) / n_row for n in lengths)
lots = random.Random(2)
batches = [lots.sample(lengths, 8) for _ in range(500)]
idle = 1 - sum(map(sum, batches)) / sum(8 * max(batch) for batch in batches)

# %% tags=["nbval-ignore-output", "hide-input"]
low, middle, limit = map(latency_of, (lengths[0], statistics.median(lengths), LIMIT))
pairs = list(itertools.combinations(lengths, 2))
apart = sum(latency_of(b) > 10 * latency_of(a) for a, b in pairs) / len(pairs)
Markdown(f"""
**The puzzle.** The server could have known the time to the first token, about {ttft * 1e3:.0f} ms, and the time per token after that, about
{tpot * 1e3:.1f} ms. It could not have known $n$. Alone on this machine the shortest of the 64 answers would take {low * 1e3:.0f} ms, a middle one {middle * 1e3:.0f} ms,
one that reaches the limit {limit * 1e3:,.0f} ms. Of all pairs among the 64, {apart:.0%} are more than ten times apart.

| a server that does not know $n$ and | pays |
| --- | --- |
| reserves cache for every request up to its limit of {LIMIT} new tokens | {unused:.0%} of what it reserved is never used |
| lets 8 requests run as a batch until the longest is done | {idle:.0%} of the places in the batch, one per request and step, belong to answers already done |
| promises when the whole answer will be there | is wrong, or promises the predicted time of the limit, {limit / middle:.0f} times that of a middle answer |

{tk.measure.caption(kind="predicted")}
""")

# %% [markdown]
# None of the three has to be paid in full. Take memory in small blocks as the answer grows (only the last block is partly empty), and give them back when it
# ends. Decide at *every step* who is in the batch. (Both are Part IV.) And instead of the whole answer's time, promise TTFT and TPOT, and show the text as it comes.
#
# ## What real systems do
#
# - **They promise TTFT and TPOT.** [DistServe](https://arxiv.org/abs/2401.09670) gives each application a bound for both and maximises *goodput*, the request rate at which both are met.
# - **They stream**, commonly as [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html): one HTTP response that stays open, a line per piece of text.
# - **They schedule each step.** [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) lets requests join and leave the batch between two steps.
#   [vLLM](https://arxiv.org/abs/2309.06180) takes cache memory in blocks; in the systems it was compared with, 20.4 to 38.2 % of the cache memory held tokens.
# - **They take several tokens per pass.** In *speculative decoding* a small model guesses ahead; the large one checks the guesses in one pass, as in prefill, and keeps them by a rule under which
#   the text is distributed as if the large model had drawn it ([Leviathan et al. 2022](https://arxiv.org/abs/2211.17192)).
#
# ## What the sources claim, checked

# %% tags=["nbval-ignore-output", "hide-input"]
target_ms = reading_ms(250, 3 / 4)
measured = [*tpot_s.values(), tpot]
every = "Every" if max(measured) * 1e3 < target_ms else "Not every"
spread = f"{lengths[0]} to {lengths[-1]} tokens from one prompt (the limit is {LIMIT})"
fast, slow = reading_ms(260, 3 / 4), reading_ms(238, 3 / 4)
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| The average reader reads 250 words a minute; as long as a model's latency is below that, nobody is bored | T. Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk | By latency the talk means time per token. About right: 238 words a minute for non-fiction, 260 for fiction ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). At 3/4 of a word per token, 250 words leave {target_ms:.0f} ms per token ({fast:.0f} to {slow:.0f} for 260 to 238 words). {every} TPOT measured here is below that. A slow first token bores, too, and so does a slow answer that a program waits for. |
| Unknown response length means unknown latency | *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024 | Right for the whole answer: {spread}. TTFT and TPOT can be known: they depend on the prompt, the machine and its load, which the server controls by whom it lets in. |

{tk.measure.caption()}
""")

# %% [markdown]
# ## Exercises
#
# **1. Learn the rules yourself.** Write `learn(text, n)`: $n$ merges from the words of `text`, each time the most frequent pair of neighbours. Run it on `code`. How many of your first 20 are
# among the first 200 of the file?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# from collections import Counter
#
# def learn(text, n):
#     words = Counter(tuple(VISIBLE[b] for b in word.encode()) for word in WORD.findall(text))
#     rules = []
#     for _ in range(n):
#         pairs = Counter()
#         for word, count in words.items():
#             for pair in zip(word, word[1:]):
#                 pairs[pair] += count
#         best = max(pairs, key=pairs.get)
#         rules.append(list(best))
#         merged = Counter()
#         for word, count in words.items():
#             parts, i = [], 0
#             while i < len(word):
#                 two = word[i : i + 2] == best
#                 parts.append("".join(best) if two else word[i])
#                 i += 2 if two else 1
#             merged[tuple(parts)] += count
#         words = merged
#     return rules
#
# mine = learn(code, 20)
# print([as_text(a + b) for a, b in mine])
# print(sum(rule in bpe["merges"][:200] for rule in mine), "of 20")
# ```
#
# 17 of 20. The others, such as rows of `#`, are this file's own.
#
# </details>
#
# **2. The order of the cuts.** Write `p_first(logits, top_k, top_p)`: how many tokens remain when top-p is applied to the whole distribution and top-k to what is left. On `real`, find settings for
# which `tk.sampling.probabilities` keeps another number. Which of the two can keep more?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def p_first(logits, top_k, top_p):
#     return min(top_k, int((distribution(logits, top_p=top_p) > 0).sum()))
#
# for top_k, top_p in [(5, 0.95), (10, 0.9), (50, 0.9)]:
#     k_first = int((tk.sampling.probabilities(real, top_k=top_k, top_p=top_p) > 0).sum())
#     print(top_k, top_p, "top-k first", k_first, "top-p first", p_first(real, top_k, top_p))
# ```
#
# Top-p first keeps at least as many. After top-k the rest is divided by its sum, every probability is larger, and $p$ is reached sooner.
#
# </details>
#
# **3. Sampling as an argmax.** Add to each logit, divided by the temperature, a random number $-\ln(-\ln u)$ with $u$ uniform between 0 and 1, and take the largest. Show with `agrees`, on
# `import_logits`, that this draws from the softmax. What does it save?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# generator = torch.Generator().manual_seed(5)
# u = torch.rand(n_draws, V, generator=generator).clamp_min(1e-30)
# gumbel = -(-u.log()).log()
# drawn = (import_logits / 0.8 + gumbel).argmax(-1)
# print(agrees(drawn, tk.sampling.probabilities(import_logits, temperature=0.8)))  # True
# ```
#
# It needs no sum over the vocabulary, so logits may lie on several devices, each of which finds its own largest. It is known as the Gumbel-max trick.
#
# </details>

# %% [markdown]
# ## Check yourself
#
# Your answers are marked here, with a reason for each. What you got right is remembered by your browser, and by nobody else.

# %% tags=["nbval-ignore-output"]
figures.questions("generation")

# %% [markdown]
# Then in your own words:
#
# **A.** Suppose that an answer of 101 tokens took 2.3 s, of which 0.3 s passed before its first token. What is TPOT?
#
# <details>
# <summary>Answer</summary>
#
# $(2.3 - 0.3) / 100 = 0.02$ seconds. There are 100 distances between 101 tokens.
#
# </details>
#
# **B.** With temperature 0.7, top-k 1 and top-p 0.9, how many different answers can a prompt get?
#
# <details>
# <summary>Answer</summary>
#
# One: top-k 1 is greedy whatever the temperature, and top-p always keeps at least one token.
#
# </details>
#
# **C.** A server sets a limit of 1,000 new tokens. Does that make latency known?
#
# <details>
# <summary>Answer</summary>
#
# It bounds it: no more than $\mathrm{TTFT} + 999\,\mathrm{TPOT}$. Most answers end long before, at a time that is still unknown.
#
# </details>
#
# ## Not covered here
#
# How the cache works: next chapter. Why a step of decode is slow: Part II. Penalties for repetition, beam search, grammars, chat templates. Guessing lengths from what a prompt asks has been proposed, to sort requests
# ([Zheng et al. 2023](https://arxiv.org/abs/2305.13144)).

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
