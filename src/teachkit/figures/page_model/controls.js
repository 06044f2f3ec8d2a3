// What the figure of the model in the page is worked with: the part that loads and the part that decodes.
//
// Each is a box, and `draw`, which makes it agree with the figure's state. What a press does is the figure's to say.
(function () {
  'use strict';

  const { megabytes, many, bytes, orNone, firstToken, perSecond } = window.teachkitPageModel.words;
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

  // A line that is read out when its words change.
  function statusLine() {
    const box = element('p', { class: 'tk-pm-status', role: 'status' });
    function say(words, failed = false) {
      if (box.textContent !== words) box.textContent = words;
      box.classList.toggle('failed', failed);
    }
    return { box, say };
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
    const status = statusLine();

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
    return { box: element('div', { class: 'tk-pm-top' }, begin, weights, bar, status.box), begin, say: status.say, draw };
  }

  // ---- decoding

  function countersView() {
    const names = ['Multiply-adds', 'Bytes of weights read', 'Bytes of cache read', 'First token after', 'Then tokens per second'];
    const values = names.map(() => element('dd', {}, '–'));
    const box = element('dl', { class: 'tk-pm-counters' },
      ...names.map((name, i) => element('div', {}, element('dt', {}, name), values[i])));
    const say = (texts) => values.forEach((value, i) => { value.textContent = texts[i] || '–'; });
    function show(run) {
      const { multiplyAdds, weightBytes, cacheBytes } = run.counters;
      say([many(multiplyAdds), bytes(weightBytes), orNone(cacheBytes), firstToken(run), perSecond(run)]);
    }
    return { box, show, clear: () => say([]) };
  }

  // press, keep   what the two buttons do; below is a box of the figure's, under the counters
  function decodingView({ press, keep, below }) {
    const howMany = element('input', { type: 'number', min: 1, max: MOST_NEW, step: 1, value: 32, inputmode: 'numeric' });
    const temperature = menu([[0, '0, greedy'], [0.5, '0.5'], [0.8, '0.8'], [1, '1']]);
    const mode = menu([['cache', 'with the cache'], ['all', 'recomputing everything']]);
    const go = button('Generate', press, { class: 'tk-pm-go' });
    const add = button('Add it to the text', keep);
    const status = statusLine();
    const title = element('p', { class: 'tk-title' });
    const code = element('code');
    const written = element('div', { class: 'tk-pm-written', hidden: '', tabindex: 0, role: 'region', 'aria-label': 'What it wrote' }, code);
    const counters = countersView();
    const box = element('div', { class: 'tk-pm-decode' },
      element('p', { class: 'tk-title' }, 'Decode'),
      element('div', { class: 'tk-pm-choice' }, field(`Tokens, 1 to ${MOST_NEW}`, howMany), field('Temperature', temperature), field('Decoding', mode), go, status.box),
      title, written, add, counters.box, below);

    // What the reader asks for; null, and a word on it, where that is no number of tokens.
    function wanted() {
      const number = Number(howMany.value);
      const fine = Number.isInteger(number) && number >= 1 && number <= MOST_NEW;
      howMany.setAttribute('aria-invalid', !fine);
      if (fine) return { count: number, temperature: Number(temperature.value), cached: mode.value === 'cache' };
      status.say(`Tokens must be a whole number from 1 to ${MOST_NEW}.`, true);
      return null;
    }
    function show(run) {
      written.hidden = false;
      code.textContent = run.text;
      counters.show(run);
    }
    // Empty; the frame stays for a run that begins.
    function clear(begins) {
      written.hidden = !begins;
      code.textContent = '';
      counters.clear();
    }
    // of   what the run shown is of, as words of its title; null where none is shown
    function draw({ doing, offer }, of, canKeep) {
      box.hidden = offer === null;
      title.hidden = of === null;
      title.textContent = ['The last run', ...of || []].join(', ');
      go.textContent = doing === 'writing' ? 'Stop' : 'Generate';
      go.setAttribute('aria-disabled', doing === 'loading');
      add.hidden = !canKeep;
    }
    return { box, say: status.say, wanted, show, clear, draw };
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel, { field, loadingView, decodingView });
})();
