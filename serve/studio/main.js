// The page: reads what the server offers, wires buttons and keys to the drawing, keeps the painting up to date.
import * as api from "./api.js";
import { LivePainter } from "./live.js";
import { styleCards, swatches, templateCards } from "./offers.js";
import { decodeIndexed, encodeIndexed } from "./png.js";
import { BACKGROUND, choose, onChange, open, redo, replaceDrawing, restore, save, saved, studio, undo } from "./state.js";
import { Surface } from "./surface.js";

const MAX_SEED = 2 ** 32 - 1;
const WAKE_RETRY_MS = 1000;
const $ = (id) => document.getElementById(id);

const picked = { style: null, styleId: null, painting: null }; // style: a File; painting: the last answer shown
let live = null;

// Status line

function tell(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
  $("result-sheet").dataset.state = state;
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    tell(error.code === "offline" ? "offline" : "error", error.message);
  }
}

// Painting

function currentSeed() {
  const number = Number($("seed").value.trim() || Number.NaN);
  const valid = Number.isInteger(number) && number >= 0 && number <= MAX_SEED;
  $("seed").setAttribute("aria-invalid", String(!valid));
  if (!valid) throw new api.ApiError("invalid_field", `The seed is a whole number from 0 to ${MAX_SEED}.`);
  return number;
}

function randomSeed() {
  $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
}

function palette() {
  const grey = Array.from({ length: 256 }, (_, id) => [id, id, id]);
  for (const { id, colour } of studio.classes.classes) {
    grey[id] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  }
  return grey;
}

const encodeDrawing = () => encodeIndexed(studio.ids, studio.width, studio.height, palette());

async function paintingRequest() {
  return { labelMap: await encodeDrawing(), seed: currentSeed(), style: picked.style, styleId: picked.styleId };
}

function showPainting(painting, milliseconds) {
  const image = $("result");
  const old = image.src;
  image.src = URL.createObjectURL(painting.blob);
  image.hidden = false;
  $("waiting").hidden = true;
  if (old) URL.revokeObjectURL(old);
  picked.painting = painting;
  $("save-painting").disabled = false;
  $("result-caption").textContent = `seed ${painting.seed} · ${Math.round(milliseconds)} ms`;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Choosing

function chooseClass(id) {
  if (id < studio.classes.classes.length) choose({ classId: id, tool: studio.tool === "pick" ? "brush" : studio.tool });
}

function chooseStyle(button, file, styleId) {
  Object.assign(picked, { style: file, styleId });
  for (const each of $("styles").children) each.setAttribute("aria-pressed", String(each === button));
  for (const id of ["seed", "dice", "lock"]) $(id).disabled = file !== null || styleId !== null; // the picture decides
  live.schedule(0);
}

function showOffers(templates, styles) {
  $("swatches").replaceChildren(...swatches(studio.classes.classes, chooseClass));
  const openTemplate = (address) => attempt(async () => openLabelMap(await api.readBlob(address)));
  $("templates").append(...templateCards(templates, openTemplate));
  $("open-style").before(...styleCards(styles));
  for (const button of $("styles").querySelectorAll("[data-style]")) {
    button.addEventListener("click", () => chooseStyle(button, null, button.dataset.style || null));
  }
}

// Opening files

async function openLabelMap(blob) {
  const { ids, width, height } = await decodeIndexed(blob);
  if (width !== studio.width || height !== studio.height) throw new Error("The label map has another size than the model.");
  replaceDrawing(ids);
}

async function openPhoto(file) {
  tell("busy", "Reading your portrait …");
  const { blob, confidence } = await api.segment(file);
  await openLabelMap(blob);
  $("map-caption").textContent = `from your portrait · ${Math.round(confidence * 100)} % sure`;
}

async function openMapFile(file) {
  const { blob, resized } = await api.readLabelMap(file);
  await openLabelMap(blob);
  if (resized) $("map-caption").textContent = `resized to ${studio.width} × ${studio.height}`;
}

function openStyle(file) {
  const face = $("open-style").querySelector(".face");
  const image = document.createElement("img");
  image.alt = "";
  image.src = URL.createObjectURL(file);
  face.replaceChildren(image);
  chooseStyle($("open-style"), file, null);
}

function onFile(inputId, buttonId, action) {
  $(buttonId).addEventListener("click", () => $(inputId).click());
  $(inputId).addEventListener("change", () => {
    const [file] = $(inputId).files;
    $(inputId).value = ""; // the same file may be chosen again
    if (file) attempt(() => action(file));
  });
}

// Following changes

function showTools() {
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === studio.tool));
  for (const button of $("swatches").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.classId) === studio.classId));
  }
  $("mirror").setAttribute("aria-pressed", String(studio.mirror));
  $("brush").value = studio.brush;
  $("brush-size").value = `${studio.brush} px`;
}

