// Int4 packing, bit by bit: a group of weights, the sixteen values that its scale and zero make, and one byte.
//
// The arithmetic is that of int4_packing.py, float32 step by step, so that a weight that the reader changes is
// packed as the package would pack it; a test holds the two together.
(function () {
  'use strict';

  const { element, sentence: spoken } = window.teachkitParts;

  const f = Math.fround;
  const TINY = f(2 ** -126);
  const WIDTH = 480;
  const LIMIT = 10; // of a weight that is typed in

  // ---- numbers
  const memory = new DataView(new ArrayBuffer(4));
  const bitsOf = (x) => { memory.setFloat32(0, x); return memory.getUint32(0); };
  const fromBits = (bits) => { memory.setUint32(0, bits >>> 0); return memory.getFloat32(0); };
  // The nearest number whose lower sixteen bits are 0; of two equally near, the even one.
  const bfloat16 = (x) => { const bits = bitsOf(x); return fromBits((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000); };
  const neighbour = (x, away) => fromBits(bitsOf(x) + away * 0x10000);

  function nearest(x) { // halves to even, as float arithmetic rounds
    const low = Math.floor(x);
    if (x - low !== 0.5) return Math.round(x);
    return low % 2 === 0 ? low : low + 1;
  }

  function pack(weights, symmetric) {
    const x = weights.map(f);
    const low = f(Math.min(...x) / 2);
    const high = f(Math.max(...x) / 2);
    const wanted = symmetric ? 0 : f(low + f(f(f(high - low) / 15) * 8));
    let zero = bfloat16(wanted);
    if (Math.abs(zero) > Math.abs(wanted)) zero = neighbour(zero, -1);
    const step = Math.max(f(f(high - zero) / 7), f(f(zero - low) / 8), TINY);
    let scale = bfloat16(step);
    if (scale < step) scale = neighbour(scale, 1);
    const codes = x.map((w) => Math.min(7, Math.max(-8, nearest(f(f(f(w / 2) - zero) / scale)))));
    return {
      weights: x,
      nibbles: codes.map((code) => code + 8),
      scale: 2 * scale,
      zero: 2 * zero,
      back: codes.map((code) => 2 * f(f(code * scale) + zero)),
    };
  }

  function fixed(value, digits) {
    const whole = Math.floor(value * 10 ** digits + 0.5);
    return `${whole < 0 ? '−' : ''}${(Math.abs(whole) / 10 ** digits).toFixed(digits)}`;
  }

  const half = (nibble) => nibble.toString(2).padStart(4, '0');
  const hexadecimal = (value) => value.toString(16).toUpperCase().padStart(2, '0');
  const byteOf = (group, byte) => group.nibbles[2 * byte] | (group.nibbles[2 * byte + 1] << 4);

  function sentence(group, byte) {
    const n = group.weights.length;
    const worst = Math.max(...group.weights.map((w, i) => Math.abs(w - group.back[i])));
    const one = (i) => `Weight ${i}, ${fixed(group.weights[i], 4)}, is nibble ${group.nibbles[i]}, ${half(group.nibbles[i])}, `
      + `and comes back as ${fixed(group.back[i], 5)}.`;
    return [
      `${n} weights from ${fixed(Math.min(...group.weights), 4)} to ${fixed(Math.max(...group.weights), 4)}: `
        + `scale ${fixed(group.scale, 5)}, zero ${fixed(group.zero, 5)}.`,
      one(2 * byte),
      one(2 * byte + 1),
      `Byte ${byte} is ${half(group.nibbles[2 * byte + 1])} ${half(group.nibbles[2 * byte])}, in hexadecimal ${hexadecimal(byteOf(group, byte))}: `
        + `weight ${2 * byte + 1} in the high half, weight ${2 * byte} in the low.`,
      `The largest error in the group is ${fixed(worst, 5)}; half a step is ${fixed(group.scale / 2, 5)}. `
        + `${n / 2} bytes of nibbles and 4 of scale and zero make ${fixed(4 + 32 / n, 1)} bits per weight.`,
    ].join(' ');
  }

  // ---- the figure
  function render(host, data) {
    const state = { ...data.start };
    const given = () => data.groups.find((g) => g.name === state.group).weights;
    let weights = [...given()];

    function menu(title, key, options) {
      const box = element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
      box.value = String(state[key]);
      box.addEventListener('change', () => {
        state[key] = key === 'symmetric' ? box.value === 'true' : box.value;
        if (key === 'group') restore();
        update(true);
      });
      return element('label', {}, title, box);
    }

    const byteName = element('span', { 'aria-hidden': 'true' });
    const byteSlider = element('input', { type: 'range', min: 0, step: 1, 'aria-label': 'Byte' });
    byteSlider.addEventListener('input', () => { state.byte = Number(byteSlider.value); place(); update(false); });
    byteSlider.addEventListener('change', () => update(true));

    // The two weights of the byte; a number may be typed, or stepped by the arrow keys.
    const fields = [0, 1].map((side) => {
      const field = element('input', { type: 'number', min: -LIMIT, max: LIMIT, step: 0.01 });
      const name = element('span');
      field.addEventListener('input', () => {
        const value = Number(field.value);
        if (field.value === '' || !(Math.abs(value) <= LIMIT)) return; // half typed; put right when the field is left
        weights[2 * state.byte + side] = Math.round(value * 1e4) / 1e4;
        update(false);
      });
      field.addEventListener('change', () => { place(); update(true); });
      return { field, name, box: element('label', {}, name, field) };
    });

    const reset = element('button', { type: 'button' }, 'As it was');
    reset.addEventListener('click', () => { weights = [...given()]; place(); update(true); });

    const plot = element('svg', { class: 'tk-ip-plot', viewBox: `0 0 ${WIDTH} 220`, 'aria-hidden': 'true' });
    const rows = ['weight', 'minus zero, in steps of the scale', 'code, the nearest step', 'nibble, 8 more', 'its bits', 'comes back', 'error'];
    const cells = rows.map(() => [element('td'), element('td')]);
    const heads = [element('th', { scope: 'col' }), element('th', { scope: 'col' })];
    const table = element('table', { class: 'tk-ip-steps' },
      element('thead', {}, element('tr', {}, element('td'), ...heads)),
      element('tbody', {}, ...rows.map((name, r) => element('tr', {}, element('th', { scope: 'row' }, name), ...cells[r]))));
    const halves = [1, 0].map((side) => {
      const bits = Array.from({ length: 4 }, () => element('b'));
      const owner = element('span');
      return { side, bits, owner, box: element('div', {}, element('div', { class: 'tk-ip-half' }, ...bits), owner) };
    });
    const says = spoken({ class: 'tk-ip-says' });

    host.replaceChildren(element('div', { class: 'tk-ip' },
      element('div', { class: 'tk-ip-choice' },
        menu('Group of weights', 'group', data.groups.map((g) => [g.name, g.name])),
        menu('Sixteen values', 'symmetric', [['false', 'around the middle of the group'], ['true', 'around 0: zero = 0']]),
        element('label', {}, byteName, byteSlider),
        element('div', { class: 'tk-ip-pair' }, ...fields.map(({ box }) => box), reset)),
      plot,
      element('div', { class: 'tk-ip-bottom' },
        table,
        element('div', { class: 'tk-ip-byte', 'aria-hidden': 'true' }, ...halves.map(({ box }) => box))),
      says.box));

    // ---- behaviour
    function restore() {
      weights = [...given()];
      state.byte = Math.min(state.byte, weights.length / 2 - 1);
      place();
    }

    // What the controls show of the state.
    function place() {
      byteSlider.max = weights.length / 2 - 1;
      byteSlider.value = state.byte;
      byteName.textContent = `Byte ${state.byte}, counted from 0`;
      fields.forEach(({ field, name }, side) => {
        const i = 2 * state.byte + side;
        name.textContent = `Weight ${i}`;
        field.value = weights[i];
      });
    }

    function draw(group) {
      const values = Array.from({ length: 16 }, (_, nibble) => (nibble - 8) * group.scale + group.zero);
      const low = Math.min(...values, ...group.weights);
      const high = Math.max(...values, ...group.weights);
      const y = (value) => (206 - (192 * (value - low)) / (high - low)).toFixed(1);
      const x = (i) => (30 + (440 * (i + 0.5)) / group.weights.length).toFixed(1);
      plot.replaceChildren();
      values.forEach((value, nibble) => plot.append(
        element('line', { class: 'value', x1: 30, x2: 470, y1: y(value), y2: y(value) }),
        element('text', { x: 24, y: y(value), dy: 3 }, String(nibble))));
      group.weights.forEach((weight, i) => {
        const chosen = i >> 1 === state.byte;
        const kind = chosen ? 'chosen' : 'other';
        plot.append(
          element('line', { class: kind, x1: x(i), x2: x(i), y1: y(weight), y2: y(group.back[i]) }),
          element('circle', { class: kind, cx: x(i), cy: y(weight), r: chosen ? 4 : 3 }));
      });
    }

    function update(done) {
      const group = pack(weights, state.symmetric);
      draw(group);
      [0, 1].forEach((side) => {
        const i = 2 * state.byte + side;
        const [weight, nibble, back] = [group.weights[i], group.nibbles[i], group.back[i]];
        heads[side].textContent = `weight ${i}`;
        const shown = [fixed(weight, 4), fixed((weight - group.zero) / group.scale, 2), fixed(nibble - 8, 0), String(nibble), half(nibble), fixed(back, 5), fixed(back - weight, 5)];
        shown.forEach((text, r) => { cells[r][side].textContent = text; });
      });
      halves.forEach(({ side, bits, owner }) => {
        const i = 2 * state.byte + side;
        [...half(group.nibbles[i])].forEach((bit, b) => {
          bits[b].textContent = bit;
          bits[b].className = bit === '1' ? 'one' : '';
        });
        owner.textContent = `weight ${i}`;
      });
      says.say(sentence(group, state.byte), done);
    }

    place();
    update(false);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.int4_packing = { render };
})();
