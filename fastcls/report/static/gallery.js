// The dialog that shows images: a grid of them, and each with what is known of it.
const CHUNK = 120; // images that are added to a grid at once
const gallery = byId("gallery");
let shown = { title: "", places: [], note: "" };

function picture(place) {
  const text = images.thumbnail[place];
  if (!text) return make("span", { class: "picture absent" }, "no picture");
  return make("img", {
    class: "picture", alt: describe(place), decoding: "async", src: source(text),
  });
}

// A file in base64: JPEG begins with the bytes FF D8 FF.
function source(text) {
  return `data:image/${text.startsWith("/9j/") ? "jpeg" : "webp"};base64,${text}`;
}

function describe(place) {
  const said = images.predicted[place];
  const label = names(images.label[place]);
  return said === null ? label : `${label}, ${predicted(said)}`;
}

function caption(place) {
  const said = images.predicted[place];
  const label = names(images.label[place]);
  if (said === null) return make("span", { class: "caption" }, label, make("small", {}, splitName(place)));
  const sure = images.confidence[place] === null ? "" : ` ${percent(images.confidence[place], 0)}`;
  if (images.correct[place]) return make("span", { class: "caption" }, label, make("small", {}, `right${sure}`));
  return make("span", { class: "caption" }, label, make("small", { class: "wrong" }, said.length ? `→ ${names(said)}${sure}` : predicted(said)));
}

function splitName(place) {
  return page.splits[images.split[place]];
}

// A picture with its caption that opens the image; `places` are those to go through from there.
function tile(place, places, title) {
  return make(
    "button", { type: "button", class: "tile", onclick: () => showImage(place, places, title) },
    picture(place), caption(place),
  );
}

function showImages(title, places, note = "") {
  shown = { title, places, note };
  byId("gallery-title").textContent = `${title} (${places.length.toLocaleString("en")})`;
  byId("gallery-back").hidden = true;
  const tiles = make("div", { class: "tiles" });
  const more = make("button", { type: "button", class: "plain" }, "Show more");
  const add = () => {
    const start = tiles.childElementCount;
    tiles.append(...places.slice(start, start + CHUNK).map((place) => tile(place, places, title)));
    more.hidden = tiles.childElementCount >= places.length;
  };
  more.addEventListener("click", add);
  add();
  const told = note ? [make("p", { class: "hint" }, note)] : [];
  const empty = places.length ? [] : [make("p", { class: "hint" }, "None of these images are on this page.")];
  open(...told, ...empty, tiles, make("p", {}, more));
}

function showImage(place, places, title) {
  if (!shown.places.includes(place) || shown.places !== places) shown = { title, places, note: "" };
  const position = places.indexOf(place);
  byId("gallery-title").textContent = `${title}: ${position + 1} of ${places.length.toLocaleString("en")}`;
  byId("gallery-back").hidden = false;
  open(detail(place));
  gallery.dataset.position = position;
}

function detail(place) {
  const said = images.predicted[place];
  const facts = make("div", {}, make("h3", {}, names(images.label[place])));
  if (said !== null) {
    const mark = images.correct[place] ? "predicted right" : predicted(said);
    facts.append(make("p", { class: images.correct[place] ? "" : "wrong" }, mark));
  }
  facts.append(make("p", { class: "path" }, `${images.path[place]} (${splitName(place)})`));
  if (images.top[place]) facts.append(shares(images.top[place]));
  return make("div", { class: "detail" }, make("div", {}, picture(place)), facts, near(place));
}

function shares(top) {
  return make("ul", { class: "shares", "aria-label": "Probabilities" }, ...top.map(([label, share]) => make(
    "li", {}, make("span", {}, page.classes[label]), make("i", { style: `--v:${share}` }),
    make("span", {}, percent(share)),
  )));
}

function near(place) {
  const found = images.near[place];
  if (!found.length) return null;
  const places = found.map(([other]) => other);
  const tiles = found.map(([other, cosine]) => {
    const one = tile(other, places, "Nearest training images");
    one.querySelector("small").textContent = `cosine ${cosine.toFixed(2)}`;
    return one;
  });
  return make("div", { class: "near" }, make("h3", {}, "Nearest training images"), make("div", { class: "tiles" }, ...tiles));
}

function open(...content) {
  byId("gallery-body").replaceChildren(...content);
  delete gallery.dataset.position;
  if (!gallery.open) gallery.showModal();
  gallery.scrollTop = 0;
  byId("gallery-title").focus();
}

function step(by) {
  const position = Number(gallery.dataset.position) + by;
  if (position >= 0 && position < shown.places.length) showImage(shown.places[position], shown.places, shown.title);
}

function startGallery() {
  byId("gallery-close").addEventListener("click", () => gallery.close());
  byId("gallery-back").addEventListener("click", () => showImages(shown.title, shown.places, shown.note));
  gallery.addEventListener("click", (event) => {
    if (event.target === gallery) gallery.close(); // beside it
  });
  gallery.addEventListener("keydown", (event) => {
    if (gallery.dataset.position === undefined) return;
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
}
