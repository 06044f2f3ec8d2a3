// The latency-throughput plane: a decode step of every batch as a point, time per token against tokens per second.
//
// Counts come from Python, fixed and per sequence; bits, batch, context and device are put in here. Times are
// those of teachkit/roofline.py, the sentence that of latency_plane.py; tests hold them together.
(function () {
  'use strict';

  const { element, sentence: spoken } = window.teachkitParts;

  const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];
  const CONTEXTS = [1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
  const SIDES = { compute: 'arithmetic', memory: 'memory' };
  const X = [0.3, 3000]; // ms per token
  const Y = [1, 1e6]; // tokens/s
  const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [304, 44, 10, 24, 40];
  const GROUND = HEIGHT - BOTTOM;
  const number = new Intl.NumberFormat('en-US');

  // ---- words
  // Three digits, and all that stand before the point.
  function digits(value) {
    let n = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    for (let limit = 0.1; value > 0 && value < limit && n < 8; limit /= 10) n += 1;
    const rounded = Math.floor(value * 10 ** n + 0.5) / 10 ** n;
    return rounded.toLocaleString('en-US', { minimumFractionDigits: n, maximumFractionDigits: n });
  }

  const plural = (n, word) => `${number.format(n)} ${word}${n > 1 ? 's' : ''}`;

  // ---- one step: seconds, and what most of them wait for; null where the device has no rate for the bits
  const kept = (m, s) => (m.window ? Math.min(s.context, m.window) : s.context);
  const narrowest = (...bits) => (Math.max(...bits) > 8 ? '16' : '8');

  function step(m, d, s, batch) {
    const waits = { compute: 0, memory: 0 };
    let seconds = 0;
    for (const part of m.parts) {
      const scores = part.kv > 0;
      const rate = d.flops[narrowest(s.act_bits, scores ? s.kv_bits : s.weight_bits)];
      if (part.flops && !rate) return null;
      const flops = batch * part.flops * (scores ? kept(m, s) : 1);
      const bytes = (part.weights + batch * part.looked_up) * s.weight_bits / 8 + batch * part.acts * s.act_bits / 8
        + batch * part.kv * (kept(m, s) + 1) * s.kv_bits / 8;
      const [compute, memory] = [flops ? flops / rate : 0, bytes / d.bytes_per_s];
      waits[compute >= memory ? 'compute' : 'memory'] += Math.max(compute, memory);
      seconds += Math.max(compute, memory);
    }
    return { seconds, side: SIDES[waits.compute >= waits.memory ? 'compute' : 'memory'] };
  }

  function largestBatch(m, d, s) {
    const token = m.parts.reduce((sum, part) => sum + part.kv, 0) * s.kv_bits / 8;
    const room = d.memory_bytes - m.params * s.weight_bits / 8;
    return Math.max(0, Math.floor(room / (token * kept(m, s) + m.widest * s.act_bits / 8)));
  }

  function fit(most, batch) {
    if (most < 1) return 'Not even one sequence fits into the memory.';
    const full = `emory is full at ${plural(most, 'sequence')}.`;
    return batch <= most ? `M${full}` : `That does not fit: m${full}`;
  }

  const bits = (s) => `weights in ${s.weight_bits} bits, activations in ${s.act_bits}, keys and values in ${s.kv_bits}`;

  function sentence(m, d, s, readingMs) {
    const one = step(m, d, s, s.batch);
    if (!one) return `No rate is known for 8-bit operands on ${d.name}. Choose activations of 16 bits.`;
    const ms = 1e3 * one.seconds;
    const usd = d.usd === null ? null : d.usd / 3600 * one.seconds / s.batch * 1e6;
    const most = largestBatch(m, d, s);
    return [
      `${m.name} on one ${d.name}, ${bits(s)},`,
      `${plural(s.batch, 'sequence')} of ${plural(s.context, 'token')}: at least ${digits(ms)} ms per token,`,
      `${digits(readingMs / ms)} times as fast as reading.`,
      `At most ${digits(1 / one.seconds)} tokens/s for each, ${digits(s.batch / one.seconds)} in all.`,
      `The step waits mostly for ${one.side}.`,
      fit(most, s.batch),
      usd === null ? 'No price is listed.'
        : `At ${d.usd.toFixed(2)} dollars an hour (${d.asked}) a million tokens ${s.batch <= most ? 'cost' : 'would cost'} at least ${digits(usd)} dollars.`,
    ].join(' ');
  }

  // ---- picture
  const tick = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1e3 ? `${value / 1e3}k` : String(value));
  const said = (words, anchor, x, y) => element('text', { class: 'said', 'text-anchor': anchor, x: x.toFixed(1), y: y.toFixed(1) }, words);

  // Where steps stand in a picture so wide.
  function plane(width) {
    const right = width - RIGHT;
    const across = (ms) => LEFT + (right - LEFT) * Math.log10(ms / X[0]) / Math.log10(X[1] / X[0]);
    const upward = (perS) => TOP + (GROUND - TOP) * (1 - Math.log10(perS / Y[0]) / Math.log10(Y[1] / Y[0]));
    const place = ([batch, seconds]) => [across(1e3 * seconds), upward(batch / seconds)];
    const inside = ([x, y]) => x >= LEFT && x <= right && y >= TOP && y <= GROUND;
    const line = (steps, kind) => {
      const path = steps.map(place).filter(inside).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L');
      return path ? [element('path', { class: kind, d: `M${path}` })] : [];
    };
    return { right, across, upward, place, inside, line };
  }

  function batches(least, most) {
    const found = [];
    for (let i = 0; i <= 8 * 16; i += 1) {
      const batch = Math.min(most, Math.max(least, Math.floor(2 ** (i / 8) + 0.5)));
      if (batch !== found[found.length - 1]) found.push(batch);
    }
    return found;
  }

  function grid({ right, across, upward }, readingMs) {
    const nodes = [];
    for (const ms of [1, 10, 100, 1000]) {
      nodes.push(element('path', { class: 'grid', d: `M${across(ms)},${TOP}V${GROUND}` }),
        element('text', { 'text-anchor': 'middle', x: across(ms), y: GROUND + 16 }, tick(ms)));
    }
    for (const perS of [1, 10, 100, 1e3, 1e4, 1e5, 1e6]) {
      nodes.push(element('path', { class: 'grid', d: `M${LEFT},${upward(perS)}H${right}` }),
        element('text', { 'text-anchor': 'end', x: LEFT - 5, y: upward(perS) + 4 }, tick(perS)));
    }
    nodes.push(element('text', { x: 0, y: 12 }, 'tokens/s in all'),
      element('text', { 'text-anchor': 'end', x: right, y: HEIGHT - 4 }, 'ms per token'));
    if (readingMs >= X[0] && readingMs <= X[1]) {
      const x = across(readingMs);
      nodes.push(element('path', { class: 'reading', d: `M${x},${TOP}V${GROUND}` }), said('reading', 'end', x - 5, GROUND - 8));
    }
    return nodes;
  }

  // The end of the curve; a name beside it that stays within the frame.
  function wall([x, y]) {
    const [anchor, at] = x < LEFT + 90 ? ['start', x + 9] : ['end', x - 9];
    return [element('rect', { class: 'wall', x: x - 5, y: y - 5, width: 10, height: 10 }), said('memory full', anchor, at, y - 8)];
  }

  function render(host, data) {
    const state = { ...data.start };
    let saved = null; // an earlier setting, to compare with

    // ---- controls
    function menu(title, options, value, choose) {
      const box = element('select', {}, ...options.map(([key, text]) => element('option', { value: key }, text)));
      box.value = value;
      box.addEventListener('change', () => { choose(box.value); update(true); });
      return element('label', {}, title, box);
    }

    // A slider over round values, and beside it a field for any other.
    function counter(title, key, values, most) {
      const slider = element('input', { type: 'range', min: 0, max: values.length - 1, step: 1, 'aria-label': `${title}, round values` });
      const field = element('input', { type: 'number', min: 1, step: 1, inputmode: 'numeric', 'aria-label': title });
      const nearest = (value) => values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
      const place = () => {
        slider.value = nearest(state[key]);
        slider.setAttribute('aria-valuetext', number.format(state[key]));
      };
      const limit = () => { // what the model allows
        field.max = most();
        state[key] = Math.min(state[key], most());
        field.value = state[key];
        place();
      };
      slider.addEventListener('input', () => { state[key] = values[Number(slider.value)]; limit(); update(false); });
      slider.addEventListener('change', () => update(true));
      field.addEventListener('input', () => {
        const value = Math.floor(Number(field.value));
        if (!(value >= 1 && value <= most())) return; // half typed; put right when the field is left
        state[key] = value;
        place();
        update(false);
      });
      field.addEventListener('change', () => { field.value = state[key]; update(true); });
      limit();
      return { limit, box: element('div', { class: 'tk-lp-counter' }, element('span', { 'aria-hidden': 'true' }, title), element('span', { class: 'tk-lp-pair' }, field, slider)) };
    }

    const model = () => data.models.find((m) => m.name === state.model);
    const context = counter('Tokens per sequence', 'context', CONTEXTS, () => model().context);
    const batch = counter('Sequences in the batch', 'batch', BATCHES, () => data.most);
    const svg = element('svg', { class: 'tk-lp-plane', 'aria-hidden': 'true' }); // the sentence and the table say it
    const frame = element('div', {}, svg);
    const says = spoken({ class: 'tk-lp-says' });
    const keep = element('button', { type: 'button' });
    const keptSays = element('p', { class: 'tk-lp-kept' });
    keep.addEventListener('click', () => {
      saved = saved || !step(...given(state), 1) ? null : { ...state }; // without a rate there is no curve
      update(false);
    });
    host.replaceChildren(element('div', { class: 'tk-lp' },
      element('div', { class: 'tk-lp-choice' },
        menu('Model', data.models.map((m) => [m.name, m.name]), state.model, (value) => { state.model = value; context.limit(); }),
        menu('Device', data.devices.map((d) => [d.name, d.name]), state.device, (value) => { state.device = value; }),
        context.box, batch.box,
        menu('Bits per weight and activation', data.formats.map(([w, a]) => [`${w}/${a}`, `${w} and ${a}`]), `${state.weight_bits}/${state.act_bits}`,
          (value) => { [state.weight_bits, state.act_bits] = value.split('/').map(Number); }),
        menu('Bits per key and value', data.kv_bits.map((b) => [b, String(b)]), state.kv_bits, (value) => { state.kv_bits = Number(value); }),
        keep),
      frame, keptSays, says.box));

    // ---- behaviour
    const given = (s) => [data.models.find((m) => m.name === s.model), data.devices.find((d) => d.name === s.device), s];

    // Batches and the seconds of their steps; none where the device has no rate.
    function curve(s, least, most) {
      return batches(least, Math.min(most, data.most)).map((b) => [b, step(...given(s), b)])
        .filter(([, one]) => one).map(([b, one]) => [b, one.seconds]);
    }

    function draw() {
      const width = Math.min(560, frame.clientWidth || 480); // no width yet: not shown yet
      const on = plane(width);
      const most = largestBatch(...given(state));
      const nodes = grid(on, data.reading_ms);
      if (saved) nodes.push(...on.line(curve(saved, 1, largestBatch(...given(saved))), 'kept'));
      const chosen = step(...given(state), state.batch);
      if (chosen) {
        nodes.push(...on.line(curve(state, Math.max(1, most), data.most), 'beyond'));
        if (most) {
          const end = on.place([most, step(...given(state), most).seconds]);
          nodes.push(...on.line(curve(state, 1, most), 'curve'), ...(on.inside(end) ? wall(end) : []));
        }
        const [x, y] = on.place([state.batch, chosen.seconds]);
        nodes.push(on.inside([x, y]) ? element('circle', { class: 'point', cx: x.toFixed(1), cy: y.toFixed(1), r: 6 })
          : said('the point lies outside', 'end', on.right - 6, TOP + 18));
      }
      svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
      svg.setAttribute('width', width);
      svg.replaceChildren(...nodes);
    }

    function update(done) {
      draw();
      keep.textContent = saved ? 'Remove the kept curve' : 'Keep this curve to compare';
      keptSays.hidden = !saved;
      if (saved) keptSays.textContent = `Kept, in grey: ${saved.model} on one ${saved.device}, ${bits(saved)}, sequences of ${plural(saved.context, 'token')}.`;
      says.say(sentence(...given(state), data.reading_ms), done);
    }

    update(false);
    if (window.ResizeObserver) new ResizeObserver(draw).observe(frame);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.latency_plane = { render };
})();
