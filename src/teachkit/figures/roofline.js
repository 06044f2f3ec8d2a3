// The parts of a step under the roofs of a device: time at least max(FLOPs / peak, bytes / bandwidth), part by part.
//
// The counts, the marks and the sentence are those of roofline.py and step_counts.py; a test holds the two together.
(function () {
  'use strict';

  const { element, sentence: spoken } = window.teachkitParts;

  const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];
  const CONTEXTS = [1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
  const SIDES = { memory: 'memory', compute: 'arithmetic' };
  const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [300, 52, 10, 24, 40];
  const MARKS = ['M-7 0A7 7 0 1 0 7 0A7 7 0 1 0 -7 0Z', 'M0 -8L8 6L-8 6Z', 'M-9 -9H9V9H-9Z', 'M0 -6L6 0L0 6L-6 0Z'];
  const number = new Intl.NumberFormat('en-US');

  // ---- words
  // Three digits, and all that stand before the point.
  function digits(value) {
    let n = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    for (let limit = 0.1; value > 0 && value < limit && n < 8; limit /= 10) n += 1;
    const rounded = Math.floor(value * 10 ** n + 0.5) / 10 ** n;
    return rounded.toLocaleString('en-US', { minimumFractionDigits: n, maximumFractionDigits: n });
  }

  // For a column: never more than three decimals.
  function brief(value) {
    if (value > 0 && value < 0.0005) return '<\u00a00.001';
    return value >= 1 ? digits(value) : (Math.floor(value * 1000 + 0.5) / 1000).toFixed(3);
  }

  function percent(share) {
    if (share > 0 && share < 0.005) return 'under 1\u00a0%';
    return share >= 0.995 && share < 1 - 1e-9 ? 'over 99\u00a0%' : `${Math.floor(100 * share + 0.5)}\u00a0%`;
  }

  const plural = (n, word) => `${number.format(n)} ${word}${n > 1 ? 's' : ''}`;

  function tick(value) {
    if (value >= 1e6) return `${value / 1e6}M`;
    if (value >= 1e3) return `${value / 1e3}k`;
    return value >= 1 ? String(value) : value.toFixed(Math.round(-Math.log10(value)));
  }

  // ---- counts
  function parts(model, state, bits) {
    const [weight, act, kv] = bits.map((b) => b / 8);
    const [fresh, past] = state.phase === 'decode' ? [1, state.tokens - 1] : [state.tokens, 0];
    const rows = state.batch * fresh;
    const width = Math.max(bits[0], bits[1]);
    const matrices = (name, n, numbers, biases, moved) => ({
      name, bits: width, flops: 2 * n * numbers, bytes: (numbers + biases) * weight + n * moved * act,
    });
    let pairs = 0;
    let kept = 0;
    let layers = 0;
    for (const [window, count] of model.windows) {
      const reach = window || past + fresh;
      const full = Math.max(0, Math.min(fresh, reach - past)); // queries that see all before them
      pairs += count * (full * past + full * (full + 1) / 2 + (fresh - full) * reach);
      kept += count * Math.min(past + fresh, reach + fresh - 1);
      layers += count;
    }
    return [
      matrices('projections', rows, model.projections, model.projection_biases, model.projections_moved),
      {
        name: 'attention',
        bits: Math.max(bits[1], bits[2]),
        flops: 4 * state.batch * model.q_width * pairs,
        bytes: layers * rows * 2 * model.q_width * act + state.batch * (kept + layers * fresh) * model.kv_width * kv,
      },
      matrices('MLP', rows, model.mlp, model.mlp_biases, model.mlp_moved),
      matrices('head', state.batch, model.head, 0, model.head_moved),
      {
        name: 'norms, embedding',
        bits: width,
        flops: 0,
        bytes: (rows * model.embedding_rows * model.d_model + model.norms) * weight
          + rows * (model.d_model + model.norms_moved) * act,
      },
    ];
  }

  // Everything that is shown; or bits of operands for which the device has no rate.
  function bound(device, model, state, bits) {
    const needed = [Math.max(bits[0], bits[1]), Math.max(bits[1], bits[2])];
    const missing = needed.find((b) => device.peaks[b] === null);
    if (missing) return { missing, parts: [] };
    const found = parts(model, state, bits).map((part) => {
      const computing = part.flops / device.peaks[part.bits];
      const moving = part.bytes / device.bytes_per_s;
      return { ...part, seconds: Math.max(computing, moving), side: moving >= computing ? 'memory' : 'compute' };
    });
    return { parts: found, total: found.reduce((sum, part) => sum + part.seconds, 0), peak: device.peaks[needed[0]] };
  }

  function fit(device, model, state, bits) {
    const kept = model.windows.reduce((sum, [window, count]) => sum + count * Math.min(state.tokens, window || state.tokens), 0);
    const used = model.params * bits[0] / 8 + state.batch * kept * model.kv_width * bits[2] / 8;
    const room = `${digits(used / 2 ** 30)} of ${digits(device.memory_gb)} GiB.`;
    return used > device.memory_gb * 2 ** 30
      ? `That does not fit: weights, keys and values would take ${room}` : `Weights, keys and values take ${room}`;
  }

  function sentence(device, model, state, bits, result) {
    if (result.missing) return `No rate is known for ${result.missing}-bit operands on ${device.name}. Choose another format.`;
    const decode = state.phase === 'decode';
    const fresh = state.batch * (decode ? 1 : state.tokens);
    const waits = Object.entries(SIDES).map(([side, name]) => [
      name, result.parts.reduce((sum, part) => sum + (part.side === side ? part.seconds : 0), 0) / result.total,
    ]).filter(([, share]) => share > 0).map(([name, share], i) => `${percent(share)}${i ? '' : ' of that time'} for ${name}`);
    return `${model.name} on ${device.name}, ${state.bits}, ${plural(state.batch, 'sequence')} of ${plural(state.tokens, 'token')}: `
      + `${decode ? 'a decode step' : 'prefill'} takes at least ${digits(result.total * 1e3)} ms, `
      + `so at most ${digits(fresh / result.total)} tokens/s in all. It waits ${waits.join(', ')}. `
      + `The ridge lies at ${digits(result.peak / device.bytes_per_s)} FLOPs per byte. ${fit(device, model, state, bits)}`;
  }

  // ---- picture
  function picture(width, data, device, result) {
    const [left, right] = data.intensities.map(Math.log10);
    const low = Math.log10(device.bytes_per_s * data.intensities[0]);
    const high = Math.log10(result.peak * 2);
    const ground = HEIGHT - BOTTOM;
    const x = (value) => LEFT + (Math.min(Math.max(Math.log10(value), left), right) - left) / (right - left) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (high - Math.max(Math.log10(value), low)) / (high - low) * (ground - TOP);
    const nodes = [];
    for (let e = Math.ceil(left); e <= right; e += 1) {
      const at = x(10 ** e);
      nodes.push(element('line', { class: 'grid', x1: at, x2: at, y1: TOP, y2: ground }),
        element('text', { x: at, y: ground + 16, 'text-anchor': 'middle' }, tick(10 ** e)));
    }
    for (let e = Math.ceil(low); e <= Math.floor(high); e += 1) {
      const at = y(10 ** e);
      nodes.push(element('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        element('text', { x: LEFT - 6, y: at + 4, 'text-anchor': 'end' }, tick(10 ** (e - 12))));
    }
    nodes.push(element('text', { x: 0, y: 12 }, 'TFLOP/s'),
      element('text', { x: width - RIGHT, y: HEIGHT - 4, 'text-anchor': 'end' }, 'FLOPs per byte'));
    const ridge = result.peak / device.bytes_per_s;
    const roof = [[data.intensities[0], device.bytes_per_s * data.intensities[0]], [ridge, result.peak], [data.intensities[1], result.peak]];
    nodes.push(element('path', { class: 'roof', d: `M${roof.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join('L')}` }));
    result.parts.forEach((part, i) => {
      if (!part.flops) return;
      const place = `translate(${x(part.flops / part.bytes).toFixed(1)} ${y(part.flops / part.seconds).toFixed(1)})`;
      nodes.push(element('path', { class: `mark m${i}`, d: MARKS[i], transform: place }));
    });
    return nodes;
  }

  function row(part, i) {
    const mark = element('svg', { class: 'tk-rl-mark', viewBox: '-11 -11 22 22', width: 18, height: 18, 'aria-hidden': 'true' });
    if (MARKS[i]) mark.append(element('path', { class: `mark m${i}`, d: MARKS[i] }));
    return element('tr', {}, element('td', {}, element('span', {}, mark, part.name)),
      element('td', {}, part.flops ? digits(part.flops / part.bytes) : '0'),
      element('td', {}, brief(part.seconds * 1e3)), element('td', {}, SIDES[part.side]));
  }

  function render(host, data) {
    const state = { ...data.start };
    const named = (list, name) => list.find((item) => item.name === name);
    const chosen = () => [named(data.devices, state.device), named(data.models, state.model), state, named(data.formats, state.bits).bits];

    // ---- parts
    function menu(title, key, options) {
      const box = element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
      box.value = state[key];
      box.addEventListener('change', () => { state[key] = box.value; tokens.limit(); update(true); });
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
      return { limit, box: element('div', { class: 'tk-rl-counter' }, element('span', { 'aria-hidden': 'true' }, title), element('span', { class: 'tk-rl-pair' }, field, slider)) };
    }

    const names = (list) => list.map((item) => [item.name, item.name]);
    const tokens = counter('Tokens per sequence', 'tokens', CONTEXTS, () => named(data.models, state.model).context);
    const batch = counter('Sequences in the batch', 'batch', BATCHES, () => data.most);
    const plot = element('svg', { class: 'tk-rl-plot', 'aria-hidden': 'true' }); // the table and the sentence say it
    const frame = element('div', {}, plot);
    const says = spoken({ class: 'tk-rl-says' });
    const body = element('tbody');
    const table = element('table', {},
      element('thead', {}, element('tr', {}, ...['part', 'FLOPs per\u00a0byte', 'ms', 'waits for'].map((text) => element('th', { scope: 'col' }, text)))),
      body);
    host.replaceChildren(element('div', { class: 'tk-rl' },
      element('div', { class: 'tk-rl-choice' },
        menu('Model', 'model', names(data.models)),
        menu('Device', 'device', names(data.devices)),
        tokens.box, batch.box,
        menu('Phase', 'phase', [['decode', 'decode: one token each'], ['prefill', 'prefill: read the prompts']]),
        menu('Number formats', 'bits', names(data.formats))),
      frame, says.box, table));

    // ---- behaviour
    function redraw(result) {
      const width = Math.min(640, frame.clientWidth || 480); // no width yet: not shown yet
      plot.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
      plot.setAttribute('width', width);
      plot.replaceChildren(...(result.missing ? [] : picture(width, data, chosen()[0], result)));
    }

    function update(done) {
      const result = bound(...chosen());
      frame.hidden = table.hidden = Boolean(result.missing);
      redraw(result);
      body.replaceChildren(...result.parts.map(row));
      says.say(sentence(...chosen(), result), done);
    }

    update(false);
    if (window.ResizeObserver) new ResizeObserver(() => redraw(bound(...chosen()))).observe(frame);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.roofline = { render };
})();
