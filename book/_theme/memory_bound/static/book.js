// What the page around the text does: colours, chapters on a phone, copy buttons, where one is, the search.
// Each part leaves the page as it was if something it needs is missing.
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

  // ---- Code: a button that copies it, without prompts and output
  function textOf(block) {
    const copy = block.cloneNode(true);
    const prompts = $$('.gp', copy).length > 0;
    if (!prompts) return copy.textContent;
    $$('.go, .gr, .gt', copy).forEach((part) => part.remove());
    return copy.textContent.split('\n').filter((line) => /^(>>>|\.\.\.|\$)( |$)/.test(line))
      .map((line) => line.replace(/^(>>>|\.\.\.|\$) ?/, '')).join('\n');
  }
  async function put(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch (blocked) { // a page from disk, in some browsers
      const area = element('textarea', { class: 'unseen' });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
  }
  $$('.bd-article div.highlight').forEach((box) => {
    const block = $('pre', box);
    if (!block || box.closest('.cell_output')) return;
    const copy = element('button', { class: 'copy', type: 'button', 'aria-label': 'Copy this code' }, 'Copy');
    copy.addEventListener('click', async () => {
      await put(textOf(block).replace(/\n$/, ''));
      copy.textContent = 'Copied';
      setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
    });
    box.append(copy);
  });

  // ---- What scrolls sideways can be scrolled by keys
  const wide = '.bd-article pre, .bd-article .table-scroll, .bd-article .formula, .bd-article .formula-in-line, .bd-article div.output.text_html';
  function reachable() {
    $$(wide).forEach((box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute('tabindex');
    });
  }
  reachable();
  addEventListener('resize', reachable);
  document.addEventListener('toggle', reachable, true); // what was folded has a width only now

  // ---- The search: its index is fetched when it is asked for
  const dialog = $('dialog.search');
  const box = $('.search-box', dialog);
  function search() {
    if (dialog.open) return;
    dialog.showModal();
    window.bookSearch(box);
  }
  $('.tool.find').addEventListener('click', (event) => {
    event.preventDefault();
    search();
  });
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, textarea, select, [contenteditable]');
    if ((event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) || (event.key === 'k' && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      search();
    }
  });
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog || event.target.closest('li a')) dialog.close();
  });
  const inPage = $('.search-box[data-page]');
  if (inPage) window.bookSearch(inPage, new URLSearchParams(location.search).get('q') || '');
})();
