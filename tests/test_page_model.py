"""The model in the page: tokens, logits, counters and files against the package's; the figure, operated."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import book_page_model
import teachkit as tk
import test_figures
from conftest import tiny_model
from teachkit import cost, figures, heldout
from teachkit.cache import ContiguousCache
from teachkit.figures import page_model_weights
from teachkit.figures.attention_explorer import visible
from teachkit.figures.page_model import PAGE_SCRIPTS, WORKER_SCRIPTS, source
from teachkit.linear import Int8Linear, QuantizedLinear
from teachkit.maps import attention_maps
from test_figures import Elements
from tolerance import LOGITS

browser = test_figures.browser  # a fixture

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "src" / "teachkit" / "figures" / "page_model").glob("*.js"))
TEXT = "import os\n\ndef size(path):\n    return os.path."
SCHEMES = ("int8", "int4", "bf16")
TOKENIZER = json.loads((book_page_model.CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(scope="module")
def models():
    return book_page_model.models()


@pytest.fixture(scope="module")
def files():
    return book_page_model.files()


@pytest.fixture(scope="module")
def lines():
    """A thousand lines that the model was not trained on."""
    texts = heldout.held_out(book_page_model.CHECKPOINT).texts
    every = [line for text in texts for line in text.splitlines(keepends=True) if line.strip()]
    return random.Random(0).sample(every, 1000)


def passages(model, count, tokens=125):
    """Token ids (count, tokens) from as many places of the held-out text."""
    texts = heldout.held_out(book_page_model.CHECKPOINT).texts
    long = [ids for text in texts if len(ids := model.tokenizer.encode(text[:4000])) >= tokens]
    assert len(long) >= count
    return torch.tensor([ids[:tokens] for ids in long[:count]])


# --- the files ---------------------------------------------------------------------------------------------


def content(files, name):
    """What a script sets, read without running it."""
    prefix = f'(window.teachkitWeights = window.teachkitWeights || {{}})["{name}"] = '
    text = files[f"{name}.js"].decode("ascii")
    assert text.startswith(prefix)
    assert text.endswith(";\n")
    return json.loads(text.removeprefix(prefix)[:-2])


def unpacked(files, scheme):
    header = content(files, scheme)
    parts = [content(files, f"{scheme}.{i}") for i in range(header["parts"])]
    data = b"".join(map(base64.b64decode, parts))
    assert (len(data), zlib.crc32(data)) == (header["bytes"], header["crc"])
    return header, data


def stored(header, data, name, part, dtype):
    """An array of the file, by the header's own word on where it lies."""
    tensor = header["tensors"][name]
    rows, columns = tensor["shape"] if len(tensor["shape"]) == 2 else (1, tensor["shape"][0])
    per_row = {"codes": columns, "scale": 1, "zero": 1}[part]
    if tensor["kind"] == "int4":
        per_row = columns // 2 if part == "codes" else columns // tensor["group"]
    return np.frombuffer(data, dtype, rows * per_row, tensor["at"][part]).reshape(rows, per_row)


def bits(tensor):
    return tensor.detach().contiguous().view(torch.int16).numpy().view("<u2")


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_codes_and_scales_are_those_of_the_package(files, models, scheme):
    header, data = unpacked(files, scheme)
    found = 0
    for name, layer in models[scheme].named_modules():
        if not isinstance(layer, QuantizedLinear):
            continue
        found += 1
        weight, group = layer.weight, header["tensors"][name].get("group")
        assert header["tensors"][name]["shape"] == [layer.out_features, layer.in_features]
        if isinstance(layer, Int8Linear):
            np.testing.assert_array_equal(stored(header, data, name, "codes", "i1"), weight.q.numpy())
            np.testing.assert_array_equal(
                stored(header, data, name, "scale", "<f4")[:, 0], weight.scale.numpy()
            )
        else:
            assert group == weight.group_size == 64
            np.testing.assert_array_equal(stored(header, data, name, "codes", "u1"), weight.packed.numpy())
            for part in ("scale", "zero"):
                np.testing.assert_array_equal(
                    stored(header, data, name, part, "<u2"), bits(getattr(weight, part))
                )
    assert found == 6 * 7 + 1


def test_what_is_not_quantized_is_the_checkpoint(files, models):
    parameters = dict(models["bf16"].named_parameters())
    for scheme in SCHEMES:
        header, data = unpacked(files, scheme)
        plain = [name for name, tensor in header["tensors"].items() if tensor["kind"] == "bf16"]
        assert len(plain) == (len(parameters) if scheme == "bf16" else 13)
        for name in plain:
            weight = parameters["embedding.weight" if name == "head" else f"{name}.weight"]
            halves = stored(header, data, name, "codes", "<u2").reshape(weight.shape)
            np.testing.assert_array_equal(halves, bits(weight.to(torch.bfloat16)))
            assert torch.equal(weight.to(torch.bfloat16).float(), weight)


def test_the_same_model_gives_the_same_files_and_int8_is_small(files, models):
    assert page_model_weights.export(models, TOKENIZER) == files
    offers = {offer["name"]: offer for offer in page_model_weights.offers(files)}
    assert list(offers) == list(SCHEMES)
    for scheme, offer in offers.items():
        mine = {name: data for name, data in files.items() if name.startswith(f"{scheme}.")}
        assert offer["nbytes"] == sum(map(len, mine.values()))
        assert offer["stamp"] == f"{zlib.crc32(files[f'{scheme}.js']):08x}"
    vocabulary = page_model_weights.offer(files, "vocabulary").nbytes
    assert vocabulary == len(files["vocabulary.js"])
    programs = len(source(WORKER_SCRIPTS)) + len(source(PAGE_SCRIPTS))
    assert offers["int8"]["nbytes"] + vocabulary + programs < 8e6


def changed(model, **fields):
    """The model under a config that says something else; its weights are not looked at."""
    other = copy.copy(model)
    config = copy.copy(model.config)
    for name, value in fields.items():
        object.__setattr__(config, name, value)
    object.__setattr__(other, "config", config)
    return other


@pytest.mark.parametrize(
    "fields",
    [{"norm": "layer"}, {"tied": False}, {"qk_norm": True}, {"windows": (None, 4)}, {"position": "learned"}],
)
def test_another_architecture_is_refused(models, fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}: expected"):
        page_model_weights.pack(changed(models["bf16"], **fields))


