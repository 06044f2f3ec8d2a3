// Attention explorer: every head of every layer on one piece of text.
//
// Three views of the same numbers, kept in step: the sentence (which keys the chosen query reads), the map of
// the chosen head (all queries at once), and small maps of all heads (to find one worth looking at).
//
// A classic script without imports or requests, so it runs in a notebook, in the book and from file:// alike.
// Everything is drawn as SVG and CSS in the page's own variables: a switch to dark needs no code here.
(function () {
  'use strict';

  const { element } = window.teachkitParts;

  // Weights are spread over several powers of ten. This curve keeps 2 % visible beside 90 %; it is monotone, and
  // the scale under the map shows it.
  const shade = (p) => p ** 0.6;
  // One path per shade instead of one rectangle per weight: 24 maps of 32 tokens would be 12,000 elements.
  const SHADES = 20;
  // Behind text the shade goes only this far, so that the letters stay readable on it.
  const BEHIND_TEXT = 0.5;
  const LABELLED = 32; // with more tokens than this, names beside the map would be too small to read
  const percent = (level) => Math.round((level * 100) / 255);

  function unpack(data) {
    const raw = atob(data.attention);
    const levels = Uint8Array.from(raw, (c) => c.charCodeAt(0));
    const S = data.tokens.length;
    // Row-major (L, H, S, S): the row of one query is a view, not a copy.
    return (layer, head, query) => {
      const start = ((layer * data.heads + head) * S + query) * S;
      return levels.subarray(start, start + S);
    };
  }

  // The map of one head in a coordinate system where each weight is a square of side 1.
  function drawMap(S, rowOf) {
    const paths = Array.from({ length: SHADES + 1 }, () => '');
    for (let query = 0; query < S; query++) {
      rowOf(query).forEach((level, key) => {
        paths[Math.round(shade(level / 255) * SHADES)] += `M${key} ${query}h1v1h-1z`;
      });
    }
    const cells = element('g');
    paths.forEach((d, step) => {
      if (d && step) cells.append(element('path', { d, 'fill-opacity': step / SHADES }));
    });
    const paper = element('rect', { class: 'paper', width: S, height: S });
    return element('svg', { viewBox: `0 0 ${S} ${S}`, 'aria-hidden': 'true' }, paper, cells);
  }

  // One Tab stop for a group of buttons and arrow keys within it: leaving 24 heads takes one key, not 24.
  function roving(buttons, columns, choose) {
    const focus = (i) => {
      buttons.forEach((button, j) => { button.tabIndex = i === j ? 0 : -1; });
    };
    buttons.forEach((button, i) => {
      button.addEventListener('click', () => choose(i));
      button.addEventListener('keydown', (event) => {
        const to = {
          ArrowLeft: i - 1,
          ArrowRight: i + 1,
          ArrowUp: i - columns,
          ArrowDown: i + columns,
          Home: 0,
          End: buttons.length - 1,
        }[event.key];
        if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault(); // the page must not scroll under the reader
        if (to < 0 || to >= buttons.length) return;
        choose(to);
        buttons[to].focus();
      });
    });
    return focus;
  }

  function select(name, count, change) {
    const options = Array.from({ length: count }, (_, i) => element('option', { value: i }, String(i)));
    const box = element('select', {}, ...options);
    box.addEventListener('change', () => change(Number(box.value)));
    return { box, label: element('label', {}, name, box) };
  }

  function render(host, data) {
    const S = data.tokens.length;
    const rowOf = unpack(data);
    const state = { ...data.start };
    let hovered = null; // a query under the pointer; shown until the pointer leaves, never announced

    // ---- parts
    const layerSelect = select('Layer', data.layers, (layer) => update({ layer }));
    const headSelect = select('Head', data.heads, (head) => update({ head }));

    const tokenButtons = data.tokens.map((token) =>
      element('button', { type: 'button' }, element('code', {}, token), element('small')));
    const sentence = element('div', { class: 'tk-ae-tokens', role: 'group', 'aria-label': 'Tokens: choose the one that reads' }, ...tokenButtons);
    const says = element('p', { class: 'tk-ae-says' });
    // A second, unseen copy is what a screen reader hears: it follows choices only, not every move of a mouse.
    const live = element('p', { 'aria-live': 'polite', class: 'tk-unseen' });

    const mapTitle = element('p', { class: 'tk-title' });
    const map = element('div', { class: 'tk-ae-map' });
    const names = element('div', { class: 'tk-ae-names', 'aria-hidden': 'true' },
      ...(S > LABELLED ? [] : data.tokens.map((token) => element('span', {}, token))));
    const scale = element('p', { class: 'tk-ae-scale', 'aria-hidden': 'true' }, ...[0.01, 0.05, 0.25, 1].map((p) => {
      const colour = `color-mix(in srgb, var(--tk-accent) ${(100 * shade(p)).toFixed()}%, transparent)`;
      return element('span', {}, element('i', { style: `--c: ${colour}` }), `${100 * p}\u00a0%`);
    }));

    const headButtons = [];
    const overview = element('div', { class: 'tk-ae-heads', role: 'group', 'aria-label': 'All heads', style: `--heads: ${data.heads}` });
    overview.append(element('span'));
    for (let head = 0; head < data.heads; head++) overview.append(element('span', { 'aria-hidden': 'true' }, String(head)));
    for (let layer = 0; layer < data.layers; layer++) {
      overview.append(element('span', { 'aria-hidden': 'true' }, String(layer)));
      for (let head = 0; head < data.heads; head++) {
        const button = element('button', { type: 'button', 'aria-label': `Layer ${layer}, head ${head}` },
          drawMap(S, (query) => rowOf(layer, head, query)));
        headButtons.push(button);
        overview.append(button);
      }
    }

    host.replaceChildren(element('div', { class: 'tk-ae' },
      element('div', { class: 'tk-ae-choice' }, layerSelect.label, headSelect.label),
      element('div', {},
        element('p', { class: 'tk-ae-hint' }, 'Choose a token: the shade shows how much it reads of each token. ← and → move along.'),
        sentence),
      element('div', {}, says, live),
      element('div', { class: 'tk-ae-maps' },
        element('div', {}, mapTitle, element('div', { class: 'tk-ae-framed' }, names, map),
          element('p', { class: 'tk-ae-axes' }, 'One row per reading token (query), one column per token read (key).'), scale),
        element('div', {}, element('p', { class: 'tk-title' }, 'All heads'), element('div', { class: 'tk-ae-scroll' }, overview),
          element('p', { class: 'tk-ae-axes' }, 'One row per layer, one column per head.')))));

    // ---- behaviour
    const focusToken = roving(tokenButtons, S, (token) => update({ token }));
    const focusHead = roving(headButtons, data.heads, (i) =>
      update({ layer: Math.floor(i / data.heads), head: i % data.heads }));

    tokenButtons.forEach((button, token) => {
      button.addEventListener('pointerenter', (event) => { if (event.pointerType === 'mouse') hover(token); });
    });
    sentence.addEventListener('pointerleave', () => hover(null));
    const rowUnder = (event) => {
      const box = map.firstChild.getBoundingClientRect();
      return Math.max(0, Math.min(S - 1, Math.floor(((event.clientY - box.top) / box.height) * S)));
    };
    map.addEventListener('pointermove', (event) => { if (event.pointerType === 'mouse') hover(rowUnder(event)); });
    map.addEventListener('pointerleave', () => hover(null));
    map.addEventListener('click', (event) => update({ token: rowUnder(event) }));

    function hover(token) {
      hovered = token;
      showQuery();
    }

    function update(change) {
      Object.assign(state, change);
      hovered = null;
      showHead();
      showQuery();
      live.textContent = `Layer ${state.layer}, head ${state.head}. ${says.textContent}`;
    }

    // ---- views
    function showHead() {
      layerSelect.box.value = state.layer;
      headSelect.box.value = state.head;
      mapTitle.textContent = `Layer ${state.layer}, head ${state.head}`;
      const drawing = drawMap(S, (query) => rowOf(state.layer, state.head, query));
      drawing.append(element('rect', { class: 'band', width: S, height: 1 }));
      map.replaceChildren(drawing);
      const chosen = state.layer * data.heads + state.head;
      headButtons.forEach((button, i) => button.setAttribute('aria-pressed', i === chosen));
      focusHead(chosen);
    }

    function showQuery() {
      const query = hovered ?? state.token;
      const row = rowOf(state.layer, state.head, query);
      tokenButtons.forEach((button, key) => {
        const weight = shade(row[key] / 255);
        button.style.setProperty('--w', (weight * BEHIND_TEXT).toFixed(3));
        button.classList.toggle('after', key > query && row[key] === 0); // a causal model cannot read these
        button.lastChild.textContent = percent(row[key]) ? `${percent(row[key])}\u00a0%` : '';
        button.setAttribute('aria-pressed', key === query);
      });
      focusToken(state.token);
      map.querySelector('.band').setAttribute('y', query);
      [...names.children].forEach((name, i) => name.classList.toggle('chosen', i === query));
      says.textContent = sentenceFor(query, row);
    }

    function sentenceFor(query, row) {
      const order = [...row.keys()].sort((a, b) => row[b] - row[a] || a - b);
      const top = order.slice(0, 3).filter((key) => percent(row[key]) > 0);
      const named = top.map((key) => `‘${data.tokens[key]}’${key === query ? ' (itself)' : ''} ${percent(row[key])}\u00a0%`);
      const rest = 100 - top.reduce((sum, key) => sum + percent(row[key]), 0);
      const others = rest > 0 ? `; all others ${rest}\u00a0%` : '';
      return `Token ${query}, ‘${data.tokens[query]}’, reads: ${named.join(', ')}${others}.`;
    }

    showHead();
    showQuery();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.attention_explorer = { render };
})();
