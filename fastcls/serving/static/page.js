// Images to the server, and what it says of them.
const AT_ONCE = 4; // requests
const RETRIES = 20; // where the server is busy
const waiting = [];
let [running, known, shown] = [0, null, 0];

const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

function complain(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

// The JSON of an answer; where the server is busy, that of a later one.
async function ask(path, options) {
  for (let attempt = 0; ; attempt += 1) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("The server cannot be reached");
    }
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) return told;
    if (answer.status !== 503 || attempt === RETRIES) throw new Error(told.detail || `Status ${answer.status}`);
    await sleep(Number(answer.headers.get("Retry-After")) || 1);
  }
}

const send = (path, file) => ask(path, { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });

// What is said of an image: the answer, a bar per class, and whether it is unlike the training images.
function answerOf(told) {
  const predicted = told.predictions.map((each) => each.class);
  return [
    make("p", { class: "answer" }, predicted.length ? predicted.join(", ") : "no class"),
    told.unfamiliar ? make("p", { class: "mark" }, "Unlike the images that it was trained on: the classes say little here.") : null,
    make("ul", { class: "shares", "aria-label": "Most probable classes" }, ...told.scores.map((each) => make(
      "li", {},
      make("span", predicted.includes(each.class) ? { class: "predicted" } : {}, each.class),
      make("i", { style: `--v:${each.confidence}` }),
      make("span", {}, percent(each.confidence)),
    ))),
  ];
}

// Buttons that show where in an image its classes are seen.
function explanationOf(file, picture) {
  const place = make("div", { class: "seen" });
  const plain = picture.src;
  const show = (button, address) => {
    picture.src = address;
    for (const each of place.children) each.setAttribute("aria-pressed", each === button);
  };
  const choice = (text, address) => make("button", { type: "button", "aria-pressed": "false", onclick: (event) => show(event.currentTarget, address) }, text);
  const start = make("button", { type: "button", onclick: async () => {
    start.disabled = true;
    start.textContent = "Looking …";
    try {
      const { explained } = await send("explain", file);
      place.replaceChildren(choice("Photo", plain), ...explained.map((each) => choice(each.class, each.picture)));
      show(place.children[1], explained[0].picture);
      place.children[1].focus();
      say(`Shown: where ${explained[0].class} is seen`);
    } catch (error) {
      place.replaceChildren(make("p", { class: "file", role: "alert" }, error.message));
    }
  } }, "Where is it seen?");
  place.append(start);
  return place;
}

function cardOf(file) {
  const address = URL.createObjectURL(file);
  const picture = make("img", { class: "picture", alt: file.name || "The image", src: address, decoding: "async" });
  picture.addEventListener("error", () => { // of a format that the server reads and the browser does not
    picture.replaceWith(make("div", { class: "picture absent" }, "This browser cannot show the image"));
  });
  const said = make("div", { class: "said", "aria-busy": "true" }, make("p", { class: "file" }, file.name || "Pasted image"), make("p", { class: "answer finer" }, "…"));
  return { address, picture, said, element: make("li", { class: "card" }, picture, said) };
}

async function classify({ file, card }) {
  try {
    const { images: [told] } = await send("predict", file);
    const explains = known?.explains ? explanationOf(file, card.picture) : null;
    card.said.replaceChildren(card.said.firstElementChild, ...[...answerOf(told), explains].filter(Boolean));
    say(`${file.name || "Image"}: ${told.predictions.map((each) => each.class).join(", ") || "no class"}`);
  } catch (error) {
    card.said.replaceChildren(card.said.firstElementChild, make("p", { class: "mark", role: "alert" }, error.message));
  }
  card.said.removeAttribute("aria-busy");
}

function work() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    classify(waiting.shift()).finally(() => {
      running -= 1;
      work();
    });
  }
}

function take(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  complain(images.length < files.length ? `${count(files.length - images.length, "file is not an image", "files are not images")}` : "");
  for (const file of images) {
    if (known && file.size > known.limits.bytes) {
      complain(`${file.name || "The image"} is larger than ${(known.limits.bytes / 1e6).toFixed(0)} MB`);
      continue;
    }
    const card = cardOf(file);
    byId("cards").prepend(card.element);
    waiting.push({ file, card });
    shown += 1;
  }
  tellCount();
  work();
}

function tellCount() {
  byId("head").hidden = !shown;
  byId("count").textContent = count(shown, "image");
}

function startTaking() {
  const drop = byId("drop");
  byId("choose").addEventListener("click", () => byId("files").click());
  for (const input of [byId("files"), byId("capture")]) {
    input.addEventListener("change", () => {
      take(input.files);
      input.value = ""; // the same file may be chosen again
    });
  }
  const stay = (event) => {
    event.preventDefault();
    drop.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, stay);
  document.addEventListener("drop", (event) => take(event.dataTransfer.files));
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });
  byId("clear").addEventListener("click", () => {
    waiting.length = shown = 0;
    for (const image of document.querySelectorAll("img.picture")) if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    byId("cards").replaceChildren();
    tellCount();
    byId("choose").focus();
  });
}

// A phone has an app for its camera; elsewhere there is a dialog, where the browser gives a camera.
function startCamera() {
  const [button, dialog, video] = ["photograph", "camera", "video"].map(byId);
  const hasApp = matchMedia("(pointer: coarse)").matches;
  button.hidden = !hasApp && !navigator.mediaDevices?.getUserMedia;
  button.addEventListener("click", async () => {
    if (hasApp) return byId("capture").click();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
    } catch (error) {
      return complain(`The camera cannot be used: ${error.message}`);
    }
    return dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
  byId("camera-close").addEventListener("click", () => dialog.close());
  byId("shutter").addEventListener("click", () => {
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob((blob) => take([new File([blob], "photo.jpg", { type: blob.type })]), "image/jpeg", 0.95);
  });
}

async function startAbout() {
  byId("curl").textContent = `curl --data-binary @photo.jpg ${new URL("predict", document.baseURI)}`;
  try {
    known = await ask("metadata");
  } catch (error) {
    return complain(error.message);
  }
  const names = known.class_names;
  const some = names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
  const [height, width] = known.size;
  byId("lead").textContent = `${count(names.length, "class", "classes")}: ${some}.`;
  const facts = [
    ["Classes", names.join(", ")],
    ["Answer", known.thresholds ? "all classes that reach their threshold" : "the most probable class"],
    ["Input", `${height} × ${width} pixels`],
    ["Limits", `${(known.limits.bytes / 1e6).toFixed(0)} MB and ${count(known.limits.images, "image")} a request, ${(known.limits.pixels / 1e6).toFixed(0)} megapixels an image`],
    ["Digest", known.model],
    ["fastcls", known.fastcls],
  ];
  byId("facts").replaceChildren(...facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  try {
    await ask("ready");
  } catch (error) {
    complain(error.message);
  }
  return say("The classifier is ready");
}

startTheme();
startTaking();
startCamera();
startAbout();
