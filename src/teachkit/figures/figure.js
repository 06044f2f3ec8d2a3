// What the scripts of the figures share; stands before each of them.
(function () {
  'use strict';

  const SVG = new Set(['svg', 'g', 'path', 'rect', 'text', 'line', 'circle']);

  // An element with attributes and children. Strings become text nodes: a token can never turn into markup.
  function element(tag, attributes = {}, ...children) {
    const node = SVG.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  // A paragraph that follows every move of a slider, and a second, unseen one that a screen reader hears:
  // it follows only when a choice is made, or the reader would be told of every step on the way.
  function sentence(attributes = {}) {
    const seen = element('p', attributes);
    const heard = element('p', { 'aria-live': 'polite', class: 'tk-unseen' });
    return {
      box: element('div', {}, seen, heard),
      say(text, aloud) {
        seen.textContent = text;
        if (aloud) heard.textContent = text;
      },
    };
  }

  window.teachkitParts = { element, sentence };
})();
