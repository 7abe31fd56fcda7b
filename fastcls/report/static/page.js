// Everything that is left, and the start.
const FIRST = 12; // mistakes and pairs that are shown at once

function startTheme() {
  const root = document.documentElement;
  const kept = (value) => {
    try { // a page from a file may have no storage
      if (value) localStorage.setItem("fastcls-theme", value);
      return localStorage.getItem("fastcls-theme");
    } catch {
      return null;
    }
  };
  if (kept()) root.dataset.theme = kept();
  byId("theme").addEventListener("click", () => {
    const isDark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    kept(root.dataset.theme);
    if (map.canvas) draw();
  });
}

function startMistakes() {
  const place = byId("mistake-tiles");
  if (!place) return;
  const mistakes = allImages.filter((each) => images.correct[each] === false);
  place.append(...mistakes.slice(0, FIRST).map((each) => tile(each, mistakes, "Mistakes")));
  byId("all-mistakes").addEventListener("click", () => showImages("Mistakes", mistakes));
}

function pairCard({ image, other, score, given, suggested }, places) {
  const told = suggested ? `${given} → ${suggested}?` : `${given}, cosine ${score.toFixed(3)}`;
  const both = [image, other].filter((place) => place >= 0).map((place) => tile(place, places, "Suspects"));
  return make("div", { class: "pair" }, make("p", {}, told), make("div", { class: "both" }, ...both));
}

function startPairs(id, pairs) {
  const place = byId(id);
  if (!place) return;
  const places = pairs.flatMap(({ image, other }) => (other >= 0 ? [image, other] : [image]));
  const more = make("button", { type: "button", class: "plain" }, `Show all ${pairs.length}`);
  const add = (some) => place.append(...some.map((pair) => pairCard(pair, places)));
  add(pairs.slice(0, FIRST));
  if (pairs.length <= FIRST) return;
  more.addEventListener("click", () => {
    add(pairs.slice(FIRST));
    more.remove();
  });
  place.after(make("p", {}, more));
}

function startClasses() {
  const table = document.querySelector(".sortable");
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (one, other) => (column ? Number(value(one)) - Number(value(other)) : value(one).localeCompare(value(other)));
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((one, other) => direction * compare(one, other)));
  }));
  for (const button of table.querySelectorAll("[data-class]")) {
    const label = Number(button.dataset.class);
    button.addEventListener("click", () => showImages(page.classes[label], allImages.filter((place) => images.label[place].includes(label))));
  }
}

startTheme();
startGallery();
startGrid();
startMistakes();
startPairs("label-pairs", page.labels);
startPairs("duplicate-pairs", page.duplicates);
startThreshold();
startClasses();
startMap();
startHistory();
startReliability();
