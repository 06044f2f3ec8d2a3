// Memory of a key/value cache: bytes per token times tokens times sequences, beside the weights and a device.
//
// The formulas and the sentence are those of kv_memory.py; a test holds the two together.
(function () {
  'use strict';

  const CONTEXTS = [128, 256, 512, 1000, 1024, 2000, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
  const SEQUENCES = [1, 2, 5, 10, 20, 33, 50, 64, 100, 128, 200, 256, 512, 1000];
  const MOST = { context: 10000000, sequences: 1000000 };
  const number = new Intl.NumberFormat('en-US');

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function share(value) {
    const digits = value >= 10 ? 1 : value >= 1 ? 2 : 3;
    const rounded = Math.floor(value * 10 ** digits + 0.5) / 10 ** digits;
    return rounded.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function size(bytes) {
    const big = bytes >= 1e8;
    const letter = big ? 'G' : 'M';
    return `${share(bytes / (big ? 1e9 : 1e6))} ${letter}B = ${share(bytes / (big ? 2 ** 30 : 2 ** 20))} ${letter}iB`;
  }

  const tokenBytes = (model, bits) => Math.floor(2 * model.n_layers * model.n_kv_heads * model.head_dim * bits / 8);
  const cacheBytes = (model, state) => tokenBytes(model, state.bits) * state.sequences
    * (model.window ? Math.min(state.context, model.window) : state.context);

  function sentence(model, device, state, weights) {
    const cache = cacheBytes(model, state);
    const many = state.sequences > 1 ? `${number.format(state.sequences)} sequences` : '1 sequence';
    const rooms = [1e9, 2 ** 30].map((unit) => Math.floor(Math.max(0, unit * device.gb - weights) / (cache / state.sequences)));
    const said = [
      `One token leaves ${number.format(tokenBytes(model, state.bits))} bytes of keys and values in ${model.name}.`,
      `${many} of ${number.format(state.context)} tokens: ${size(cache)}, ${share(cache / weights)} times the weights.`,
      weights > device.gb * 2 ** 30
        ? `The weights alone fill more than one ${device.name}.`
        : `One ${device.name} holds the weights and ${number.format(rooms[0])} such sequences if each of its ${device.gb} GB is 10⁹ bytes, `
          + `${number.format(rooms[1])} if it is 2³⁰; nothing is set aside for anything else.`,
    ];
    if (state.context > model.context) said.push(`Its context is ${number.format(model.context)} tokens.`);
    if (model.window && state.context > model.window) {
      said.push(`Of each sequence it keeps the latest ${number.format(model.window)} tokens, its sliding window.`);
    }
    return said.join(' ');
  }

  function render(host, data) {
    const state = { ...data.start };

    // ---- parts
    function menu(title, key, options) {
      const box = element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
      box.value = state[key];
      box.addEventListener('change', () => { state[key] = key === 'bits' ? Number(box.value) : box.value; update(); });
      return element('label', {}, title, box);
    }

    // A slider over round values, and beside it a field for any other.
    function counter(title, key, values) {
      const slider = element('input', { type: 'range', min: 0, max: values.length - 1, step: 1, 'aria-label': title });
      const field = element('input', { type: 'number', min: 1, max: MOST[key], step: 1, inputmode: 'numeric' });
      const nearest = (value) => values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
      const place = () => {
        slider.value = nearest(state[key]);
        slider.setAttribute('aria-valuetext', number.format(state[key]));
      };
      slider.addEventListener('input', () => { state[key] = values[Number(slider.value)]; field.value = state[key]; place(); update(); });
      field.addEventListener('input', () => {
        const value = Math.floor(Number(field.value));
        if (!(value >= 1 && value <= MOST[key])) return; // half typed; put right when the field is left
        state[key] = value;
        place();
        update();
      });
      field.addEventListener('change', () => { field.value = state[key]; });
      field.value = state[key];
      place();
      return element('div', {}, element('label', {}, title, element('span', { class: 'tk-km-pair' }, field, slider)));
    }

    const bars = ['weights', 'cache', 'device'].map((kind) => ({
      label: element('span'), bar: element('i', { class: kind, 'aria-hidden': 'true' }),
    }));
    const says = element('p', { class: 'tk-km-says', 'aria-live': 'polite' });
    host.replaceChildren(element('div', { class: 'tk-km' },
      element('div', { class: 'tk-km-choice' },
        menu('Model', 'model', data.models.map((m) => [m.name, m.name])),
        menu('Device', 'device', data.devices.map((d) => [d.name, `${d.name} (${d.gb} GB)`])),
        counter('Tokens per sequence', 'context', CONTEXTS),
        counter('Sequences', 'sequences', SEQUENCES),
        menu('Bits per key and value', 'bits', data.bits.map((b) => [b, String(b)]))),
      element('div', { class: 'tk-km-all' }, ...bars.map(({ label, bar }) => element('div', { class: 'tk-km-bar' }, label, bar))),
      says));

    // ---- behaviour
    function update() {
      const model = data.models.find((m) => m.name === state.model);
      const device = data.devices.find((d) => d.name === state.device);
      const weights = Math.floor(model.params * data.weight_bits / 8);
      const cache = cacheBytes(model, state);
      const values = [weights, cache, device.gb * 1e9];
      const labels = [
        `Weights of ${model.name}, ${data.weight_bits} bits: ${size(weights)}`,
        `Keys and values, ${state.bits} bits: ${size(cache)}`,
        `Memory of one ${device.name}: ${device.gb} GB`,
      ];
      const most = Math.max(...values);
      bars.forEach(({ label, bar }, i) => {
        label.textContent = labels[i];
        bar.style.width = `${(100 * values[i] / most).toFixed(2)}%`;
      });
      says.textContent = sentence(model, device, state, weights);
    }

    update();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.kv_memory = { render };
})();
