"""Block tables frame by frame: frames say what the pool says, the script shows what the frames say."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest

import test_figures
from conftest import random_tokens, tiny_config, tiny_model
from teachkit import figures
from teachkit.block_table import BlockTable
from teachkit.blocks import BlockPool, block_keys
from teachkit.engine import Engine
from teachkit.figures.block_table import about_block, about_sequence, summary, tables_in_words
from teachkit.paged import PagedCache
from test_figures import Elements, data_of

browser, open_page = test_figures.browser, test_figures.open_page  # fixtures

SVG = "{http://www.w3.org/2000/svg}"
PROMPT = [1, 2, 3, 4, 5]
WORDS = {1: "def", 2: " f", 3: "(", 4: "</script>", 5: "\n", 6: "x", 7: "y", 8: "z", 9: "$a$"}


def words(ids):
    return [WORDS[i] for i in ids]


def recorded():
    """Six blocks of two: filled, forked, copied on write, kept, found again, given away."""
    pool = BlockPool(6, 2)
    recorder = figures.Recorder(pool)
    a = BlockTable(pool)
    texts = words(PROMPT)
    recorder.add("A", a, texts)
    a.reserve(5)
    a.publish(block_keys(PROMPT, 2), 0, 5)
    recorder.frame("A is stored.")
    b = a.fork()
    recorder.add("B", b, words([*PROMPT, 6]))
    recorder.frame("B is A's fork.")
    b.reserve(1)
    recorder.frame("B writes, and gets a copy.")
    b.truncate(0)
    recorder.remove("B")
    a.truncate(0)
    recorder.remove("A")
    recorder.frame("Both are finished.")
    c = BlockTable(pool)
    c.adopt(block_keys(PROMPT[:2], 2))
    recorder.add("C", c, words([1, 2, 7, 8]))
    recorder.frame("C begins like A.")
    d = BlockTable(pool)
    d.reserve(9)
    recorder.add("D", d, words([9] * 9))
    recorder.frame("D takes all that is left.")
    pool.check()
    return recorder.frames


FRAMES = recorded()
LAST = len(FRAMES) - 1


def figure(**options):
    return figures.block_table(FRAMES, **options)


# -------------------------------------------------------------------------------- frames


def state(frame, block):
    found = FRAMES[frame].blocks[block]
    return found.owners, found.kept, found.slots, found.new


def test_filling_sharing_copying_keeping_finding_and_giving_away():
    first, second, third = FRAMES[0].tables["A"][0]
    assert state(0, first) == (("A",), False, ("def", " f"), 0)
    assert state(0, third) == (("A",), False, ("\n",), 0)
    assert state(1, third) == (("A", "B"), False, ("\n",), 1), "shared, and nothing written"
    copy = FRAMES[2].tables["B"][0][2]
    assert copy != third
    assert state(2, third) == (("A",), False, ("\n",), 1)
    assert state(2, copy) == (("B",), False, ("\n", "x"), 0)
    assert state(3, first) == ((), True, ("def", " f"), 2), "kept, as it was"
    assert state(3, third) == ((), False, (), 0), "not full, so nobody can find it: free"
    assert state(4, first) == (("C",), False, ("def", " f"), 2), "found again: nothing written"
    assert FRAMES[5].tables["D"][0][-1] == second, "of free and kept blocks the kept one goes last"
    assert state(5, second) == (("D",), False, ("$a$",), 0), "given away: something else lies in it"
    assert not any(block.kept for block in FRAMES[5].blocks)


@pytest.mark.parametrize("seed", range(20))
def test_frames_say_what_the_pool_says(seed):
    rng = random.Random(seed)
    pool = BlockPool(7, 3)
    recorder = figures.Recorder(pool)
    tables, tokens = {}, {}
    for n in range(40):
        act = rng.choice(["new", "grow", "grow", "fork", "cut", "end"])
        name = rng.choice(sorted(tables)) if tables else None
        if act == "new" or name is None:
            name = f"S{n}"
            tables[name], tokens[name] = BlockTable(pool), []
            recorder.add(name, tables[name], tokens[name])
        elif act == "grow" and tables[name].missing(2) <= pool.n_free:
            tables[name].reserve(2)
            tokens[name] += [f"{name}.{n}", f"{name}:{n}"]
        elif act == "fork":
            other = f"S{n}"
            tables[other], tokens[other] = tables[name].fork(), list(tokens[name])
            recorder.add(other, tables[other], tokens[other])
        elif act == "cut":
            length = rng.randrange(tables[name].length + 1)
            tables[name].truncate(length)
            del tokens[name][length:]
        elif act == "end":
            tables[name].truncate(0)
            del tables[name], tokens[name]
            recorder.remove(name)
        frame = recorder.frame("Something has happened.")
        assert sum(block.owned for block in frame.blocks) == pool.n_used
        for index, block in enumerate(frame.blocks):
            assert len(block.owners) == pool.owners(index)
            assert block.others == 0
        for name, table in tables.items():
            read = [frame.blocks[table.blocks[p // 3]].slots[p % 3] for p in range(table.length)]
            assert read == tokens[name]


def test_takes_the_pool_of_a_cache_and_of_an_engine():
    model = tiny_model(tiny_config())
    cache = PagedCache(model.config, 5, 4)
    recorder = figures.Recorder(cache)
    recorder.add("row 0", cache.tables[0], list("abcdef"))
    model(random_tokens(1, 6), cache=cache)
    assert recorder.frame("Six tokens.").tables["row 0"] == ((0, 1), tuple("abcdef"))

    engine = Engine(model, n_blocks=9, block_size=4)
    request = engine.submit(random_tokens(1, 6)[0].tolist(), max_new_tokens=4)
    recorder = figures.Recorder(engine)
    recorder.add("A", request.sequence.table, lambda: [str(t) for t in request.sequence.tokens])
    while engine.step():
        frame = recorder.frame("A step.")
        assert sum(block.owned for block in frame.blocks) == engine.pool.n_used
        assert sum(block.kept for block in frame.blocks) == engine.pool.n_kept
    kept = [block.slots for block in recorder.frames[-1].blocks if block.kept]
    text = [str(t) for t in request.sequence.tokens]
    assert kept == [tuple(text[:4]), tuple(text[4:8])]


def test_an_owner_without_a_name_is_counted_and_what_was_never_seen_is_not_made_up():
    pool = BlockPool(3, 2)
    recorder = figures.Recorder(pool)
    table = BlockTable(pool)
    table.reserve(2)
    table.publish(block_keys([1, 2], 2), 0, 2)
    frame = recorder.frame("Somebody came.")
    assert frame.blocks[0] == figures.block_frames.BlockState((), 1, False, (), 0)
    assert about_block(frame, 0) == "Block 0 belongs to 1 that is not shown."
    assert summary(frame) == "1 of 3 blocks owned, 0 shared, 0 kept, 2 free."
    table.truncate(0)
    assert recorder.frame("And went.").blocks[0].slots == ("…", "…")


def test_what_cannot_be_is_refused():
    pool = BlockPool(3, 2)
    recorder = figures.Recorder(pool)
    table, other = BlockTable(pool), BlockTable(pool)
    table.reserve(3)
    recorder.add("A", table, ["a", "b"])
    with pytest.raises(ValueError, match=r"tokens of A: expected the texts of the 3 .*got 2"):
        recorder.frame("A.")
    recorder.add("A", table, ["a", "b", "c"])
    recorder.add("B", table.fork(), ["a", "b", "x"])
    with pytest.raises(ValueError, match="block 1: B and A tell different tokens"):
        recorder.frame("B.")
    recorder.remove("B")
    other.blocks, other.length = [2], 1
    recorder.add("C", other, ["c"])
    with pytest.raises(ValueError, match="block 2: in the table of C, but it has another owner"):
        recorder.frame("C.")
    with pytest.raises(ValueError, match="expected a sentence"):
        recorder.frame(" ")
    with pytest.raises(ValueError, match="expected one of A, C; got 'B'"):
        recorder.remove("B")
    assert recorder.frames == []


# -------------------------------------------------------------------------------- words, table, twin


def test_says_in_words_what_it_shows():
    assert summary(FRAMES[2]) == (
        "4 of 6 blocks owned, 2 shared, 0 kept, 2 free. 7 of 8 slots in owned blocks filled. "
        "Without sharing it would take 6 blocks."
    )
    assert about_sequence(FRAMES[1], "B") == (
        "B: 5 tokens in blocks 0, 1, 2, 1 slot empty; blocks 0, 1, 2 shared."
    )
    assert about_sequence(FRAMES[5], "D") == "D: 9 tokens in blocks 2, 3, 4, 5, 1, 1 slot empty."
    assert about_block(FRAMES[2], 0) == "Block 0 belongs to A and B; 2 of its 2 slots are filled."
    assert about_block(FRAMES[3], 0) == (
        "Block 0 is kept: nobody owns it, but its 2 tokens can be found again."
    )
    assert about_block(FRAMES[0], 5) == "Block 5 is free."
    assert tables_in_words(FRAMES[2]) == "A: 0, 1, 2; B: 0, 1, 3"
    assert tables_in_words(FRAMES[3]) == "–"
    assert figure(frame=2).alt == f"Frame 3 of 6. B writes, and gets a copy. {summary(FRAMES[2])}"


def test_the_table_has_a_row_for_every_frame():
    cells = [text for _, text in Elements(figure().html).all("td")]
    assert len(cells) == 7 * len(FRAMES)
    assert cells[14:21] == ["3", "B writes, and gets a copy.", "A: 0, 1, 2; B: 0, 1, 3", "4", "2", "0", "2"]


def test_the_twin_draws_every_frame_with_its_tokens():
    html = figure().html
    twin = html[html.index('<div class="tk-bt-twin">') :]
    pictures = [f"<svg{part}" for part in twin.split("<svg")[1:]]
    assert len(pictures) == len(FRAMES)
    for frame, text in zip(FRAMES, pictures, strict=True):
        svg = ElementTree.fromstring(text[: text.index("</svg>") + 6])
        groups = svg.findall(f"{SVG}g")
        assert len(groups) == 6
        for block, group in zip(frame.blocks, groups, strict=True):
            shown = [t.text for t in group.iter(f"{SVG}text") if t.get("class") in ("slot", "new")]
            assert shown == [figures.visible(token) for token in block.slots]
            hues = [r for r in group.iter(f"{SVG}rect") if str(r.get("class")).startswith("hue")]
            assert len(hues) == len(block.owners)
        assert summary(frame) in str(svg.get("aria-label"))


def test_tokens_are_text_in_the_data():
    slots = [slot for block in data_of(figure())["frames"][0]["blocks"] for slot in block["slots"]]
    assert slots == ["def", "␣f", "(", "</script>", "⏎"]


def test_the_same_frames_give_the_same_output():
    assert figure().html == figures.block_table(recorded()).html


@pytest.mark.parametrize("frame", [-1, 6])
def test_a_frame_that_does_not_exist(frame):
    with pytest.raises(ValueError, match=f"frame: expected 0 to 5, got {frame}"):
        figure(frame=frame)


def test_more_than_a_page_can_show_is_refused():
    with pytest.raises(ValueError, match="expected 1 to 60, got 0"):
        figures.block_table([])
    for n_blocks, size in [(33, 2), (2, 17)]:
        recorder = figures.Recorder(BlockPool(n_blocks, size))
        recorder.frame("Empty.")
        with pytest.raises(ValueError, match=rf"at most 32 blocks and 16 slots.*got {n_blocks} blocks of"):
            figures.block_table(recorder.frames)
    pool = BlockPool(1, 1)
    recorder = figures.Recorder(pool)
    for n in range(9):
        recorder.add(f"S{n}", BlockTable(pool), [])
    recorder.frame("Nine.")
    with pytest.raises(ValueError, match="at most 8 sequences, got S0, S1"):
        figures.block_table(recorder.frames)
    with pytest.raises(ValueError, match="all of one pool"):
        figures.block_table([*FRAMES, recorder.frames[0]])


# -------------------------------------------------------------------------------- in a browser


def pool_shown(page):
    return page.locator(".tk-bt-pool button").evaluate_all(
        "all => all.map(b => [...b.querySelectorAll('code')].map(c => c.textContent))"
    )


def tables_shown(page):
    return page.locator(".tk-bt-table").evaluate_all(
        "all => all.map(t => [t.querySelector('button').textContent,"
        " [...t.querySelectorAll('small')].map(s => s.textContent)])"
    )


def pool_expected(frame):
    return [[*map(figures.visible, b.slots), *[""] * (2 - len(b.slots))] for b in FRAMES[frame].blocks]


def tables_expected(frame):
    return [
        [name, [f"{i} → {block}" for i, block in enumerate(blocks)]]
        for name, (blocks, _) in FRAMES[frame].tables.items()
    ]


def agrees(page, frame):
    assert pool_shown(page) == pool_expected(frame)
    assert tables_shown(page) == tables_expected(frame)
    assert page.locator(".tk-bt-says").text_content() == FRAMES[frame].says


@pytest.mark.browser
class TestInABrowser:
    def test_the_keyboard_walks_through_every_frame(self, open_page):
        page = open_page(figure(frame=1).page())
        agrees(page, 1)
        page.keyboard.press("Tab")
        for frame in (0, 0):  # there is nothing before it, and the focus stays
            page.keyboard.press("Enter")
            agrees(page, frame)
        assert page.evaluate("document.activeElement.ariaDisabled") == "true"
        page.keyboard.press("Tab")
        for frame in (1, 2, 3, 4, 5, 5):
            page.keyboard.press("Space")
            agrees(page, frame)
        page.keyboard.press("Tab")
        for key, frame in [("ArrowLeft", 4), ("Home", 0), ("End", LAST)]:
            page.keyboard.press(key)
            agrees(page, frame)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "focus must be seen"

    def test_a_block_shows_its_owners_and_a_sequence_its_blocks(self, open_page):
        page = open_page(figure(frame=2).page())
        note, far = page.locator(".tk-bt-note").first, ".tk-bt-pool .far"
        assert note.text_content() == summary(FRAMES[2])
        blocks, names = page.locator(".tk-bt-pool button"), page.locator(".tk-bt-table > button")
        names.nth(1).hover()  # B
        assert note.text_content() == about_sequence(FRAMES[2], "B")
        assert page.locator(far).count() == 3, "all but blocks 0, 1, 3"
        blocks.nth(2).hover()
        assert note.text_content() == about_block(FRAMES[2], 2)
        dimmed = page.locator(".tk-bt-table > button.far").all_text_contents()
        assert dimmed == ["B"], "A owns it"
        page.mouse.move(0, 0)
        assert note.text_content() == summary(FRAMES[2])
        assert page.locator(".far").count() == 0
        heard = page.locator("[aria-live=polite]").all_text_contents()
        assert heard == ["", ""], "a passing mouse is not read out"

    def test_a_click_holds_and_a_second_one_lets_go(self, open_page):
        page = open_page(figure(frame=2).page())
        blocks = page.locator(".tk-bt-pool button")
        blocks.nth(0).click()
        page.mouse.move(0, 0)
        assert page.locator("[aria-pressed=true]").count() == 1
        assert page.locator("[aria-live=polite]").nth(1).text_content() == about_block(FRAMES[2], 0)
        page.get_by_role("button", name="Next").click()
        assert page.locator(".tk-bt-note").first.text_content() == about_block(FRAMES[3], 0)
        blocks.nth(0).click()
        assert page.locator("[aria-pressed=true]").count() == 0

    def test_the_blocks_are_one_stop_and_arrows_move_among_them(self, open_page):
        page = open_page(figure(frame=2).page())
        for _ in range(4):
            page.keyboard.press("Tab")
        for key, block in [("ArrowRight", 1), ("ArrowRight", 2), ("Home", 0), ("ArrowLeft", 0), ("End", 5)]:
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.ariaDescription") == about_block(FRAMES[2], block)
            assert page.locator(".tk-bt-note").first.text_content() == about_block(FRAMES[2], block)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.ariaLabel") == about_sequence(FRAMES[2], "A")

    def test_a_move_of_the_slider_is_seen_and_only_its_end_is_heard(self, open_page):
        page = open_page(figure().page())
        slider, heard = page.locator("input[type=range]"), page.locator("[aria-live=polite]").first
        for frame, event, hears in [(1, "input", ""), (2, "input", ""), (2, "change", FRAMES[2].says)]:
            slider.evaluate(f"e => {{ e.value = {frame}; e.dispatchEvent(new Event('{event}')); }}")
            agrees(page, frame)
            assert heard.text_content() == hears
        assert slider.get_attribute("aria-valuetext") == "3 of 6"

    def test_marks_what_is_new(self, open_page):
        page = open_page(figure(frame=2).page())
        assert page.locator(".tk-bt-pool .changed").count() == 2, "the one left and the copy"
        assert page.locator(".tk-bt-pool .new").all_text_contents() == ["⏎", "x"]

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, open_page, scheme):
        page = open_page(figure(frame=LAST).page(), width=360, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, input, summary')].map(e => e.getBoundingClientRect())"
            ".filter(r => r.width < 44 || r.height < 44).length"
        )
        assert small == 0, "targets below 44 px"

    def test_without_scripts_and_in_print_the_twin_stands_in(self, open_page):
        page = open_page(figure().page(), scripts=False)
        assert page.locator(".tk-static svg").first.is_visible()
        page = open_page(figure().page())
        assert not page.locator(".tk-static svg").first.is_visible()
        page.emulate_media(media="print")
        assert page.locator(".tk-static svg").first.is_visible()
        assert not page.locator(".tk-live").is_visible()
