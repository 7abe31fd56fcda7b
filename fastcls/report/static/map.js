// The map of the bottlenecks: a canvas with a tip on hover and a rectangle that opens images.
const NEAR = 12; // pixels within which an image is hovered or tapped
const PALETTE = ["#3b7dd8", "#e08214", "#3a9d5d", "#c8455b", "#8a63c9", "#a06a42", "#d765a8", "#7f8a1e", "#1fa3b8", "#8b8f98"];
const map = { canvas: byId("map-canvas"), view: [0, 0, 1, 1], from: null, to: null, only: null };

function hue(label) {
  return label < PALETTE.length ? PALETTE[label] : `hsl(${(label * 137.5) % 360} 55% 52%)`;
}

// What the points can be colored by: the names of the groups, their colors, and the groups of an image.
const GROUPINGS = {
  class: {
    names: () => [...page.classes, "no class"], color: (group) => (group < page.classes.length ? hue(group) : "#8b8f98"),
    of: (place) => (images.label[place].length ? images.label[place] : [page.classes.length]),
  },
  split: { names: () => page.splits, color: (group) => ["#3b7dd8", "#3a9d5d", "#e08214", "#8b8f98"][group], of: (place) => [images.split[place]] },
  error: {
    names: () => ["right", "wrong", "not tested"], color: (group) => ["#3b7dd8", "#d1432f", "#a9adb5"][group],
    of: (place) => [images.correct[place] === null ? 2 : images.correct[place] ? 0 : 1],
  },
};

function grouping() {
  return GROUPINGS[byId("map-color").value];
}

function points() {
  return page.points[byId("map-method").value];
}

function onMap(whole = false) {
  return allImages.filter((place) => points()[place] && (whole || map.only === null || grouping().of(place).includes(map.only)));
}

function toPixels([x, y]) {
  const { width, height } = map.canvas.getBoundingClientRect();
  const [left, top, right, bottom] = map.view;
  return [12 + ((x - left) / (right - left)) * (width - 24), 12 + ((y - top) / (bottom - top)) * (height - 24)];
}

