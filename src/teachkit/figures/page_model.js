// The model in the page: tokens, attention, the next token, and decoding while its work is counted.
//
// The model itself runs in a worker, made of four scripts of page_model/; the others of that folder stand before this
// script in the page. This one holds the parts together: what the reader does, what is asked, what is shown.
(function () {
  'use strict';

  const { element } = window.teachkitParts;
  const { count, tokens, megabytes, many, time, DECODING } = window.teachkitPageModel.words;
  const { startModel, bringWeights, field, loadingView, decodingView, tokensView, nextView, runsView, AttentionView } = window.teachkitPageModel;

  const MAP_TOKENS = 48; // more would be cells that nobody can see
  const LIKELIEST = 8;
  const TYPING_MS = 150;
  const LATE_MS = 300;
  const EARLIER = 'of an earlier text';
  const AT_FIRST = 'Not loaded yet. What stands here was computed when the page was made. Loading brings the model to your browser; nothing that you type leaves it.';

  class PageModel {
    constructor(host, data) {
      this.data = data;
      this.worker = null;
      this.loaded = new Map(); // weights that the worker holds: their bytes, by name
      this.offer = null; // the weights in use
      this.doing = null; // or 'loading', 'writing': then the text cannot be changed
      this.share = null; // of the file that is being loaded
      this.trouble = null; // what the status line says: 'refused' of a text that is too long, 'failed'
      this.unread = false; // the text is not the one that was read last
      this.read = null; // the last answer to `run`, with its text
      this.before = null; // such an answer of the weights before these, about the same text
      this.counted = null; // how many tokens a text has, and how many the model was made for
      this.written = null; // what the last run wrote, and the text that it went on from
      this.ran = null; // the run that is shown: its text and the name of its weights
      this.turn = 0; // counts readings; only the last may still show its answer
      this.typing = 0;
      this.late = 0; // timers
      this.arrange(host);
      this.draw();
    }

    arrange(host) {
      const { data } = this;
      this.text = element('textarea', { rows: 4, spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off' });
      this.text.value = data.text;
      this.text.addEventListener('input', () => this.changed(TYPING_MS));
      this.tokens = tokensView();
      this.next = nextView();
      this.attention = new AttentionView();
      this.runs = runsView();
      this.loading = loadingView(data, (offer) => this.use(offer));
      this.decoding = decodingView({ press: () => this.press(), keep: () => this.keep(), below: this.runs.box });
      host.replaceChildren(element('div', { class: 'tk-pm' }, this.loading.box, field('Text', this.text),
        this.tokens.box, this.next.box, this.attention.box, this.decoding.box));
      this.tokens.show(data.start.tokens);
      this.next.show(data.offers[0].name, data.start.top, null);
      this.say(AT_FIRST);
    }

    // ---- the state, and all that follows from it

    draw() {
      const { written, text, loading } = this;
      const focused = document.activeElement === loading.begin;
      text.readOnly = this.doing !== null;
      loading.draw(this, (name) => this.alive() && this.loaded.has(name));
      this.decoding.draw(this, this.ranOf(), !this.doing && written !== null && written.text !== '' && written.from === text.value);
      if (focused && loading.begin.hidden) text.focus(); // a button that is gone would take the focus with it
    }

    // What the run that is shown is of, where that is not what stands above it.
    ranOf() {
      const { ran, text, offer } = this;
      return ran && [ran.text !== text.value && EARLIER, ran.scheme !== offer.name && `of ${ran.scheme}`].filter(Boolean);
    }

    alive() {
      return this.worker !== null && this.worker.alive();
    }

    say(words, trouble = null) {
      this.trouble = trouble;
      this.loading.say(words, trouble === 'failed');
    }

    sayReady() {
      this.say(`Ready: ${this.offer.name}, ${megabytes(this.loaded.get(this.offer.name))} of weights in memory.`);
    }

    // While it loads or writes, nothing is read.
    begin(doing) {
      this.drop();
      if (this.unread) this.stale();
      this.doing = doing;
      this.draw();
    }

    end() {
      this.doing = null;
      this.share = null;
      this.draw();
      if (this.unread && this.offer && this.alive()) this.refresh({ quiet: true });
    }

    lost(problem) {
      this.say(this.explain(problem), 'failed');
      this.draw(); // what a worker that ended held is gone
    }

    explain(problem) {
      return `${problem.message}${this.alive() ? '' : ' Press the button of the weights to start it again.'}`;
    }

    // ---- loading

    async use(offer) {
      if (this.doing) return;
      this.decoding.say('');
      this.begin('loading');
      try {
        if (!this.alive()) await this.start();
        if (!this.loaded.has(offer.name)) await this.load(offer);
        const same = this.read && this.read.text === this.text.value && this.offer !== offer;
        this.before = same ? this.read : null;
        this.offer = offer;
        await this.refresh();
        if (!this.trouble) this.sayReady();
      } catch (problem) {
        this.say(`${problem.message} Without it ${offer.name} cannot run. Check the connection, and that the folder ${this.data.folder} lies where the page expects it; then press the button again.`, 'failed');
      }
      this.end();
    }

    async start() {
      this.say('Loading the vocabulary.');
      this.worker = await startModel(this.data);
      this.loaded.clear();
    }

    async load(offer) {
      const moved = (share) => { this.share = share; this.draw(); };
      this.say(`Loading ${offer.name}, ${megabytes(offer.nbytes)}.`);
      moved(0);
      const answer = await this.worker.ask(await bringWeights(this.data.folder, offer, moved));
      this.loaded.set(offer.name, answer.bytes);
    }

    // ---- the text

    changed(wait) {
      this.before = null; // it was of another text
      this.unread = true;
      this.decoding.say('');
      clearTimeout(this.typing);
      if (this.offer) this.typing = setTimeout(() => this.refresh(), wait);
      this.draw();
    }

    // Whatever is being read, or waits to be, is of no more interest.
    drop() {
      clearTimeout(this.typing);
      clearTimeout(this.late);
      this.turn += 1;
    }

    // quiet   what the status line says is no matter of the text, and stays
    async refresh({ quiet = false } = {}) {
      this.drop();
      const { turn } = this;
      const newest = () => turn === this.turn;
      const asked = this.text.value;
      this.late = setTimeout(() => this.wait(asked), LATE_MS);
      try {
        const answer = await this.worker.ask(
          { type: 'run', text: asked, scheme: this.offer.name, mapTokens: MAP_TOKENS, likeliest: LIKELIEST },
          (step) => { if (newest()) this.stepped(step, asked); });
        if (newest() && answer.type !== 'stopped') this.answered(answer, asked, quiet);
      } catch (problem) {
        if (!newest()) return;
        this.stale();
        this.lost(problem);
      }
    }

    stepped({ tokens: found, context }, asked) {
      this.counted = { text: asked, tokens: found.length, context };
      this.tokens.show(found);
    }

    // It takes a while: what is shown is of what was read before.
    wait(asked) {
      const { read, offer } = this;
      const other = read && read.text === asked && read.scheme !== offer.name;
      this.next.wait(other ? `of ${read.scheme}` : 'of the text before');
      this.attention.mark(other ? `of ${read.scheme}` : EARLIER);
    }

    answered(answer, asked, quiet) {
      this.unread = asked !== this.text.value;
      if (answer.type === 'too long') {
        this.stale();
        this.say(`The text has ${count(answer.tokens)} tokens; the model was made for at most ${count(answer.context)}.`, 'refused');
        return;
      }
      clearTimeout(this.late);
      if (this.trouble && !quiet) this.sayReady();
      this.read = { ...answer, text: asked };
      const was = this.before ? this.before.probs : [];
      const top = answer.likeliest.map(({ token, label }) => ({ label, p: answer.probs[token], was: was[token] }));
      this.next.show(answer.scheme, top, this.before && this.before.scheme);
      this.attention.show(answer);
    }

    // The text was not read: what is shown is of the one before.
    stale() {
      clearTimeout(this.late);
      this.next.stale();
      this.attention.mark(EARLIER);
    }

    // ---- decoding

    press() {
      if (this.doing === 'writing') this.worker.stop();
      else if (!this.doing) this.generate();
    }

    async generate() {
      const wanted = this.decoding.wanted();
      const from = this.text.value;
      if (!wanted || this.tooMany(wanted, from)) return;
      const scheme = this.offer.name;
      this.clearRun({ text: from, scheme });
      if (this.trouble === 'failed' && this.alive()) this.sayReady(); // what failed was another thing
      this.begin('writing');
      this.decoding.say(`Writing ${tokens(wanted.count)}, ${DECODING[wanted.cached]}.`);
      try {
        const run = await this.worker.ask({ type: 'generate', text: from, scheme, seed: 0, ...wanted }, this.decoding.show);
        if (run.type === 'too long') {
          this.clearRun(null);
          this.refuse(run.tokens, run.context);
        } else {
          this.wrote(run, from);
        }
      } catch (problem) {
        this.clearRun(null);
        this.decoding.say(this.explain(problem), true);
      }
      this.end();
    }

    clearRun(ran) {
      this.written = null;
      this.ran = ran;
      this.decoding.clear(ran !== null);
    }

    refuse(all, context) {
      this.decoding.say(`Text and new tokens together are ${count(all)}; the model was made for at most ${count(context)}.`, true);
    }

    // Where the text's tokens are known, nobody has to be asked.
    tooMany(wanted, text) {
      const { counted } = this;
      if (!counted || counted.text !== text || counted.tokens + wanted.count <= counted.context) return false;
      this.refuse(counted.tokens + wanted.count, counted.context);
      return true;
    }

    wrote(run, from) {
      this.decoding.show(run);
      if (run.made) this.runs.add(run);
      this.written = { from, text: run.text };
      this.decoding.say(`${run.stopped ? 'Stopped' : 'Done'}: ${tokens(run.made)} in ${time(run.seconds)}, ${many(run.counters.multiplyAdds)} multiply-adds.`);
    }

    keep() {
      this.text.value += this.written.text;
      this.clearRun(null);
      this.text.focus();
      this.changed(0);
    }
  }

  const render = (host, data) => new PageModel(host, data);

  window.teachkitFigures = window.teachkitFigures || {};
  window.teachkitFigures.page_model = { render };
})();
