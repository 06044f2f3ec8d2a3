// The claims page: shows the rows that hold all words of the search field and have the chosen verdict.
(function () {
  "use strict";
  const form = document.querySelector(".claims-filter");
  const rows = Array.from(document.querySelectorAll("table.claims tbody tr"));
  if (!form || !rows.length) return;
  const search = form.querySelector("input");
  const verdict = form.querySelector("select");
  const output = form.querySelector("output");
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  const texts = rows.map((row) => plain(row.textContent));

  function apply() {
    const words = plain(search.value).split(" ");
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = words.every((word) => texts[i].includes(word));
      row.hidden = !fits || (verdict.value !== "" && !row.classList.contains(verdict.value));
      shown += row.hidden ? 0 : 1;
    });
    output.textContent = shown === rows.length ? `${shown} claims` : `${shown} of ${rows.length} claims`;
  }

  // A link to a claim must lead to it, whatever is filtered.
  function reveal() {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (row && row.hidden) {
      search.value = verdict.value = "";
      apply();
      row.scrollIntoView();
    }
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    search.value = "";
    apply();
  });
  window.addEventListener("hashchange", reveal);
  form.hidden = false;
  apply();
})();
