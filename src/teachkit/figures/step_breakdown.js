// The parts of a decode step, stacked: how long each takes at least, and what it waits for.
//
// The counts are those of teachkit/cost.py, the times those of teachkit/roofline.py, the sentence that of
// step_breakdown.py; tests hold them together.
(function () {
  'use strict';

  const { element, sentence: spoken } = window.teachkitParts;

  const PARTS = ['embedding', 'norms', 'attention projections', 'attention scores', 'MLP', 'head', 'communication'];
  const SIDES = { memory: 'memory', compute: 'arithmetic', link: 'the link' };
  const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];
  const CONTEXTS = [1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
  const ACT_BYTES = 2;
  const GIB = 2 ** 30;
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

  // ---- counts of one device: FLOPs and bytes of each part, and what must be held
  function counts(m, s) {
    const { L, C, D, F, V } = m;
    const B = s.batch;
    const n = s.tp;
    const [weight, kv] = [s.weight_bits / 8, s.kv_bits / 8];
    const q = m.H * D / n;
    const k = Math.max(1, Math.floor(m.Hkv / n)) * D;
    const read = m.windows.reduce((sum, window) => sum + Math.min(s.context, window || s.context), 0);
    const kvToken = 2 * k * kv;
    const matrices = (numbers, biases, moved) => ({
      flops: 2 * B * numbers, bytes: (numbers + biases) * weight + moved * ACT_BYTES,
    });
    const parts = [
      { flops: 0, bytes: B * (1 + m.learned) * C * weight + B * C * ACT_BYTES },
      { flops: 0, bytes: m.norms * weight + 2 * B * C * (2 * L + 1) * ACT_BYTES },
      matrices(L * C * 2 * (q + k), L * (m.qkv_bias * (q + 2 * k) + m.o_bias * C), L * B * (2 * C + 2 * q + 2 * k)),
      { flops: 4 * B * q * read, bytes: L * B * 2 * q * ACT_BYTES + B * read * kvToken + B * L * kvToken },
      matrices(L * (m.ups + 1) * C * F / n, m.mlp_bias * L * (m.ups * F / n + C), L * B * 2 * (C + F / n)),
      matrices(V * C / n, 0, B * (C + V / n)),
    ];
    const messages = 2 * L + 1;
    if (n > 1) parts.push({ flops: 0, bytes: 0, messages, link: 2 * (n - 1) / n * B * C * ACT_BYTES });
    const widthQ = m.H * D;
    const widthKV = m.Hkv * D;
    const divided = V * C * (2 - m.tied) + m.learned * m.context * C
      + L * (2 * C * (widthQ + widthKV) + m.qkv_bias * (widthQ + 2 * widthKV) + m.o_bias * C)
      + L * ((m.ups + 1) * C * F + m.mlp_bias * (C + F * m.ups));
    const held = (divided / n + m.norms) * weight + B * read * kvToken
      + B * (Math.max(F * m.ups, V) / n + C) * ACT_BYTES;
    return { parts, held };
  }

  // ---- times: a part takes as long as the slowest of the three, and parts follow one another
  function predict(m, device, s, messageS) {
    const { parts, held } = counts(m, s);
    const timed = parts.map((part, i) => {
      const times = {
        compute: part.flops / device.flops,
        memory: part.bytes / device.bytes_per_s,
        link: part.messages ? part.messages * Math.max(part.link / device.link_bytes_per_s, messageS) : 0,
      };
      const side = ['compute', 'memory', 'link'].reduce((best, name) => (times[name] > times[best] ? name : best));
      return { name: PARTS[i], seconds: times[side], side };
    });
    const seconds = timed.reduce((sum, part) => sum + part.seconds, 0);
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    return { parts: timed, seconds, held, busy: bytes / (device.bytes_per_s * seconds) };
  }

  // What is chosen, in words.
  const setting = (s) => `${s.model} on ${s.tp > 1 ? `${s.tp} × ` : 'one '}${s.device}, weights in ${s.weight_bits} bits, `
    + `keys and values in ${s.kv_bits}, ${plural(s.batch, 'sequence')} of ${plural(s.context, 'token')}`;

  function sentence(device, s, found) {
    const n = s.tp;
    const waits = Object.entries(SIDES).map(([side, name]) => [
      name, found.parts.reduce((sum, part) => sum + (part.side === side ? part.seconds : 0), 0) / found.seconds,
    ]).filter(([, share]) => share > 0).map(([name, share], i) => `${percent(share)}${i ? '' : ' of that time'} for ${name}`);
    const largest = found.parts.reduce((best, part) => (part.seconds > best.seconds ? part : best));
    const [held, room] = [found.held / GIB, device.memory_bytes / GIB];
    const fits = held > room
      ? `That does not fit: ${n > 1 ? 'each' : 'it'} would hold` : `${n > 1 ? 'Each' : 'It'} holds`;
    return [
      `${setting(s)}: a decode step takes at least ${digits(found.seconds * 1e3)} ms, so at most ${digits(s.batch / found.seconds)} tokens/s in all.`,
      `Its largest part: ${largest.name}, ${percent(largest.seconds / found.seconds)}.`,
      `It waits ${waits.join(', ')}.`,
      `MBU is at most ${Math.floor(100 * found.busy + 0.5)}\u00a0%.`,
      `${fits} ${digits(held)} of ${digits(room)} GiB.`,
    ].join(' ');
  }

  function render(host, data) {
    const state = { ...data.start };
    const modelOf = () => data.models.find((m) => m.name === state.model);
    let kept = null; // an earlier setting, to compare with

    // ---- parts
    function menu(title, key, options) {
      const box = element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
      box.value = state[key];
      box.addEventListener('change', () => {
        state[key] = typeof data.start[key] === 'number' ? Number(box.value) : box.value;
        if (key === 'model') offer();
        update(true);
      });
      return { box, label: element('label', {}, title, box) };
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
      return { limit, box: element('div', { class: 'tk-sb-counter' }, element('span', { 'aria-hidden': 'true' }, title), element('span', { class: 'tk-sb-pair' }, field, slider)) };
    }

    const model = menu('Model', 'model', data.models.map((m) => [m.name, m.name]));
    const device = menu('Device', 'device', data.devices.map((d) => [d.name, d.name]));
    const degree = menu('Number of devices', 'tp', data.degrees.map((n) => [n, String(n)]));
    const weight = menu('Bits per weight', 'weight_bits', data.weight_bits.map((b) => [b, String(b)]));
    const kv = menu('Bits per key and value', 'kv_bits', data.kv_bits.map((b) => [b, String(b)]));
    const context = counter('Tokens per sequence', 'context', CONTEXTS, () => modelOf().context);
    const batch = counter('Sequences in the batch', 'batch', BATCHES, () => data.most);

    const bar = element('div', { class: 'tk-sb-bar', 'aria-hidden': 'true' }); // the table says it
    const before = element('div', { class: 'tk-sb-bar', 'aria-hidden': 'true' });
    const beforeSays = element('p', { class: 'tk-sb-before' });
    const rows = element('tbody');
    const says = spoken({ class: 'tk-sb-says' });
    const keep = element('button', { type: 'button' });
    keep.addEventListener('click', () => { kept = kept ? null : { ...state }; update(false); });
    host.replaceChildren(element('div', { class: 'tk-sb' },
      element('div', { class: 'tk-sb-choice' },
        model.label, device.label, context.box, batch.box, weight.label, kv.label, degree.label, keep),
      element('div', { class: 'tk-sb-kept' }, beforeSays, before),
      bar, says.box,
      element('table', { class: 'tk-sb-parts' },
        element('thead', {}, element('tr', {}, ...['part', 'ms', 'waits for'].map((t) => element('th', { scope: 'col' }, t)))), rows)));

    // ---- behaviour
    function offer() { // what the model allows
      const possible = modelOf().degrees;
      for (const option of degree.box.options) option.disabled = !possible.includes(Number(option.value));
      if (!possible.includes(state.tp)) state.tp = 1;
      degree.box.value = state.tp;
      context.limit();
    }

    const run = (s) => predict(data.models.find((m) => m.name === s.model),
      data.devices.find((d) => d.name === s.device), s, data.message_us / 1e6);
    const kind = (part) => `part-${PARTS.indexOf(part.name)} waits-${part.side}`;

    function draw(place, found, most) {
      place.replaceChildren(...found.parts.map((part) => {
        const piece = element('i', { class: kind(part) });
        piece.style.width = `${(100 * part.seconds / most).toFixed(3)}%`;
        return piece;
      }));
    }

    function update(done) {
      const found = run(state);
      const earlier = kept && run(kept);
      const most = Math.max(found.seconds, earlier ? earlier.seconds : 0);
      draw(bar, found, most);
      before.parentNode.hidden = !earlier;
      keep.textContent = earlier ? 'Remove the kept bar' : 'Keep this bar to compare';
      if (earlier) {
        draw(before, earlier, most);
        beforeSays.textContent = `Kept: ${setting(kept)}: ${digits(earlier.seconds * 1e3)} ms.`;
      }
      rows.replaceChildren(...found.parts.map((part) => element('tr', {},
        element('td', {}, element('span', {}, element('i', { class: kind(part), 'aria-hidden': 'true' }), part.name)),
        element('td', {}, brief(part.seconds * 1e3)), element('td', {}, SIDES[part.side]))));
      says.say(sentence(data.devices.find((d) => d.name === state.device), state, found), done);
    }

    offer();
    update(false);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.step_breakdown = { render };
})();
