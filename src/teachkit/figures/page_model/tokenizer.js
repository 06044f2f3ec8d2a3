// Text to tokens and back: the byte-level BPE of the checkpoint's tokenizer.json.
//
// Three steps: cut the text into words, turn each word into bytes, merge neighbouring bytes in the order that was
// learned. Which characters are letters, digits and spaces comes with the vocabulary, since browsers know different
// versions of Unicode, and do not mean the same by \s.
(function () {
  'use strict';

  const OTHER = 0;
  const LETTER = 1;
  const DIGIT = 2;
  const SPACE = 3;
  const NEWLINE = 10;
  const BLANK = 32;

  // One byte for each of Unicode's code points. `ranges` holds [first, last] of each class.
  function classes(ranges) {
    const of = new Uint8Array(0x110000).fill(OTHER);
    const mark = (kind, pairs) => pairs.forEach(([first, last]) => of.fill(kind, first, last + 1));
    mark(LETTER, ranges.letter);
    mark(DIGIT, ranges.digit);
    mark(SPACE, ranges.space);
    of['_'.charCodeAt(0)] = LETTER; // wherever the pattern names letters, it names the underscore too
    return of;
  }

  // Where the word that begins at `start` ends. Each alternative of the pattern in turn:
  //   [other]* \n+ blank*  |  [other]? [letter]+ blank?  |  [digit] blank?  |  [other]+ blank?  |  \s+
  function wordEnd(text, start, kind) {
    const kindAt = (at) => (at < text.length ? kind[text.codePointAt(at)] : -1);
    const after = (at) => at + (text.codePointAt(at) > 0xffff ? 2 : 1); // a code point is one or two units
    const skipKind = (at, wanted) => { while (kindAt(at) === wanted) at = after(at); return at; };
    const skipChar = (at, code) => { while (text.charCodeAt(at) === code) at++; return at; };
    const oneBlank = (at) => (text.charCodeAt(at) === BLANK ? at + 1 : at);

    const others = skipKind(start, OTHER);
    if (text.charCodeAt(others) === NEWLINE) return skipChar(skipChar(others, NEWLINE), BLANK);
    const letters = kindAt(start) === OTHER ? after(start) : start;
    if (kindAt(letters) === LETTER) return oneBlank(skipKind(letters, LETTER));
    if (kindAt(start) === DIGIT) return oneBlank(after(start));
    if (others > start) return oneBlank(others);
    return skipKind(start, SPACE);
  }

  class Tokenizer {
    // vocabulary   { size, bytes: number of each byte's token, merges: [left, right, merged] in the order learned,
    //              special: { text: number }, classes }
    constructor(vocabulary) {
      this.kind = classes(vocabulary.classes);
      this.byteToken = vocabulary.bytes;
      this.special = new Map(Object.entries(vocabulary.special));
      this.size = vocabulary.size;
      this.rank = new Map();
      this.bytesOf = Array.from({ length: this.size }, () => []);
      vocabulary.bytes.forEach((token, byte) => { this.bytesOf[token] = [byte]; });
      vocabulary.merges.forEach(([left, right, merged], order) => {
        this.rank.set(left * this.size + right, { order, merged });
        this.bytesOf[merged] = [...this.bytesOf[left], ...this.bytesOf[right]];
      });
      this.known = new Map(); // words seen before
    }

    encode(text) {
      const tokens = [];
      for (const part of this.aroundSpecial(text)) {
        if (this.special.has(part)) { tokens.push(this.special.get(part)); continue; }
        for (let start = 0; start < part.length;) {
          const end = wordEnd(part, start, this.kind);
          for (const token of this.wordTokens(part.slice(start, end))) tokens.push(token);
          start = end;
        }
      }
      return tokens;
    }

    // The text cut before and after each special token that is written in it.
    aroundSpecial(text) {
      let parts = [text];
      for (const name of this.special.keys()) {
        parts = parts.flatMap((part) => part.split(name).flatMap((piece, i) => (i ? [name, piece] : [piece])));
      }
      return parts.filter((part) => part !== '');
    }

    wordTokens(word) {
      if (!this.known.has(word)) {
        const bytes = new TextEncoder().encode(word);
        this.known.set(word, this.merge(Array.from(bytes, (byte) => this.byteToken[byte])));
      }
      return this.known.get(word);
    }

    // Merge the pair that was learned first, the leftmost of equals, until no pair is left that was learned.
    merge(tokens) {
      for (;;) {
        let best = null;
        let at = -1;
        for (let i = 0; i + 1 < tokens.length; i++) {
          const pair = this.rank.get(tokens[i] * this.size + tokens[i + 1]);
          if (pair && (best === null || pair.order < best.order)) { best = pair; at = i; }
        }
        if (best === null) return tokens;
        tokens.splice(at, 2, best.merged);
      }
    }

    // Special tokens are left out; bytes that form no character become U+FFFD.
    decode(tokens) {
      const bytes = Uint8Array.from(tokens.flatMap((token) => this.bytesOf[token]));
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
    }

    // One token by itself, for people: its characters, or its bytes where they are no whole characters.
    label(token) {
      for (const [name, number] of this.special) if (number === token) return name;
      try {
        return new TextDecoder('utf-8', { ignoreBOM: true, fatal: true }).decode(Uint8Array.from(this.bytesOf[token]));
      } catch {
        return this.bytesOf[token].map((byte) => `<${byte.toString(16).padStart(2, '0')}>`).join('');
      }
    }
  }

  self.pageModel = Object.assign(self.pageModel || {}, { Tokenizer });
})();
