// What all pages of fastcls share. Text comes into a page as text only, never as HTML.
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

function count(number, noun, many = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : many}`;
}

function say(text) {
  byId("status").textContent = text;
}

// The button that switches between light and dark; what is chosen is kept, where that is allowed.
function startTheme(onSwitch = () => {}) {
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
    root.dataset.theme = getComputedStyle(root).colorScheme === "dark" ? "light" : "dark";
    kept(root.dataset.theme);
    onSwitch();
  });
}
