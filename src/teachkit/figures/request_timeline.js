// Requests in rows, steps in columns: what each step computed for whom; below, tokens and blocks of each step.
//
// All schedules are drawn on one scale. The sentence of a step comes with the data, from request_timeline.py.
(function () {
  'use strict';

  const { element, sentence } = window.teachkitParts;

  const [ROW, TALL, LOW, BARS, GAP] = [20, 16, 8, 48, 22]; // pixels
  const NARROWEST = 5; // a step, before the chart is scrolled
  const WIDEST = 30;
  const STACK = ['decode', 'prefill', 'again', 'padding'];
  const number = new Intl.NumberFormat('en-US');

  // ---- marks: rectangles gathered by kind, one path for each
  function marks() {
    const paths = {};
    const put = (kind, d) => { paths[kind] = (paths[kind] ?? '') + d; };
    const fixed = (value) => Number(value.toFixed(2));
    return {
      rect: (kind, x, y, w, h) => put(kind, `M${fixed(x)} ${fixed(y)}h${fixed(w)}v${fixed(h)}h${fixed(-w)}z`),
      put,
      nodes: () => Object.entries(paths).map(([kind, d]) => element('path', { class: kind, d })),
    };
  }

  // What was found stored takes no time: a strip at the front of the step that found it.
  const strip = (w) => Math.max(0.35 * w, Math.min(3, w / 2));

  // A cell: its useful part below, its padding above, and in front what was found stored.
  function drawCell(out, kind, n, reused, padding, x, y, w) {
    const high = kind === 'prefill' || kind === 'again' || n > 1 ? TALL : LOW;
    const useful = high * n / (n + padding);
    const top = y + (ROW - high) / 2;
    out.rect(kind, x, top + high - useful, w, useful);
    if (padding) out.rect('padding', x, top, w, high - useful);
    if (reused) drawState(out, 'reused', x, y, w);
  }

  function drawState(out, state, x, y, w) {
    if (state === 'waiting') out.put(state, `M${x.toFixed(2)} ${y + ROW / 2}h${w.toFixed(2)}`);
    else if (state === 'stalled') out.rect(state, x, y + ROW / 2 - 1, w, 2);
    else if (state === 'reused') out.rect(state, x, y + (ROW - TALL) / 2, strip(w), TALL);
    else {
      const side = Math.max(6, Math.min(w, 10)); // wider than a narrow step, or it could not be seen
      out.put(state, `M${(x + (w - side) / 2).toFixed(2)} ${y + (ROW - side) / 2}l${side} ${side}m0-${side}l-${side} ${side}`);
    }
  }

  function swatch(kind, words) {
    const out = marks();
    const high = kind === 'decode' || kind === 'padding' ? LOW : TALL;
    if (['waiting', 'stalled', 'preempted', 'reused'].includes(kind)) drawState(out, kind, 1, 0, 16);
    else out.rect(kind, 1, (ROW - high) / 2, 16, high);
    return element('span', {}, element('svg', { width: 18, height: ROW, 'aria-hidden': 'true' }, ...out.nodes()), words);
  }

  function render(host, data) {
    const { requests, kinds, most, schedules } = data;
    const rowsHigh = requests.length * ROW;
    const tokensAt = rowsHigh + GAP;
    const blocksAt = tokensAt + BARS + GAP;
    const bottom = most.blocks ? blocksAt + BARS : tokensAt + BARS;
    const height = bottom + 18;
    const state = { schedule: 0, axis: 'steps', step: data.start };

    // ---- parts
    const choices = schedules.map((schedule, i) => element('button', { type: 'button' }, schedule.name));
    const axes = ['steps', 'seconds'].map((axis) => element('button', { type: 'button' }, axis));
    const back = element('button', { type: 'button' }, '← Back');
    const next = element('button', { type: 'button' }, 'Next →');
    const slider = element('input', { type: 'range', min: 0, step: 1 });
    const shown = element('span', { 'aria-hidden': 'true' }); // the slider says it, too
    const says = sentence({ class: 'tk-rt-says' });
    const scroll = element('div', { class: 'tk-rt-scroll', tabindex: 0, role: 'region', 'aria-label': 'Steps' });
    const cursor = element('rect', { class: 'cursor', y: 0, height: bottom });
    const totals = schedules.map((schedule, i) => element('tr', {},
      element('th', { scope: 'row' }, schedule.name), ...data.totals[i].map((text) => element('td', {}, text))));
    const used = new Set(schedules.flatMap((schedule) => schedule.steps.flatMap((step) => [
      ...step.cells.flatMap(([, kind, , reused, padding]) => [kinds[kind], reused ? 'reused' : '', padding ? 'padding' : '']),
      ...['waiting', 'stalled', 'preempted'].filter((name) => step[name].length)])));

    host.replaceChildren(element('div', { class: 'tk-rt' },
      element('div', { class: 'tk-rt-choice' },
        ...(schedules.length > 1 ? [element('div', { role: 'group', 'aria-label': 'Schedule' }, ...choices)] : []),
        element('div', { class: 'axis', role: 'group', 'aria-label': 'Across the chart' }, element('span', { 'aria-hidden': 'true' }, 'Across:'), ...axes)),
      element('div', { class: 'tk-rt-choice' }, back, next, element('label', {}, 'Step', slider, shown)),
      says.box,
      element('div', { class: 'tk-rt-chart' }, drawNames(), scroll),
      element('p', { class: 'tk-rt-key', 'aria-hidden': 'true' },
        ...data.states.filter(([kind]) => used.has(kind)).map(([kind, words]) => swatch(kind, words))),
      element('div', { class: 'tk-rt-totals', tabindex: 0, role: 'region', 'aria-label': 'Totals' }, element('table', {},
        element('thead', {}, element('tr', {}, ...['schedule', ...data.total_names].map((text) => element('th', { scope: 'col' }, text)))),
        element('tbody', {}, ...totals)))));

    function drawNames() {
      const longest = Math.max(...requests.map((name) => Math.min(13, name.length)));
      const wide = Math.max(58, 7.2 * longest + 8);
      const label = (text, y, kind) => element('text', { class: kind, y, x: kind === 'title right' ? wide - 6 : 0 }, text);
      const texts = requests.map((name, i) => label(name.length > 13 ? `${name.slice(0, 12)}…` : name, i * ROW + 14, 'name'));
      const scale = (title, top, y) => [label(title, y + 28, 'title'), label(number.format(top), y + 9, 'title right'), label('0', y + BARS, 'title right')];
      return element('svg', { class: 'tk-rt-names', width: wide, height, 'aria-hidden': 'true' },
        ...texts, ...scale('tokens', most.tokens, tokensAt), ...(most.blocks ? scale('blocks', most.blocks, blocksAt) : []),
        element('text', { class: 'title axis', y: bottom + 14 }, ''));
    }

    // ---- the chart
    let geometry = null; // x of a step, and its width
    function place() {
      const width = Math.max(scroll.clientWidth || 600, NARROWEST * most.steps);
      const per = Math.min(WIDEST, width / most.steps);
      const second = width / most.seconds;
      return state.axis === 'steps'
        ? { width, x: (step, i) => i * per, w: () => per }
        : { width, x: (step) => step.at * second, w: (step) => step.takes * second };
    }

    function ticks(width) {
      const limit = state.axis === 'steps' ? most.steps : most.seconds;
      const pixels = state.axis === 'steps' ? geometry.w() : width / most.seconds;
      const bases = [...Array(10).keys()].flatMap((k) => [1, 2, 5].map((base) => base * 10 ** (k - 5)));
      const every = bases.find((value) => value * pixels >= 44 && (state.axis === 'seconds' || value >= 1)) ?? limit;
      const texts = [];
      for (let k = 0; k * every <= limit; k++) {
        const value = Number((k * every).toPrecision(6));
        const at = state.axis === 'steps' ? (value - 0.5) * pixels : value * pixels;
        if (at >= 0 && at <= width - 8) texts.push(element('text', { class: k ? 'tick' : 'title', x: at, y: bottom + 14 }, number.format(value)));
      }
      return texts;
    }

    function draw() {
      geometry = place();
      const out = marks();
      const bars = marks();
      const counts = [];
      schedules[state.schedule].steps.forEach((step, i, all) => {
        const x = geometry.x(step, i);
        const full = geometry.w(step, i);
        const w = Math.max(0.5, full - Math.min(1, 0.15 * full));
        step.cells.forEach(([row, kind, n, reused, padding]) => {
          drawCell(out, kinds[kind], n, reused, padding, x, row * ROW, w);
          const free = reused ? w - strip(w) : w;
          const written = ['prefill', 'again'].includes(kinds[kind]) && free >= 7 * String(n).length + 1;
          if (written && !padding) counts.push(element('text', { class: 'count', x: x + w - free / 2, y: row * ROW + 14 }, String(n)));
        });
        ['stalled', 'preempted'].forEach((name) => step[name].forEach((row) => drawState(out, name, x, row * ROW, w)));
        drawBars(bars, step, all[i - 1], x, w, full);
      });
      const lines = requests.map((_, i) => element('path', { class: 'line', d: `M0 ${(i + 1) * ROW}h${geometry.width}` }));
      const papers = [tokensAt, ...(most.blocks ? [blocksAt] : [])]
        .map((y) => element('rect', { class: 'paper', y, width: geometry.width, height: BARS }));
      drawWaiting(out);
      drawPool(bars);
      if (most.blocks && schedules[state.schedule].steps.every((step) => step.blocks === null)) {
        counts.push(element('text', { class: 'title', x: 8, y: blocksAt + BARS / 2 + 4 }, 'not counted here'));
      }
      const svg = element('svg', { width: geometry.width, height, 'aria-hidden': 'true' },
        ...lines, ...papers, ...out.nodes(), ...bars.nodes(), ...counts, ...ticks(geometry.width), cursor);
      svg.addEventListener('click', (event) => choose(stepAt(event.clientX - svg.getBoundingClientRect().left), true));
      scroll.replaceChildren(svg);
      host.querySelector('.tk-rt-names .axis').textContent = state.axis === 'steps' ? 'step' : 'seconds';
    }

    function drawBars(bars, step, before, x, w, full) {
      let below = 0;
      STACK.forEach((kind) => {
        const upper = Math.min(most.tokens, below + step.tokens[kinds.indexOf(kind)]);
        if (upper > below) bars.rect(kind, x, tokensAt + BARS * (1 - upper / most.tokens), w, BARS * (upper - below) / most.tokens);
        below = upper;
      });
      const all = step.tokens.reduce((sum, n) => sum + n, 0);
      if (all > most.tokens) bars.put('over', `M${(x + w / 2 - 3).toFixed(2)} ${tokensAt + 5}h6l-3-5z`);
      if (step.budget !== null && step.budget <= most.tokens) {
        // One line as long as the budget stays, or its dashes would merge.
        const start = before && before.budget === step.budget ? '' : `M${x.toFixed(2)} ${tokensAt + BARS * (1 - step.budget / most.tokens)}`;
        bars.put('budget', `${start}H${(x + full).toFixed(2)}`);
      }
      if (most.blocks && step.blocks) {
        const high = BARS * step.blocks / most.blocks;
        bars.rect('blocks', x, blocksAt + BARS - high, full, high);
      }
    }

    // One line for each time that a request waits, through all the steps in which it does.
    function drawWaiting(out) {
      const { steps } = schedules[state.schedule];
      const waits = (row, i) => Boolean(steps[i]) && steps[i].waiting.includes(row) && !steps[i].preempted.includes(row);
      requests.forEach((_, row) => steps.forEach((step, i) => {
        if (!waits(row, i) || waits(row, i - 1)) return;
        let last = i;
        while (waits(row, last + 1)) last += 1;
        const x = geometry.x(step, i);
        drawState(out, 'waiting', x, row * ROW, geometry.x(steps[last], last) + geometry.w(steps[last], last) - x);
      }));
    }

    // As many blocks as there are, where this schedule has steps.
    function drawPool(bars) {
      const { steps, n_blocks: size } = schedules[state.schedule];
      const last = steps.length - 1;
      const end = geometry.x(steps[last], last) + geometry.w(steps[last], last);
      if (most.blocks && size) bars.put('budget', `M0 ${blocksAt + BARS * (1 - size / most.blocks)}h${end.toFixed(2)}`);
    }

    function stepAt(x) {
      const { steps } = schedules[state.schedule];
      let found = 0;
      steps.forEach((step, i) => { if (geometry.x(step, i) <= x) found = i; });
      return found;
    }

    // ---- behaviour
    function choose(to, done) {
      state.step = Math.max(0, Math.min(schedules[state.schedule].steps.length - 1, to));
      update(done);
    }

    // The same step of another schedule; or, across seconds, the same moment.
    function change(index) {
      const before = schedules[state.schedule].steps[state.step];
      state.schedule = index;
      const { steps } = schedules[index];
      if (state.axis === 'seconds') state.step = Math.max(0, steps.filter((step) => step.at <= before.at + 1e-9).length - 1);
      draw();
      choose(state.step, true);
    }

    choices.forEach((button, i) => button.addEventListener('click', () => change(i)));
    axes.forEach((button) => button.addEventListener('click', () => { state.axis = button.textContent; draw(); update(false); }));
    back.addEventListener('click', () => choose(state.step - 1, true));
    next.addEventListener('click', () => choose(state.step + 1, true));
    slider.addEventListener('input', () => choose(Number(slider.value), false));
    slider.addEventListener('change', () => choose(Number(slider.value), true));

    function update(done) {
      const { steps } = schedules[state.schedule];
      const step = steps[state.step];
      slider.max = steps.length - 1;
      slider.value = state.step;
      shown.textContent = `${state.step + 1} of ${steps.length}`;
      slider.setAttribute('aria-valuetext', shown.textContent);
      back.setAttribute('aria-disabled', state.step === 0); // not `disabled`: the focus must stay where it is
      next.setAttribute('aria-disabled', state.step === steps.length - 1);
      choices.forEach((button, i) => button.setAttribute('aria-pressed', i === state.schedule));
      axes.forEach((button) => button.setAttribute('aria-pressed', button.textContent === state.axis));
      totals.forEach((row, i) => row.setAttribute('aria-current', i === state.schedule));
      const [x, w] = [geometry.x(step, state.step), geometry.w(step, state.step)];
      cursor.setAttribute('x', x - 1);
      cursor.setAttribute('width', Math.max(3, w + 1));
      const { scrollLeft, clientWidth } = scroll;
      if (x < scrollLeft + w || x + 2 * w > scrollLeft + clientWidth) scroll.scrollLeft = x - clientWidth / 3;
      says.say(step.says, done);
    }

    draw();
    update(false);
    new ResizeObserver(() => { draw(); update(false); }).observe(scroll);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.request_timeline = { render };
})();
