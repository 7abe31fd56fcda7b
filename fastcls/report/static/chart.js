// A chart of lines or dots as SVG.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 420;
const MARGIN = { left: 44, right: 12, top: 10, bottom: 34 };

function svg(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

// A scale from values to pixels, with its ticks.
function scale(low, high, from, to, logarithmic = false) {
  const measure = logarithmic ? Math.log10 : (value) => value;
  const [first, last] = [measure(low), measure(high)];
  const width = last - first || 1;
  const at = (value) => from + ((measure(value) - first) / width) * (to - from);
  return { at, ticks: logarithmic ? decades(first, last) : ticks(low, high) };
}

function ticks(low, high) {
  const raw = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].find((times) => times * power >= raw) * power;
  const found = [];
  for (let value = Math.ceil(low / size - 1e-9) * size; value <= high + size * 1e-6; value += size) found.push(value);
  return found;
}

function decades(first, last) {
  const found = [];
  for (let power = Math.ceil(first - 1e-9); power <= last + 1e-9; power += Math.max(1, Math.round((last - first) / 5))) found.push(10 ** power);
  return found;
}

function short(value) {
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e5)) return value.toExponential(0);
  return String(Number(value.toPrecision(3)));
}

// `series`: [{name, points: [[x, y]], style}]; options: x and y ranges, names of axes, logarithmic x, height.
function lineChart(label, series, { x, y, xName, yName = "", logarithmic = false, height = 260 }) {
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label });
  const across = scale(...x, MARGIN.left, WIDTH - MARGIN.right, logarithmic);
  const up = scale(...y, height - MARGIN.bottom, MARGIN.top);
  for (const value of up.ticks) {
    root.append(svg("line", { class: "axis", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: up.at(value), y2: up.at(value) }));
    root.append(svg("text", { x: MARGIN.left - 6, y: up.at(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const value of across.ticks) {
    root.append(svg("text", { x: across.at(value), y: height - MARGIN.bottom + 16, "text-anchor": "middle" }, short(value)));
  }
  root.append(svg("text", { x: (MARGIN.left + WIDTH) / 2, y: height - 3, "text-anchor": "middle" }, xName));
  if (yName) root.append(svg("text", { x: 12, y: height / 2 - 12, "text-anchor": "middle", transform: `rotate(-90 12 ${height / 2 - 12})` }, yName));
  for (const { points, style } of series) {
    const known = points.filter(([, value]) => value !== null && value !== undefined);
    root.append(svg("polyline", { class: `series ${style}`, points: known.map(([a, b]) => `${across.at(a).toFixed(1)},${up.at(b).toFixed(1)}`).join(" ") }));
  }
  return { root, across, up, height };
}

function key(series) {
  return make("ul", { class: "key" }, ...series.map(({ name, style }) => make("li", { class: style }, make("i"), name)));
}

function extent(values, pad = 0.05) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const more = (high - low || Math.abs(high) || 1) * pad;
  return [low - more, high + more];
}
