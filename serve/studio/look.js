// Two pictures at once: the painting under an overlay or beside a comparison, and the drawing that one sees through.

const $ = (id) => document.getElementById(id);
const AMOUNT_NAMES = { overlay: "Opacity of the overlay", compare: "Where the painting begins" };

export class Look {
  constructor() {
    this.view = "plain"; // plain | overlay | compare
    this.amounts = { overlay: 50, compare: 50 };
    this.pictures = { map: null, painting: null, before: null, portrait: null }; // ImageBitmap or canvas
    for (const button of $("views").children) button.addEventListener("click", () => this.choose(button.dataset.view));
    $("amount").addEventListener("input", () => this.slide(Number($("amount").value)));
    $("other-kind").addEventListener("change", () => this.show());
    $("under").addEventListener("change", () => this.show());
    $("through").addEventListener("input", () => this.show());
    for (const kind of ["pointerdown", "pointermove"]) $("result-sheet").addEventListener(kind, (event) => this.drag(event));
  }

  choose(view) {
    this.view = view === this.view ? "plain" : view;
    this.show();
  }

  // The painting and the label map it was painted from.
  setPainting(image, map) {
    if (this.pictures.painting !== null) this.setOptional("before", this.pictures.painting);
    this.pictures.map = copyOf(map);
    this.pictures.painting = copyOf(image);
    this.show();
  }

  setPortrait(image) {
    this.setOptional("portrait", image);
    for (const option of $("under").options) if (option.value === "portrait") option.disabled = image === null;
    if (image === null && $("under").value === "portrait") $("under").value = "";
    this.show();
  }

  setOptional(name, image) {
    this.pictures[name] = image;
    for (const option of $("other-kind").options) if (option.value === name) option.disabled = image === null;
    if (image === null && $("other-kind").value === name) $("other-kind").value = "map";
  }

  slide(amount) {
    this.amounts[this.view] = Math.max(0, Math.min(100, amount));
    this.show();
  }

  // The divider follows the pointer.
  drag(event) {
    if (this.view !== "compare" || event.target.closest("select, input, button") || (event.buttons & 1) === 0) return;
    const box = $("other").getBoundingClientRect();
    this.slide(Math.round(((event.clientX - box.left) / box.width) * 100));
  }

  show() {
    for (const button of $("views").children) {
      button.setAttribute("aria-pressed", String(button.dataset.view === this.view));
    }
    const painted = this.pictures.painting !== null && this.view !== "plain";
    $("looking").hidden = $("other").hidden = !painted;
    $("divider").hidden = !painted || this.view !== "compare";
    $("result-sheet").dataset.view = this.view;
    if (painted) this.showOther(this.amounts[this.view]);
    this.showThrough();
  }

  showOther(amount) {
    const kind = $("other-kind").value;
    draw($("other"), this.pictures[kind], this.pictures.painting);
    $("other").classList.toggle("pixelated", kind === "map");
    $("amount").value = String(amount);
    $("amount").setAttribute("aria-label", AMOUNT_NAMES[this.view]);
    const comparing = this.view === "compare";
    $("other").style.opacity = comparing ? "1" : String(amount / 100);
    $("other").style.clipPath = comparing ? `inset(0 ${100 - amount}% 0 0)` : "none";
    $("divider").style.left = `${amount}%`;
  }

  showThrough() {
    const picture = this.pictures[$("under").value] ?? null;
    $("through").hidden = $("under").value === "";
    $("under-picture").hidden = picture === null;
    $("surface").style.opacity = picture === null ? "1" : String(1 - Number($("through").value) / 100);
    if (picture !== null) draw($("under-picture"), picture, this.pictures.painting ?? picture);
  }
}

function copyOf(source) {
  const canvas = document.createElement("canvas");
  draw(canvas, source, source);
  return canvas;
}

// Fills the canvas, as large as `like`, with the middle of the picture, as the server crops portraits.
function draw(canvas, picture, like) {
  Object.assign(canvas, sizeOf(like));
  const from = sizeOf(picture);
  const scale = Math.max(canvas.width / from.width, canvas.height / from.height);
  const [width, height] = [canvas.width / scale, canvas.height / scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const left = (from.width - width) / 2;
  context.drawImage(picture, left, (from.height - height) / 2, width, height, 0, 0, canvas.width, canvas.height);
}

function sizeOf(picture) {
  return { width: picture.naturalWidth ?? picture.width, height: picture.naturalHeight ?? picture.height };
}
