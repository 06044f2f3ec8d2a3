// What pdf_print asks of the document before it is printed. Defines one object with three functions.
window.paper = (function () {
  'use strict';
  const place = (node) => node.closest('[id]')?.id;
  const measure = () => document.body.getBoundingClientRect();

  // Tables and formulas wider than the measure become smaller; what cannot become small enough wraps.
  function fit() {
    for (const table of document.querySelectorAll('.sheet table')) {
      const room = table.parentElement.clientWidth || measure().width;
      const wide = () => Math.max(table.scrollWidth, table.offsetWidth) > room + 0.5;
      for (const size of ['', '8pt', '7.4pt', '6.9pt', '6.4pt']) {
        table.style.fontSize = size;
        if (!wide()) break;
      }
      if (wide()) {
        table.classList.add('breaks');
        table.style.width = '100%';
      }
    }
    for (const block of document.querySelectorAll('.formula')) {
      const share = block.parentElement.clientWidth / block.scrollWidth;
      if (share < 0.999) block.style.fontSize = Math.max(0.6, 0.98 * share) + 'em';
    }
  }

  // Every piece of text and every picture that is painted beyond the measure, and where.
  function beyond() {
    const found = [];
    const box = measure();
    const check = (r, node, what) => {
      if (!r.width || (r.right <= box.right + 1 && r.left >= box.left - 1)) return false;
      found.push(`${Math.round(Math.max(r.right - box.right, box.left - r.left))} px in ${place(node)}: ${what}`);
      return true;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    while (walker.nextNode()) {
      const text = walker.currentNode;
      const node = text.parentElement;
      if (!text.data.trim() || node.closest('.cover, svg, math')) continue;
      range.selectNodeContents(text);
      for (const r of range.getClientRects()) {
        if (check(r, node, text.data.trim().slice(0, 60))) break;
      }
    }
    for (const node of document.querySelectorAll('.sheet :is(img, svg, math)')) {
      check(node.getBoundingClientRect(), node, `<${node.localName}>`);
    }
    return found;
  }

  const counters = () => [...document.querySelectorAll('[data-page-of]')];
  const wanted = () => counters().map((node) => node.dataset.pageOf);
  const number = (pages) => counters().forEach((node) => { node.textContent = pages[node.dataset.pageOf]; });
  return { fit, beyond, wanted, number };
})();
