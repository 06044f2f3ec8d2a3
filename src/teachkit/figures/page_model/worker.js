// The model's own thread. It is told what to do by messages, answers by messages, and looks for new ones while it
// computes, so that it can be stopped; the page itself never waits.
//
//   { type: 'vocabulary', vocabulary }                                    -> ready
//   { type: 'load', scheme, header, parts }                               -> loaded
//   { type: 'run', text, scheme, mapTokens, likeliest }                   -> step, ran
//   { type: 'generate', text, scheme, count, temperature, seed, cached }  -> step ..., done
//   { type: 'stop' }                                                      what runs ends
//
// Every message but `stop` has an id, which its answers repeat. `run` and `generate` answer `too long` where there are
// more tokens than the model was made for. A `run` that another message ended answers `stopped`; a `generate` answers
// `done`, marked as stopped, with what it has. What goes wrong is answered by `failed`.
(function () {
  'use strict';

  const { Tokenizer, Engine, Cache, probabilities, readWeights } = self.pageModel;
  const SLICE_MS = 25; // compute no longer than this without looking for messages
  const TELL_MS = 50; // no more news than the eye can follow
  const engines = {};
  let tokenizer = null;
  let latest = 0; // anything older that still runs has been stopped

  // Lets messages that wait be read: a message to oneself stands behind them.
  const channel = new MessageChannel();
  const paused = [];
  channel.port1.onmessage = () => paused.shift()();
  const pause = () => new Promise((resume) => {
    paused.push(resume);
    channel.port2.postMessage(null);
  });

  class Stopped extends Error {}

  // Drives a forward pass from layer to layer. `job` is given up as soon as another has begun, or `stop` came.
  async function drive(forward, job) {
    for (;;) {
      const { done, value } = forward.next();
      if (performance.now() - job.looked > SLICE_MS) {
        await pause();
        job.looked = performance.now();
        if (job.number !== latest) throw new Stopped();
      }
      if (done) return value;
    }
  }

  const named = (token) => ({ token, label: tokenizer.label(token) });

  // ---- what can be asked

  function load({ scheme, header, parts }) {
    engines[scheme] = new Engine(readWeights(header, parts));
    return { type: 'loaded', scheme, bytes: engines[scheme].bytes };
  }

  // The text's tokens, what comes next, the likeliest first, and who reads whom among the first `mapTokens`.
  async function run({ text, scheme, mapTokens, likeliest }, job, tell) {
    const engine = engines[scheme];
    const { config } = engine;
    const tokens = tokenizer.encode(text);
    tell({ type: 'step', tokens: tokens.map(named), context: config.context }); // at once; the rest may take a while
    if (tokens.length > config.context) return tooLong(tokens, config);
    const shown = Math.min(tokens.length, mapTokens);
    const levels = new Uint8Array(config.n_layers * config.n_heads * shown * shown);
    const maps = (layer, head, query, probs) => {
      if (query >= shown) return;
      const at = ((layer * config.n_heads + head) * shown + query) * shown;
      probs.forEach((p, key) => { levels[at + key] = Math.round(255 * p); });
    };
    const answer = { type: 'ran', scheme, tokens: tokens.map(named), shown, levels, layers: config.n_layers, heads: config.n_heads };
    if (!tokens.length) return { ...answer, probs: null, likeliest: [] };
    const logits = await drive(engine.forward(tokens, new Cache(config), { maps }), job);
    const probs = probabilities(logits);
    const order = Array.from(probs.keys()).sort((a, b) => probs[b] - probs[a] || a - b);
    return { ...answer, probs, likeliest: order.slice(0, likeliest).map(named) };
  }

  // Token by token. With the cache, a step computes the new token only; without, the whole text again.
  async function generate({ text, scheme, count, temperature, seed, cached }, job, tell) {
    const engine = engines[scheme];
    const { config } = engine;
    const prompt = tokenizer.encode(text);
    if (!prompt.length) throw new Error('There is no text to continue.');
    if (prompt.length + count > config.context) return tooLong([...prompt, ...Array(count)], config);
    const random = generator(seed);
    const made = [];
    const cache = new Cache(config, cached);
    engine.resetCounters();
    const started = performance.now();
    const since = (start) => (performance.now() - start) / 1000;
    let told = started;
    let first = 0; // seconds until the first token: its step reads the whole text
    let later = 0; // of the steps after it, those that ended
    const report = (type) => ({
      type, scheme, cached, temperature, promptTokens: prompt.length, made: made.length, text: tokenizer.decode(made),
      seconds: since(started), first, later, counters: { ...engine.counters },
    });
    try {
      while (made.length < count) {
        if (!cached) cache.length = 0; // nothing is kept from the step before
        const input = cached && made.length ? made.slice(-1) : [...prompt, ...made];
        made.push(choose(await drive(engine.forward(input, cache), job), temperature, random));
        if (made.length === 1) first = since(started);
        else later = since(started) - first;
        if (performance.now() - told > TELL_MS && made.length < count) {
          tell(report('step'));
          told = performance.now();
        }
      }
    } catch (problem) {
      if (!(problem instanceof Stopped)) throw problem;
      return { ...report('done'), stopped: true };
    }
    return report('done');
  }

  const tooLong = (tokens, config) => ({ type: 'too long', tokens: tokens.length, context: config.context });

  // The likeliest token at temperature 0; else one drawn from the probabilities.
  function choose(logits, temperature, random) {
    if (temperature === 0) return logits.indexOf(Math.max(...logits));
    const probs = probabilities(logits, temperature);
    let rest = random();
    for (let token = 0; token < probs.length; token++) {
      rest -= probs[token];
      if (rest < 0) return token;
    }
    return probs.indexOf(Math.max(...probs)); // what rounding left over
  }

  // Numbers from 0 to 1, the same for the same seed, so that two runs can be compared (mulberry32).
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  const ASKED = {
    vocabulary({ vocabulary }) {
      tokenizer = new Tokenizer(vocabulary);
      return { type: 'ready' };
    },
    load,
    run,
    generate,
  };

  self.onmessage = async ({ data: message }) => {
    latest += 1;
    if (message.type === 'stop') return;
    const tell = (answer) => self.postMessage({ ...answer, id: message.id });
    const job = { number: latest, looked: performance.now() };
    try {
      tell(await ASKED[message.type](message, job, tell));
    } catch (problem) {
      tell(problem instanceof Stopped ? { type: 'stopped' } : { type: 'failed', reason: problem.message });
    }
  };
})();
