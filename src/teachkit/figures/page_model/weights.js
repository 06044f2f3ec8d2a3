// Weights as they were stored, and the products with them. Nothing is unpacked: each code becomes a number where it is
// multiplied.
//
// Three kinds of matrix, each N rows (outputs) of K columns (inputs):
//   int8   value = code * scale of its row
//   int4   value = (nibble - 8) * scale + zero, both of a group of neighbours in its row; two nibbles to a byte
//   bf16   the upper half of a 32-bit float
(function () {
  'use strict';

  // ---- products. Several sums at a time: one sum would wait for each addition before it could start the next.

  function dotInt8(codes, at, x, from, columns) {
    let a = 0; let b = 0; let c = 0; let d = 0;
    for (let k = 0; k < columns; k += 8) {
      const i = at + k;
      const j = from + k;
      a += codes[i] * x[j] + codes[i + 4] * x[j + 4];
      b += codes[i + 1] * x[j + 1] + codes[i + 5] * x[j + 5];
      c += codes[i + 2] * x[j + 2] + codes[i + 6] * x[j + 6];
      d += codes[i + 3] * x[j + 3] + codes[i + 7] * x[j + 7];
    }
    return (a + b) + (c + d);
  }

  // Nibbles as they are, 0 to 15; the 8 to be taken off each comes out of the sum of x.
  function dotNibbles(packed, at, x, from, columns) {
    let a = 0; let b = 0; let c = 0; let d = 0;
    for (let k = 0; k < columns; k += 8) {
      const i = at + (k >> 1);
      const j = from + k;
      const p = packed[i]; const q = packed[i + 1]; const r = packed[i + 2]; const s = packed[i + 3];
      a += (p & 15) * x[j] + (p >> 4) * x[j + 1];
      b += (q & 15) * x[j + 2] + (q >> 4) * x[j + 3];
      c += (r & 15) * x[j + 4] + (r >> 4) * x[j + 5];
      d += (s & 15) * x[j + 6] + (s >> 4) * x[j + 7];
    }
    return (a + b) + (c + d);
  }

  function dotBf16(halves, at, x, from, columns) {
    let a = 0; let b = 0; let c = 0; let d = 0;
    for (let k = 0; k < columns; k += 8) {
      const i = at + k;
      const j = from + k;
      a += BF16[halves[i]] * x[j] + BF16[halves[i + 4]] * x[j + 4];
      b += BF16[halves[i + 1]] * x[j + 1] + BF16[halves[i + 5]] * x[j + 5];
      c += BF16[halves[i + 2]] * x[j + 2] + BF16[halves[i + 6]] * x[j + 6];
      d += BF16[halves[i + 3]] * x[j + 3] + BF16[halves[i + 7]] * x[j + 7];
    }
    return (a + b) + (c + d);
  }

  // The value of every bf16: a number's 16 bits are the upper half of those of a float, the lower half is zero.
  const BF16 = new Float32Array(Uint32Array.from({ length: 65536 }, (_, half) => half << 16).buffer);
  const widen = (halves) => Float32Array.from(halves, (half) => BF16[half]);

  // ---- matrices. multiply: out[t] = W x[t] for each of T tokens; x and out hold one token after the other.
  //
  // The loop over tokens is the inner one: a row is read from memory once, and from the processor's cache by all
  // tokens but the first. So a step over many tokens reads the weights no more often than a step over one.

  class Int8Matrix {
    constructor(view, [rows, columns], at) {
      Object.assign(this, { rows, columns });
      this.codes = view(Int8Array, at.codes, rows * columns);
      this.scale = view(Float32Array, at.scale, rows);
      this.rowBytes = columns + 4;
    }

    multiply(x, tokens, out) {
      const { codes, scale, rows, columns } = this;
      for (let n = 0; n < rows; n++) {
        for (let t = 0; t < tokens; t++) {
          out[t * rows + n] = scale[n] * dotInt8(codes, n * columns, x, t * columns, columns);
        }
      }
    }

    row(n, out, at) {
      for (let k = 0; k < this.columns; k++) out[at + k] = this.codes[n * this.columns + k] * this.scale[n];
    }
  }

  class Int4Matrix {
    constructor(view, [rows, columns], at, group) {
      Object.assign(this, { rows, columns, group, groups: columns / group });
      this.packed = view(Uint8Array, at.codes, rows * columns / 2);
      // Few, so these are widened: 4 bytes here for the 2 that are stored and counted.
      this.scale = widen(view(Uint16Array, at.scale, rows * this.groups));
      this.zero = widen(view(Uint16Array, at.zero, rows * this.groups));
      this.rowBytes = columns / 2 + 4 * this.groups;
    }

    multiply(x, tokens, out) {
      const { packed, scale, zero, rows, columns, group, groups } = this;
      const sums = groupSums(x, tokens * groups, group);
      for (let n = 0; n < rows; n++) {
        for (let t = 0; t < tokens; t++) {
          let total = 0;
          for (let g = 0; g < groups; g++) {
            const sum = sums[t * groups + g];
            const nibbles = dotNibbles(packed, (n * columns + g * group) >> 1, x, t * columns + g * group, group);
            total += scale[n * groups + g] * (nibbles - 8 * sum) + zero[n * groups + g] * sum;
          }
          out[t * rows + n] = total;
        }
      }
    }
  }

  function groupSums(x, count, group) {
    const sums = new Float64Array(count);
    for (let i = 0; i < count * group; i++) sums[Math.floor(i / group)] += x[i];
    return sums;
  }

  class Bf16Matrix {
    constructor(view, [rows, columns], at) {
      Object.assign(this, { rows, columns });
      this.halves = view(Uint16Array, at.codes, rows * columns);
      this.rowBytes = 2 * columns;
    }

    multiply(x, tokens, out) {
      const { halves, rows, columns } = this;
      for (let n = 0; n < rows; n++) {
        for (let t = 0; t < tokens; t++) {
          out[t * rows + n] = dotBf16(halves, n * columns, x, t * columns, columns);
        }
      }
    }

    row(n, out, at) {
      for (let k = 0; k < this.columns; k++) out[at + k] = BF16[this.halves[n * this.columns + k]];
    }
  }

  const KINDS = { int8: Int8Matrix, int4: Int4Matrix, bf16: Bf16Matrix };

  // ---- from the files. Typed arrays read numbers in the machine's order, which is the files' own, little-endian, on
  // every machine that runs a browser today.

  // header   of <scheme>.js: { config, bytes, crc, parts, tensors: { name: { kind, shape, at, group } } }
  // parts    base64, in order
  // Returns  { config, bytes, tensors: by name, a matrix or, of norms, a Float32Array }
  function read(header, parts) {
    const buffer = new Uint8Array(header.bytes);
    let end = 0;
    for (const part of parts) {
      const raw = atob(part);
      if (end + raw.length > header.bytes) throw new Error('The weights are longer than their header says.');
      for (let i = 0; i < raw.length; i++) buffer[end + i] = raw.charCodeAt(i);
      end += raw.length;
    }
    if (end !== header.bytes || crc32(buffer) !== header.crc) throw new Error('The weights arrived incomplete.');
    const view = (Type, offset, length) => new Type(buffer.buffer, offset, length);
    const made = {};
    for (const [name, { kind, shape, at, group }] of Object.entries(header.tensors)) {
      made[name] = shape.length === 1
        ? widen(view(Uint16Array, at.codes, shape[0]))
        : new KINDS[kind](view, shape, at, group);
    }
    return { config: header.config, bytes: header.bytes, tensors: made };
  }

  // The checksum of zip and gzip, so that a damaged file is an error and not a strange text.
  const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest & 1 ? 0xedb88320 : 0) ^ (rest >>> 1);
    return rest;
  });

  function crc32(bytes) {
    let rest = -1;
    for (let i = 0; i < bytes.length; i++) rest = CRC[(rest ^ bytes[i]) & 255] ^ (rest >>> 8);
    return (rest ^ -1) >>> 0;
  }

  self.pageModel = Object.assign(self.pageModel || {}, { readWeights: read });
})();
