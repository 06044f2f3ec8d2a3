// The latency-throughput plane: a decode step of every batch as a point, time per token against tokens per second.
//
// Counts come from Python, fixed and per sequence; bits, batch, context and device are put in here. Times are
// those of teachkit/roofline.py, the sentence that of latency_plane.py; tests hold them together.
(function () {
  'use strict';

  const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];
  const CONTEXTS = [128, 256, 512, 1000, 1024, 2000, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
  const SIDES = { compute: 'arithmetic', memory: 'memory' };
  const MOST = 1 << 16;
  const X = [0.3, 3000];
  const Y = [1, 300000];
  const [LEFT, TOP, WIDTH, HEIGHT] = [44, 12, 346, 240];
  const SIZE = [400, 296];
  const number = new Intl.NumberFormat('en-US');

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function drawn(tag, attributes, text = '') {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(text);
    return node;
  }

  function digits(value) {
    const n = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    const rounded = Math.floor(value * 10 ** n + 0.5) / 10 ** n;
    return rounded.toLocaleString('en-US', { minimumFractionDigits: n, maximumFractionDigits: n });
  }

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
    const full = `emory is full at ${number.format(most)} sequence${most > 1 ? 's' : ''}.`;
    return batch <= most ? `M${full}` : `That does not fit: m${full}`;
  }

  function sentence(m, d, s, readingMs) {
    const one = step(m, d, s, s.batch);
    if (!one) return `${d.name} has no published rate for 8-bit operands. Choose activations of 16 bits.`;
    const ms = 1e3 * one.seconds;
    const usd = d.usd === null ? null : d.usd / 3600 * one.seconds / s.batch * 1e6;
    return [
      `${m.name} on one ${d.name}; bits: weights ${s.weight_bits}, activations ${s.act_bits}, keys and values ${s.kv_bits}.`,
      `${s.batch > 1 ? `${number.format(s.batch)} sequences` : '1 sequence'} of ${number.format(s.context)} tokens: `
        + `at least ${digits(ms)} ms per token, ${digits(readingMs / ms)} times as fast as reading.`,
      `At most ${digits(1 / one.seconds)} tokens/s for each, ${digits(s.batch / one.seconds)} in all; the step waits for ${one.side}.`,
      fit(largestBatch(m, d, s), s.batch),
      usd === null ? 'No price is listed.'
        : `At ${d.usd.toFixed(2)} dollars an hour (${d.asked}) a million tokens cost at least ${digits(usd)} dollars.`,
    ].join(' ');
  }

  // ---- the picture
  const across = (ms) => LEFT + WIDTH * Math.log10(ms / X[0]) / Math.log10(X[1] / X[0]);
  const upward = (perS) => TOP + HEIGHT * (1 - Math.log10(perS / Y[0]) / Math.log10(Y[1] / Y[0]));
  const tick = (value) => (value >= 1000 ? `${value / 1000}k` : String(value));

  function batches(least, most) {
    const found = [];
    for (let i = 0; i <= 8 * 16; i += 1) {
      const batch = Math.min(most, Math.max(least, Math.floor(2 ** (i / 8) + 0.5)));
      if (batch !== found[found.length - 1]) found.push(batch);
    }
    return found;
  }

  function grid(svg, readingMs) {
    for (const ms of [1, 10, 100, 1000]) {
      svg.append(drawn('path', { class: 'grid', d: `M${across(ms)},${TOP}v${HEIGHT}` }),
        drawn('text', { class: 'x', x: across(ms), y: TOP + HEIGHT + 16 }, number.format(ms)));
    }
    for (const perS of [1, 10, 100, 1000, 10000, 100000]) {
      svg.append(drawn('path', { class: 'grid', d: `M${LEFT},${upward(perS)}h${WIDTH}` }),
        drawn('text', { class: 'y', x: LEFT - 5, y: upward(perS) + 4 }, tick(perS)));
    }
    svg.append(drawn('path', { class: 'reading', d: `M${across(readingMs)},${TOP}v${HEIGHT}` }),
      drawn('text', { class: 'said', x: across(readingMs) - 5, y: TOP + HEIGHT - 8 }, 'reading'),
      drawn('text', { class: 'title', x: LEFT + WIDTH / 2, y: SIZE[1] - 6 }, 'ms per token'),
      drawn('text', { class: 'title start', x: LEFT + 6, y: TOP + 14 }, 'tokens/s in all'));
  }

  function render(host, data) {
    const state = { ...data.start };
    const setting = { format: `${state.weight_bits}/${state.act_bits}` };
    let saved = null; // a curve to compare with

    // ---- controls
    function menu(title, options, value, choose) {
      const box = element('select', {}, ...options.map(([key, text]) => element('option', { value: key }, text)));
      box.value = value;
      box.addEventListener('change', () => { choose(box.value); update(); });
      return element('label', {}, title, box);
    }

    function counter(title, key, values, most) {
      const slider = element('input', { type: 'range', min: 0, max: values.length - 1, step: 1, 'aria-label': title });
      const field = element('input', { type: 'number', min: 1, max: most(), step: 1, inputmode: 'numeric' });
      const nearest = (value) => values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
      function place(typed = false) {
        state[key] = Math.min(state[key], most());
        slider.value = nearest(state[key]);
        slider.setAttribute('aria-valuetext', number.format(state[key]));
        field.max = most();
        if (!typed) field.value = state[key];
      }
      slider.addEventListener('input', () => { state[key] = values[Number(slider.value)]; place(); update(); });
      field.addEventListener('input', () => {
        const value = Math.floor(Number(field.value));
        if (!(value >= 1 && value <= most())) return; // half typed; put right when the field is left
        state[key] = value;
        place(true);
        update();
      });
      field.addEventListener('change', () => { field.value = state[key]; });
      place();
      return { place, node: element('div', {}, element('label', {}, title, element('span', { class: 'tk-lp-pair' }, field, slider))) };
    }

    const model = () => data.models.find((m) => m.name === state.model);
    const device = () => data.devices.find((d) => d.name === state.device);
    const context = counter('Tokens per sequence', 'context', CONTEXTS, () => model().context);
    const batch = counter('Sequences at once', 'batch', BATCHES, () => MOST);
    const svg = drawn('svg', { class: 'tk-lp-plane', viewBox: `0 0 ${SIZE[0]} ${SIZE[1]}`, 'aria-hidden': 'true' });
    const says = element('p', { class: 'tk-lp-says', 'aria-live': 'polite' });
    const keep = element('button', { type: 'button', 'aria-pressed': 'false' }, 'Keep this curve to compare');
    keep.addEventListener('click', () => {
      saved = saved ? null : curve(1, Math.max(1, largestBatch(model(), device(), state)));
      keep.textContent = saved ? 'Remove the kept curve' : 'Keep this curve to compare';
      keep.setAttribute('aria-pressed', String(Boolean(saved)));
      update();
    });
    host.replaceChildren(element('div', { class: 'tk-lp' },
      element('div', { class: 'tk-lp-choice' },
        menu('Model', data.models.map((m) => [m.name, m.name]), state.model, (value) => { state.model = value; context.place(); }),
        menu('Device', data.devices.map((d) => [d.name, d.name]), state.device, (value) => { state.device = value; }),
        menu('Bits of weights and activations', data.formats.map(([w, a]) => [`${w}/${a}`, `${w} and ${a}`]), setting.format,
          (value) => { [state.weight_bits, state.act_bits] = value.split('/').map(Number); }),
        menu('Bits of keys and values', data.kv_bits.map((b) => [b, String(b)]), state.kv_bits, (value) => { state.kv_bits = Number(value); }),
        context.node, batch.node),
      svg, keep, says));

    // ---- behaviour
    function curve(least, most) {
      const places = batches(least, most).map((b) => [b, step(model(), device(), state, b)]).filter(([, one]) => one)
        .map(([b, one]) => [across(1e3 * one.seconds), upward(b / one.seconds)])
        .filter(([x, y]) => x >= LEFT && x <= LEFT + WIDTH && y >= TOP && y <= TOP + HEIGHT);
      return places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
    }

    function update() {
      const most = largestBatch(model(), device(), state);
      svg.replaceChildren();
      grid(svg, data.reading_ms);
      if (saved) svg.append(drawn('polyline', { class: 'kept', points: saved }));
      svg.append(drawn('polyline', { class: 'beyond', points: curve(Math.max(1, most), MOST) }));
      const full = most ? step(model(), device(), state, most) : null;
      if (full) {
        const [x, y] = [across(1e3 * full.seconds), upward(most / full.seconds)];
        svg.append(drawn('polyline', { class: 'curve', points: curve(1, most) }),
          drawn('rect', { class: 'wall', x: x - 5, y: y - 5, width: 10, height: 10 }),
          drawn('text', { class: 'said', x: x - 9, y: y - 8 }, 'memory full'));
      }
      const chosen = step(model(), device(), state, state.batch);
      if (chosen) {
        const x = Math.min(LEFT + WIDTH, across(1e3 * chosen.seconds));
        svg.append(drawn('circle', { class: 'point', cx: x, cy: upward(state.batch / chosen.seconds), r: 6 }));
      }
      says.textContent = sentence(model(), device(), state, data.reading_ms);
    }

    update();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.latency_plane = { render };
})();
