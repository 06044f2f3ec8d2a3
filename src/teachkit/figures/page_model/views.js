// What the figure of the model in the page shows: tokens, next tokens, attention, and a table of runs.
(function () {
  'use strict';

  const { visible, percent, count, short, many, bytes, orNone, SPACE, DECODING } = window.teachkitPageModel.words;

  const SHADES = 20;
  const shade = (p) => p ** 0.6; // as in attention_explorer.js
  const NAMED = 24; // with more tokens than this, names beside the map would be too small to read
  const MOST_TOKENS = 240; // shown one by one
  const RUNS = 8; // rows of the table

  // parts   window.teachkitParts, which comes later in the page than this script
  function views({ element, sentence }) {
    function field(name, input) {
      return element('label', { class: 'tk-pm-field' }, element('span', {}, name), input);
    }

    function menu(options) {
      return element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
    }

    // The map of one head; each weight is a square of side 1, and all of one shade are one path.
    function drawMap(S, rowOf) {
      const paths = Array.from({ length: SHADES + 1 }, () => '');
      for (let query = 0; query < S; query++) {
        const row = rowOf(query);
        for (let key = 0; key <= query; key++) paths[Math.round(shade(row[key] / 255) * SHADES)] += `M${key} ${query}h1v1h-1z`;
      }
      const cells = element('g');
      paths.forEach((d, step) => { if (d && step) cells.append(element('path', { d, 'fill-opacity': step / SHADES })); });
      return element('svg', { viewBox: `0 0 ${S} ${S}`, 'aria-hidden': 'true' },
        element('rect', { class: 'paper', width: S, height: S }), cells);
    }

    // One Tab stop for all heads, and arrow keys among them.
    function roving(buttons, columns, choose) {
      const focus = (i) => buttons.forEach((button, j) => { button.tabIndex = i === j ? 0 : -1; });
      buttons.forEach((button, i) => {
        button.addEventListener('click', () => choose(i));
        button.addEventListener('keydown', (event) => {
          const to = { ArrowLeft: i - 1, ArrowRight: i + 1, ArrowUp: i - columns, ArrowDown: i + columns, Home: 0, End: buttons.length - 1 }[event.key];
          if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
          event.preventDefault();
          if (!buttons[to]) return;
          choose(to);
          buttons[to].focus();
        });
      });
      return focus;
    }

    // ---- views: each is a box and a function that shows an answer in it

    function tokensView() {
      const title = element('p', { class: 'tk-title' }, 'Tokens');
      const list = element('ol');
      // Long texts scroll, by keys too.
      const frame = element('div', { class: 'tk-pm-tokens', tabindex: 0, role: 'region', 'aria-label': 'Tokens and their numbers' }, list);
      function show(tokens) {
        title.textContent = tokens.length === 1 ? '1 token' : `${count(tokens.length)} tokens`;
        list.replaceChildren(...tokens.slice(0, MOST_TOKENS).map(({ token, label }) =>
          element('li', {}, element('code', {}, visible(label)), element('small', {}, String(token)))));
        if (tokens.length > MOST_TOKENS) list.append(element('li', {}, `and ${count(tokens.length - MOST_TOKENS)} more`));
      }
      return { box: element('div', {}, title, frame), show };
    }

    // Bars of the likeliest tokens; a line marks what the weights before these gave, for the same text.
    function nextView() {
      const list = element('ol', { class: 'tk-pm-next', 'aria-label': 'Next tokens and their probabilities' });
      const key = element('p', { class: 'tk-pm-note' });
      function show(scheme, top, before) {
        const largest = Math.max(0, ...top.flatMap(({ p, was }) => [p, was || 0]));
        const full = [0.1, 0.2, 0.5].find((limit) => largest <= limit) ?? 1;
        list.replaceChildren(...top.map(({ label, p, was }) => {
          const track = element('span', { class: 'tk-pm-track' }, element('i', { style: `width:${100 * p / full}%` }));
          if (was !== undefined) track.append(element('b', { style: `left:${100 * was / full}%` }));
          const value = element('span', {}, percent(p));
          if (was !== undefined) value.append(element('small', {}, ` was ${percent(was)}`));
          return element('li', {}, element('code', {}, visible(label)), track, value);
        }));
        key.textContent = top.length
          ? `Bars: ${scheme}. ${before ? `Lines: ${before}, the same text. ` : ''}Full width: ${100 * full}${SPACE}%.`
          : 'Without a text there is nothing to go on from.';
      }
      const wait = () => { key.textContent = 'The model is reading; the bars are still those of the text before.'; };
      return { box: element('div', {}, element('p', { class: 'tk-title' }, 'What comes next'), list, key), show, wait };
    }

    function attentionView() {
      const overview = element('div', { class: 'tk-pm-heads', role: 'group', 'aria-label': 'All heads' });
      const title = element('p', { class: 'tk-title' });
      const map = element('div', { class: 'tk-pm-map' });
      const names = element('div', { class: 'tk-pm-names', 'aria-hidden': 'true' });
      const below = element('div', { class: 'tk-pm-below', 'aria-hidden': 'true' });
      const query = element('select');
      const says = sentence({ class: 'tk-pm-says' });
      const state = { layer: 0, head: 0, query: 0 };
      let shown = null;
      let buttons = [];
      let focus = null;
      const rowOf = (layer, head) => (q) => {
        const S = shown.shown;
        const start = ((layer * shown.heads + head) * S + q) * S;
        return shown.levels.subarray(start, start + S);
      };

      function show(answer) {
        shown = answer;
        box.hidden = answer.shown === 0;
        if (box.hidden) return;
        const labels = answer.tokens.slice(0, answer.shown).map(({ label }) => visible(label));
        Object.assign(shown, { labels });
        state.query = answer.shown - 1;
        query.replaceChildren(...labels.map((label, i) => element('option', { value: i }, `${i} ‘${label}’`)));
        names.replaceChildren(...(labels.length > NAMED ? [] : labels.map((label) => element('span', {}, label))));
        below.replaceChildren(...(labels.length > NAMED ? [] : labels.map((label) => element('span', {}, label))));
        if (!buttons.length) makeGrid();
        buttons.forEach((button, i) => button.replaceChildren(
          drawMap(answer.shown, rowOf(Math.floor(i / answer.heads), i % answer.heads))));
        choose({}, false);
      }

      function makeGrid() {
        overview.style.setProperty('--heads', shown.heads);
        for (let layer = 0; layer < shown.layers; layer++) {
          overview.append(element('span', { 'aria-hidden': 'true' }, String(layer)));
          for (let head = 0; head < shown.heads; head++) {
            buttons.push(element('button', { type: 'button', 'aria-label': `Layer ${layer}, head ${head}` }));
            overview.append(buttons.at(-1));
          }
        }
        focus = roving(buttons, shown.heads, (i) =>
          choose({ layer: Math.floor(i / shown.heads), head: i % shown.heads }, true));
      }

      function choose(change, aloud) {
        Object.assign(state, change);
        const { layer, head } = state;
        title.textContent = `Layer ${layer}, head ${head}`;
        query.value = state.query;
        const drawing = drawMap(shown.shown, rowOf(layer, head));
        drawing.append(element('rect', { class: 'band', y: state.query, width: shown.shown, height: 1 }));
        map.replaceChildren(drawing);
        [...names.children].forEach((name, i) => name.classList.toggle('chosen', i === state.query));
        buttons.forEach((button, i) => button.setAttribute('aria-pressed', i === layer * shown.heads + head));
        focus(layer * shown.heads + head);
        says.say(`Layer ${layer}, head ${head}. ${reads()} ${average()}`, aloud);
      }

      function reads() {
        const row = rowOf(state.layer, state.head)(state.query);
        const order = [...row.keys()].sort((a, b) => row[b] - row[a] || a - b).slice(0, 3).filter((key) => row[key] > 2);
        const named = order.map((key) => `‘${shown.labels[key]}’${key === state.query ? ' (itself)' : ''} ${Math.round(row[key] / 2.55)}${SPACE}%`);
        return `Token ${state.query}, ‘${shown.labels[state.query]}’, reads ${named.join(', ')}.`;
      }

      // Over all tokens but the first, which can read nothing but itself.
      function average() {
        const S = shown.shown;
        if (S < 3) return '';
        const row = rowOf(state.layer, state.head);
        const mean = (keyOf) => Array.from({ length: S - 1 }, (_, i) => row(i + 1)[keyOf(i + 1)]).reduce((a, b) => a + b) / (S - 1);
        const parts = [['the token before', (q) => q - 1], ['the first', () => 0], ['itself', (q) => q]];
        return `Over all tokens but the first, its mean weight on ${parts.map(([name, keyOf]) => `${name} is ${Math.round(mean(keyOf) / 2.55)}${SPACE}%`).join(', on ')}.`;
      }

      query.addEventListener('change', () => choose({ query: Number(query.value) }, true));
      map.addEventListener('click', (event) => {
        const { top, height } = map.firstChild.getBoundingClientRect();
        const row = Math.floor((event.clientY - top) / height * shown.shown);
        choose({ query: Math.max(0, Math.min(shown.shown - 1, row)) }, true);
      });
      const box = element('div', { class: 'tk-pm-attention', hidden: '' },
        element('div', {}, element('p', { class: 'tk-title' }, 'Attention of all heads'),
          element('div', { class: 'tk-pm-scroll' }, overview),
          element('p', { class: 'tk-pm-note' }, 'One row per layer, one column per head. A row of a map is a token that reads, a column a token read.')),
        element('div', {}, title, element('div', { class: 'tk-pm-framed' }, names, map, below),
          field('Token that reads', query), says.box));
      return { box, show };
    }

    // Runs side by side: the same run again takes the place of the one before.
    function runsView() {
      const heads = ['Weights', 'Decoding', 'Tokens read + written', 'Multiply-adds', 'Bytes of weights', 'Bytes of cache', 'Tokens/s', 'What it wrote'];
      const body = element('tbody');
      const table = element('table', {},
        element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { scope: 'col' }, head)))), body);
      const box = element('div', { hidden: '' },
        element('p', { class: 'tk-title' }, 'Your runs, the latest first'),
        element('div', { class: 'tk-pm-runs', tabindex: 0, role: 'region', 'aria-label': 'Your runs' }, table),
        element('p', { class: 'tk-pm-note' }, 'Counted is all that a run did, its first step over the whole text included.'));
      const kept = new Map();
      function add(run) {
        const { scheme, cached, promptTokens, made, temperature, counters } = run;
        const name = [scheme, cached, promptTokens, made, temperature].join();
        kept.delete(name);
        kept.set(name, element('tr', {},
          element('th', { scope: 'row' }, scheme), ...[
            DECODING[cached] + (temperature ? `, temperature ${temperature}` : ''), `${promptTokens} + ${made}`,
            many(counters.multiplyAdds), bytes(counters.weightBytes), orNone(counters.cacheBytes),
            short(made / run.seconds)].map((text) => element('td', {}, text)),
          element('td', {}, element('code', {}, visible(run.text)))));
        if (kept.size > RUNS) kept.delete(kept.keys().next().value);
        body.replaceChildren(...[...kept.values()].reverse());
        box.hidden = false;
      }
      return { box, add };
    }

    return { field, menu, tokensView, nextView, attentionView, runsView };
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel, { views });
})();
