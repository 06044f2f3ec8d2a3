// A generation, step by step: what is computed without a cache and with one, and what has been computed before.
//
// Each side shows one head's table of queries (rows) and keys (columns), and beside it one mark per token: does
// it go through the matrices in this step, or are its keys and values kept? The counters are formulas, the same
// as in decode_steps.py; a test holds the two together.
(function () {
  'use strict';

  const SIDES = [['recompute', 'Without a cache'], ['cache', 'With a cache']];
  const number = new Intl.NumberFormat('en-US');
  const plural = (n, word) => `${number.format(n)}\u00a0${word}${n === 1 ? '' : 's'}`;

  function element(tag, attributes = {}, ...children) {
    const svg = ['svg', 'g', 'path', 'rect'].includes(tag);
    const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const flopsOf = (shape, fresh, seen) => 2 * fresh * shape.matrix_params + 2 * shape.head_params
    + 4 * shape.n_layers * shape.n_heads * shape.head_dim * fresh * seen;
  const bytesOf = (shape, tokens) => 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * shape.itemsize * tokens;
  const freshOf = (side, prompt, step) => (side === 'recompute' ? prompt + step : step ? 1 : prompt);

  // Cells of side 1: computed in this step, computed and masked away, computed in an earlier step.
  function drawSide(size, seen, fresh) {
    const paths = { old: '', masked: '', new: '', kept: '', through: '' };
    for (let i = 0; i < seen; i++) {
      const now = i >= seen - fresh;
      paths[now ? 'new' : 'old'] += `M0 ${i}h${i + 1}v1h-${i + 1}z`;
      if (now && i + 1 < seen) paths.masked += `M${i + 1} ${i}h${seen - i - 1}v1h-${seen - i - 1}z`;
      paths[now ? 'through' : 'kept'] += `M${size + 1} ${i + 0.08}h2v0.84h-2z`;
    }
    const marks = Object.entries(paths).filter(([, d]) => d).map(([kind, d]) =>
      element('path', { class: kind === 'through' ? 'new' : kind, d }));
    return element('svg', { viewBox: `0 0 ${size + 3} ${size}`, 'aria-hidden': 'true' },
      element('rect', { class: 'paper', width: size, height: size }), ...marks);
  }

  function render(host, data) {
    const { tokens, prompt, shape } = data;
    const size = tokens.length - 1; // the last token is written and never read
    const last = tokens.length - prompt - 1;
    let step = data.start;

    // ---- parts
    const back = element('button', { type: 'button' }, '← Back');
    const next = element('button', { type: 'button' }, 'Next →');
    const slider = element('input', { type: 'range', min: 0, max: last, step: 1 });
    const shown = element('output');
    const words = tokens.map((token) => element('code', {}, token));
    const says = element('p', { class: 'tk-ds-says', 'aria-live': 'polite' });
    const frames = SIDES.map(([, title]) => ({ title, picture: element('div', { class: 'tk-ds-side' }) }));
    const swatch = (kind, text) => element('span', {}, element('svg', { viewBox: '0 0 1 1', 'aria-hidden': 'true' },
      element('rect', { class: kind, width: 1, height: 1 })), text);
    const lines = ['Tokens through the matrices', 'Query–key pairs per head', 'FLOPs, this step', 'FLOPs so far', 'Keys and values kept, bytes']
      .map((title) => ({ title, cells: SIDES.map(() => element('td')) }));
    const table = element('table', {},
      element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, 'Count'), ...SIDES.map(([, title]) => element('th', { scope: 'col' }, title)))),
      element('tbody', {}, ...lines.map((line) => element('tr', {}, element('th', { scope: 'row' }, line.title), ...line.cells))));

    host.replaceChildren(element('div', { class: 'tk-ds' },
      element('div', { class: 'tk-ds-choice' }, back, next, element('label', {}, 'Step', slider, shown)),
      element('div', { class: 'tk-ds-text', role: 'img', 'aria-label': `The text: ${tokens.join(' ')}` }, ...words),
      says,
      element('div', { class: 'tk-ds-sides' }, ...frames.map((frame) =>
        element('div', {}, element('h4', {}, frame.title), frame.picture))),
      element('p', { class: 'tk-ds-key', 'aria-hidden': 'true' },
        swatch('new', 'computed in this step'), swatch('masked', 'computed, then masked away'),
        swatch('old', 'computed before, not again'), swatch('kept', 'key and value kept')),
      element('p', { class: 'tk-ds-key' }, 'One row per token that asks, one column per token that is read; beside the rows, one mark per token.'),
      table));

    // ---- behaviour
    const choose = (to) => { step = Math.max(0, Math.min(last, to)); update(); };
    back.addEventListener('click', () => choose(step - 1));
    next.addEventListener('click', () => choose(step + 1));
    slider.addEventListener('input', () => choose(Number(slider.value)));

    function counts(side, at) {
      const seen = prompt + at;
      const fresh = freshOf(side, prompt, at);
      let total = 0;
      for (let s = 0; s <= at; s++) total += flopsOf(shape, freshOf(side, prompt, s), prompt + s);
      return [fresh, fresh * seen, flopsOf(shape, fresh, seen), total, side === 'cache' ? bytesOf(shape, seen) : 0];
    }

    function update() {
      const seen = prompt + step;
      slider.value = step;
      shown.textContent = `${step} of ${last}`;
      back.setAttribute('aria-disabled', step === 0); // not `disabled`: the focus must stay where it is
      next.setAttribute('aria-disabled', step === last);
      words.forEach((word, i) => {
        const read = step ? i === seen - 1 : i < prompt;
        word.className = i === seen ? 'written' : i > seen ? 'later' : read ? 'read' : '';
      });
      const both = SIDES.map(([side]) => counts(side, step));
      frames.forEach((frame, i) => frame.picture.replaceChildren(drawSide(size, seen, both[i][0])));
      lines.forEach((line, row) => line.cells.forEach((cell, i) => { cell.textContent = number.format(both[i][row]); }));
      const input = step ? `reads ‘${tokens[seen - 1]}’` : `reads the prompt, ${plural(prompt, 'token')},`;
      const ratio = both[0][2] / both[1][2];
      const verdict = both[0][0] === both[1][0] ? 'Both sides do the same work.'
        : `Without a cache, ${plural(both[0][0], 'token')} go through the model; with one, ${plural(both[1][0], 'token')}: ${ratio.toFixed(1)} times fewer FLOPs.`;
      says.textContent = `Step ${step} ${input} and writes ‘${tokens[seen]}’. ${verdict}`;
    }

    update();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.decode_steps = { render };
})();
