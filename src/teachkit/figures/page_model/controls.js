// What the figure of the model in the page is worked with: the part that loads and the part that decodes.
//
// Each is a box, and `draw`, which makes it agree with the figure's state. What a press does is the figure's to say.
(function () {
  'use strict';

  const { megabytes, many, bytes, orNone, short } = window.teachkitPageModel.words;
  const element = (...given) => window.teachkitParts.element(...given); // figure.js comes later in the page

  const MOST_NEW = 400;

  function field(name, input) {
    return element('label', { class: 'tk-pm-field' }, element('span', {}, name), input);
  }

  function menu(options) {
    return element('select', {}, ...options.map(([value, text]) => element('option', { value }, text)));
  }

  function button(text, press, attributes = {}) {
    const made = element('button', { type: 'button', ...attributes }, text);
    made.addEventListener('click', press);
    return made;
  }

  // ---- loading

  // use   is called with the offer whose button was pressed
  function loadingView({ offers, vocabulary }, use) {
    const [first] = offers;
    const begin = button(`Load the model, ${megabytes(first.nbytes + vocabulary.nbytes)}`, () => use(first), { class: 'tk-pm-load' });
    const choices = offers.map((offer) => ({ offer, made: button(offer.name, () => use(offer), { 'data-scheme': offer.name }) }));
    const weights = element('div', { class: 'tk-pm-weights', role: 'group', 'aria-label': 'Weights' },
      element('span', {}, 'Weights'), ...choices.map(({ made }) => made));
    const bar = element('progress', { max: 1, 'aria-label': 'Loading' });
    const status = element('p', { class: 'tk-pm-status', role: 'status' });

    function say(words, failed) {
      if (status.textContent !== words) status.textContent = words;
      status.classList.toggle('failed', failed);
    }

    // has     whether the worker holds the weights of that name
    // share   of a file that is being loaded; null where none is
    function draw({ doing, offer, share }, has) {
      begin.hidden = offer !== null;
      weights.hidden = offer === null;
      bar.hidden = share === null;
      bar.value = share ?? 0;
      begin.setAttribute('aria-disabled', doing !== null);
      choices.forEach(({ offer: one, made }) => {
        made.setAttribute('aria-disabled', doing !== null);
        made.setAttribute('aria-pressed', one === offer && has(one.name));
        made.textContent = has(one.name) ? one.name : `${one.name}, load ${megabytes(one.nbytes)}`;
      });
    }
    return { box: element('div', { class: 'tk-pm-top' }, begin, weights, bar, status), begin, say, draw };
  }

  // ---- decoding

  function countersView() {
    const names = ['Multiply-adds', 'Bytes of weights read', 'Bytes of cache read', 'Tokens per second'];
    const values = names.map(() => element('dd', {}, '–'));
    const box = element('dl', { class: 'tk-pm-counters' },
      ...names.map((name, i) => element('div', {}, element('dt', {}, name), values[i])));
    function show({ counters, made, seconds }) {
      const texts = [many(counters.multiplyAdds), bytes(counters.weightBytes), orNone(counters.cacheBytes), short(made / seconds)];
      values.forEach((value, i) => { value.textContent = texts[i]; });
    }
    return { box, show };
  }

  // press, keep   what the two buttons do; below is a box of the figure's, under the counters
  function decodingView({ press, keep, below }) {
    const howMany = element('input', { type: 'number', min: 1, max: MOST_NEW, step: 1, value: 32, inputmode: 'numeric' });
    const temperature = menu([[0, '0, greedy'], [0.5, '0.5'], [0.8, '0.8'], [1, '1']]);
    const mode = menu([['cache', 'with the cache'], ['all', 'recomputing everything']]);
    const go = button('Generate', press, { class: 'tk-pm-go' });
    const add = button('Add it to the text', keep);
    const code = element('code');
    const written = element('div', { class: 'tk-pm-written', hidden: '', tabindex: 0, role: 'region', 'aria-label': 'What it wrote' }, code);
    const counters = countersView();
    const box = element('div', { class: 'tk-pm-decode' },
      element('p', { class: 'tk-title' }, 'Decode'),
      element('div', { class: 'tk-pm-choice' }, field('Tokens', howMany), field('Temperature', temperature), field('Decoding', mode), go),
      written, add, counters.box, below);

    // What the reader asks for.
    function wanted() {
      howMany.value = Math.max(1, Math.min(MOST_NEW, Math.floor(Number(howMany.value)) || 1));
      return { count: Number(howMany.value), temperature: Number(temperature.value), cached: mode.value === 'cache' };
    }
    function show(run) {
      written.hidden = false;
      code.textContent = run.text;
      counters.show(run);
    }
    function draw({ doing, offer }, canKeep) {
      box.hidden = offer === null;
      go.textContent = doing === 'writing' ? 'Stop' : 'Generate';
      go.setAttribute('aria-disabled', doing === 'loading');
      add.hidden = !canKeep;
    }
    return { box, wanted, show, draw, hideWritten: () => { written.hidden = true; } };
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel, { field, loadingView, decodingView });
})();
