// The page: reads what the server offers, joins the parts, and keeps the painting up to date.
import * as api from "./api.js";
import { Files, download } from "./files.js";
import { Keys } from "./keys.js";
import { LivePainter } from "./live.js";
import { Look } from "./look.js";
import { swatches, templateCards } from "./offers.js";
import { STYLE_SIDE, shrunk } from "./pictures.js";
import { encodeIndexed } from "./png.js";
import { Seed } from "./seed.js";
import { Session } from "./session.js";
import { choose, className, onChange, open, studio } from "./state.js";
import { announce, notice, tell, wireNotice, withdraw } from "./status.js";
import { Styles } from "./styles.js";
import { Surface } from "./surface.js";
import { wireTheme } from "./theme.js";
import { chooseClass, clear, showZoom, wireToolbox } from "./toolbox.js";
import { COUNT, Variations } from "./variations.js";
import { View } from "./view.js";

const WAKE_RETRY_MS = 1000;
const ADVICE = {
  offline: "The server can't be reached. Your drawing is kept; the painting goes on when the server is back.",
  busy: "The server is busy: others are painting. Yours goes on by itself.",
  not_ready: "The model is waking up. The painting goes on by itself.",
  no_token: "The server asks for its token. Reload the page and give it as the password.",
  timeout: "The painting took too long. It is tried again by itself.",
};
// The server was started with another model since the page was loaded.
const ANOTHER_MODEL = {
  wrong_size: "The server paints another size now. Reload the page: your drawing is kept and resized.",
  classes_mismatch: "The server paints other classes now. Save the project to keep this drawing, then reload the page.",
};
const RELOAD = { label: "Reload", run: () => location.reload() };
const $ = (id) => document.getElementById(id);

const painted = { latest: null, drawnAt: 0 }; // the painting on show; when the drawing last changed
const look = new Look();
const seed = new Seed(changed);
const styles = new Styles(changed);
const session = new Session({ seed, styles, look });
const files = new Files({ session, attempt, opened });
const live = new LivePainter({ ask, show: showPainting, tell, problem: tellProblem, fine: () => withdraw("live") });
const variations = new Variations(loadVariations, (error) => attempt(() => Promise.reject(error)));

// Failures

// Runs what may fail, and says what then can be done.
async function attempt(action) {
  try {
    withdraw("file");
    await action();
  } catch (error) {
    if (error.name === "AbortError") return; // something else was wanted meanwhile
    reportIfBug(error);
    notice("error", "file", error.message, error.passes ? { label: "Try again", run: () => attempt(action) } : null);
  }
}

// Mistakes of ours also go where a developer looks.
function reportIfBug(error) {
  if (error instanceof TypeError || error instanceof ReferenceError) reportError(error);
}

// `seconds` until the live painter tries again by itself; null when it doesn't.
function tellProblem(error, seconds) {
  reportIfBug(error);
  if (error.code in ANOTHER_MODEL) {
    notice("error", "live", ANOTHER_MODEL[error.code], RELOAD);
    return;
  }
  const wait = seconds === null ? "Try again" : `Try now (${seconds} s)`;
  const action = error.code === "invalid_field" ? null : { label: wait, run: () => live.schedule(0) };
  notice(seconds === null ? "error" : "warn", "live", ADVICE[error.code] ?? error.message, action);
}

// Painting

function palette() {
  const grey = Array.from({ length: 256 }, (_, id) => [id, id, id]);
  for (const { id, colour } of studio.classes.classes) {
    grey[id] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  }
  return grey;
}

const encodeDrawing = () => encodeIndexed(studio.ids, studio.width, studio.height, palette());

async function ask(signal) {
  const request = { classes: studio.classes.hash, seed: styles.usesSeed ? seed.value : 0, style: styles.fields(), signal };
  return api.paint({ ...request, labelMap: await encodeDrawing() });
}

async function showPainting(painting, askedAt) {
  const milliseconds = performance.now() - askedAt;
  const image = $("result");
  const old = image.src;
  image.src = URL.createObjectURL(painting.blob);
  await image.decode();
  if (old) URL.revokeObjectURL(old);
  image.hidden = false;
  image.alt = styles.usesSeed ? `The painting, seed ${painting.seed}` : "The painting";
  $("waiting").hidden = true;
  painted.latest = painting;
  $("save-painting").disabled = false;
  const origin = styles.usesSeed ? `Seed ${painting.seed} · ` : "";
  $("result-caption").textContent = `${origin}${Math.round(milliseconds)} ms`;
  $("result-caption").title = `Painted by ${painting.model}`;
  look.setPainting(image, $("surface"));
  performance.measure("stroke-to-picture", { start: painted.drawnAt });
}

// Seeds are painted in one call; a style from a picture is mixed with other pictures.
async function loadVariations(signal) {
  const request = { labelMap: await encodeDrawing(), classes: studio.classes.hash, signal };
  if (styles.usesSeed) {
    const first = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    const found = await api.paintSeveral({ ...request, seed: first, count: COUNT });
    return found.map(({ blob, seed: number }) => ({ blob, label: `Seed ${number}`, choose: () => takeSeed(number) }));
  }
  const others = [...styles.offers.keys()].filter((key) => key !== styles.first);
  if (others.length === 0) throw new Error("Variations mix your style with other pictures. Add another picture to the styles.");
  const some = others.sort(() => Math.random() - 0.5).slice(0, COUNT);
  const pictures = some.map((key) => api.paint({ ...request, seed: 0, style: styles.fields(key, 0.5) }));
  return (await Promise.all(pictures)).map(({ blob }, place) => ({
    blob,
    label: `With ${styles.offers.get(some[place]).name}`,
    choose: () => styles.blendWith(some[place], 0.5),
  }));
}