def test_layers_that_the_page_cannot_honour_are_refused(models):
    with pytest.raises(ValueError, match=r"blocks\.0\.attention\.q: expected int8, or int4"):
        page_model_weights.pack(tk.quantize(models["bf16"], "w8a8"))
    config = {"d_model": 64, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 128, "tied": True}
    with pytest.raises(ValueError, match="head: expected values that bfloat16 holds"):
        page_model_weights.pack(tiny_model(tk.ModelConfig(vocab_size=61, **config)))
    odd = tiny_model(tk.ModelConfig(vocab_size=61, **config | {"d_model": 62, "head_dim": 32}))
    with pytest.raises(ValueError, match="head: expected a multiple of 8 columns, got 62"):
        page_model_weights.pack(odd.bfloat16().float())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "type"), "Unigram"),
        (("model", "byte_fallback"), True),
        (("normalizer",), {"type": "NFC"}),
        (("pre_tokenizer", "pretokenizers", 0, "pattern"), {"Regex": r"\w+|\s+"}),
        (("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), True),
        (("added_tokens", 0, "lstrip"), True),
    ],
)
def test_another_tokenizer_is_refused(path, value):
    tokenizer = copy.deepcopy(TOKENIZER)
    place = tokenizer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r"^(tokenizer|pre_tokenizer|added_tokens): expected"):
        page_model_weights.vocabulary(tokenizer)


# --- the scripts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_scripts_are_classic_and_ask_for_nothing(path):
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    words = ["fetch", "import", "importScripts", "export", "XMLHttpRequest", "WebSocket", "https?:"]
    for word in [*words, "innerHTML", "eval", "Function\\("]:
        assert not re.search(rf"\b{word}", code), f"{path.name} contains {word}"
    assert "</" not in code, "would end the element that the script stands in"
    assert "'use strict';" in code
    assert len(code.splitlines()) <= 250


def test_every_script_has_its_place():
    assert sorted(path.stem for path in SCRIPTS) == sorted((*PAGE_SCRIPTS, *WORKER_SCRIPTS))
    figure = book_page_model.figure(TEXT, "x")
    assert "</script" not in source(PAGE_SCRIPTS)
    assert figure.html.count("<script") == 4  # parts, data, figure, start


# --- the engine, on the page's own thread -------------------------------------------------------------------

HELPERS = """
window.finish = (forward) => { for (;;) { const { done, value } = forward.next(); if (done) return value; } };
window.cacheOf = (scheme, kept) => new pageModel.Cache(engines[scheme].config, kept);
window.bytes = (floats) => {
  const all = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  let text = '';
  for (let i = 0; i < all.length; i += 8192) text += String.fromCharCode(...all.subarray(i, i + 8192));
  return btoa(text);
};
window.engines = Object.fromEntries(['int8', 'int4', 'bf16'].map((scheme) => {
  const header = teachkitWeights[scheme];
  const parts = Array.from({ length: header.parts }, (_, i) => teachkitWeights[`${scheme}.${i}`]);
  return [scheme, new pageModel.Engine(pageModel.readWeights(header, parts))];
}));
window.tokenizer = new pageModel.Tokenizer(teachkitWeights.vocabulary);
"""


@pytest.fixture(scope="module")
def engine(browser, files):
    """A page with the engine and all weights, without a worker."""
    page = browser.new_page()
    for script in [source(WORKER_SCRIPTS[:-1]), *(data.decode() for data in files.values()), HELPERS]:
        page.add_script_tag(content=script)
    yield page
    page.close()


def logits_of(engine, scheme, ids):
    """All logits (T, V) of one text, as the page computes them in one step."""
    text = engine.evaluate(
        "([scheme, ids]) => bytes(finish(engines[scheme].forward(ids, cacheOf(scheme), { all: true })))",
        [scheme, ids],
    )
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").reshape(len(ids), -1).copy())


HARD = [
    *("", " ", "\n", "\t", "a", "_", "__init__", "x = 1\r\ny = 2\r\n", "\r", "\n\n\n   \n", "  \n  x"),
    *("   \t \n", "na\u00efve caf", "cafe\u0301", "\u4f60\u597d\uff0c\u4e16\u754c", "\u0645\u0631\u062d"),
    *("\U0001f600", "\U0001f469\u200d\U0001f4bb x", "\U0001f1e9\U0001f1ea", "a\U0001d4d0b", "\U00020000x"),
    *("1234567", "\u0663\u0664 \u00b2\u00bd\u2167", "3.14e-10", "0x_ff", "x1y2_3", "((()))", "!!!\n\n  y"),
    *("<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>\n", " <|endoftext|> ", "<|endoftext|"),
    *("\u0085x", "a\u00a0b", "\ufeffx", "\u180ex", "\u2028\u2029", "\u3000x", "\u200bx", "\x00\x1f\x7f"),
    # Names that every object of JavaScript has.
    *("constructor", "toString", "valueOf", "hasOwnProperty", "__proto__", "a<|endoftext|>constructor"),
    *("def f(x):\n    return x  # \u00fc\n" * 40, " " * 300, "a" * 300, "-" * 300 + "\n", "\n" * 99 + "  x"),
]  # fmt: skip


