// Questions on a lesson: choices and numbers, with a word on every answer.
//
// What was answered rightly is kept in this browser only, under one key, which book/_static/progress.js reads:
// { lesson: { of: how many questions it has, right: [ids of those answered rightly] } }.
(function () {
  'use strict';

  const { element } = window.teachkitParts;

  const KEY = 'memory-bound.progress.v1';
  const CHANGED = 'memory-bound-progress'; // tells the other blocks of this page

  // ---- numbers: read, never run

  const RAISED = '⁰¹²³⁴⁵⁶⁷⁸⁹';
  const DIGITS = /^(?:(?:\d{1,3}(?:[,_ \u00a0\u202f]\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/;

  // A number, or a sum, product or power of numbers; what follows it is `rest`. No number: value is NaN.
  function readNumber(typed) {
    let rest = typed.trim().replace(/−/g, '-').replace(/[×·]/g, '*').replace(/÷/g, '/').replace(/\*\*/g, '^')
      .replace(/⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+/g, (power) => `^${[...power].map((c) => (c === '⁻' ? '-' : RAISED.indexOf(c))).join('')}`);

    function take(pattern) {
      const found = rest.match(pattern);
      if (found) rest = rest.slice(found[0].length).trimStart();
      return found && found[0].trim();
    }
    function atom() {
      if (take(/^\(/)) {
        const value = sum();
        return take(/^\)/) ? value : NaN;
      }
      const digits = take(DIGITS);
      return digits ? Number(digits.replace(/[,_ \u00a0\u202f]/g, '')) : NaN;
    }
    function power() {
      const base = atom();
      return take(/^\^/) ? base ** signed() : base;
    }
    function signed() {
      const sign = take(/^[+-]/);
      return sign ? (sign === '-' ? -1 : 1) * signed() : power();
    }
    function product() {
      let value = signed();
      for (let sign = take(/^[*/]/); sign; sign = take(/^[*/]/)) value = sign === '*' ? value * signed() : value / signed();
      return value;
    }
    function sum() {
      let value = product();
      for (let sign = take(/^[+-]/); sign; sign = take(/^[+-]/)) value += (sign === '-' ? -1 : 1) * product();
      return value;
    }
    return { value: sum(), rest };
  }

  // ---- units: the question's own, however it is written, and others of its kind

  const SIZE = {
    n: 1e-9, 'µ': 1e-6, 'μ': 1e-6, u: 1e-6, m: 1e-3, k: 1e3, K: 1e3, M: 1e6, G: 1e9, T: 1e12,
    Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, thousand: 1e3, million: 1e6, billion: 1e9,
  };
  const SHORT = {
    byte: 'B', second: 's', sec: 's', millisecond: 'ms', microsecond: 'µs', percent: '%', 'per cent': '%', '$': 'dollar', tok: 'token',
  };
  // Mb are bits: a prefix stands before B, s and FLOP as they are written here.
  const SCALED = /^([nµμum](?=s$)|(?:[kKMGT]|[KMG]i)(?=(?:B|FLOP)$)|(?:thousand|million|billion)(?= )) ?(.+)$/;

  // [size, kind] of a unit: "GB" is [1e9, 'B'], "million tokens" [1e6, 'token'], "%" a hundredth of nothing named.
  function oneUnit(text) {
    const name = text.replace(/-/g, ' ').replace(/^(.{3,})s$/, '$1'); // GPU-hours, tokens
    const short = Object.hasOwn(SHORT, name) ? SHORT[name] : name;
    if (short === '%') return [0.01, ''];
    const [, prefix, kind] = short.match(SCALED) || ['', '', short];
    return [SIZE[prefix] || 1, kind];
  }

  // The same of "FLOPs per byte", [1, 'FLOP/B'], or "tokens/s".
  function unitOf(text) {
    const parts = text.trim().split(/\s*\/\s*|\s+per\s+/).map(oneUnit);
    return { size: parts.reduce((size, [one], place) => (place ? size / one : one), 1), kind: parts.map(([, kind]) => kind).join('/') };
  }

  // { value, unit } of what was typed, in the question's unit, or { problem }: what the reader can do about it.
  function answerOf(typed, unit) {
    const wanted = unitOf(unit);
    const { value, rest } = readNumber(wanted.kind === 'dollar' ? typed.trim().replace(/^\$/, '') : typed);
    if (/^,\d/.test(rest)) return { problem: 'A comma separates thousands here; the decimal sign is a point, as in 0.5.' };
    if (!Number.isFinite(value)) return { problem: 'That cannot be read as a number. These can: 0.5, 1e9, 1,000, 2^10, 3/4, 2 * 32 * 128.' };
    if (!rest) return { value, unit: '' };
    const { size, kind } = unitOf(rest);
    if (kind !== wanted.kind) return { problem: `Write the number alone${unit ? `; it is counted in ${unit}` : ''}.` };
    return { value: (value * size) / wanted.size, unit };
  }

  const close = (value, wanted, tolerance) => Math.abs(value - wanted) <= Math.max(tolerance, 1e-9) * Math.abs(wanted);

  function shown(value) {
    const whole = Number.isInteger(value) && Math.abs(value) < 1e15;
    return value.toLocaleString('en-US', whole ? {} : { maximumSignificantDigits: 4 });
  }

  // How far off, for a number that is nobody's usual mistake.
  function distance(value, answer) {
    if (value <= 0) return 'The answer is above zero.';
    const factor = value > answer ? value / answer : answer / value;
    const many = factor < 1.1 ? `by ${((factor - 1) * 100).toPrecision(2)} %` : `by a factor of ${shown(Number(factor.toPrecision(2)))}`;
    return `Too ${value > answer ? 'large' : 'small'}, ${many}.`;
  }

  // ---- progress, in this browser or, where it keeps nothing, on this page

  let keeps = true;
  const page = {};

  function readAll() {
    let text = null;
    try {
      text = window.localStorage.getItem(KEY);
    } catch {
      keeps = false; // a sandboxed notebook, a browser told to keep nothing
    }
    if (!keeps) return page;
    try {
      const all = JSON.parse(text);
      return all && typeof all === 'object' && !Array.isArray(all) ? all : {};
    } catch {
      return {}; // not ours, or half written
    }
  }

  function writeAll(all) {
    try {
      window.localStorage.setItem(KEY, JSON.stringify(all));
    } catch {
      keeps = false;
      Object.assign(page, all);
    }
    window.dispatchEvent(new Event(CHANGED));
  }

  function answeredRightly(lesson, ids) {
    const kept = readAll()[lesson];
    return kept && Array.isArray(kept.right) ? ids.filter((id) => kept.right.includes(id)) : [];
  }

  // ---- parts

  // What stands between backticks is code.
  const prose = (text) => text.split('`').map((part, i) => (i % 2 ? element('code', {}, part) : part));

  function render(host, data) {
    const ids = data.questions.map((question) => question.id);
    window.teachkitBlocks = (window.teachkitBlocks || 0) + 1; // names of controls are unique on the page
    const name = `tk-qs-${window.teachkitBlocks}`;

    const done = element('p', { role: 'status' });
    const clear = element('button', { type: 'button', 'aria-label': 'Clear the answers to this lesson' }, 'Clear');
    const blocks = data.questions.map((question, i) => ask(question, `${name}-${i + 1}`, i + 1, keep));
    // JupyterLab's shortcuts would take Enter and the arrow keys.
    host.replaceChildren(element('div', { class: 'tk-qs', 'data-lm-suppress-shortcuts': 'true' },
      ...blocks.map((block) => block.box), element('div', { class: 'tk-qs-done' }, done, clear)));

    clear.addEventListener('click', () => {
      const all = readAll();
      delete all[data.lesson];
      writeAll(all);
      blocks.forEach((block) => block.reset());
      done.focus();
    });
    done.tabIndex = -1;
    window.addEventListener(CHANGED, update);
    window.addEventListener('storage', update); // another tab
    update();

    function update() {
      const right = answeredRightly(data.lesson, ids);
      const text = `${right.length} of ${ids.length} answered rightly ${keeps ? 'in this browser' : 'on this page, which can keep nothing'}`;
      if (done.textContent !== text) done.textContent = text;
      clear.hidden = !right.length;
      blocks.forEach((block, i) => { block.mark.hidden = !right.includes(ids[i]); });
    }

    function keep(id) {
      const all = readAll();
      all[data.lesson] = { of: ids.length, right: [...new Set([...answeredRightly(data.lesson, ids), id])] };
      writeAll(all);
    }
  }

  // One question. Its field gives { right, says } of what stands in it, or { problem }. No <form>: a notebook's
  // sandbox may forbid to send one, and then even the attempt goes unheard.
  // keep   is called with the id of a question that was answered rightly
  function ask(question, id, place, keep) {
    const field = (question.kind === 'choice' ? choice : number)(question, id);
    const says = element('div', { class: 'tk-qs-says', id: `${id}-says`, 'aria-live': 'polite' });
    const check = element('button', { type: 'button', class: 'tk-qs-check' }, 'Check');
    const reveal = element('button', { type: 'button', hidden: '' }, 'Show the answer');
    const mark = element('span', { class: 'tk-qs-mark', hidden: '' }, '✓ answered rightly');
    const box = element('fieldset', {},
      element('legend', {}, element('b', {}, `${place}. `), ...prose(question.ask), ' ', mark),
      field.box, element('div', { class: 'tk-qs-do' }, check, reveal), says);

    function say(kind, sign, text) {
      says.dataset.said = kind;
      says.replaceChildren(element('p', {}, ...(sign ? [element('strong', {}, sign), ' '] : []), ...prose(text)));
    }
    function silence() {
      delete says.dataset.said;
      says.replaceChildren();
      field.wrong(false);
    }
    function judge() {
      const { problem, right, says: text } = field.read();
      field.wrong(!right);
      if (problem) return say('problem', '', problem);
      reveal.hidden = false;
      if (right) keep(question.id);
      return say(right ? 'right' : 'wrong', right ? '✓ Right.' : '✗ No.', text);
    }
    check.addEventListener('click', judge);
    field.box.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.isComposing) {
        event.preventDefault();
        judge();
      }
    });
    box.addEventListener('input', silence); // what was said of another answer would be false of this one
    reveal.addEventListener('click', () => { field.wrong(false); say('answer', 'The answer:', field.solution); });
    return { box: element('div', { class: 'tk-qs-ask' }, box), mark, reset() { field.empty(); reveal.hidden = true; silence(); } };
  }

  function choice(question, id) {
    const radios = question.options.map((_, i) => element('input', { type: 'radio', name: id, value: i, 'aria-describedby': `${id}-says` }));
    const right = question.options.find((option) => option.right);
    return {
      box: element('div', { class: 'tk-qs-options' },
        ...question.options.map((option, i) => element('label', {}, radios[i], element('span', {}, ...prose(option.text))))),
      read() {
        const option = question.options[radios.findIndex((radio) => radio.checked)];
        return option ? { right: Boolean(option.right), says: option.says } : { problem: 'Pick one of them first.' };
      },
      wrong() {},
      empty() { radios.forEach((radio) => { radio.checked = false; }); },
      solution: `${right.text} ${right.says}`,
    };
  }

  function number(question, id) {
    const input = element('input', { type: 'text', inputmode: 'decimal', id: `${id}-number`, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': `${id}-says` });
    return {
      box: element('div', { class: 'tk-qs-number' }, element('label', { for: `${id}-number` }, question.wanted), input),
      read() {
        if (!input.value.trim()) return { problem: 'Write a number first. A product such as 2 * 32 * 128 will do.' };
        const { value, unit, problem } = answerOf(input.value, question.unit);
        if (problem) return { problem };
        const typed = input.value.trim();
        const read = `${shown(value)} ${unit}`.trim();
        const told = (text) => (typed === read || /^\d*\.?\d*$/.test(typed) ? text : `You wrote ${read}. ${text}`);
        if (close(value, question.answer, question.tolerance)) return { right: true, says: told(question.why) };
        const known = question.wrong.find((wrong) => close(value, wrong.value, question.tolerance));
        return { right: false, says: told(known ? known.says : `${distance(value, question.answer)} ${question.hint}`) };
      },
      wrong(is) {
        if (is) input.setAttribute('aria-invalid', 'true');
        else input.removeAttribute('aria-invalid');
      },
      empty() { input.value = ''; },
      solution: `${question.solution}. ${question.why}`,
    };
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.questions = { render };
})();
