// What the page holds, and how it is named.
const page = JSON.parse(document.getElementById("page-data").textContent);
const images = page.images;
const allImages = images.path.map((_, place) => place);

function names(labels) {
  return labels.length ? labels.map((label) => page.classes[label]).join(", ") : "no class";
}

// What was predicted, which may be nothing.
function predicted(labels) {
  return labels.length ? `predicted ${names(labels)}` : "nothing predicted";
}