function draw() {
  const { width, height } = map.canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  map.canvas.width = width * ratio;
  map.canvas.height = height * ratio;
  const context = map.canvas.getContext("2d");
  context.scale(ratio, ratio);
  const { color, of } = grouping();
  const places = onMap();
  const radius = places.length > 2000 ? 2.2 : 3.4;
  context.globalAlpha = 0.85;
  for (const wrong of [false, true]) { // mistakes are drawn above
    for (const place of places) {
      if ((images.correct[place] === false) !== wrong) continue;
      const [x, y] = toPixels(points()[place]);
      context.fillStyle = color(map.only ?? of(place)[0]);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
  }
  drawRectangle(context);
}

function drawRectangle(context) {
  if (!map.to) return;
  const style = getComputedStyle(document.documentElement);
  const [x, y] = map.from ?? map.to;
  context.globalAlpha = 1;
  context.strokeStyle = style.getPropertyValue("--text");
  context.setLineDash([4, 3]);
  context.strokeRect(Math.min(x, map.to[0]), Math.min(y, map.to[1]), Math.abs(map.to[0] - x), Math.abs(map.to[1] - y));
  context.setLineDash([]);
  context.strokeRect(map.to[0] - 4, map.to[1] - 4, 8, 8);
}

function inRectangle() {
  if (!map.from || !map.to) return [];
  const [left, right] = [map.from[0], map.to[0]].sort((a, b) => a - b);
  const [top, bottom] = [map.from[1], map.to[1]].sort((a, b) => a - b);
  return onMap().filter((place) => {
    const [x, y] = toPixels(points()[place]);
    return x >= left && x <= right && y >= top && y <= bottom;
  });
}

function nearest([x, y]) {
  let [found, least] = [-1, NEAR];
  for (const place of onMap()) {
    const [a, b] = toPixels(points()[place]);
    const distance = Math.hypot(a - x, b - y);
    if (distance < least) [found, least] = [place, distance];
  }
  return found;
}

function refresh() {
  const selected = inRectangle();
  for (const id of ["map-zoom", "map-open"]) byId(id).disabled = !selected.length;
  byId("map-open").textContent = selected.length ? `Open ${count(selected.length, "image")}` : "Open images";
  byId("map-reset").disabled = map.view.join() === "0,0,1,1" && !map.to;
  draw();
  return selected;
}

function tip(at) {
  const figure = byId("map-tip");
  const place = at ? nearest(at) : -1;
  figure.hidden = place < 0;
  if (place < 0) return;
  figure.replaceChildren(picture(place), caption(place));
  const { width, height } = map.canvas.getBoundingClientRect();
  figure.style.left = `${Math.min(at[0] + 14, width - 156)}px`;
  figure.style.top = at[1] > height / 2 ? "auto" : `${at[1] + 14}px`;
  figure.style.bottom = at[1] > height / 2 ? `${height - at[1] + 14}px` : "auto";
}

function openSelected() {
  const selected = inRectangle();
  if (selected.length) showImages("Selected on the map", selected);
}

function zoom() {
  const [left, top, right, bottom] = map.view;
  const { width, height } = map.canvas.getBoundingClientRect();
  const back = ([x, y]) => [left + ((x - 12) / (width - 24)) * (right - left), top + ((y - 12) / (height - 24)) * (bottom - top)];
  const [one, other] = [back(map.from), back(map.to)];
  const around = (a, b) => [Math.min(a, b), Math.max(a, b, Math.min(a, b) + 1e-4)];
  const [across, down] = [around(one[0], other[0]), around(one[1], other[1])];
  map.view = [across[0], down[0], across[1], down[1]];
  map.from = map.to = null;
  refresh();
}

function reset() {
  map.view = [0, 0, 1, 1];
  map.from = map.to = null;
  refresh();
}

function withMouse() {
  const at = (event) => [event.offsetX, event.offsetY];
  let isDown = false;
  map.canvas.addEventListener("pointerdown", (event) => {
    isDown = true;
    map.canvas.setPointerCapture(event.pointerId);
    map.from = map.to = at(event);
    tip(null);
  });
  map.canvas.addEventListener("pointermove", (event) => {
    if (!isDown) return tip(at(event));
    map.to = at(event);
    return draw();
  });
  map.canvas.addEventListener("pointerup", (event) => {
    isDown = false;
    const moved = Math.hypot(map.to[0] - map.from[0], map.to[1] - map.from[1]);
    const place = moved < 4 ? nearest(at(event)) : -1;
    if (moved < 4) map.from = map.to = null;
    const selected = refresh();
    if (place >= 0) showImage(place, [place], "On the map");
    else if (selected.length) showImages("Selected on the map", selected);
  });
  map.canvas.addEventListener("pointercancel", () => {
    isDown = false;
    map.from = map.to = null;
    refresh();
  });
  map.canvas.addEventListener("pointerleave", () => tip(null));
}

function withKeys() {
  const moves = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  map.canvas.addEventListener("keydown", (event) => {
    const { width, height } = map.canvas.getBoundingClientRect();
    const move = moves[event.key];
    if (move) {
      const size = event.shiftKey ? 4 : 20;
      const [x, y] = map.to ?? [width / 2, height / 2];
      map.to = [Math.min(width, Math.max(0, x + move[0] * size)), Math.min(height, Math.max(0, y + move[1] * size))];
      tip(map.from ? null : map.to);
    } else if (event.key === " ") map.from = map.to ?? [width / 2, height / 2];
    else if (event.key === "Enter") openSelected();
    else if (event.key === "Escape") reset();
    else return;
    event.preventDefault();
    const selected = refresh();
    if (map.from) say(`${count(selected.length, "image")} in the rectangle`);
  });
}

function legend() {
  const { names: told, color, of } = grouping();
  const counts = new Map();
  for (const place of onMap(true)) for (const group of of(place)) counts.set(group, (counts.get(group) ?? 0) + 1);
  byId("map-legend").replaceChildren(...told().flatMap((name, group) => (counts.has(group) ? [make("li", {}, make("button", {
    type: "button", "aria-pressed": String(map.only === group),
    onclick: () => {
      map.only = map.only === group ? null : group;
      legend();
      refresh();
    },
  }, make("i", { style: `background:${color(group)}` }), `${name} (${counts.get(group).toLocaleString("en")})`))] : [])));
}

function startMap() {
  if (!map.canvas) return;
  const methods = Object.keys(page.points);
  if (!methods.length) {
    byId("map").hidden = true;
    return;
  }
  byId("map-method").append(...methods.reverse().map((name) => make("option", { value: name }, name)));
  byId("map-method").addEventListener("change", reset);
  byId("map-color").addEventListener("change", () => {
    map.only = null;
    legend();
    refresh();
  });
  byId("map-zoom").addEventListener("click", zoom);
  byId("map-open").addEventListener("click", openSelected);
  byId("map-reset").addEventListener("click", reset);
  new ResizeObserver(draw).observe(map.canvas);
  withMouse();
  withKeys();
  legend();
}
