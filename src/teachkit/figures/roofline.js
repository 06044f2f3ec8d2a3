// The parts of a step under the roofs of a device: time at least max(FLOPs / peak, bytes / bandwidth), part by part.
//
// The counts, the marks and the sentence are those of roofline.py and step_counts.py; a test holds the two together.
(function () {
  'use strict';

  const SVG = 'http://www.w3.org/2000/svg';
  const HEIGHT = 300;
  const LEFT = 52;
  const RIGHT = 10;
  const TOP = 16;
  const BOTTOM = 40;
  const MARKS = ['M-7 0A7 7 0 1 0 7 0A7 7 0 1 0 -7 0Z', 'M0 -8L8 6L-8 6Z', 'M-9 -9H9V9H-9Z', 'M0 -6L6 0L0 6L-6 0Z'];
  const number = new Intl.NumberFormat('en-US');

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function drawn(tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  }

  // Three digits, or all before the point.
  function figure(value) {
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    const rounded = Math.floor(value * 10 ** digits + 0.5) / 10 ** digits;
    return rounded.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  const tick = (value) => (value >= 1 ? number.format(value) : value.toFixed(Math.round(-Math.log10(value))));

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

  // Everything that is shown, or null where the device has no rate for the format.
  function bound(device, model, state, bits) {
    const needed = [Math.max(bits[0], bits[1]), Math.max(bits[1], bits[2])];
    if (needed.some((b) => device.peaks[b] === null)) return null;
    const found = parts(model, state, bits).map((part) => {
      const computing = part.flops / device.peaks[part.bits];
      const fetching = part.bytes / device.bytes_per_s;
      return { ...part, seconds: Math.max(computing, fetching), memory: fetching >= computing };
    });
    return { parts: found, total: found.reduce((sum, part) => sum + part.seconds, 0), peak: device.peaks[needed[0]] };
  }

  function sentence(device, model, state, bits, result) {
    if (!result) return `No rate is known for ${device.name} with ${state.bits}: choose another format.`;
    const waits = result.parts.filter((part) => part.memory).reduce((sum, part) => sum + part.seconds, 0);
    const decode = state.phase === 'decode';
    const fresh = state.batch * (decode ? 1 : state.tokens);
    const kept = model.windows.reduce((sum, [window, count]) => sum + count * Math.min(state.tokens, window || state.tokens), 0);
    const used = model.params * bits[0] / 8 + state.batch * kept * model.kv_width * bits[2] / 8;
    return `${decode ? 'One step of decode' : 'Prefill'}, ${model.name} on ${device.name}, ${state.bits}, `
      + `${number.format(state.batch)} ${state.batch > 1 ? 'sequences' : 'sequence'} ${decode ? 'with a context of' : 'of'} `
      + `${number.format(state.tokens)} tokens: at least ${figure(result.total * 1e3)} ms, `
      + `so at most ${figure(fresh / result.total)} tokens a second. `
      + `${figure(100 * waits / result.total)} % of that time waits for memory. `
      + `The ridge lies at ${figure(result.peak / device.bytes_per_s)} FLOPs per byte. `
      + `Weights, keys and values take ${figure(used / 2 ** 30)} GiB; the device has ${figure(device.memory_gb)}`
      + (used > device.memory_gb * 2 ** 30 ? ': they do not fit.' : '.');
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
    for (let e = left; e < right; e += 1) {
      const at = x(10 ** e);
      nodes.push(drawn('line', { class: 'grid', x1: at, x2: at, y1: TOP, y2: ground }));
      nodes.push(drawn('text', { x: at, y: ground + 16, 'text-anchor': 'middle' }, tick(10 ** e)));
    }
    for (let e = Math.ceil(low); e <= Math.floor(high); e += 1) {
      const at = y(10 ** e);
      nodes.push(drawn('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      nodes.push(drawn('text', { x: LEFT - 6, y: at + 4, 'text-anchor': 'end' }, tick(10 ** (e - 12))));
    }
    nodes.push(drawn('text', { x: 0, y: 11 }, 'TFLOP/s'));
    nodes.push(drawn('text', { x: width - RIGHT, y: HEIGHT - 4, 'text-anchor': 'end' }, 'FLOPs per byte'));
    const ridge = result.peak / device.bytes_per_s;
    const roof = [[data.intensities[0], device.bytes_per_s * data.intensities[0]], [ridge, result.peak], [data.intensities[1], result.peak]];
    nodes.push(drawn('polyline', { class: 'roof', points: roof.map(([a, b]) => `${x(a)},${y(b)}`).join(' ') }));
    result.parts.forEach((part, i) => {
      if (!part.flops) return;
      const place = `translate(${x(part.flops / part.bytes).toFixed(1)} ${y(part.flops / part.seconds).toFixed(1)})`;
      nodes.push(drawn('path', { class: `mark m${i}`, d: MARKS[i], transform: place }));
    });
    return nodes;
  }

  function render(host, data) {
    const state = { ...data.start };
    const named = (list, name) => list.find((item) => item.name === name);
    const device = () => named(data.devices, state.device);
    const model = () => named(data.models, state.model);
    const bits = () => named(data.formats, state.bits).bits;

    // ---- parts
    function menu(title, key, options) {
      const box = element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
      box.value = state[key];
      box.addEventListener('change', () => { state[key] = box.value; update(); });
      return element('label', {}, title, box);
    }

    function slider(title, key, values) {
      const bar = element('input', { type: 'range', min: 0, step: 1, 'aria-label': title });
      const shown = element('output');
      bar.addEventListener('input', () => { state[key] = values()[Number(bar.value)]; update(); });
      const refresh = () => {
        const offered = values();
        if (!offered.includes(state[key])) state[key] = offered[offered.length - 1]; // another model's context
        bar.max = offered.length - 1;
        bar.value = offered.indexOf(state[key]);
        bar.setAttribute('aria-valuetext', number.format(state[key]));
        shown.textContent = number.format(state[key]);
      };
      return { node: element('label', {}, title, element('span', { class: 'tk-rl-pair' }, bar, shown)), refresh };
    }

    const names = (list) => list.map((item) => [item.name, item.name]);
    const batch = slider('Batch (sequences)', 'batch', () => data.batches);
    const tokens = slider('Tokens per sequence', 'tokens', () => data.tokens.filter((n) => n <= model().context));
    const plot = drawn('svg', { class: 'tk-rl-plot', 'aria-hidden': 'true' });
    const says = element('p', { class: 'tk-rl-says', 'aria-live': 'polite' });
    const body = element('tbody');
    const head = ['part', 'FLOPs per byte', 'waits for', 'ms at least'].map((text) => element('th', { scope: 'col' }, text));
    const list = element('table', {}, element('thead', {}, element('tr', {}, ...head)), body);
    host.replaceChildren(element('div', { class: 'tk-rl' },
      element('div', { class: 'tk-rl-choice' },
        menu('Device', 'device', names(data.devices)),
        menu('Model', 'model', names(data.models)),
        menu('Phase', 'phase', [['decode', 'decode: one token each'], ['prefill', 'prefill: read the prompts']]),
        menu('Numbers', 'bits', names(data.formats)),
        batch.node, tokens.node),
      plot, list, says));

    // ---- behaviour
    function rows(result) {
      return result.parts.map((part, i) => {
        const mark = drawn('svg', { class: 'tk-rl-mark', viewBox: '-11 -11 22 22', width: 18, height: 18, 'aria-hidden': 'true' });
        if (MARKS[i]) mark.append(drawn('path', { class: `mark m${i}`, d: MARKS[i] }));
        return element('tr', {},
          element('td', {}, mark, part.name),
          element('td', {}, part.flops ? figure(part.flops / part.bytes) : '0'),
          element('td', {}, part.memory ? 'memory' : 'arithmetic'),
          element('td', {}, figure(part.seconds * 1e3)));
      });
    }

    function redraw(result) {
      const width = Math.max(260, Math.min(640, plot.parentElement.clientWidth - 34 || 480));
      plot.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
      plot.setAttribute('width', width);
      plot.replaceChildren(...(result ? picture(width, data, device(), result) : []));
    }

    function update() {
      batch.refresh();
      tokens.refresh();
      const result = bound(device(), model(), state, bits());
      redraw(result);
      body.replaceChildren(...(result ? rows(result) : []));
      says.textContent = sentence(device(), model(), state, bits(), result);
    }

    update();
    if (window.ResizeObserver) new ResizeObserver(() => redraw(bound(device(), model(), state, bits()))).observe(host);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.roofline = { render };
})();