@pytest.mark.browser
class TestEngine:
    def test_tokens_are_those_of_the_package(self, engine, models, lines):
        tokenizer = models["int8"].tokenizer
        generator = random.Random(1)
        points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
        low = [p for p in points if p < 0x3000]
        strange = ["".join(map(chr, generator.choices(s, k=40))) for s in (points, low) for _ in range(100)]
        texts = [*lines, *HARD, *strange]
        found = engine.evaluate("(texts) => texts.map((text) => tokenizer.encode(text))", texts)
        wrong = [
            text
            for text, ids in zip(texts, found, strict=True)
            if tokenizer.encode(text, special=False) != ids
        ]
        assert wrong == []

    def test_every_character_is_of_the_same_class(self, engine):
        """Letters, digits and spaces as the package's library knows them, whatever the browser's Unicode."""
        found = engine.evaluate("bytes(tokenizer.kind)")
        kinds = np.frombuffer(base64.b64decode(found), "u1")
        expected = np.zeros(0x110000, "u1")
        for kind, name in enumerate(("letter", "digit", "space"), 1):
            for first, last in page_model_weights.ranges(page_model_weights.CLASSES[name]):
                expected[first : last + 1] = kind
        expected[ord("_")] = 1
        np.testing.assert_array_equal(kinds, expected)
        assert [kinds[ord(c)] for c in "a\u00e9\u4f60_7\u0663\u00bd \n\u0085\u3000.\ufeff\u0301"] == [
            *(1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0)
        ]

    def test_text_of_any_tokens(self, engine, models, lines):
        """Also of tokens that split characters, or form none."""
        tokenizer, generator = models["int8"].tokenizer, random.Random(2)
        lists = [[generator.randrange(1, 4096) for _ in range(20)] for _ in range(200)]
        lists += [[generator.randrange(1, 257) for _ in range(20)] for _ in range(200)]
        lists += [[0, 5, 0], [0], [], *(tokenizer.encode(line) for line in lines[:100])]
        found = engine.evaluate("(lists) => lists.map((ids) => tokenizer.decode(ids))", lists)
        assert found == [tokenizer.decode(ids) for ids in lists]

    def test_int8_agrees_with_the_package_on_a_thousand_positions(self, engine, models):
        same = total = 0
        for ids in passages(models["int8"], 8):
            ours = logits_of(engine, "int8", ids.tolist())
            with torch.inference_mode():
                theirs = models["int8"](ids[None])[0]
            torch.testing.assert_close(ours, theirs, **LOGITS[torch.float32])
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            total += len(ids)
        assert total == 1000
        assert same >= 0.99 * total

    def test_bf16_agrees_with_the_package(self, engine, models):
        for ids in passages(models["bf16"], 2):
            ours = logits_of(engine, "bf16", ids.tolist())
            with torch.inference_mode():
                theirs = models["bf16"](ids[None])[0]
            torch.testing.assert_close(ours, theirs, **LOGITS[torch.float32])
            assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() >= 0.99

    def test_int4_is_what_its_codes_stand_for(self, engine, models):
        """teachkit's own int4 product rounds activations to bfloat16; what the weights stand for is exact."""
        exact = copy.deepcopy(models["bf16"])
        layers = dict(models["int4"].named_modules())
        with torch.no_grad():
            for name, layer in exact.named_modules():
                if name.startswith("blocks.") and isinstance(layer, torch.nn.Linear):
                    layer.weight.copy_(layers[name].weight.dequantize())
            exact.embedding.weight.copy_(layers["head"].weight.dequantize())
        for ids in passages(models["int4"], 2):
            ours = logits_of(engine, "int4", ids.tolist())
            with torch.inference_mode():
                torch.testing.assert_close(ours, exact(ids[None])[0], **LOGITS[torch.float32])
                theirs = models["int4"](ids[None])[0]
            torch.testing.assert_close(ours, theirs, **LOGITS[torch.bfloat16])
            assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() >= 0.95

    def test_late_positions_are_turned_by_the_same_angles(self, engine, models):
        """Keys of the first layer, after a thousand positions: these depend on tokens and angles alone."""
        turned = engine.evaluate(
            """(ids) => {
              const cache = cacheOf('bf16');
              cache.length = 1000;
              const forward = engines.bf16.forward(ids, cache);
              forward.next(); // the first layer alone
              return bytes(cache.keys[0].slice(1000 * cache.width, (1000 + ids.length) * cache.width));
            }""",
            list(range(300, 320)),
        )
        keys = np.frombuffer(base64.b64decode(turned), "<f4").reshape(20, 2, 64)
        model, ids = models["bf16"], torch.arange(300, 320)[None]
        cache = ContiguousCache(model.config, batch=1, capacity=1024)
        with torch.inference_mode():
            model(torch.full((1, 1000), 5), cache=cache)
            model(ids, cache=cache)
        theirs = cache.k[0, 0, :, 1000:1020].transpose(0, 1)
        torch.testing.assert_close(torch.from_numpy(keys.copy()), theirs, **LOGITS[torch.float32])

    @each_scheme
    def test_with_a_cache_and_without_the_same_to_the_bit(self, engine, models, scheme):
        """Every sum is taken in the same order; so chunks of any size give the same numbers."""
        ids = passages(models["bf16"], 1, 24)[0].tolist()
        same = engine.evaluate(
            """([scheme, ids, chunks]) => {
              const whole = finish(engines[scheme].forward(ids, cacheOf(scheme), { all: true }));
              const cache = cacheOf(scheme);
              let start = 0;
              return chunks.map((size) => {
                const end = start + size;
                const logits = finish(engines[scheme].forward(ids.slice(start, end), cache));
                start = end;
                const expected = whole.subarray((end - 1) * logits.length, end * logits.length);
                return cache.length === end && logits.length === 4096
                  && logits.every((value, i) => Number.isFinite(value) && value === expected[i]);
              });
            }""",
            [scheme, ids, [11, 6, 1, 1, 1, 1, 1, 1, 1]],
        )
        assert same == [True] * 9

    @each_scheme
    @pytest.mark.parametrize(("past", "tokens"), [(0, 1), (0, 17), (40, 1), (23, 5)])
    def test_counters(self, engine, models, scheme, past, tokens):
        model, S = models[scheme], past + tokens
        counted = engine.evaluate(
            """([scheme, past, tokens]) => {
              const cache = cacheOf(scheme);
              if (past) finish(engines[scheme].forward(Array(past).fill(7), cache));
              engines[scheme].resetCounters();
              finish(engines[scheme].forward(Array(tokens).fill(9), cache));
              return engines[scheme].counters;
            }""",
            [scheme, past, tokens],
        )
        L, C, H, Hkv, D, F, V = 6, 256, 4, 2, 64, 704, 4096
        matrices = L * (2 * C * H * D + 2 * C * Hkv * D + 3 * C * F)
        pairs = sum(range(past + 1, S + 1))
        assert counted["multiplyAdds"] == tokens * matrices + V * C + L * H * 2 * D * pairs
        assert counted["cacheBytes"] == L * 2 * S * Hkv * D * 4
        row = 2 * C if scheme == "bf16" else C + 4  # of the embedding
        held = 2 * (matrices + V * C) if scheme == "bf16" else model.weight_bytes()
        assert counted["weightBytes"] == held + 2 * 13 * C + tokens * row

        sizes = {"batch": 1, "tokens": tokens, "past": past, "weight_bits": 16, "kv_bits": 32}
        step = cost.prefill(model.config, **sizes)
        if tokens == 1:
            assert step.flops == cost.decode_step(model.config, 1, S, weight_bits=16, kv_bits=32).flops
        assert 2 * counted["multiplyAdds"] == step.flops
        assert counted["cacheBytes"] == step.total("kv_read_bytes")
        if scheme == "bf16":
            assert counted["weightBytes"] == step.total("weight_bytes")

    def test_without_a_cache_none_of_it_is_read(self, engine):
        counters = engine.evaluate(
            """() => {
              engines.int8.resetCounters();
              finish(engines.int8.forward([5, 6, 7], cacheOf('int8', false)));
              return engines.int8.counters;
            }"""
        )
        assert counters["cacheBytes"] == 0

    def test_attention_is_that_of_the_package(self, engine, models):
        ids = passages(models["int8"], 1, 30)
        found = engine.evaluate(
            """(ids) => {
              const maps = new Float32Array(6 * 4 * 30 * 30);
              const keep = (layer, head, query, probs) => {
                maps.set(probs, ((layer * 4 + head) * 30 + query) * 30);
              };
              finish(engines.int8.forward(ids, cacheOf('int8'), { maps: keep }));
              return bytes(maps);
            }""",
            ids[0].tolist(),
        )
        ours = torch.from_numpy(np.frombuffer(base64.b64decode(found), "<f4").reshape(6, 4, 30, 30).copy())
        torch.testing.assert_close(ours, attention_maps(models["int8"], ids), **LOGITS[torch.float32])

    @pytest.mark.parametrize("count", [0, 1025])
    def test_too_many_tokens_or_none_are_refused(self, engine, count):
        said = engine.evaluate(
            """(count) => {
              try { finish(engines.int8.forward(Array(count).fill(1), cacheOf('int8'))); return ''; }
              catch (problem) { return problem.message; }
            }""",
            count,
        )
        assert said == f"Expected 1 to 1024 tokens, got {count}."


