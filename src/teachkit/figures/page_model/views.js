// What else the figure of the model in the page shows: tokens, next tokens, and a table of runs.
//
// Each is a box, and a function that shows something in it.
(function () {
  'use strict';

  const { visible, percent, count, many, bytes, orNone, firstToken, perSecond, SPACE, DECODING } = window.teachkitPageModel.words;
  const element = (...given) => window.teachkitParts.element(...given); // figure.js comes later in the page

  const MOST_TOKENS = 240; // shown one by one
  const RUNS = 8; // rows of the table

  function tokensView() {
    const title = element('p', { class: 'tk-title' }, 'Tokens');
    const list = element('ol');
    // Long texts scroll, by keys too.
    const frame = element('div', { class: 'tk-pm-tokens', tabindex: 0, role: 'region', 'aria-label': 'Tokens and their numbers' }, list);
    function show(tokens) {
      title.textContent = window.teachkitPageModel.words.tokens(tokens.length);
      list.replaceChildren(...tokens.slice(0, MOST_TOKENS).map(({ token, label }) =>
        element('li', {}, element('code', {}, visible(label)), element('small', {}, String(token)))));
      if (tokens.length > MOST_TOKENS) list.append(element('li', {}, `and ${count(tokens.length - MOST_TOKENS)} more`));
    }
    return { box: element('div', {}, title, frame), show };
  }

  // ---- what comes next

  // A token and its bar; `full` is the probability of the whole width. `was` is that of the weights before, if known.
  function nextRow({ label, p, was }, full) {
    const track = element('span', { class: 'tk-pm-track' }, element('i', { style: `width:${100 * p / full}%` }));
    const value = element('span', {}, percent(p));
    if (was !== undefined) {
      track.append(element('b', { style: `left:${100 * was / full}%` }));
      value.append(element('small', {}, ` was ${percent(was)}`));
    }
    return element('li', {}, element('code', {}, visible(label)), track, value);
  }

  // Bars of the likeliest tokens; a line marks what the weights before these gave, for the same text.
  function nextView() {
    const list = element('ol', { class: 'tk-pm-next', 'aria-label': 'Next tokens and their probabilities' });
    const key = element('p', { class: 'tk-pm-note' });
    let of = null; // the weights that the bars are of

    function show(scheme, top, before) {
      const largest = Math.max(0, ...top.flatMap(({ p, was }) => [p, was || 0]));
      const full = [0.1, 0.2, 0.5].find((limit) => largest <= limit) ?? 1;
      of = scheme;
      list.replaceChildren(...top.map((row) => nextRow(row, full)));
      key.textContent = top.length
        ? `Bars: ${scheme}. ${before ? `Lines: ${before}, the same text. ` : ''}Full width: ${100 * full}${SPACE}%.`
        : 'There is no text to continue.';
    }
    const wait = (earlier) => { key.textContent = `The model is reading; the bars are still those ${earlier}.`; };
    const stale = () => { key.textContent = `Bars: ${of}, of an earlier text.`; };
    return { box: element('div', {}, element('p', { class: 'tk-title' }, 'What comes next'), list, key), show, wait, stale };
  }

  // ---- runs side by side

  const COLUMNS = ['Weights', 'Decoding', 'Tokens read + written', 'Multiply-adds', 'Bytes of weights', 'Bytes of cache', 'First token', 'Then tokens/s'];

  // Two rows: what it wrote has one of its own, or the table would be as wide as the text.
  function runRows(run) {
    const { scheme, cached, promptTokens, made, temperature, counters, text } = run;
    const cells = [
      DECODING[cached] + (temperature ? `, temperature ${temperature}` : ''), `${promptTokens} + ${made}`,
      many(counters.multiplyAdds), bytes(counters.weightBytes), orNone(counters.cacheBytes), firstToken(run), perSecond(run),
    ];
    return [
      element('tr', {}, element('th', { scope: 'row', rowspan: 2 }, scheme), ...cells.map((cell) => element('td', {}, cell))),
      element('tr', {}, element('td', { colspan: cells.length }, element('code', {}, visible(text)))),
    ];
  }

  // The same run again takes the place of the one before.
  function runsView() {
    const body = element('tbody');
    const table = element('table', {},
      element('thead', {}, element('tr', {}, ...COLUMNS.map((name) => element('th', { scope: 'col' }, name)))), body);
    const box = element('div', { hidden: '' },
      element('p', { class: 'tk-title' }, 'Your runs, the latest first'),
      element('div', { class: 'tk-pm-runs', tabindex: 0, role: 'region', 'aria-label': 'Your runs' }, table),
      element('p', { class: 'tk-pm-note' }, 'Counts are of the whole run, with its first step, which reads all of the text. First token: how long that step took. Then tokens/s: of the steps after it.'));
    const kept = new Map();
    function add(run) {
      const name = [run.scheme, run.cached, run.promptTokens, run.made, run.temperature].join();
      kept.delete(name);
      kept.set(name, runRows(run));
      if (kept.size > RUNS) kept.delete(kept.keys().next().value);
      body.replaceChildren(...[...kept.values()].reverse().flat());
      box.hidden = false;
    }
    return { box, add };
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel, { tokensView, nextView, runsView });
})();
