// The list of lessons: how many of each lesson's questions this browser has seen answered rightly.
//
// Kept by src/teachkit/figures/questions.js under one key: { lesson: { of: questions, right: [ids] } }.
(function () {
  "use strict";
  const KEY = "memory-bound.progress.v1";
  const CHANGED = "memory-bound-progress"; // said by questions on the same page
  const LIST = ".lesson-part + dl.lesson-list";

  // Anything else under that key is not ours to read: then there is no progress.
  function readAll() {
    try {
      const all = JSON.parse(window.localStorage.getItem(KEY));
      return all && typeof all === "object" && !Array.isArray(all) ? all : {};
    } catch {
      return {};
    }
  }

  function clear() {
    try {
      window.localStorage.removeItem(KEY);
    } catch {
      // A browser that keeps nothing has nothing to clear.
    }
    window.dispatchEvent(new Event(CHANGED));
  }

  function told(kept) {
    const of = kept && Number.isInteger(kept.of) ? kept.of : 0;
    const right = kept && Array.isArray(kept.right) ? Math.min(new Set(kept.right).size, of) : 0;
    return right ? ` · ${right} of ${of} questions answered rightly` : "";
  }

  // Behind each lesson of the list, a place for what is said of it. Labs are listed alike, so the heading of the
  // part before the list counts, and the lesson's address.
  function makePlaces() {
    const places = [];
    document.querySelectorAll(`${LIST} dt`).forEach((term) => {
      const link = term.querySelector("a[href]");
      const page = link && /\/notebooks\/([^/]+)\.html$/.exec(new URL(link.href).pathname);
      if (!page) return;
      const place = document.createElement("span");
      place.className = "lesson-progress";
      place.style.color = "var(--muted)";
      term.append(place);
      places.push({ lesson: page[1], place });
    });
    return places;
  }

  function makeButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Clear the progress of all lessons";
    button.style.cssText = "border: 0; padding: 4px 0; background: none; font: inherit; cursor: pointer;"
      + " color: var(--accent); text-decoration: underline;";
    return button;
  }

  function start() {
    const lists = document.querySelectorAll(LIST);
    if (!lists.length) return;
    const places = makePlaces();
    const line = document.createElement("p");
    const button = makeButton();
    line.className = "lesson-progress";
    line.tabIndex = -1; // takes the focus of the button when that is gone
    lists[lists.length - 1].after(line);

    function update() {
      const all = readAll();
      places.forEach(({ lesson, place }) => { place.textContent = told(all[lesson]); });
      line.hidden = !places.some(({ place }) => place.textContent);
      if (!line.hidden && !line.contains(button)) line.replaceChildren("Progress is kept in this browser only. ", button);
    }
    button.addEventListener("click", () => {
      clear();
      line.textContent = "The progress of all lessons was cleared.";
      line.hidden = false;
      line.focus();
    });
    window.addEventListener(CHANGED, update);
    window.addEventListener("storage", update); // another tab
    window.addEventListener("pageshow", update); // back from a lesson, to a page that the browser has kept
    update();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