function takeSeed(number) {
  seed.value = number;
  changed(0);
}

// Following changes

// Seed or style.
function changed(delay) {
  seed.enable(styles.usesSeed);
  variations.close();
  session.keep();
  live.schedule(delay);
}

// The drawing or the tools.
function followDrawing(kind) {
  if (kind !== "drawing") return;
  painted.drawnAt = performance.now();
  showCaption("");
  variations.close();
  if (!seed.locked) seed.roll();
  session.keep();
  live.schedule();
}

async function opened(text, portrait, signal) {
  showCaption(text);
  announce(text);
  if (portrait !== session.portrait) {
    await session.setPortrait(portrait);
    if (portrait !== null && !$("style-shelf").hidden) {
      const small = await shrunk(portrait, STYLE_SIDE);
      signal.throwIfAborted();
      styles.pick(styles.add(small, "My portrait"));
    }
  }
  changed(0);
}

let styleFile = null; // the last picture that was chosen as a style: making it smaller takes a moment

async function addStyle(file) {
  styleFile = file;
  const key = styles.add(await shrunk(file, STYLE_SIDE));
  if (file === styleFile) styles.pick(key);
}

function showCaption(text) {
  $("map-caption").textContent = text || `${studio.width} × ${studio.height}`;
}

function showSpot(pixel) {
  $("spot").textContent = pixel === null ? "" : className(studio.ids[pixel.y * studio.width + pixel.x]);
}

// Beginning

// The server's facts; waits while the model wakes up.
async function readServer() {
  for (;;) {
    try {
      const facts = await Promise.all([api.readModels(), api.readClasses(), api.readTemplates(), api.readStyles()]);
      withdraw("start");
      return facts;
    } catch (error) {
      if (!error.passes) throw error;
      tell(error.code === "offline" ? "offline" : "busy", error.code === "offline" ? "Offline" : "Model waking up");
      const words = error.code === "offline" ? "The server can't be reached. Is it running? The page goes on as soon as it answers." : ADVICE.not_ready;
      notice("warn", "start", words);
      await new Promise((resolve) => setTimeout(resolve, WAKE_RETRY_MS));
    }
  }
}

function showModel(models, classes) {
  const [model] = models;
  const [height, width] = model.parameters.image_size;
  $("model").textContent = `${model.name} ${model.versions[0]} · ${width} × ${height}`;
  $("model").title = `Checkpoint ${model.parameters.checkpoint_hash}, classes ${classes.hash}`;
  files.hasSegmenter = models.length > 1;
  $("open-photo").hidden = !files.hasSegmenter;
  $("result-sheet").style.aspectRatio = `${width} / ${height}`;
  $("desk").style.setProperty("--aspect", String(width / height));
  $("desk").dataset.style = String(model.parameters.has_style);
  for (const id of ["style-shelf", "seed-field", "vary"]) $(id).hidden = !model.parameters.has_style;
  open(width, height, classes);
}

function wire() {
  const view = new View($("sheet"), $("stage"), showZoom);
  const penSeen = () => ($("pressure-field").hidden = false);
  new Surface({ sheet: $("sheet"), canvas: $("surface"), ring: $("ring") }, view, { told: showSpot, announce, penSeen });
  wireToolbox(view);
  new Keys({ view, look, seed, variations });
  files.wire();
  files.button("open-style", "style-file", (file) => attempt(() => addStyle(file)));
  $("blank").addEventListener("click", () => files.open(openBlank));
  $("save-map").addEventListener("click", () => attempt(async () => download(await encodeDrawing(), "label-map.png")));
  $("save-project").addEventListener("click", () => attempt(async () => download(await session.toFile(palette()), "portrait.json")));
  $("save-painting").addEventListener("click", () => {
    download(painted.latest.blob, styles.usesSeed ? `painting-seed-${painted.latest.seed}.png` : "painting.png");
  });
  $("enlarge").addEventListener("click", () => enlarge(!("large" in $("desk").dataset)));
  $("views").addEventListener("click", () => enlarge(look.view !== "plain"));
  $("vary").addEventListener("click", () => enlarge(true));
  onChange(followDrawing);
}

// On a phone the painting is small beside the classes, or as wide as the page.
function enlarge(large) {
  $("desk").toggleAttribute("data-large", large);
  $("enlarge").setAttribute("aria-pressed", String(large));
}

async function openBlank(signal) {
  clear();
  await opened("", null, signal);
}

async function start() {
  const [models, classes, templates, gallery] = await readServer();
  wire();
  showModel(models, classes);
  $("swatches").replaceChildren(...swatches(studio.classes.classes, chooseClass));
  $("templates").append(...templateCards(templates, openTemplate));
  styles.offerGallery(gallery);
  await begin(templates);
}

const openTemplate = (template) => files.open((signal) => files.openTemplate(template, signal));

// The last visit's work, or else the first template.
async function begin(templates) {
  const kept = await session.kept();
  if (kept !== null) await attempt(() => session.apply(kept, false));
  else if (templates.length > 0) await openTemplate(templates[0]);
  studio.history.forget(); // nothing before this can be undone
  choose({});
  showCaption("");
  painted.drawnAt = performance.now();
  changed(0);
}

wireTheme();
wireNotice();
attempt(start);