# --- the figure --------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, files):
    """A folder as a build leaves it: the page, and beside it what it loads."""
    (tmp_path / "page_model").mkdir()
    for name, data in files.items():
        (tmp_path / "page_model" / name).write_bytes(data)
    figure = book_page_model.figure(TEXT, "page_model")
    (tmp_path / "page.html").write_text(figure.page(), encoding="utf-8")
    return tmp_path


@pytest.fixture
def open_site(browser, site):
    """Opens the page from disk, with the network off; nothing but the page's own files may be asked for."""
    contexts, problems = [], []

    def open_site(*, width=1000, scheme="light", scripts=True, broken=False):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if not broken:
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: problems.append(message.text))
        own = (site.as_uri(), "blob:null/")
        page.on("request", lambda asked: None if asked.url.startswith(own) else problems.append(asked.url))
        page.goto((site / "page.html").as_uri())
        return page

    yield open_site
    for context in contexts:
        context.close()
    assert problems == [], "script errors, or requests beyond the page's own files"


ABOVE, BELOW = ".tk-pm-top .tk-pm-status", ".tk-pm-decode .tk-pm-status"  # of loading, and of decoding


def status(page, begins, where=ABOVE):
    """Waits until the figure says so; returns all of it."""
    page.wait_for_function(
        "([begins, where]) => document.querySelector(where).textContent.startsWith(begins)",
        arg=[begins, where],
    )
    return page.locator(where).text_content()


def load(page):
    page.get_by_role("button", name="Load the model").click()
    status(page, "Ready: int8")
    return page


def generate(page, count, how="cache", until="Done"):
    page.get_by_label("Tokens, 1 to 400", exact=True).fill(str(count))
    page.get_by_label("Decoding").select_option(how)
    page.get_by_role("button", name="Generate").click()
    return status(page, until, BELOW)


def bars(page):
    return [row.split("\xa0%")[0] for row in page.locator(".tk-pm-next li").all_text_contents()]


def expected_bars(model, text):
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.inference_mode():
        probs = model(ids)[0, -1].softmax(-1)
    top = probs.topk(8)
    every = book_page_model.names(model.tokenizer)
    names = [visible(every[i]) for i in top.indices]
    return [f"{name}{100 * p:.1f}" for name, p in zip(names, top.values.tolist(), strict=True)]


