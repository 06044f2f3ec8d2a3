// What the page around the text does: colours, chapters on a phone, copy buttons, where one is. The search, in
// search.js, comes after this and uses `window.bookElement`.
(function () {
  'use strict';
  const root = document.documentElement;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
    node.append(...children);
    return node;
  }
  window.bookElement = element;

  // ---- Light, dark, or as the system wishes
  const WISH = 'memory-bound.theme';
  const system = matchMedia('(prefers-color-scheme: dark)');
  const button = $('.tool.theme');

  function apply(mode) {
    root.dataset.mode = mode;
    root.dataset.theme = mode === 'auto' ? (system.matches ? 'dark' : 'light') : mode;
    const said = { auto: 'as the system', light: 'light', dark: 'dark' }[mode];
    $('.unseen', button).textContent = `Colours: ${said}. Change`;
    button.title = `Colours: ${said}`;
  }
  button.hidden = false;
  apply(root.dataset.mode || 'auto');
  button.addEventListener('click', () => {
    const modes = ['auto', 'light', 'dark'];
    const mode = modes[(modes.indexOf(root.dataset.mode) + 1) % 3];
    apply(mode);
    try {
      localStorage.setItem(WISH, mode);
    } catch (blocked) { /* kept for this page only */ }
  });
  system.addEventListener('change', () => apply(root.dataset.mode));

  // ---- Chapters: beside the text where there is room, over it on a phone
  const chapters = $('#chapters');
  const menu = $('.tool.menu');
  menu.setAttribute('role', 'button');
  root.classList.add('js'); // from here on the chapters open by their class, no longer by the address
  function open(shown) {
    chapters.classList.toggle('open', shown);
    menu.setAttribute('aria-expanded', shown);
    $$('main').forEach((part) => { part.inert = shown; });
  }
  open(false);
  menu.addEventListener('click', (event) => {
    event.preventDefault();
    open(!chapters.classList.contains('open'));
    if (chapters.classList.contains('open')) ($('.current', chapters) || $('a', chapters)).focus();
  });
  menu.addEventListener('keydown', (event) => {
    if (event.key !== ' ') return;
    event.preventDefault();
    menu.click();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !chapters.classList.contains('open')) return;
    open(false);
    menu.focus();
  });
  // A link may lead to where one is, and a page may come back as it was left.
  chapters.addEventListener('click', (event) => {
    if (!event.target.closest('a') || !chapters.classList.contains('open')) return;
    open(false);
    $('main').focus({ preventScroll: true });
  });
  matchMedia('(min-width: 60rem)').addEventListener('change', () => open(false));
  const here = $('a.current', chapters);
  if (here) chapters.scrollTop = Math.max(0, here.offsetTop - chapters.clientHeight / 3);

  // ---- On this page: the section one reads is marked
  const links = new Map($$('.contents a[href^="#"]').map((link) => [link.hash.slice(1), link]));
  const heads = [...links.keys()].map((id) => document.getElementById(decodeURIComponent(id))).filter(Boolean);
  if (heads.length && 'IntersectionObserver' in window) {
    const shown = new Set();
    const watch = new IntersectionObserver((changes) => {
      changes.forEach(({ target, isIntersecting }) => shown[isIntersecting ? 'add' : 'delete'](target));
      const now = heads.filter((head) => shown.has(head)).pop();
      if (!now) return;
      links.forEach((link, id) => {
        if (id === now.id) link.setAttribute('aria-current', 'location');
        else link.removeAttribute('aria-current');
      });
    }, { rootMargin: '-80px 0px -75% 0px' });
    heads.forEach((head) => watch.observe(head));
  }

  // ---- Code: a button that copies it; of a session, what was typed, without prompts and output
  function textOf(block) {
    const lines = block.textContent.replace(/\n$/, '').split('\n');
    if (!$('.gp', block)) return lines.join('\n');
    return lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line)).map((line) => line.slice(4)).join('\n');
  }
  async function put(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (blocked) { // a page from disk, in some browsers
      const before = document.activeElement;
      const area = element('textarea', { class: 'unseen' });
      area.value = text;
      document.body.append(area);
      area.select();
      const copied = document.execCommand('copy');
      area.remove();
      before.focus({ preventScroll: true });
      return copied;
    }
  }
  const told = element('p', { class: 'unseen', role: 'status' });
  document.body.append(told);
  $$('.bd-article div.highlight').forEach((box) => {
    const block = $('pre', box);
    if (!block || box.closest('.cell_output')) return;
    const word = element('span', {}, 'Copy');
    const copy = element('button', { class: 'copy', type: 'button' }, word, element('span', { class: 'unseen' }, ' this code'));
    copy.addEventListener('click', async () => {
      word.textContent = await put(textOf(block)) ? 'Copied' : 'Not copied';
      told.textContent = word.textContent;
      setTimeout(() => { word.textContent = 'Copy'; told.textContent = ''; }, 1500);
    });
    box.append(copy);
  });

  // ---- What scrolls sideways can be scrolled by keys, and says what it is. A group: hundreds of regions would be
  // landmarks that lead nowhere.
  const wide = {
    pre: 'Code', '.table-scroll': 'Table', '.formula': 'Formula', '.formula-in-line': 'Formula', 'div.output.text_html': 'Output',
  };
  const boxes = Object.entries(wide).flatMap(([selector, name]) => $$(`.bd-article ${selector}`).map((box) => [box, name]));
  function reachable() {
    const scrolls = boxes.map(([box]) => box.scrollWidth > box.clientWidth + 1); // all read before any is written
    boxes.forEach(([box, name], i) => {
      const said = { tabindex: 0, role: 'group', 'aria-label': `${name}, scrolls sideways` };
      Object.entries(said).forEach(([key, value]) => (scrolls[i] ? box.setAttribute(key, value) : box.removeAttribute(key)));
    });
  }
  reachable();
  addEventListener('resize', reachable);
  document.addEventListener('toggle', reachable, true); // what was folded has a width only now
})();
