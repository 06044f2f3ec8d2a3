"""A pool of blocks and the block tables of sequences, frame by frame: the Python face of block_table.js."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from teachkit.figures.attention_explorer import visible
from teachkit.figures.block_frames import BlockFrame, BlockState
from teachkit.figures.html import Figure, show

MOST = {"blocks": 32, "slots": 16, "sequences": 8, "frames": 60}
HUES = 4  # of the palette; from the fifth sequence on they come again, and the names tell them apart


def block_table(frames: Sequence[BlockFrame], *, frame: int = 0, alt: str | None = None) -> Figure:
    """Blocks that are filled, shared, copied, kept, found again and given away, as the frames saw it.

    frames  of a :class:`teachkit.figures.block_frames.Recorder`
    frame   the one that shows when the page opens
    Raises  ValueError: no frames, more than 60, pools of more than 32 blocks or of different shapes, blocks
            of more than 16 slots, more than 8 sequences, a frame that does not exist
    """
    names = _require(frames, frame)
    alt = alt or f"Frame {frame + 1} of {len(frames)}. {frames[frame].says} {summary(frames[frame])}"
    data = {
        "names": names,
        "slots": frames[0].block_size,
        "start": frame,
        "frames": [_frame(now, frames[i - 1] if i else None, names) for i, now in enumerate(frames)],
    }
    rows = [
        [str(i + 1), now.says, tables_in_words(now), *map(str, _counts(now))] for i, now in enumerate(frames)
    ]
    header = ["frame", "what has happened", "block tables", "owned", "shared", "kept", "free"]
    twin = "".join(
        f"<div><p>{i + 1}. {escape(now.says)}</p>{_picture(now, names)}</div>" for i, now in enumerate(frames)
    )
    twin = f'<div class="tk-bt-twin">{twin}</div>'
    return show("block_table", data, alt=alt, static=twin, table=(header, rows))


def summary(frame: BlockFrame) -> str:
    """How many blocks are in which state, how many slots are filled, and what sharing saves."""
    owned, shared, kept, free = _counts(frame)
    said = [f"{owned} of {len(frame.blocks)} blocks owned, {shared} shared, {kept} kept, {free} free."]
    if not any(block.others for block in frame.blocks):
        filled = sum(len(block.slots) for block in frame.blocks if block.owned)
        said.append(f"{filled} of {owned * frame.block_size} slots in owned blocks filled.")
        alone = sum(len(block.owners) for block in frame.blocks)
        if shared:
            said.append(f"Without sharing it would take {alone} blocks.")
    return " ".join(said)


def tables_in_words(frame: BlockFrame) -> str:
    """Each sequence with its blocks in order: ``A: 7, 2; B: 7``."""
    listed = (f"{name}: {', '.join(map(str, blocks)) or '–'}" for name, (blocks, _) in frame.tables.items())
    return "; ".join(listed) or "–"


def about_block(frame: BlockFrame, index: int) -> str:
    """One block, in a sentence."""
    block = frame.blocks[index]
    if block.kept:
        return f"Block {index} is kept: nobody owns it, but its {len(block.slots)} tokens can be found again."
    if not block.owned:
        return f"Block {index} is free."
    owners = list(block.owners)
    if block.others:
        owners.append(f"{block.others} that {'is' if block.others == 1 else 'are'} not shown")
    filled = f"; {len(block.slots)} of its {frame.block_size} slots are filled" if block.owners else ""
    return f"Block {index} belongs to {_listed(owners)}{filled}."


def about_sequence(frame: BlockFrame, name: str) -> str:
    """One sequence, in a sentence."""
    blocks, tokens = frame.tables[name]
    if not blocks:
        return f"{name} has no tokens and no blocks."
    shared = [block for block in blocks if len(frame.blocks[block].owners) + frame.blocks[block].others > 1]
    empty = len(blocks) * frame.block_size - len(tokens)
    said = f"{name}: {_count(len(tokens), 'token')} in {_blocks(blocks)}, {_count(empty, 'slot')} empty"
    return f"{said}; {_blocks(shared)} shared." if shared else f"{said}."


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _blocks(blocks: Sequence[int]) -> str:
    return f"block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))}"


def _counts(frame: BlockFrame) -> tuple[int, int, int, int]:
    """Blocks that are owned, shared, kept and free."""
    owned = sum(block.owned for block in frame.blocks)
    kept = sum(block.kept for block in frame.blocks)
    shared = sum(len(block.owners) + block.others > 1 for block in frame.blocks)
    return owned, shared, kept, len(frame.blocks) - owned - kept


def _require(frames: Sequence[BlockFrame], frame: int) -> list[str]:
    """The names of all sequences, in the order in which they appear."""
    if not 0 < len(frames) <= MOST["frames"]:
        raise ValueError(f"frames: expected 1 to {MOST['frames']}, got {len(frames)}")
    if not 0 <= frame < len(frames):
        raise ValueError(f"frame: expected 0 to {len(frames) - 1}, got {frame}")
    shapes = {(len(taken.blocks), taken.block_size) for taken in frames}
    n_blocks, slots = max(shapes)
    if len(shapes) > 1 or n_blocks > MOST["blocks"] or slots > MOST["slots"]:
        raise ValueError(
            f"frames: expected all of one pool, of at most {MOST['blocks']} blocks and {MOST['slots']} slots "
            f"in each; got {', '.join(f'{n} blocks of {size}' for n, size in sorted(shapes))}"
        )
    names = list(dict.fromkeys(name for taken in frames for name in taken.tables))
    if len(names) > MOST["sequences"]:
        raise ValueError(f"frames: expected at most {MOST['sequences']} sequences, got {', '.join(names)}")
    return names


def _frame(now: BlockFrame, before: BlockFrame | None, names: Sequence[str]) -> dict[str, Any]:
    """What the script needs of a frame: everything it says is said here."""
    return {
        "says": now.says,
        "summary": summary(now),
        "blocks": [
            {
                "owners": [names.index(owner) for owner in block.owners],
                "others": block.others,
                "kept": block.kept,
                "slots": [visible(token) for token in block.slots],
                "new": block.new,
                "changed": before is not None and _changed(block, before.blocks[index]),
                "about": about_block(now, index),
            }
            for index, block in enumerate(now.blocks)
        ],
        "tables": [
            {
                "name": names.index(name),
                "blocks": blocks,
                "tokens": [visible(token) for token in tokens],
                "about": about_sequence(now, name),
            }
            for name, (blocks, tokens) in now.tables.items()
        ],
    }


def _changed(block: BlockState, before: BlockState) -> bool:
    state = (block.owners, block.others, block.kept)
    return state != (before.owners, before.others, before.kept) or block.new < len(block.slots)


def _picture(frame: BlockFrame, names: Sequence[str], width: int = 62, row: int = 12) -> str:
    """The pool and the tables of one frame as an SVG element."""
    columns = min(8, len(frame.blocks))
    height = (frame.block_size + 1) * row + 10
    drawn = []
    for index, block in enumerate(frame.blocks):
        x, y = index % columns * width, index // columns * height
        drawn.append(f'<g transform="translate({x} {y})">{_card(block, index, frame, names, width, row)}</g>')
    below = -(-len(frame.blocks) // columns) * height + row
    lines = [
        f"{name}: blocks {', '.join(map(str, blocks))}" if blocks else f"{name}: no blocks"
        for name, (blocks, _) in frame.tables.items()
    ]
    drawn += [f'<text y="{below + 15 * i}">{escape(line)}</text>' for i, line in enumerate(lines)]
    size = f"{columns * width} {below + 15 * len(lines) - 6}"
    words = escape(f"{summary(frame)} {tables_in_words(frame)}")
    return (
        f'<svg role="img" aria-label="{words}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="-1 -1 {size}" width="{columns * width}">{"".join(drawn)}</svg>'
    )


def _card(
    block: BlockState, index: int, frame: BlockFrame, names: Sequence[str], width: int, row: int
) -> str:
    """One block: its number, its owners, and its slots one under the other."""
    wide, high = width - 6, frame.block_size * row
    owners = [*block.owners, *(["…"] if block.others else [])]
    state = " ".join(owners) or ("kept" if block.kept else "free")
    kind = "owned" if block.owned else "kept" if block.kept else "free"
    hues = "".join(
        f'<rect class="hue-{names.index(owner) % HUES}" x="{wide * i / len(block.owners):.1f}" y="{row + 1}" '
        f'width="{wide / len(block.owners):.1f}" height="3"/>'
        for i, owner in enumerate(block.owners)
    )
    slots = "".join(
        f'<text class="{"new" if i >= block.new and block.owned else "slot"}" x="3" '
        f'y="{row + 4 + (i + 1) * row - 3}">{escape(_short(token))}</text>'
        for i, token in enumerate(block.slots)
    )
    return (
        f'<text class="number" y="{row - 3}">{index}</text>'
        f'<text class="{"state" if block.owned else "none"}" x="{wide}" y="{row - 3}">{escape(state)}</text>'
        f'<rect class="{kind}" y="{row + 1}" width="{wide}" height="{high + 5}"/>{hues}{slots}'
    )


def _short(token: str, most: int = 9) -> str:
    shown = visible(token)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