@pytest.mark.browser
class TestInABrowser:
    def test_before_and_after_loading(self, open_site, files, models):
        page = open_site()
        loading = page.get_by_role("button", name="Load the model")
        size = sum(len(data) for name, data in files.items() if name.startswith(("int8.", "vocabulary")))
        assert loading.text_content() == f"Load the model, {size / 1e6:.1f}\xa0MB"
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        opened = bars(page)
        numbers = page.locator(".tk-pm-tokens small").all_text_contents()
        assert not page.get_by_role("button", name="Generate").is_visible()
        assert asked == []
        loading.focus()
        page.keyboard.press("Enter")
        status(page, "Ready: int8, 5.6\xa0MB")
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA", "the focus is not lost"
        assert bars(page) == opened == expected_bars(models["int8"], TEXT)
        assert page.locator(".tk-pm-tokens small").all_text_contents() == numbers
        assert numbers == [str(i) for i in models["int8"].tokenizer.encode(TEXT)]
        assert sorted(re.sub(r".*/|\?.*", "", url) for url in asked if not url.startswith("blob:")) == sorted(
            name for name in files if name.startswith(("int8.", "vocabulary"))
        )
        assert page.evaluate("Object.keys(window.teachkitWeights)") == [], "the page keeps no second copy"

    def test_typing_is_followed(self, open_site, models, lines):
        page = load(open_site())
        text = "for \U0001f600 in [\"<b>\", '\t']:\n    <|endoftext|>"
        page.get_by_label("Text", exact=True).fill(text)
        ids = models["int8"].tokenizer.encode(text)
        page.wait_for_function(
            "(n) => document.querySelectorAll('.tk-pm-tokens small').length === n", arg=len(ids)
        )
        assert page.locator(".tk-pm-tokens small").all_text_contents() == [str(i) for i in ids]
        labels = page.locator(".tk-pm-tokens code").all_text_contents()
        assert "<f0><9f>" in "".join(labels), "bytes of a character that tokens share"
        assert labels[-1] == "<|endoftext|>"
        page.wait_for_function("document.querySelector('.tk-pm-next code').textContent !== 'base'")
        assert bars(page) == expected_bars(models["int8"], text)
        page.get_by_label("Text", exact=True).fill("")
        page.wait_for_function("document.querySelectorAll('.tk-pm-next li').length === 0")
        assert page.locator(".tk-pm-tokens li").count() == 0
        assert bars(page) == []
        longer = "".join(lines[:30])
        page.get_by_label("Text", exact=True).fill(longer)
        n = len(models["int8"].tokenizer.encode(longer))
        page.wait_for_function(
            "(n) => document.querySelector('.tk-pm .tk-title').textContent === `${n} tokens`", arg=n
        )
        assert "The model is reading" in page.wait_for_selector("text=The model is reading").text_content()
        page.wait_for_selector("text=Bars: int8.")
        assert bars(page) == expected_bars(models["int8"], longer)
        page.get_by_label("Text", exact=True).fill("x = 1\n" * 400)
        assert "made for at most 1,024" in status(page, "The text has")
        page.get_by_label("Text", exact=True).fill("x")
        status(page, "Ready: int8")

    def test_a_late_answer_to_an_earlier_text_changes_nothing(self, open_site, lines):
        page = load(open_site())
        field = page.get_by_label("Text", exact=True)
        field.fill("".join(lines[:30]))
        page.wait_for_selector("text=The model is reading")
        field.fill("x = 1\n" * 400)
        status(page, "The text has 1,600 tokens")
        page.wait_for_timeout(1500)  # the first text, given up, would have answered by now
        assert status(page, "The text has").endswith("made for at most 1,024.")
        assert page.get_by_text("Bars: int8, of an earlier text.").is_visible()
        assert page.get_by_text("Attention of all heads, of an earlier text").is_visible()
        assert not page.get_by_text("The model is reading").is_visible()
        field.fill("x")
        status(page, "Ready: int8")
        assert not page.get_by_text("of an earlier text").first.is_visible()

    def test_an_error_is_taken_back_by_what_goes_well(self, open_site, site):
        path = site / "page_model" / "int4.js"
        whole = path.read_bytes()
        path.unlink()
        page = load(open_site(broken=True))
        failed = page.locator(".tk-pm-status.failed")
        for mend in ("generate", "type"):
            page.get_by_role("button", name="int4").click()
            assert "Without it int4 cannot run." in status(page, "The file int4.js could not be read.")
            assert failed.is_visible()
            if mend == "generate":
                generate(page, 2)
            else:
                page.get_by_label("Text", exact=True).fill("x = ")
                status(page, "Ready: int8")
            assert not failed.is_visible()
        path.write_bytes(whole)
        page.get_by_role("button", name="int4").click()
        status(page, "Ready: int4")

    def test_nothing_to_continue_is_told(self, open_site):
        page = load(open_site())
        page.get_by_label("Text", exact=True).fill("")
        page.wait_for_selector(".tk-pm-note:has-text('There is no text to continue.')")
        assert generate(page, 3, until="There") == "There is no text to continue."
        page.get_by_label("Text", exact=True).fill("x = 1\n" * 170)
        status(page, "Ready: int8")
        assert generate(page, 400, until="Text and").startswith("Text and new tokens together are 1,080;")

    def test_what_is_refused_is_told_beside_the_button_and_once(self, open_site):
        """Before any work: the tokens of a text that was read are known, and so is the room."""
        page = load(open_site())
        page.get_by_label("Text", exact=True).fill("x = 1\n" * 230)
        page.wait_for_function("document.querySelector('.tk-pm .tk-title').textContent === '920 tokens'")
        page.evaluate(
            """(both) => {
              window.told = [];
              document.querySelectorAll(both).forEach((line) => new MutationObserver(
                () => window.told.push(line.textContent)).observe(line, { childList: true }));
            }""",
            f"{ABOVE}, {BELOW}",
        )
        page.wait_for_selector("text=Bars: int8.")
        generate(page, 105, until="Text and new tokens together are 1,025;")
        for wrong in ("0", "401", "2.5", ""):
            field = page.get_by_label("Tokens, 1 to 400")
            page.evaluate("(where) => { document.querySelector(where).textContent = ''; }", BELOW)
            said = generate(page, wrong, until="Tokens must be")
            assert said == "Tokens must be a whole number from 1 to 400."
            assert (field.input_value(), field.get_attribute("aria-invalid")) == (wrong, "true")
        refused = ["Text and new tokens together are 1,025; the model was made for at most 1,024."]
        assert [words for words in page.evaluate("window.told") if words] == refused + [said] * 4
        page.get_by_label("Text", exact=True).fill("x = ")
        assert page.locator(BELOW).text_content() == "", "it was of another text"
        assert generate(page, 1).startswith("Done: 1 token in ")
        assert field.get_attribute("aria-invalid") == "false"
        assert page.evaluate("window.told.filter(Boolean).slice(5)")[0] == (
            "Writing 1 token, with the cache."
        )
        said = page.locator(BELOW)
        button = page.get_by_role("button", name="Generate").bounding_box()
        assert 0 <= said.bounding_box()["y"] - button["y"] < 80

    def test_a_run_of_other_weights_or_of_an_earlier_text_says_so(self, open_site):
        page = load(open_site())
        title = page.locator(".tk-pm-decode > .tk-title").nth(1)
        field = page.get_by_label("Text", exact=True)
        assert not title.is_visible()
        generate(page, 2)
        assert title.text_content() == "The last run"
        field.fill("x = ")
        assert title.text_content() == "The last run, of an earlier text"
        page.get_by_role("button", name="int4").click()
        status(page, "Ready: int4")
        assert title.text_content() == "The last run, of an earlier text, of int8"
        field.fill(TEXT)
        assert title.text_content() == "The last run, of int8"
        generate(page, 2)
        assert title.text_content() == "The last run"
        page.get_by_role("button", name="Add it to the text").click()
        assert not title.is_visible()
        assert set(page.locator(".tk-pm-counters dd").all_text_contents()) == {"–"}

    @pytest.mark.parametrize("how", ["cache", "all"])
    def test_the_step_that_reads_is_timed_apart(self, open_site, how):
        page = open_site()
        page.evaluate(
            """() => {
              window.Worker = class extends Worker {
                constructor(url) {
                  super(url);
                  this.addEventListener('message', ({ data }) => { window[data.type] = data; });
                }
              };
            }"""
        )
        load(page)
        page.get_by_label("Text", exact=True).fill("x = 1\n" * 40)
        page.wait_for_selector("text=Bars: int8.")
        generate(page, 6, how)
        run = page.evaluate("window.done")
        assert 0 < run["first"] < run["first"] + run["later"] <= run["seconds"]
        if how == "cache":
            assert run["later"] / 5 < run["first"] / 2, "160 tokens, and then one each"
        first, per_second = page.locator(".tk-pm-counters dd").all_text_contents()[3:]
        shown = re.fullmatch(r"([\d.]+)\xa0(ms|s)", first)
        seconds = float(shown[1]) / (1000 if shown[2] == "ms" else 1)
        assert seconds == pytest.approx(run["first"], abs=0.06, rel=0.05)
        assert float(per_second) == pytest.approx(5 / run["later"], rel=0.01)
        cells = page.locator(".tk-pm-runs tbody tr").first.locator("td").all_text_contents()
        assert cells[-2:] == [first, per_second]
        generate(page, 1, how)
        assert page.locator(".tk-pm-counters dd").last.text_content() == "–", "there was no step after it"

    def test_tokens_per_second_are_seen_without_scrolling(self, open_site):
        """As wide as the book's text is in a window of 1280; what was written has a row of its own."""
        page = load(open_site(width=684))
        page.get_by_label("Temperature").select_option("0.8")
        generate(page, 60, "all")
        frame = page.locator(".tk-pm-runs")
        assert frame.evaluate("(box) => box.scrollWidth <= box.clientWidth")
        written = page.locator(".tk-pm-written").text_content()
        rows = page.locator(".tk-pm-runs tbody tr")
        assert rows.nth(1).text_content() == visible(written)
        text = rows.nth(1).locator("code")
        assert text.evaluate("(code) => code.scrollWidth <= code.clientWidth"), "all of it"
        page.set_viewport_size({"width": 360, "height": 800})
        box = text.bounding_box()
        assert box["x"] + box["width"] <= 360, "read without scrolling there too"

    def test_maps_of_a_longer_text_say_what_they_leave_out(self, open_site, lines):
        page = load(open_site())
        page.get_by_label("Text", exact=True).fill("x = 1\n" * 40)
        page.wait_for_selector("text=Attention of all heads, the first 48 of 160 tokens")
        page.get_by_role("button", name="Layer 2, head 0").click()
        said = page.locator(".tk-pm-says").text_content()
        assert "Over the first 48 of 160 tokens, without the very first, its mean weight on" in said
        assert "all tokens" not in said
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.wait_for_selector("text=Over all tokens but the first, its mean")
        heading = page.locator(".tk-pm-attention .tk-title").first
        assert heading.text_content() == "Attention of all heads"

    def test_maps_of_what_was_read_before_say_so(self, open_site, lines):
        page = load(open_site())
        heads, large = page.locator(".tk-pm-attention .tk-title").all()
        page.get_by_label("Text", exact=True).fill("".join(lines[:30]))
        page.wait_for_selector("text=The model is reading; the bars are still those of the text before.")
        assert heads.text_content() == "Attention of all heads, of an earlier text"
        assert large.text_content() == "Layer 0, head 0, of an earlier text"
        page.get_by_role("button", name="Layer 2, head 0").click()
        assert large.text_content() == "Layer 2, head 0, of an earlier text"
        page.wait_for_selector("text=Bars: int8.")
        assert heads.text_content().startswith("Attention of all heads, the first 48 of ")
        assert large.text_content() == "Layer 2, head 0"
        page.get_by_role("button", name="int4").click()
        page.wait_for_selector("text=The model is reading; the bars are still those of int8.")
        assert large.text_content() == "Layer 2, head 0, of int8"
        status(page, "Ready: int4")
        assert large.text_content() == "Layer 2, head 0"

    def test_attention_by_keyboard_and_by_mouse(self, open_site, models):
        page = load(open_site())
        ids = torch.tensor([models["int8"].tokenizer.encode(TEXT)])
        maps = attention_maps(models["int8"], ids)
        says = page.locator(".tk-pm-says")
        chosen = page.get_by_role("button", name="Layer 0, head 0")
        chosen.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Layer 2, head 0"
        before = 100 * maps[2, 0].diagonal(-1).mean()
        last = 100 * maps[2, 0, -1, -2]
        assert f"mean weight on the token before is {before:.0f}\xa0%" in says.text_content()
        assert f"Token 10, ‘.’, reads ‘.path’ {last:.0f}\xa0%" in says.text_content()
        page.get_by_role("button", name="Layer 4, head 3").click()
        assert says.text_content().startswith("Layer 4, head 3.")
        page.get_by_label("Token that reads").select_option("3")
        assert "Token 3, " in says.text_content()
        box = page.locator(".tk-pm-map svg").bounding_box()
        page.mouse.click(box["x"] + 5, box["y"] + box["height"] * 5.5 / 11)
        assert "Token 5, " in says.text_content()
        assert page.get_by_label("Token that reads").input_value() == "5"
        pressed = page.locator(".tk-pm-heads button[aria-pressed=true]")
        assert pressed.get_attribute("aria-label") == "Layer 4, head 3"

    def test_other_weights_show_what_changes(self, open_site, models):
        page = load(open_site())
        page.get_by_role("button", name="int4, load 4.8\xa0MB").click()
        status(page, "Ready: int4")
        assert page.get_by_role("button", name="int4").get_attribute("aria-pressed") == "true"
        rows = page.locator(".tk-pm-next li").all_text_contents()
        with torch.inference_mode():
            ids = torch.tensor([models["int8"].tokenizer.encode(TEXT)])
            probs = models["int8"](ids)[0, -1].softmax(-1)
        (base,) = models["int8"].tokenizer.encode("base")
        assert any(row.startswith("base") and f"was {100 * probs[base]:.1f}\xa0%" in row for row in rows)
        page.get_by_role("button", name="bf16, load 14.6\xa0MB").click()
        status(page, "Ready: bf16")
        assert bars(page) == expected_bars(models["bf16"], TEXT)
        page.get_by_role("button", name="int8").click()
        status(page, "Ready: int8")
        assert "Lines: bf16" in page.locator(".tk-pm-note").first.text_content()
        assert bars(page) == expected_bars(models["int8"], TEXT)

    def test_both_ways_of_decoding_write_the_same_and_stand_side_by_side(self, open_site, models):
        page = load(open_site())
        model, new = models["int8"], 12
        written = []
        for how in ("cache", "all"):
            generate(page, new, how)
            written.append(page.locator(".tk-pm-written").text_content())
        ids = model.tokenizer.encode(TEXT)
        with torch.inference_mode():
            for _ in range(new):
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        start = len(ids) - new
        assert written == [model.tokenizer.decode(ids[start:])] * 2
        rows = [
            [cell.text_content() for cell in row.locator("th, td").all()]
            for row in page.locator(".tk-pm-runs tbody tr:has(th)").all()
        ]
        assert [row[:3] for row in rows] == [
            ["int8", "recomputing", f"{start} + {new}"],
            ["int8", "with the cache", f"{start} + {new}"],
        ]
        cached = [cost.prefill(model.config, 1, start)] + [
            cost.decode_step(model.config, 1, start + i, kv_bits=32) for i in range(1, new)
        ]
        again = [cost.prefill(model.config, 1, start + i) for i in range(new)]
        for row, steps in zip(rows, (again, cached), strict=True):
            millions = sum(step.flops for step in steps) / 2e6
            assert row[3].replace(",", "") == f"{float(f'{millions:.3g}'):g}\xa0million"
        weights = new * (model.weight_bytes() + 2 * 13 * 256) + 260 * (start + new - 1)
        assert rows[1][4] == f"{weights / 1e6:.3g}\xa0MB"
        kept = sum(2 * 6 * 2 * 64 * 4 * (start + i) for i in range(new))
        assert rows[1][5] == f"{float(f'{kept / 1e6:.3g}'):g}\xa0MB"
        assert rows[0][5] == "none"
        keep, field = (
            page.get_by_role("button", name="Add it to the text"),
            page.get_by_label("Text", exact=True),
        )
        field.fill("ZZZ")
        assert not keep.is_visible(), "it went on from another text"
        field.fill(TEXT)
        keep.click()
        assert field.input_value() == TEXT + written[0]
        assert not keep.is_visible()

    def test_draws_can_be_repeated(self, open_site):
        page = load(open_site())
        written = []
        for temperature in ("1", "1", "0"):
            page.get_by_label("Temperature").select_option(temperature)
            generate(page, 16)
            written.append(page.locator(".tk-pm-written").text_content())
        assert written[0] == written[1] != written[2]

    def test_the_page_stays_awake_and_stop_stops(self, open_site, lines):
        """A step over so much text takes a while, and the page is never still for a quarter of it."""
        page = open_site()
        page.evaluate(
            """() => {
              window.ticks = [];
              window.steps = []; // seconds of the worker's clock, and when the page heard of them
              window.Worker = class extends Worker {
                constructor(url) {
                  super(url);
                  this.addEventListener('message', ({ data }) => {
                    const { made, seconds } = data; // as in an answer to `generate`
                    if (data.type === 'step' && made) window.steps.push([seconds, performance.now()]);
                  });
                }
              };
              setInterval(() => window.ticks.push(performance.now()), 10);
            }"""
        )
        load(page)
        page.get_by_label("Text", exact=True).fill("".join(lines[:30]))
        page.wait_for_selector("text=The model is reading")
        page.wait_for_selector("text=Bars: int8.")
        generate(page, 400, "all", until="Writing")
        page.wait_for_function("window.steps.length > 4")
        ticks, steps = page.evaluate("[window.ticks, window.steps]")
        passes = [1000 * (after - before) for (before, _), (after, _) in itertools.pairwise(steps)]
        inside = [tick for tick in ticks if steps[0][1] <= tick <= steps[-1][1]]
        gaps = [after - before for before, after in itertools.pairwise(inside)]
        assert max(gaps) < statistics.median(passes) / 4
        page.get_by_role("button", name="Stop").click()
        said = status(page, "Stopped", BELOW)
        made = int(re.search(r"Stopped: (\d+) tokens", said)[1])
        assert 0 < made < 400
        assert page.get_by_role("button", name="Generate").is_visible()
        page.get_by_label("Text", exact=True).fill("x = ")
        assert "Done: 3 tokens" in generate(page, 3)

    @pytest.mark.parametrize("damage", ["missing", "cut off", "other bytes"])
    def test_damaged_weights_are_told_and_can_be_loaded_again(self, open_site, site, files, damage):
        path = site / "page_model" / "int8.3.js"
        whole = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "cut off":
            path.write_bytes(whole[: len(whole) // 2])
        else:
            start = whole.index(b'= "') + 100
            path.write_bytes(whole[:start] + bytes(reversed(whole[start : start + 64])) + whole[start + 64 :])
        page = open_site(broken=True)
        page.get_by_role("button", name="Load the model").click()
        page.wait_for_selector(".tk-pm-status.failed")
        said = page.locator(ABOVE).text_content()
        reasons = {
            "missing": "The file int8.3.js could not be read.",
            "cut off": "The file int8.3.js arrived incomplete.",
            "other bytes": "The weights arrived incomplete.",
        }
        assert said.startswith(reasons[damage])
        assert "press the button again" in said
        assert not page.get_by_role("button", name="Generate").is_visible()
        path.write_bytes(whole)
        load(page)
        assert not page.locator(".tk-pm-status.failed").is_visible()

    def test_a_browser_without_workers_is_told(self, open_site):
        page = open_site(broken=True)
        page.evaluate(
            "window.Worker = class { constructor() { throw new Error('No worker may start.'); } }; 0"
        )
        page.get_by_role("button", name="Load the model").click()
        page.wait_for_selector(".tk-pm-status.failed")
        assert page.locator(ABOVE).text_content().startswith("No worker may start.")

    def test_a_worker_that_ended_is_replaced(self, open_site):
        page = open_site(broken=True)
        page.evaluate(
            "window.Worker = class extends Worker { constructor(url) { super(url); window.mine = this; } }; 0"
        )
        load(page)
        page.evaluate("window.mine.dispatchEvent(new ErrorEvent('error')); void 0")
        said = generate(page, 3, until="The worker")
        assert said.endswith("has ended. Press the button of the weights to start it again.")
        assert page.locator(".tk-pm-status.failed").is_visible()
        page.get_by_role("button", name="int8, load").click()
        status(page, "Ready: int8")
        assert not page.locator(".tk-pm-status.failed").is_visible()
        assert "Done: 3 tokens" in generate(page, 3)
        assert len(page.workers) == 1

    def test_presses_that_failed_leave_no_worker_and_no_address(self, open_site, site):
        path = site / "page_model" / "vocabulary.js"
        whole = path.read_bytes()
        path.unlink()
        page = open_site(broken=True)
        page.evaluate(
            """() => {
              window.addresses = [];
              const { createObjectURL, revokeObjectURL } = URL;
              URL.createObjectURL = (blob) => {
                const address = createObjectURL(blob);
                window.addresses.push(address);
                return address;
              };
              URL.revokeObjectURL = (address) => {
                revokeObjectURL(address);
                window.addresses = window.addresses.filter((other) => other !== address);
              };
            }"""
        )
        for damage in (None, b"", whole[:-2000].replace(b'"merges"', b'"forgot"') + whole[-2000:]):
            if damage is not None:
                path.write_bytes(damage)
            page.get_by_role("button", name="Load the model").click()
            page.wait_for_selector(".tk-pm-status.failed")
            assert page.workers == []
        path.write_bytes(whole)
        load(page)
        assert len(page.workers) == 1
        assert page.evaluate("window.addresses") == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_site, scheme):
        page = open_site(width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        load(page)
        generate(page, 4)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('.tk-pm button, select, input, textarea, summary')]"
            ".map((e) => e.getBoundingClientRect())"
            ".filter((r) => r.width > 0 && (r.width < 44 || r.height < 44)).length"
        )
        assert small == 0, "targets below 44 px"

    def test_every_field_has_a_name(self, open_site):
        page = load(open_site())
        nameless = page.evaluate(
            "[...document.querySelectorAll('.tk-pm :is(button, select, input, textarea)')].filter((e) =>"
            " !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim())"
            ".length"
        )
        assert nameless == 0
        assert page.locator(".tk-pm [role=status]").count() == 2, "of loading, and of decoding"
        assert page.locator(".tk-pm .tk-unseen[aria-live=polite]").count() == 1

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_site):
        page = open_site(scripts=False)
        assert page.locator(".tk-static svg").is_visible()
        page = open_site()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").is_visible()
        assert not page.locator(".tk-live").is_visible()