function showHistory() {
  $("undo").disabled = !studio.history.canUndo;
  $("redo").disabled = !studio.history.canRedo;
}

function changed(kind) {
  if (kind === "tools") showTools();
  if (kind !== "drawing") return;
  showHistory();
  $("map-caption").textContent = `${studio.width} × ${studio.height}`;
  save();
  if ($("lock").getAttribute("aria-pressed") === "false") randomSeed();
  live.schedule();
}

// Buttons and keys

function clear() {
  replaceDrawing(new Uint8Array(studio.ids.length).fill(BACKGROUND));
}

function anotherSeed() {
  if ($("dice").disabled) return;
  randomSeed();
  live.schedule(0);
}

function toggleLock() {
  const locked = $("lock").getAttribute("aria-pressed") === "false";
  $("lock").setAttribute("aria-pressed", String(locked));
  $("lock").querySelector("use").setAttribute("href", locked ? "#i-lock" : "#i-unlock");
}

function toggleTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

const KEYS = {
  b: () => choose({ tool: "brush" }),
  l: () => choose({ tool: "line" }),
  f: () => choose({ tool: "fill" }),
  i: () => choose({ tool: "pick" }),
  m: () => choose({ mirror: !studio.mirror }),
  r: anotherSeed,
  "[": () => choose({ brush: studio.brush - Math.max(1, Math.round(studio.brush / 8)) }),
  "]": () => choose({ brush: studio.brush + Math.max(1, Math.round(studio.brush / 8)) }),
  "?": () => $("shortcuts").showModal(),
};

function key(event) {
  if (event.target.matches("#seed") || $("shortcuts").open || event.altKey) return;
  const name = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (name === "z") (event.shiftKey ? redo : undo)();
    else if (name === "y") redo();
    else return;
  } else if (name >= "1" && name <= "9") chooseClass(Number(name) - 1);
  else if (name in KEYS) KEYS[name]();
  else return;
  event.preventDefault();
}

function wire() {
  for (const button of $("tools").children) button.addEventListener("click", () => choose({ tool: button.dataset.tool }));
  const clicks = { undo, redo, clear, blank: clear, dice: anotherSeed, lock: toggleLock, theme: toggleTheme };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  $("mirror").addEventListener("click", KEYS.m);
  $("help").addEventListener("click", KEYS["?"]);
  $("close-shortcuts").addEventListener("click", () => $("shortcuts").close());
  $("brush").addEventListener("input", () => choose({ brush: Number($("brush").value) }));
  $("seed").addEventListener("input", () => live.schedule());
  $("save-map").addEventListener("click", () => attempt(async () => download(await encodeDrawing(), "label-map.png")));
  $("save-painting").addEventListener("click", () => {
    download(picked.painting.blob, `painting-seed-${picked.painting.seed}.png`);
  });
  onFile("photo-file", "open-photo", openPhoto);
  onFile("map-file", "open-map", openMapFile);
  onFile("style-file", "open-style", openStyle);
  document.addEventListener("keydown", key);
  onChange(changed);
}

// Beginning

// The server's facts; waits while the model wakes up.
async function readServer() {
  for (;;) {
    try {
      return await Promise.all([api.readModels(), api.readClasses(), api.readTemplates(), api.readStyles()]);
    } catch (error) {
      if (!["not_ready", "busy", "offline", "timeout"].includes(error.code)) throw error;
      tell("busy", error.code === "offline" ? "Waiting for the server …" : "The model is waking up …");
      await new Promise((resolve) => setTimeout(resolve, WAKE_RETRY_MS));
    }
  }
}

async function start() {
  const [models, classes, templates, styles] = await readServer();
  const [model] = models;
  const [height, width] = model.parameters.image_size;
  $("model").textContent = `${model.name} ${model.versions[0]}`;
  $("model").title = `checkpoint ${model.parameters.checkpoint_hash}, classes ${classes.hash}, ${width} × ${height}`;
  $("open-photo").hidden = models.length < 2; // no segmenter
  $("style-shelf").hidden = !model.parameters.has_style;
  live = new LivePainter(paintingRequest, showPainting, tell);
  wire();
  new Surface($("surface"), $("ring"));
  open(width, height, classes);
  showOffers(templates, styles);
  showTools();
  randomSeed();
  await begin(templates);
}

// The drawing of the last visit, or else the first template.
async function begin(templates) {
  const ids = saved();
  if (ids !== null) restore(ids);
  else if (templates.length > 0) restore((await decodeIndexed(await api.readBlob(templates[0].label_map))).ids);
  showHistory();
  $("map-caption").textContent = `${studio.width} × ${studio.height}`;
  live.schedule(0);
}

attempt(start);
