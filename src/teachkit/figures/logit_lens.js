// Logit lens: what the model would say next if it were read after each layer.
//
// One row per token, one column per reading. A cell shows the likeliest next token, shaded by its probability; the
// chosen cell's five likeliest stand below. A tick marks the token that really came next.
//
// A classic script without imports or requests, so it runs in a notebook, in the book and from file:// alike.
(function () {
  'use strict';

  // Behind text the shade goes only to a half, so that the letters stay readable; the curve keeps 5 % visible.
  const shade = (percent) => (percent / 100) ** 0.6 / 2;

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children); // strings become text nodes: a token can never turn into markup
    return node;
  }

  function render(host, data) {
    const { tokens, labels, pieces, percents } = data;
    const state = { ...data.start };
    const where = (reading) => (reading === 0 ? 'the embedding, before any layer' : `after ${labels[reading]}`);
    const cameNext = (reading, token) => pieces[reading][token][0] === tokens[token + 1];

    // ---- parts
    const cells = []; // [token][reading]
    const corner = element('span', { class: 'tk-ll-token' }, 'token');
    const grid = element('div', { class: 'tk-ll-grid', role: 'group', 'aria-label': 'Readings: one row per token, one column per layer', style: `--readings: ${labels.length}` },
      corner, ...labels.map((label) => element('span', { class: 'tk-ll-label' }, label)));
    tokens.forEach((token, i) => {
      grid.append(element('code', { class: 'tk-ll-token' }, token));
      cells.push(labels.map((label, r) => {
        const right = cameNext(r, i);
        const button = element('button', {
          type: 'button',
          'aria-label': `${label}, token ${i}, ‘${token}’: ‘${pieces[r][i][0]}’ ${percents[r][i][0]} %${right ? ', which came next' : ''}`,
          style: `--w: ${shade(percents[r][i][0]).toFixed(3)}`,
        }, element('code', {}, pieces[r][i][0]));
        if (right) button.prepend(element('i', { 'aria-hidden': 'true' }, '✓'));
        button.addEventListener('click', () => choose(r, i));
        button.addEventListener('keydown', (event) => move(event, r, i));
        grid.append(button);
        return button;
      }));
    });
    const title = element('h4');
    const bars = element('ol', { class: 'tk-ll-bars' });
    const next = element('p', { class: 'tk-ll-next' });
    // Unseen: what a screen reader hears when the choice changes.
    const live = element('p', { 'aria-live': 'polite', class: 'tk-ll-live' });

    host.replaceChildren(element('div', { class: 'tk-ll' },
      element('p', { class: 'tk-ll-hint' }, 'Each cell: the likeliest next token, if the stream is read there; the stronger the shade, the likelier. ✓: it did come next. Choose a cell, by the arrow keys too.'),
      element('div', { class: 'tk-ll-scroll' }, grid),
      element('div', { class: 'tk-ll-chosen' }, title, bars, next, live)));

    // ---- behaviour
    function move(event, reading, token) {
      const to = {
        ArrowLeft: [reading - 1, token],
        ArrowRight: [reading + 1, token],
        ArrowUp: [reading, token - 1],
        ArrowDown: [reading, token + 1],
        Home: [0, token],
        End: [labels.length - 1, token],
      }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault(); // the page must not scroll under the reader
      if (!(cells[to[1]] && cells[to[1]][to[0]])) return;
      choose(...to);
      cells[to[1]][to[0]].focus();
    }

    function choose(reading, token) {
      state.reading = reading;
      state.token = token;
      show();
      live.textContent = says();
    }

    function says() {
      const { reading, token } = state;
      const likeliest = pieces[reading][token].map((piece, k) => `‘${piece}’ ${percents[reading][token][k]}\u00a0%`);
      return `${title.textContent}: ${likeliest.join(', ')}. ${next.textContent}`;
    }

    // ---- view
    function show() {
      const { reading, token } = state;
      cells.forEach((row, i) => row.forEach((button, r) => {
        const chosen = r === reading && i === token;
        button.setAttribute('aria-pressed', chosen);
        button.tabIndex = chosen ? 0 : -1; // one Tab stop for all cells, arrow keys within
      }));
      title.textContent = `Token ${token}, ‘${tokens[token]}’, ${where(reading)}`;
      bars.replaceChildren(...pieces[reading][token].map((piece, k) => {
        const percent = percents[reading][token][k];
        const bar = element('span', { class: 'tk-ll-bar' }, element('i', { style: `width: ${percent}%` }));
        return element('li', {}, element('code', {}, piece), bar, element('span', { class: 'tk-ll-percent' }, `${percent}\u00a0%`));
      }));
      next.textContent = token + 1 < tokens.length ? `In the text comes ‘${tokens[token + 1]}’.` : 'Here the text ends.';
    }

    show();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.logit_lens = { render };
})();