# --- the twin, and the book ---------------------------------------------------------------------------------


def test_says_in_words_what_it_shows(models):
    figure = book_page_model.figure(TEXT, "page_model")
    first = expected_bars(models["int8"], TEXT)
    assert figure.alt == (
        f"After ‘…{visible(TEXT)[-39:]}’ the model, in int8, expects "
        + ", ".join(re.sub(r"^(\D+)([\d.]+)$", "‘\\1’ \\2\u00a0%", bar) for bar in first[:3])
        + "."
    )
    cells = [text for _, text in Elements(figure.html).all("td")]
    assert len(cells) == 10 * 5
    assert cells[1] + cells[2] == f"{first[0]}\u00a0%"
    assert [text for _, text in Elements(figure.html).all("th")] == ["rank", "token", *SCHEMES]


def test_what_it_is_not_given():
    probs = np.full(4, 0.25)
    offers = [{"name": "int8", "nbytes": 1, "stamp": "0"}]
    arguments = {"folder": "x", "offers": offers, "vocabulary": {"nbytes": 1, "stamp": "0"}}
    with pytest.raises(ValueError, match="expected those of 'int8', got int4"):
        figures.page_model("a", [(0, "a")], list("abcd"), {"int4": probs}, **arguments)
    for wrong in (probs[:3], probs * 2, probs * np.nan):
        with pytest.raises(ValueError, match="expected 4 probabilities of 'int8'"):
            figures.page_model("a", [(0, "a")], list("abcd"), {"int8": wrong}, **arguments)


