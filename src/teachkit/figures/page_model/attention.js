// Attention in the figure of the model in the page: all heads, one of them large, and a sentence on it.
(function () {
  'use strict';

  const { field } = window.teachkitPageModel;
  const { visible, count, SPACE } = window.teachkitPageModel.words;
  const element = (...given) => window.teachkitParts.element(...given); // figure.js comes later in the page

  const SHADES = 20;
  const shade = (p) => p ** 0.6; // as in attention_explorer.js
  const NAMED = 24; // with more tokens than this, names beside the map would be too small to read

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

  // One Tab stop for all heads, and arrow keys among them. Returns what gives the stop to one of them.
  function roving(buttons, columns, choose) {
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
    return (i) => buttons.forEach((button, j) => { button.tabIndex = i === j ? 0 : -1; });
  }

  class AttentionView {
    constructor() {
      this.overview = element('div', { class: 'tk-pm-heads', role: 'group', 'aria-label': 'All heads' });
      this.heading = element('p', { class: 'tk-title' });
      this.title = element('p', { class: 'tk-title' });
      this.map = element('div', { class: 'tk-pm-map' });
      this.names = element('div', { class: 'tk-pm-names', 'aria-hidden': 'true' });
      this.below = element('div', { class: 'tk-pm-below', 'aria-hidden': 'true' });
      this.querySelect = element('select');
      this.says = window.teachkitParts.sentence({ class: 'tk-pm-says' });
      Object.assign(this, { layer: 0, head: 0, query: 0, answer: null, of: '', buttons: [], focus: null });
      this.box = this.arranged();
      this.querySelect.addEventListener('change', () => this.choose({ query: Number(this.querySelect.value) }, true));
      this.map.addEventListener('click', (event) => this.choose({ query: this.rowAt(event.clientY) }, true));
    }

    arranged() {
      return element('div', { class: 'tk-pm-attention', hidden: '' },
        element('div', {}, this.heading,
          element('div', { class: 'tk-pm-scroll' }, this.overview),
          element('p', { class: 'tk-pm-note' }, 'One row per layer, one column per head. A row of a map is a token that reads, a column a token read.')),
        element('div', {}, this.title, element('div', { class: 'tk-pm-framed' }, this.names, this.map, this.below),
          field('Token that reads', this.querySelect), this.says.box));
    }

    // What a longer text's maps leave out must be said wherever they are spoken of.
    part() {
      const { shown, tokens } = this.answer;
      return shown < tokens.length ? `the first ${shown} of ${count(tokens.length)} tokens` : '';
    }

    // of   if not '': what the maps are of, where that is not the text and the weights of now
    mark(of) {
      if (!this.answer) return;
      const after = [this.part(), of].filter(Boolean).map((words) => `, ${words}`).join('');
      this.heading.textContent = `Attention of all heads${after}`;
      this.title.textContent = `Layer ${this.layer}, head ${this.head}${of && `, ${of}`}`;
      this.of = of;
    }

    // answer   of the worker to `run`: levels 0 to 255, layer by layer, head by head, row by row
    show(answer) {
      this.box.hidden = answer.shown === 0;
      if (this.box.hidden) return;
      this.answer = answer;
      this.labels = answer.tokens.slice(0, answer.shown).map(({ label }) => visible(label));
      this.query = answer.shown - 1;
      this.querySelect.replaceChildren(...this.labels.map((label, i) => element('option', { value: i }, `${i} ‘${label}’`)));
      const named = this.labels.length > NAMED ? [] : this.labels;
      [this.names, this.below].forEach((side) => side.replaceChildren(...named.map((label) => element('span', {}, label))));
      if (!this.buttons.length) this.makeGrid();
      this.buttons.forEach((button, i) => button.replaceChildren(
        drawMap(answer.shown, this.rowOf(Math.floor(i / answer.heads), i % answer.heads))));
      this.of = '';
      this.choose({}, false);
    }

    makeGrid() {
      const { layers, heads } = this.answer;
      this.overview.style.setProperty('--heads', heads);
      for (let layer = 0; layer < layers; layer++) {
        this.overview.append(element('span', { 'aria-hidden': 'true' }, String(layer)));
        for (let head = 0; head < heads; head++) {
          this.buttons.push(element('button', { type: 'button', 'aria-label': `Layer ${layer}, head ${head}` }));
          this.overview.append(this.buttons.at(-1));
        }
      }
      this.focus = roving(this.buttons, heads, (i) => this.choose({ layer: Math.floor(i / heads), head: i % heads }, true));
    }

    rowOf(layer, head) {
      const { shown, heads, levels } = this.answer;
      return (query) => {
        const start = ((layer * heads + head) * shown + query) * shown;
        return levels.subarray(start, start + shown);
      };
    }

    // The row of the large map at that height of the window.
    rowAt(y) {
      const { top, height } = this.map.firstChild.getBoundingClientRect();
      const row = Math.floor((y - top) / height * this.answer.shown);
      return Math.max(0, Math.min(this.answer.shown - 1, row));
    }

    choose(change, aloud) {
      Object.assign(this, change);
      const { layer, head, query, answer } = this;
      this.mark(this.of);
      this.querySelect.value = query;
      const drawing = drawMap(answer.shown, this.rowOf(layer, head));
      drawing.append(element('rect', { class: 'band', y: query, width: answer.shown, height: 1 }));
      this.map.replaceChildren(drawing);
      [...this.names.children].forEach((name, i) => name.classList.toggle('chosen', i === query));
      this.buttons.forEach((button, i) => button.setAttribute('aria-pressed', i === layer * answer.heads + head));
      this.focus(layer * answer.heads + head);
      this.says.say(`Layer ${layer}, head ${head}. ${this.reads()} ${this.average()}`, aloud);
    }

    reads() {
      const { query, labels } = this;
      const row = this.rowOf(this.layer, this.head)(query);
      const order = [...row.keys()].sort((a, b) => row[b] - row[a] || a - b).slice(0, 3).filter((key) => row[key] > 2);
      const named = order.map((key) => `‘${labels[key]}’${key === query ? ' (itself)' : ''} ${Math.round(row[key] / 2.55)}${SPACE}%`);
      return `Token ${query}, ‘${labels[query]}’, reads ${named.join(', ')}.`;
    }

    // Without the first token, which can read nothing but itself.
    average() {
      const S = this.answer.shown;
      if (S < 3) return '';
      const row = this.rowOf(this.layer, this.head);
      const mean = (keyOf) => Array.from({ length: S - 1 }, (_, i) => row(i + 1)[keyOf(i + 1)]).reduce((a, b) => a + b) / (S - 1);
      const parts = [['the token before', (q) => q - 1], ['the first', () => 0], ['itself', (q) => q]];
      const over = this.part() ? `Over ${this.part()}, without the very first` : 'Over all tokens but the first';
      return `${over}, its mean weight on ${parts.map(([name, keyOf]) => `${name} is ${Math.round(mean(keyOf) / 2.55)}${SPACE}%`).join(', on ')}.`;
    }
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel, { AttentionView });
})();
