// Everything that is left, and the start.
const FIRST = 12; // pictures that are shown at once
const FIRST_PAIRS = matchMedia("(max-width: 46rem)").matches ? 4 : 12;

// The first of some images, and a button that opens all of them.
function startTiles(id, buttonId, title, places) {
  const place = byId(id);
  if (!place) return;
  place.append(...places.slice(0, FIRST).map((each) => tile(each, places, title)));
  byId(buttonId).addEventListener("click", () => showImages(title, places));
}

function pairCard({ kind, image, other, score, given, suggested }, places) {
  const told = suggested.length ? `${given.join(", ")} → ${suggested.join(", ")}?` : given.join(", ");
  const both = [image, other].filter((place) => place >= 0).map((place) => tile(place, places, "Suspects"));
  const head = make("p", {}, make("strong", {}, told), make("small", {}, `${kind.replaceAll("_", " ")}, ${score.toFixed(2)}`));
  return make("div", { class: "pair" }, head, make("div", { class: "both" }, ...both));
}

function startPairs(name) {
  const [place, pairs] = [byId(`${name}-pairs`), page.suspects[name]];
  if (!place) return;
  const places = [...new Set(pairs.flatMap(({ image, other }) => (other >= 0 ? [image, other] : [image])))];
  const add = (some) => place.append(...some.map((pair) => pairCard(pair, places)));
  add(pairs.slice(0, FIRST_PAIRS));
  if (pairs.length <= FIRST_PAIRS) return;
  const more = make("button", { type: "button", class: "plain" }, `Show all ${pairs.length}`);
  more.addEventListener("click", () => {
    add(pairs.slice(FIRST_PAIRS));
    more.remove();
  });
  place.after(make("p", {}, more));
}

function startExplained() {
  const place = byId("explained-tiles");
  if (!place) return;
  const places = [...new Set(page.explained.map(({ image }) => image))];
  place.append(...page.explained.map(({ image, picture: text, class: name, confidence }) => {
    const one = tile(image, places, "Mistakes");
    one.firstElementChild.replaceWith(make("img", {
      class: "picture", alt: `Where ${name} is seen`, decoding: "async", src: source(text),
    }));
    one.querySelector("small").textContent = `evidence for ${name} (${percent(confidence, 0)})`;
    return one;
  }));
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

// Links to the sections that there are; that of the one on the screen is marked.
function startNavigation() {
  const links = new Map();
  for (const link of document.querySelectorAll(".bar nav a")) {
    const section = byId(link.hash.slice(1));
    if (section && !section.hidden) links.set(section, link);
    else link.remove();
  }
  const watcher = new IntersectionObserver((entries) => {
    const entry = entries.find(({ isIntersecting }) => isIntersecting);
    if (!entry) return;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(entry.target);
    link.setAttribute("aria-current", "true");
    link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 40;
  }, { rootMargin: "-25% 0px -70%" });
  for (const section of links.keys()) watcher.observe(section);
}

startTheme(() => {
  if (map.canvas) draw();
});
startGallery();
startGrid();
startTiles("mistake-tiles", "all-mistakes", "Mistakes", allImages.filter((place) => images.correct[place] === false));
startTiles("outlier-tiles", "all-outliers", "Unlike the other images", page.suspects.outliers.map(({ image }) => image));
for (const kind of new Set(page.suspects.poor.map((each) => each.kind))) {
  const places = page.suspects.poor.filter((each) => each.kind === kind).map(({ image }) => image);
  startTiles(`${kind}-tiles`, `all-${kind}`, byId(`${kind}-title`).textContent, places);
}
startExplained();
startPairs("labels");
startPairs("duplicates");
startThreshold();
startClasses();
startMap();
startHistory();
startReliability();
startLearning();
startNavigation();