def test_bars_and_table_round_the_same_numbers():
    """Rounded twice, 0.12346 would become 12.4 %, and 0.00047 would be one in a thousand."""
    probs = np.array([0.12346, 0.00047, 0.5, 0.37607])
    offers = [{"name": "int8", "nbytes": 1, "stamp": "0"}]
    figure = figures.page_model(
        "a", [(0, "a")], list("abcd"), {"int8": probs}, folder="x", offers=offers, vocabulary=offers[0]
    )
    top = test_figures.data_of(figure)["start"]["top"]
    assert [one["p"] for one in top] == [0.5, 0.37607, 0.12346, 0.00047]
    cells = [text.rstrip("\n") for _, text in Elements(figure.html).all("td")]
    assert cells[2::3] == ["50.0\xa0%", "37.6\xa0%", "12.3\xa0%", "<\xa00.1\xa0%"]


@pytest.mark.parametrize("damage", ["none", "same size", "gone", "one too many"])
def test_what_lies_in_a_build_is_compared_byte_by_byte(tmp_path, monkeypatch, files, damage):
    """Sizes alone would not do: another checkpoint of the same shape has the same sizes."""
    made = []
    monkeypatch.setattr(book_page_model, "files", cache(lambda: made.append(1) or files))
    about = {"page": {"page_model": json.dumps(book_page_model.checksums())}, "index": {}}
    book_page_model.files.cache_clear()  # as where the page was read by another process
    made.clear()
    folder = tmp_path / book_page_model.FOLDER
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    path = folder / "int8.0.js"
    if damage == "same size":
        path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
    elif damage == "gone":
        path.unlink()
    elif damage == "one too many":
        (folder / "int8.99.js").write_bytes(b"")
    app = SimpleNamespace(
        builder=SimpleNamespace(format="html"), env=SimpleNamespace(metadata=about), outdir=tmp_path
    )
    book_page_model.write_files(app, None)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert len(made) == (damage in ("same size", "gone")), "made only where something has to be written"


