// Search over the index that Sphinx writes (searchindex.js): sections, terms, names of the package, pages.
// The index is a script, so it loads from disk, too. So are the passages of a page, asked for when the page is found.
(function () {
  'use strict';
  const element = window.bookElement;
  if (!element) return; // then the button is a link to the search's page
  const SHOWN = 30;
  const PAUSE_MS = 150; // in typing, before passages are asked for
  const AROUND = [60, 150]; // characters before the word and after it
  const asked = {};
  const passages = {};
  let index = null;
  let ready = false;

  // searchindex.js calls this.
  window.Search = { setIndex(data) { index = data; } };
  // And _static/passages/<page>.js this, with the anchor, heading and text of each section.
  window.bookPassages = (page, sections) => { passages[page] = sections; };

  // Loaded once; what failed is asked for again the next time.
  function script(name) {
    asked[name] = asked[name] || new Promise((done, failed) => {
      const node = document.createElement('script');
      node.src = document.documentElement.dataset.content_root + name;
      node.onload = done;
      node.onerror = () => {
        delete asked[name];
        node.remove();
        failed(new Error(name));
      };
      document.head.append(node);
    });
    return asked[name];
  }
  const load = () => Promise.all([script('_static/language_data.js'), script('searchindex.js')]);

  const address = (page) => `${document.documentElement.dataset.content_root}${index.docnames[page]}.html`;
  const nameOf = (page) => index.titles[page].replace(/<[^>]*>/g, ''); // a title may hold markup
  const plain = (text) => text.toLowerCase().normalize('NFKD').replace(/[\u0300-\u036f]/g, '').replace(/[-\u2010\u2011]/g, ' ');
  const list = (value) => (Array.isArray(value) ? value : [value]);
  const isLesson = (page) => index.docnames[page].startsWith('notebooks/');
  const toText = (anchor, words) => `#${anchor}:~:text=${words.map((word) => encodeURIComponent(word).replace(/-/g, '%2D')).join('&text=')}`;
  const isReference = (page) => index.docnames[page] === 'book/api'; // its sections are names, which are found as such

  // How well a name answers: all words in it; better where it starts with them, or is them.
  function fit(name, words, query) {
    const text = plain(name);
    if (!words.every((word) => text.includes(word))) return 0;
    if (text === query) return 4;
    if (text.startsWith(query)) return 3;
    return words.every((word) => new RegExp(`(^|[^a-z0-9])${word.replace(/[^\w]/g, '\\$&')}`).test(text)) ? 2 : 1;
  }

  function sections(words, query) {
    const found = [];
    Object.entries(index.alltitles).forEach(([title, places]) => {
      const how = fit(title.replace(/<[^>]*>/g, ''), words, query);
      if (how) places.filter(([page, anchor]) => !anchor || !isReference(page)).forEach(([page, anchor]) => found.push({
        score: 10 * how + (anchor ? 0 : 3) + (isLesson(page) ? (anchor ? 4 : 14) : 0), kind: anchor ? 'section' : 'page', title: title.replace(/<[^>]*>/g, ''),
        where: anchor ? nameOf(page) : '', link: address(page) + (anchor ? `#${anchor}` : ''),
      }));
    });
    return found;
  }

  // What Sphinx calls objects: modules, functions, classes.
  function names(words, query) {
    const found = [];
    Object.entries(index.objects).forEach(([prefix, objects]) => objects.forEach(([page, type, , anchor, name]) => {
      const [, kind, label] = index.objnames[type];
      const whole = prefix ? `${prefix}.${name}` : name;
      const how = Math.max(fit(name, words, query), fit(whole, words, query));
      const id = anchor === '' ? whole : anchor === '-' ? `${kind}-${whole}` : anchor;
      if (how) found.push({
        score: 10 * how + 4, kind: label.replace(/^Python /, ''), title: whole, where: nameOf(page), link: `${address(page)}#${id}`,
      });
    }));
    return found;
  }

  // Terms of the glossary, by how they are written.
  function terms(words, query) {
    const found = [];
    Object.entries(index.indexentries).forEach(([term, places]) => places.forEach(([page, anchor]) => {
      const how = anchor.startsWith('term-') ? fit(term, words, query) : 0;
      if (how) found.push({ score: 10 * how + 5, kind: 'term', title: term, where: nameOf(page), link: `${address(page)}#${anchor}` });
    }));
    return found;
  }

  // Pages whose text has all the words, of letters, digits and _ as in the index.
  function pages(typed) {
    const words = typed.flatMap((word) => word.match(/[\p{L}\p{N}_]+/gu) || []);
    const stem = new window.Stemmer();
    const sets = words.filter((word) => !window.stopwords.includes(word) && word.length > 1).map((word) => {
      const hits = new Map();
      const root = stem.stemWord(word);
      const add = (value, weight) => list(value).forEach((page) => hits.set(page, Math.max(weight, hits.get(page) || 0)));
      [[index.terms, 1], [index.titleterms, 3]].forEach(([terms, weight]) => {
        if (Object.hasOwn(terms, root)) add(terms[root], weight + 1);
        if (word.length > 2) Object.keys(terms).filter((term) => term.startsWith(word)).forEach((term) => add(terms[term], weight));
      });
      return hits;
    });
    if (!sets.length) return [];
    return [...sets[0].keys()].filter((page) => sets.every((hits) => hits.has(page))).map((page) => ({
      score: sets.reduce((sum, hits) => sum + hits.get(page), 0) + (isLesson(page) ? 4 : 0), kind: 'in the text of', title: nameOf(page), where: '', page, words,
      link: address(page) + toText('', words),
    }));
  }

  function answer(text) {
    const words = plain(text).split(/\s+/).filter(Boolean);
    const query = words.join(' ');
    if (!words.length) return [];
    const seen = new Set();
    return [...sections(words, query), ...names(words, query), ...terms(words, query), ...pages(words)]
      .sort((a, b) => b.score - a.score || a.title.length - b.title.length)
      .filter((one) => !seen.has(one.link.replace(/#:~.*/, '') + one.kind) && seen.add(one.link.replace(/#:~.*/, '') + one.kind))
      .slice(0, SHOWN);
  }

  // ---- The passage of a page that has the words

  // Each word as it stands in a text, with its endings.
  function patterns(words) {
    const stem = new window.Stemmer();
    const telling = words.filter((word) => !window.stopwords.includes(word));
    return (telling.length ? telling : words).map((word) => {
      const root = stem.stemWord(word);
      return new RegExp(`(^|[^\\p{L}\\p{N}_])(${word.startsWith(root) ? root : word}[\\p{L}\\p{N}_]*)`, 'giu');
    });
  }

  // The section with the most of the words, and where they stand in its text, [from, to] in order; null: none has any.
  function passageOf(page, words) {
    const wanted = patterns(words);
    const rated = passages[page].map((section) => [wanted.filter((pattern) => section[2].search(pattern) >= 0).length, section]);
    const [score, [anchor, heading, text]] = rated.reduce((a, b) => (b[0] > a[0] ? b : a));
    const places = wanted.flatMap((pattern) => [...text.matchAll(pattern)]
      .map((found) => [found.index + found[1].length, found.index + found[0].length])).sort((a, b) => a[0] - b[0]);
    return score ? { anchor, heading, text, places } : null;
  }

  // What stands in the text where the most of the words are close to each other: { start, parts }, the words marked.
  function cut({ text, places }) {
    const near = places.map(([start]) => new Set(places.filter(([begin]) => begin >= start && begin < start + AROUND[1])
      .map(([begin, end]) => text.slice(begin, end).toLowerCase())).size);
    const [start, stop] = places[near.indexOf(Math.max(...near))];
    const from = start <= AROUND[0] ? 0 : text.indexOf(' ', start - AROUND[0]) + 1;
    const to = stop + AROUND[1] >= text.length ? text.length : Math.max(stop, text.lastIndexOf(' ', stop + AROUND[1]));
    const parts = [from ? '… ' : ''];
    let at = from;
    places.filter(([begin, end]) => begin >= from && end <= to).forEach(([begin, end]) => {
      if (begin < at) return; // two of the words begin alike
      parts.push(text.slice(at, begin), element('mark', {}, text.slice(begin, end)));
      at = end;
    });
    return { start, parts: [...parts, text.slice(at, to), to < text.length ? ' …' : ''] };
  }

  // Adds the passage to a row whose page has the words in its text, and leads there: to these very words, where the
  // browser finds them, or else to their section.
  async function explain({ page: number, words, title }, link) {
    const page = index.docnames[number];
    const arrived = await script(`_static/passages/${page}.js`).then(() => true, () => false);
    if (!arrived) return; // then the row names the page alone
    const found = passageOf(page, words);
    if (!found || !link.isConnected) return;
    const { start, parts } = cut(found);
    const [phrase] = found.text.slice(start).match(/^\S+(?: \S+){0,3}/);
    link.href = address(number) + toText(found.anchor, [phrase]);
    if (found.heading !== title) link.append(element('span', {}, ` · ${found.heading}`));
    link.append(element('span', { class: 'passage' }, ...parts));
  }

  const row = (one) => element('li', {}, element('a', { href: one.link },
    element('span', {}, `${one.kind} `), element('b', {}, one.title),
    element('span', {}, one.where ? ` · ${one.where}` : '')));

  // A field with its answers in `box`.
  function make(box, first) {
    const id = box.hasAttribute('data-page') ? 'search-here' : 'search-over';
    const field = element('input', { id, type: 'search', autocomplete: 'off', spellcheck: 'false' });
    const said = element('p', { role: 'status' });
    const found = element('ol', { 'aria-label': 'Found' });
    let pause = null;
    box.append(element('label', { for: id }, 'Sections, terms, names of the package, words'), field, said, found);

    function show() {
      const answers = answer(field.value);
      const rows = answers.map(row);
      found.replaceChildren(...rows);
      clearTimeout(pause);
      pause = setTimeout(() => answers.forEach((one, i) => {
        if ('page' in one) explain(one, rows[i].firstChild);
      }), PAUSE_MS);
      const nothing = field.value.trim() ? 'Nothing has all these words.' : '';
      said.textContent = answers.length ? `${answers.length === SHOWN ? `The first ${SHOWN}` : answers.length} found` : nothing;
    }
    async function update() {
      if (ready) return show();
      if (!said.textContent) said.textContent = 'Loading the index.';
      try {
        await load();
        ready = true;
      } catch (failed) {
        said.textContent = 'The index of this book could not be loaded. Typing tries again.';
      }
      return ready && show();
    }
    field.value = first;
    field.addEventListener('input', update);
    field.addEventListener('focus', update);
    box.addEventListener('keydown', (event) => {
      if (event.isComposing) return; // these keys belong to the input method
      if (event.key === 'Escape' && box.closest('dialog')) box.closest('dialog').close(); // not first the field
      if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp' && event.key !== 'Enter') return;
      const stops = [field, ...found.querySelectorAll('a')];
      const at = stops.indexOf(document.activeElement);
      if (event.key === 'Enter') {
        if (at === 0) event.preventDefault();
        if (at === 0 && stops[1]) stops[1].click();
        return;
      }
      event.preventDefault();
      stops[Math.max(0, Math.min(stops.length - 1, at + (event.key === 'ArrowDown' ? 1 : -1)))].focus();
    });
    return field;
  }

  // ---- Over the page, at the button or Ctrl+K; and on the search's own page
  const dialog = document.querySelector('dialog.search');
  let over = null;
  let outside = false; // whether a press began on what lies behind the dialog

  function open(event) {
    event.preventDefault();
    if (dialog.open) return;
    dialog.showModal();
    over = over || make(dialog.querySelector('.search-box'), '');
    over.focus();
  }
  function behind(event) {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    return event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
  }
  document.querySelector('.tool.find').addEventListener('click', open);
  document.addEventListener('keydown', (event) => {
    if (event.key === 'k' && (event.ctrlKey || event.metaKey)) open(event);
  });
  dialog.addEventListener('pointerdown', (event) => { outside = behind(event); });
  dialog.addEventListener('click', (event) => {
    if ((outside && behind(event)) || event.target.closest('li a')) dialog.close();
    outside = false;
  });
  const inPage = document.querySelector('.search-box[data-page]');
  if (inPage) make(inPage, new URLSearchParams(location.search).get('q') || '').focus();
})();
