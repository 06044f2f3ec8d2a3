// Next token: the distribution after a prompt, and what temperature, top-k and top-p leave of it.
//
// All logits are here, sorted, each as its distance to the largest. So the rows that are shown and the one row that
// stands for all other tokens are computed from the same numbers, exactly as teachkit.sampling does.
//
// A classic script without imports or requests, so it runs in a notebook, in the book and from file:// alike.
(function () {
  'use strict';

  const TOP_K = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, null]; // as in next_token.py; null is off
  const SPACE = '\u00a0';
  const percent = (p) => {
    if (p === 0) return `0${SPACE}%`;
    return p < 0.0005 ? `<${SPACE}0.1${SPACE}%` : `${(Math.floor(p * 1000 + 0.5) / 10).toFixed(1)}${SPACE}%`;
  };
  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children); // strings become text nodes: a token can never turn into markup
    return node;
  }

  function unpack(text) {
    const raw = atob(text);
    // Two bytes each, the low one first, whatever the machine's own order.
    return Float64Array.from({ length: raw.length / 2 }, (_, i) =>
      (raw.charCodeAt(2 * i) + 256 * raw.charCodeAt(2 * i + 1)) / 1000);
  }

  // Probabilities of the sorted tokens: temperature first, then top-k, then top-p.
  function distribution(gaps, { temperature, top_k, top_p }) {
    if (temperature === 0) return gaps.map((_, rank) => (rank === 0 ? 1 : 0));
    let probs = gaps.map((gap, rank) => (rank < (top_k ?? gaps.length) ? Math.exp(-gap / temperature) : 0));
    let total = sum(probs);
    probs = probs.map((p) => p / total);
    if (top_p !== null && top_p < 1) {
      let before = 0;
      probs = probs.map((p) => {
        const kept = before < top_p ? p : 0;
        before += p;
        return kept;
      });
      total = sum(probs);
      probs = probs.map((p) => p / total);
    }
    return probs;
  }

  const entropy = (probs) => -sum(probs.map((p) => (p > 0 ? p * Math.log2(p) : 0)));

  function settings({ temperature, top_k, top_p }) {
    const parts = [`temperature ${temperature}`];
    if (top_k !== null) parts.push(`top-k ${top_k}`);
    if (top_p !== null && top_p < 1) parts.push(`top-p ${top_p}`);
    return parts.join(', ');
  }

  function slider(name, low, high, step, value, words, change) {
    const input = element('input', { type: 'range', min: low, max: high, step });
    const output = element('output');
    const set = (number) => {
      input.value = number;
      output.textContent = words(Number(number));
      input.setAttribute('aria-valuetext', output.textContent);
    };
    input.addEventListener('input', () => {
      set(input.value);
      change(Number(input.value), false);
    });
    input.addEventListener('change', () => change(Number(input.value), true));
    set(value);
    return { set, box: element('div', {}, element('label', {}, element('span', {}, name), input), output) };
  }

  function render(host, data) {
    const gaps = data.gaps.map(unpack);
    const state = { ...data.start };
    const off = TOP_K.length - 1;
    const rankOf = (top_k) => (top_k === null ? off : TOP_K.indexOf(top_k));

    // ---- parts
    const prompts = element('select', {}, ...data.prompts.map((prompt, i) => {
      const line = prompt.trimEnd().split('\n').pop();
      return element('option', { value: i }, line.length > 44 ? `…${line.slice(-43)}` : line);
    }));
    const text = element('pre', {}, element('code'));
    const controls = {
      temperature: slider('Temperature', 0, 2, 0.05, state.temperature,
        (t) => (t === 0 ? '0, greedy' : String(t)), (temperature, done) => update({ temperature }, done)),
      top_k: slider('Top-k', 0, off, 1, rankOf(state.top_k),
        (i) => (i === off ? 'off' : String(TOP_K[i])), (i, done) => update({ top_k: TOP_K[i] }, done)),
      top_p: slider('Top-p', 0.05, 1, 0.05, state.top_p ?? 1,
        (p) => (p === 1 ? 'off' : String(p)), (p, done) => update({ top_p: p === 1 ? null : p }, done)),
    };
    const plain = element('button', { type: 'button' }, 'As the model gives it');
    const says = element('p', { class: 'tk-nt-says' });
    // A second, unseen copy is what a screen reader hears: once a choice is made, not at every move of a slider.
    const live = element('p', { 'aria-live': 'polite', style: 'position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)' });
    const n = data.tokens[0].length;
    const rest = data.vocabulary - n;
    const rows = Array.from({ length: n + (rest > 0 ? 1 : 0) }, () => element('li', {},
      element('code'), element('span', { class: 'tk-nt-track' }, element('i'), element('b')), element('span')));
    const scale = element('p', { class: 'tk-nt-key' },
      element('span', {}, element('i'), 'can be drawn now, '), element('span', {}, element('b'), 'as the model gives it. '), element('span'));

    host.replaceChildren(element('div', { class: 'tk-nt' },
      element('div', { class: 'tk-nt-prompt' }, element('label', {}, 'After this text ', ...(data.prompts.length > 1 ? [prompts] : [])), text),
      element('div', { class: 'tk-nt-sliders' }, ...Object.values(controls).map((control) => control.box), plain),
      element('div', {}, says, live),
      element('ol', {}, ...rows), scale));

    // ---- behaviour
    prompts.addEventListener('change', () => update({ prompt: Number(prompts.value) }, true));
    plain.addEventListener('click', () => {
      controls.temperature.set(1);
      controls.top_k.set(off);
      controls.top_p.set(1);
      update({ temperature: 1, top_k: null, top_p: null }, true);
    });

    function update(change, done) {
      Object.assign(state, change);
      view();
      if (done) live.textContent = says.textContent;
    }

    // ---- views
    function view() {
      const given = distribution(gaps[state.prompt], { temperature: 1, top_k: null, top_p: null });
      const now = distribution(gaps[state.prompt], state);
      const names = data.tokens[state.prompt];
      const pairs = names.map((_, i) => [given[i], now[i]]);
      pairs.push([sum(given.subarray(n)), sum(now.subarray(n))]);
      const largest = Math.max(...pairs.flat());
      const full = [0.1, 0.2, 0.5].find((limit) => largest <= limit) ?? 1;
      prompts.value = state.prompt;
      text.firstChild.textContent = data.prompts[state.prompt];
      rows.forEach((row, i) => {
        const [before, after] = pairs[i];
        const [name, track, value] = row.children;
        name.textContent = i < n ? names[i] : `${count(rest)} others`;
        track.firstChild.style.width = `${(100 * after) / full}%`;
        track.lastChild.style.left = `${(100 * before) / full}%`;
        value.textContent = after === 0 && before > 0 ? 'removed' : percent(after);
        row.classList.toggle('out', after === 0);
      });
      scale.lastChild.textContent = `Full width: ${100 * full}${SPACE}%.`;
      const kept = now.filter((p) => p > 0).length;
      const bits = entropy(now);
      const choices = 2 ** bits;
      const top = names.slice(0, 3).map((name, i) => [name, now[i]]).filter(([, p]) => p > 0);
      const can = kept === 1 ? '1 token' : `${count(kept)} of ${count(data.vocabulary)} tokens`;
      const alike = choices >= 9.95 ? count(Math.round(choices)) : choices.toFixed(1);
      says.textContent = `At ${settings(state)}, ${can} can be drawn: ${top.map(([name, p]) => `‘${name}’ ${percent(p)}`).join(', ')}${kept > 3 ? ' and so on' : ''}. `
        + `Entropy ${Math.abs(bits).toFixed(1)} bits, as much as among ${alike} equally likely tokens.`;
    }

    view();
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.next_token = { render };
})();
