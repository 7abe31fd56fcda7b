// Tables of counts whose cells open the images behind them: a confusion map, or two by two of each class.
const STRONG = 0.55; // of a shade: text on it changes its color

function tested(keep) {
  return allImages.filter((place) => images.predicted[place] !== null && keep(images.label[place], images.predicted[place]));
}

function cell(number, share, kind, told, places) {
  // The square root: linear shades would hide the errors, which are small shares.
  const shade = Math.sqrt(share) * 0.9;
  const button = make("button", {
    type: "button", tabindex: "-1", style: `--v:${shade.toFixed(3)}`, "aria-label": `${told}: ${count(number, "image")}`,
    class: `${kind} ${number ? "" : "none"} ${shade > STRONG ? "strong" : ""}`,
    onclick: () => {
      if (!number) return;
      const found = places();
      const note = found.length < number ? `${count(number, "image")} in all; the page holds these.` : "";
      showImages(told, found, note);
    },
  }, number.toLocaleString("en"));
  return make("td", {}, button);
}

function grid(corner, heads, rows, style) {
  const head = make("tr", {}, make("td", { class: "corner" }, corner));
  head.append(...heads.map((text) => make("th", { class: "column", scope: "col", title: text }, make("span", {}, text))));
  const body = rows.map(({ name, cells }) => make("tr", {}, make("th", { scope: "row", title: name }, name), ...cells));
  const table = make("table", { class: `grid ${style}` }, make("thead", {}, head), make("tbody", {}, ...body));
  rove(table);
  return table;
}

// Tab comes to one cell of a table, arrow keys go on from there.
function rove(table) {
  const cells = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("button")]);
  if (!cells.length) return;
  cells[0][0].tabIndex = 0;
  const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  table.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    const row = cells.findIndex((own) => own.includes(event.target));
    if (!move || row < 0) return;
    const next = cells[row + move[0]]?.[cells[row].indexOf(event.target) + move[1]];
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function confusionMap({ classes, counts, shares }) {
  const own = classes.map((label) => page.classes[label]);
  const rows = classes.map((truth, row) => ({
    name: own[row],
    cells: classes.map((said, column) => cell(
      counts[row][column], shares[row][column], row === column ? "hit" : "miss",
      row === column ? `${own[row]}, predicted right` : `${own[row]} predicted as ${own[column]}`,
      () => tested((labels, found) => labels[0] === truth && found[0] === said),
    )),
  }));
  const level = own.every((name) => name.length <= 3) ? "level" : "";
  const table = grid("true ↓ predicted →", own, rows, classes.length > 12 ? `small ${level}` : level);
  const left = page.classes.length - classes.length;
  return left ? [make("p", { class: "hint" }, `The ${classes.length} of ${page.classes.length} classes with the most mistakes.`), table] : [table];
}

const PARTS = [
  ["found", "hit", true, true], ["missed", "miss", true, false],
  ["wrongly predicted", "miss", false, true], ["rightly not predicted", "hit", false, false],
];

function twoByTwo({ counts, shares }) {
  const rows = page.classes.map((name, label) => ({
    name,
    cells: PARTS.map(([told, kind, has, said], part) => cell(
      counts[label][part], shares[label][part], kind, `${name}: ${told}`,
      () => tested((labels, found) => labels.includes(label) === has && found.includes(label) === said),
    )),
  }));
  return [grid("", PARTS.map(([told]) => told), rows, "flat")];
}

function startGrid() {
  const place = byId("confusion-grid");
  if (!place || !page.confusion) return;
  place.append(...(page.confusion.kind === "map" ? confusionMap(page.confusion) : twoByTwo(page.confusion)));
}
