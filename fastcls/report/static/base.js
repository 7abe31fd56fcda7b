// What the page holds, and small helpers. Text comes into the page as text only, never as HTML.
const page = JSON.parse(document.getElementById("page-data").textContent);
const images = page.images;
const allImages = images.path.map((_, place) => place);

function byId(id) {
  return document.getElementById(id);
}

// An element with attributes and children; `on*` attributes are listeners, text children are text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function percent(share, digits = 1) {
  // No line breaks before the sign.
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}\u00a0%`;
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function names(labels) {
  return labels.length ? labels.map((label) => page.classes[label]).join(", ") : "no class";
}

// What was predicted, which may be nothing.
function predicted(labels) {
  return labels.length ? `predicted ${names(labels)}` : "nothing predicted";
}

function say(text) {
  byId("status").textContent = text;
}