@pytest.mark.slow
def test_a_build_writes_the_files_that_its_page_loads(tmp_path, files):
    root, out = tmp_path / "source", tmp_path / "html"
    (root / "deep").mkdir(parents=True)
    (root / "index.md").write_text("# Tiny\n\n```{toctree}\ndeep/page\n```\n", encoding="utf-8")
    page = (ROOT / "book" / "playground.md").read_text(encoding="utf-8")
    directive = re.search(r"^```\{page-model\}\n.*?^```\n", page, re.S | re.M)[0]
    (root / "deep" / "page.md").write_text(f"# Page\n\n{directive}", encoding="utf-8")
    conf = f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
    conf += "extensions = ['myst_parser', 'book_page_model']\n"
    (root / "conf.py").write_text(conf, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(root), str(out)]
    folder = out / "_static" / "page_model"
    for damage in ("gone", "other bytes", "none"):  # done after each build; no page is read again
        subprocess.run(command, check=True, capture_output=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        if damage == "gone":
            shutil.rmtree(folder)
        elif damage == "other bytes":
            (folder / "int8.0.js").write_bytes(files["int8.0.js"].replace(b"A", b"B", 1))
    built = (out / "deep" / "page.html").read_text(encoding="utf-8")
    (data,) = (text for _, text in Elements(built).all("script", type="application/json"))
    assert json.loads(data)["folder"] == "../_static/page_model"
    assert json.loads(data)["text"] == TEXT
