// The model: tokens in, logits out. A Llama, step by step as in the lesson "A real model, line by line".
//
// Activations are 32-bit floats, one token after the other in flat arrays: x[t * width + i]. Sums are taken in
// JavaScript's own 64-bit numbers and rounded once, when they are stored.
(function () {
  'use strict';

  // x / sqrt(mean(x^2) + eps) * weight, token by token.
  function rmsNorm(x, tokens, weight, eps) {
    const width = weight.length;
    const out = new Float32Array(tokens * width);
    for (let t = 0; t < tokens; t++) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += x[t * width + i] ** 2;
      const shrink = 1 / Math.sqrt(squares / width + eps);
      for (let i = 0; i < width; i++) out[t * width + i] = x[t * width + i] * shrink * weight[i];
    }
    return out;
  }

  // Turn each pair (x[i], x[i + D/2]) of each head by position times the frequency of the pair.
  // Rounded to 32 bits where teachkit rounds, or late positions would be turned by other angles.
  function rotate(x, tokens, past, heads, D, theta) {
    const half = D / 2;
    for (let i = 0; i < half; i++) {
      const frequency = Math.fround(1 / Math.fround(theta ** Math.fround(2 * i / D)));
      for (let t = 0; t < tokens; t++) {
        const angle = Math.fround((past + t) * frequency);
        const cos = Math.cos(angle);
        const sin = Math.sin(angle);
        for (let h = 0; h < heads; h++) {
          const at = (t * heads + h) * D + i;
          const first = x[at];
          const second = x[at + half];
          x[at] = first * cos - second * sin;
          x[at + half] = second * cos + first * sin;
        }
      }
    }
  }

  function softmax(scores, length) {
    let most = -Infinity;
    for (let j = 0; j < length; j++) most = Math.max(most, scores[j]);
    let sum = 0;
    for (let j = 0; j < length; j++) sum += scores[j] = Math.exp(scores[j] - most);
    for (let j = 0; j < length; j++) scores[j] /= sum;
  }

  // Probabilities of all tokens, from logits; also at a temperature.
  function probabilities(logits, temperature = 1) {
    const probs = Float32Array.from(logits, (logit) => logit / temperature);
    softmax(probs, probs.length);
    return probs;
  }

  // silu(gate) * up, into gate.
  function gated(gate, up) {
    for (let i = 0; i < gate.length; i++) gate[i] *= up[i] / (1 + Math.exp(-gate[i]));
    return gate;
  }

  function add(x, y) {
    for (let i = 0; i < x.length; i++) x[i] += y[i];
  }

  // Keys and values of the tokens so far, for each layer. `kept` says whether it outlives a step.
  class Cache {
    constructor(config, kept = true) {
      const width = config.n_kv_heads * config.head_dim;
      const room = () => Array.from({ length: config.n_layers }, () => new Float32Array(config.context * width));
      Object.assign(this, { width, kept, length: 0, keys: room(), values: room() });
    }

    store(layer, keys, values) {
      this.keys[layer].set(keys, this.length * this.width);
      this.values[layer].set(values, this.length * this.width);
    }
  }

  class Engine {
    constructor(weights) {
      this.config = weights.config;
      this.bytes = weights.bytes;
      this.tensors = weights.tensors;
      this.resetCounters();
    }

    // multiplyAdds   one multiplication and one addition each, of matrices and of attention
    // weightBytes    read from memory: each matrix once a step, however many tokens the step has
    // cacheBytes     of keys and values kept between steps: all of those stored, once a step
    resetCounters() {
      this.counters = { multiplyAdds: 0, weightBytes: 0, cacheBytes: 0 };
    }

    // Logits after the last of `tokens`, which stand behind those that are in the cache; with `all`, after each.
    // A generator: it yields between layers, so that its caller can look whether it should go on.
    // maps   if given, a function (layer, head, query, probabilities) called for each row of attention
    * forward(tokens, cache, { all = false, maps = null } = {}) {
      const { config } = this;
      const T = tokens.length;
      if (!T || cache.length + T > config.context) {
        throw new Error(`Expected 1 to ${config.context} tokens, got ${cache.length + T}.`);
      }
      const x = this.embed(tokens);
      for (let layer = 0; layer < config.n_layers; layer++) {
        const normed = this.norm(x, T, `blocks.${layer}.attention_norm`);
        add(x, this.attention(normed, T, layer, cache, maps));
        add(x, this.mlp(this.norm(x, T, `blocks.${layer}.mlp_norm`), T, layer));
        yield;
      }
      cache.length += T;
      const wanted = all ? T : 1;
      const last = x.subarray((T - wanted) * config.d_model);
      return this.product(this.norm(last, wanted, 'norm'), wanted, 'head');
    }

    // The head's matrix holds a row for each token; that row is also the token's vector: the two are tied.
    embed(tokens) {
      const { head } = this.tensors;
      const x = new Float32Array(tokens.length * head.columns);
      tokens.forEach((token, t) => head.row(token, x, t * head.columns));
      this.counters.weightBytes += tokens.length * head.rowBytes;
      return x;
    }

    norm(x, tokens, name) {
      const weight = this.tensors[name];
      this.counters.weightBytes += 2 * weight.length; // stored as bf16
      return rmsNorm(x, tokens, weight, this.config.norm_eps);
    }

    product(x, tokens, name) {
      const matrix = this.tensors[name];
      const out = new Float32Array(tokens * matrix.rows);
      matrix.multiply(x, tokens, out);
      this.counters.multiplyAdds += tokens * matrix.rows * matrix.columns;
      this.counters.weightBytes += matrix.rows * matrix.rowBytes;
      return out;
    }

    attention(x, T, layer, cache, maps) {
      const { n_heads: H, n_kv_heads: Hkv, head_dim: D, rope_theta: theta } = this.config;
      const of = (part) => this.product(x, T, `blocks.${layer}.attention.${part}`);
      const [q, k, v] = [of('q'), of('k'), of('v')];
      rotate(q, T, cache.length, H, D, theta);
      rotate(k, T, cache.length, Hkv, D, theta);
      cache.store(layer, k, v);
      const mixed = this.attend(q, T, layer, cache, maps);
      return this.product(mixed, T, `blocks.${layer}.attention.o`);
    }

    // Each query reads a mean of the values up to its own position. H / Hkv query heads share keys and values.
    attend(q, T, layer, cache, maps) {
      const { n_heads: H, n_kv_heads: Hkv, head_dim: D } = this.config;
      const [keys, values] = [cache.keys[layer], cache.values[layer]];
      const out = new Float32Array(T * H * D);
      const probs = new Float32Array(cache.length + T);
      const scale = 1 / Math.sqrt(D);
      for (let h = 0; h < H; h++) {
        const shared = Math.floor(h * Hkv / H) * D; // where the head's keys and values begin
        for (let t = 0; t < T; t++) {
          const seen = cache.length + t + 1;
          const at = (t * H + h) * D;
          for (let j = 0; j < seen; j++) {
            const from = j * cache.width + shared;
            let sum = 0;
            for (let i = 0; i < D; i++) sum += q[at + i] * keys[from + i];
            probs[j] = sum * scale;
          }
          softmax(probs, seen);
          for (let j = 0; j < seen; j++) {
            const from = j * cache.width + shared;
            for (let i = 0; i < D; i++) out[at + i] += probs[j] * values[from + i];
          }
          this.counters.multiplyAdds += 2 * D * seen; // scores, then the mean
          if (maps) maps(layer, h, t, probs.subarray(0, seen));
        }
      }
      // A head's keys and values, and those of the heads that share them, come from memory once a step.
      if (cache.kept) this.counters.cacheBytes += 2 * (cache.length + T) * cache.width * 4;
      return out;
    }

    mlp(x, T, layer) {
      const gate = this.product(x, T, `blocks.${layer}.mlp.gate`);
      const up = this.product(x, T, `blocks.${layer}.mlp.up`);
      return this.product(gated(gate, up), T, `blocks.${layer}.mlp.down`);
    }
  }

  self.pageModel = Object.assign(self.pageModel || {}, { Engine, Cache, probabilities });
})();
