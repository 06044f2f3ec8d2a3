// A pool of blocks and the block tables of some sequences, frame by frame.
//
// Each block is a card with a line for each slot; under the pool, each sequence with the blocks that its table lists.
// What is said of a frame, a block and a sequence comes with the data, from block_table.py.
(function () {
  'use strict';

  const { element, sentence } = window.teachkitParts;

  const HUES = 4;

  function render(host, data) {
    const { frames, names, slots } = data;
    const last = frames.length - 1;
    let at = data.start;
    let held = null; // the block or sequence that was clicked: ['block', 3] or ['sequence', 'A']
    let passing = null; // the one under the mouse, or with the focus

    // ---- parts
    const back = element('button', { type: 'button' }, '← Back');
    const next = element('button', { type: 'button' }, 'Next →');
    const slider = element('input', { type: 'range', min: 0, max: last, step: 1 });
    const shown = element('span', { 'aria-hidden': 'true' }); // the slider says it, too
    const says = sentence({ class: 'tk-bt-says' });
    const note = sentence({ class: 'tk-bt-note' });
    const blocks = frames[0].blocks.map((_, index) => element('button', { type: 'button', tabindex: index ? -1 : 0 }));
    const pool = element('div', { class: 'tk-bt-pool', style: `--blocks: ${blocks.length}`, role: 'group', 'aria-label': 'Blocks of the pool; arrow keys move' }, ...blocks);
    const rows = names.map((name, i) => ({
      button: element('button', { type: 'button', class: `hue-${i % HUES}` }, element('i', { 'aria-hidden': 'true' }), name),
      entries: element('div', { class: 'tk-bt-entries' }),
    }));
    rows.forEach((row) => { row.line = element('div', { class: 'tk-bt-table' }, row.button, row.entries); });
    const tables = element('div', { class: 'tk-bt-tables', role: 'group', 'aria-label': 'Block tables' });
    const none = element('p', { class: 'tk-bt-none' }, 'No sequence owns a block.');
    const swatch = (kind, text) => element('span', {}, element('i', { class: kind }), text);

    host.replaceChildren(element('div', { class: 'tk-bt' },
      element('div', { class: 'tk-bt-choice' }, back, next, element('label', {}, 'Frame', slider, shown)),
      says.box,
      element('div', {}, element('p', { class: 'tk-title' }, `The pool: ${blocks.length} blocks of ${slots} slots`), pool),
      element('div', {}, element('p', { class: 'tk-title' }, 'Block tables: place in the text → block'), tables),
      note.box,
      element('p', { class: 'tk-bt-key', 'aria-hidden': 'true' },
        swatch('changed', 'changed since the frame before'), swatch('new', 'token written since then'),
        swatch('shared', 'more than one owner'), swatch('kept', 'kept: no owner, can be found again'), swatch('free', 'free'))));

    // ---- what a frame shows
    function drawBlock(button, block, index) {
      const kind = block.kept ? 'kept' : block.owners.length || block.others ? 'owned' : 'free';
      const owners = [...block.owners.map((i) => names[i]), ...(block.others ? [`+${block.others}`] : [])];
      button.className = `${kind}${block.changed ? ' changed' : ''}`;
      button.setAttribute('aria-description', block.about);
      button.replaceChildren(
        element('span', { class: 'head' }, element('b', {}, String(index)), element('span', {}, owners.join(' ') || kind)),
        element('span', { class: 'band' }, ...block.owners.map((i) => element('i', { class: `hue-${i % HUES}` }))),
        element('span', { class: 'tk-bt-slots' }, ...Array.from({ length: slots }, (_, i) =>
          element('code', block.owners.length && i >= block.new && i < block.slots.length ? { class: 'new' } : {}, block.slots[i] ?? ''))));
    }

    function entry(frame, table, place) {
      const block = frame.blocks[table.blocks[place]];
      const text = table.tokens.slice(place * slots, (place + 1) * slots).join(' ');
      const box = element('span', block.owners.length + block.others > 1 ? { class: 'shared' } : {},
        element('small', {}, `${place} → ${table.blocks[place]}`), element('code', {}, text));
      box.addEventListener('pointerenter', () => point(['block', table.blocks[place]]));
      box.addEventListener('pointerleave', () => point(null));
      return box;
    }

    function drawTables(frame) {
      const lines = frame.tables.map((table) => {
        const row = rows[table.name];
        row.button.setAttribute('aria-label', table.about);
        row.entries.replaceChildren(...(table.blocks.length
          ? table.blocks.map((_, place) => entry(frame, table, place)) : [element('em', {}, 'no blocks')]));
        return row.line;
      });
      // Lines that stay must not leave the page on the way: the focus would be lost.
      rows.forEach((row) => { if (!lines.includes(row.line)) row.line.remove(); });
      lines.forEach((line, i) => { if (tables.children[i] !== line) tables.insertBefore(line, tables.children[i] ?? null); });
      if (lines.length) none.remove();
      else tables.append(none);
    }

    // Whatever has nothing to do with the chosen block or sequence steps back.
    function highlight(aloud) {
      const frame = frames[at];
      const chosen = passing ?? held;
      const [kind, key] = chosen ?? [];
      const table = kind === 'sequence' ? frame.tables.find((t) => t.name === key) : null;
      blocks.forEach((button, i) => {
        const near = !chosen || (kind === 'block' ? i === key : Boolean(table && table.blocks.includes(i)));
        button.classList.toggle('far', !near);
        button.setAttribute('aria-pressed', Boolean(held && held[0] === 'block' && held[1] === i));
      });
      frame.tables.forEach((t) => {
        rows[t.name].button.setAttribute('aria-pressed', Boolean(held && held[0] === 'sequence' && held[1] === t.name));
        rows[t.name].button.classList.toggle('far', Boolean(chosen) && (kind === 'block' ? !t.blocks.includes(key) : t.name !== key));
        [...rows[t.name].entries.children].forEach((box, place) => {
          const block = t.blocks[place];
          const near = !chosen || (kind === 'block' ? block === key : Boolean(table && table.blocks.includes(block)));
          box.classList.toggle('far', !near);
        });
      });
      const about = kind === 'block' ? frame.blocks[key].about
        : table ? table.about : kind ? `${names[key]} is not in this frame.` : frame.summary;
      note.say(about, aloud);
    }

    // ---- behaviour
    function point(what) { passing = what; highlight(false); }
    function hold(what) {
      held = held && held[0] === what[0] && held[1] === what[1] ? null : what;
      passing = null;
      highlight(true);
    }

    function step(to) {
      const all = blocks.map((button) => button.offsetTop);
      const columns = Math.max(1, all.filter((top) => top === all[0]).length);
      return { ArrowRight: to + 1, ArrowLeft: to - 1, ArrowDown: to + columns, ArrowUp: to - columns, Home: 0, End: blocks.length - 1 };
    }

    blocks.forEach((button, i) => {
      button.addEventListener('click', () => hold(['block', i]));
      button.addEventListener('pointerenter', () => point(['block', i]));
      button.addEventListener('pointerleave', () => point(null));
      button.addEventListener('focus', () => {
        blocks.forEach((other) => other.setAttribute('tabindex', other === button ? 0 : -1));
        if (button.matches(':focus-visible')) point(['block', i]);
      });
      button.addEventListener('blur', () => point(null));
      button.addEventListener('keydown', (event) => {
        const to = step(i)[event.key];
        if (to === undefined) return;
        event.preventDefault();
        if (blocks[to]) blocks[to].focus();
      });
    });
    rows.forEach(({ button }, i) => {
      button.addEventListener('click', () => hold(['sequence', i]));
      button.addEventListener('pointerenter', () => point(['sequence', i]));
      button.addEventListener('pointerleave', () => point(null));
      button.addEventListener('focus', () => { if (button.matches(':focus-visible')) point(['sequence', i]); });
      button.addEventListener('blur', () => point(null));
    });

    function choose(to, done) { at = Math.max(0, Math.min(last, to)); update(done); }
    back.addEventListener('click', () => choose(at - 1, true));
    next.addEventListener('click', () => choose(at + 1, true));
    slider.addEventListener('input', () => choose(Number(slider.value), false));
    slider.addEventListener('change', () => choose(Number(slider.value), true));

    function update(done) {
      const frame = frames[at];
      slider.value = at;
      shown.textContent = `${at + 1} of ${last + 1}`;
      slider.setAttribute('aria-valuetext', shown.textContent);
      back.setAttribute('aria-disabled', at === 0); // not `disabled`: the focus must stay where it is
      next.setAttribute('aria-disabled', at === last);
      blocks.forEach((button, i) => drawBlock(button, frame.blocks[i], i));
      drawTables(frame);
      says.say(frame.says, done);
      highlight(done);
    }

    update(false);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.block_table = { render };
})();
