// The model in the page: tokens, attention, the next token, and decoding while its work is counted.
//
// The model itself runs in a worker, made of four scripts of page_model/; words.js, client.js and views.js of that
// folder stand before this script in the page. This one holds the parts together: what the reader does, what is
// asked, what is shown.
(function () {
  'use strict';

  const { element } = window.teachkitParts;
  const { count, short, megabytes, many, bytes, orNone, SPACE, DECODING } = window.teachkitPageModel.words;
  const { startWorker, bring, bringWeights } = window.teachkitPageModel;
  const { field, menu, tokensView, nextView, attentionView, runsView } = window.teachkitPageModel.views(window.teachkitParts);

  const MAP_TOKENS = 48; // more would be cells that nobody can see
  const LIKELIEST = 8;
  const MOST_NEW = 400;
  const TYPING_MS = 150;
  const LATE_MS = 300;

  // ---- the figure

  function render(host, data) {
    // shown: the text that the views are of; before, now: answers about it, of the weights before and of these
    const state = { scheme: null, offer: null, tooLong: false, loaded: new Set(), busy: false, before: null, now: null, shown: null };
    let worker = null;
    let typing = 0;

    const text = element('textarea', { rows: 4, spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off' });
    text.value = data.text;
    const [first] = data.offers;
    const loadButton = element('button', { type: 'button', class: 'tk-pm-load' }, `Load the model, ${megabytes(first.nbytes + data.vocabulary.nbytes)}`);
    const bar = element('progress', { max: 1, value: 0, 'aria-label': 'Loading', hidden: '' });
    const status = element('p', { class: 'tk-pm-status', role: 'status' }, 'Not loaded yet. What stands here was computed when the page was made; nothing is sent anywhere, the model comes to you.');
    const choices = data.offers.map((offer) => {
      const button = element('button', { type: 'button', 'aria-pressed': 'false', 'data-scheme': offer.name });
      button.addEventListener('click', () => use(offer));
      return { offer, button };
    });
    const weights = element('div', { class: 'tk-pm-weights', role: 'group', 'aria-label': 'Weights', hidden: '' },
      element('span', {}, 'Weights'), ...choices.map(({ button }) => button));
    const views = { tokens: tokensView(), next: nextView(), attention: attentionView(), runs: runsView() };

    const howMany = element('input', { type: 'number', min: 1, max: MOST_NEW, step: 1, value: 32, inputmode: 'numeric' });
    const temperature = menu([[0, '0, greedy'], [0.5, '0.5'], [0.8, '0.8'], [1, '1']]);
    const mode = menu([['cache', 'with the cache'], ['all', 'recomputing everything']]);
    const go = element('button', { type: 'button', class: 'tk-pm-go' }, 'Generate');
    const keep = element('button', { type: 'button', hidden: '' }, 'Add it to the text');
    const written = element('div', { class: 'tk-pm-written', hidden: '', tabindex: 0, role: 'region', 'aria-label': 'What it wrote' }, element('code'));
    const counters = ['Multiply-adds', 'Bytes of weights read', 'Bytes of cache read', 'Tokens per second'].map((name) => {
      const value = element('dd', {}, '–');
      return { value, box: element('div', {}, element('dt', {}, name), value) };
    });
    const decode = element('div', { class: 'tk-pm-decode', hidden: '' },
      element('p', { class: 'tk-title' }, 'Decode'),
      element('div', { class: 'tk-pm-choice' }, field('Tokens', howMany), field('Temperature', temperature), field('Decoding', mode), go),
      written, keep, element('dl', { class: 'tk-pm-counters' }, ...counters.map(({ box }) => box)), views.runs.box);

    host.replaceChildren(element('div', { class: 'tk-pm' },
      element('div', { class: 'tk-pm-top' }, loadButton, weights, bar, status), field('Text', text),
      views.tokens.box, views.next.box, views.attention.box, decode));
    views.tokens.show(data.start.tokens);
    views.next.show(first.name, data.start.top, null);

    // ---- loading

    async function use(offer) {
      if (state.busy) return;
      setBusy(true);
      status.classList.remove('failed');
      try {
        if (!worker || !worker.alive()) {
          state.loaded.clear();
          status.textContent = 'Loading the vocabulary.';
          const started = startWorker(data.worker);
          await started.ask({ type: 'vocabulary', vocabulary: await bring(data.folder, 'vocabulary', data.vocabulary.stamp) });
          worker = started;
        }
        if (!state.loaded.has(offer.name)) await load(offer);
        const compared = state.now && state.shown === text.value && state.scheme !== offer.name;
        state.before = compared ? { scheme: state.scheme, probs: state.now.probs } : null;
        state.scheme = offer.name;
        state.offer = offer;
        await refresh();
        if (!state.tooLong) sayReady();
        [weights, decode].forEach((part) => { part.hidden = false; });
        if (!loadButton.hidden) {
          const focused = document.activeElement === loadButton;
          loadButton.hidden = true;
          if (focused) text.focus(); // a button that is gone would take the focus with it
        }
      } catch (problem) {
        status.textContent = `${problem.message} Without it ${offer.name} cannot run. Check the connection, and that the folder ${data.folder} lies where the page expects it; then press the button again.`;
        status.classList.add('failed');
      } finally {
        bar.hidden = true;
        setBusy(false);
      }
    }

    function sayReady() {
      status.textContent = `Ready: ${state.scheme}, ${megabytes(state.offer.weightBytes)} of weights in memory.`;
    }

    async function load(offer) {
      status.textContent = `Loading ${offer.name}, ${megabytes(offer.nbytes)}.`;
      Object.assign(bar, { value: 0, hidden: false });
      const message = await bringWeights(data.folder, offer, (share) => { bar.value = share; });
      offer.weightBytes = (await worker.ask(message)).bytes;
      state.loaded.add(offer.name);
    }

    function setBusy(busy) {
      state.busy = busy;
      text.readOnly = busy;
      loadButton.setAttribute('aria-disabled', busy);
      choices.forEach(({ offer, button }) => {
        button.setAttribute('aria-disabled', busy);
        button.setAttribute('aria-pressed', offer.name === state.scheme);
        button.textContent = state.loaded.has(offer.name) ? offer.name : `${offer.name}, load ${megabytes(offer.nbytes)}`;
      });
    }

    // ---- the text

    async function refresh() {
      const asked = text.value;
      const late = setTimeout(views.next.wait, LATE_MS);
      const answer = await worker.ask({ type: 'run', text: asked, scheme: state.scheme, mapTokens: MAP_TOKENS },
        ({ tokens }) => views.tokens.show(tokens)).finally(() => clearTimeout(late));
      if (answer.type === 'too long') {
        status.textContent = `The text has ${count(answer.tokens)} tokens; the model was made for at most ${count(answer.context)}.`;
      } else if (state.tooLong) {
        sayReady();
      }
      state.tooLong = answer.type === 'too long';
      if (answer.type !== 'ran') return; // stopped, since another was asked for
      state.now = answer;
      state.shown = asked;
      const was = state.before && state.before.probs;
      const top = answer.order.slice(0, LIKELIEST).map(({ token, label }) => ({ label, p: answer.probs[token], was: was ? was[token] : undefined }));
      views.next.show(answer.scheme, top, was && state.before.scheme);
      views.attention.show(answer);
    }

    text.addEventListener('input', () => {
      clearTimeout(typing);
      state.before = null; // it was of another text
      if (worker && state.scheme) typing = setTimeout(() => refresh().catch(lost), TYPING_MS);
    });
    loadButton.addEventListener('click', () => use(first));

    // ---- decoding

    function showRun(run) {
      written.hidden = false;
      written.firstChild.textContent = run.text;
      const values = [many(run.counters.multiplyAdds), bytes(run.counters.weightBytes), orNone(run.counters.cacheBytes), short(run.made / run.seconds)];
      counters.forEach(({ value }, i) => { value.textContent = values[i]; });
    }

    async function generate() {
      const wanted = Math.max(1, Math.min(MOST_NEW, Math.floor(Number(howMany.value)) || 1));
      howMany.value = wanted;
      clearTimeout(typing);
      setBusy(true);
      go.textContent = 'Stop';
      keep.hidden = true;
      status.textContent = `Writing ${count(wanted)} tokens, ${DECODING[mode.value === 'cache']}.`;
      try {
        const run = await worker.ask({
          type: 'generate', text: text.value, scheme: state.scheme, count: wanted,
          temperature: Number(temperature.value), seed: 0, cached: mode.value === 'cache',
        }, showRun);
        if (run.type === 'too long') {
          status.textContent = `Text and new tokens are ${count(run.tokens)} together; the model was made for at most ${count(run.context)}.`;
        } else {
          showRun(run);
          if (run.made) views.runs.add(run);
          keep.hidden = run.text === '';
          status.textContent = `${run.stopped ? 'Stopped' : 'Done'}: ${count(run.made)} tokens in ${run.seconds.toFixed(1)}${SPACE}s, ${many(run.counters.multiplyAdds)} multiply-adds.`;
        }
      } catch (problem) {
        lost(problem);
      } finally {
        setBusy(false);
        go.textContent = 'Generate';
      }
      if (state.shown !== text.value) refresh().catch(lost); // the text was changed just before
    }

    go.addEventListener('click', () => {
      if (go.textContent === 'Stop') worker.stop();
      else if (!state.busy) generate();
    });
    keep.addEventListener('click', () => {
      text.value += written.firstChild.textContent;
      written.hidden = true;
      keep.hidden = true;
      text.focus();
      state.before = null;
      refresh().catch(lost);
    });
    const lost = (problem) => { status.textContent = problem.message; };

    setBusy(false);
  }

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.page_model = { render };
})();
