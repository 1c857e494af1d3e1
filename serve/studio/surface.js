// The drawing surface: shows the ids in the class colours, and the brush's outline under the pointer or keyboard cursor.
import { Pointers } from "./pointers.js";
import { className, onChange, studio } from "./state.js";
import { Strokes } from "./strokes.js";

export class Surface {
  // `told(pixel or null)`: what lies under the cursor, for the eye; `announce(text)`: the same for the ear.
  constructor({ sheet, canvas, ring }, view, { told, announce, penSeen }) {
    Object.assign(this, { sheet, canvas, ring, view, told, announce });
    this.context = canvas.getContext("2d");
    this.strokes = new Strokes();
    this.cursor = { x: 0, y: 0 };
    this.frame = 0;
    onChange((kind) => (kind === "tools" ? this.toolsChanged() : this.draw()));
    const pixelAt = (event) => this.pixelAt(event);
    const hover = (pixel, event) => this.hover(pixel, event);
    new Pointers(sheet, { view, strokes: this.strokes, pixelAt, hover, penSeen });
    sheet.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.leave());
    new ResizeObserver(() => this.placeRing()).observe(canvas);
  }

  toolsChanged() {
    const { width, height } = studio;
    if (this.image?.width !== width || this.image.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.canvas.style.aspectRatio = `${width} / ${height}`;
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.cursor = { x: width >> 1, y: height >> 1 };
    }
    this.sheet.dataset.tool = studio.tool;
    this.placeRing();
    this.draw();
  }

  draw() {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = 0;
    const colours = Uint32Array.from(studio.classes.classes, ({ colour }) => {
      const rgb = Number.parseInt(colour.slice(1), 16); // 0xrrggbb -> 0xffbbggrr, as bytes lie in memory
      return ((0xff << 24) | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
    });
    for (let at = 0; at < this.pixels.length; at++) this.pixels[at] = colours[studio.ids[at]];
    this.context.putImageData(this.image, 0, 0);
  }

  // Pointer position -> pixel of the label map, also when it lies outside of the canvas.
  pixelAt({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: Math.floor(((clientX - box.left) / box.width) * studio.width),
      y: Math.floor(((clientY - box.top) / box.height) * studio.height),
    };
  }

  hover(pixel, event) {
    const inside = pixel !== null && pixel.x >= 0 && pixel.y >= 0 && pixel.x < studio.width && pixel.y < studio.height;
    this.told(inside ? pixel : null);
    if (pixel !== null) this.cursor = pixel;
    this.placeRing();
    this.ring.hidden = pixel === null || event.pointerType === "touch";
  }

  // The keyboard's hand leaves the paper.
  leave() {
    this.strokes.end();
    this.ring.hidden = true;
  }

  // Arrow keys move the cursor (with Shift by ten), Space or Enter puts the brush down and lifts it, Escape takes the
  // stroke back; fill and eyedropper act at once.
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) this.moveBy(...moves[event.key]);
    else if (event.key === " " || event.key === "Enter") this.press();
    else if (event.key === "Escape" && this.strokes.isDown) this.strokes.cancel();
    else return;
    event.preventDefault();
    this.placeRing();
    this.ring.hidden = false;
  }

  moveBy(dx, dy) {
    const within = (at, size) => Math.max(0, Math.min(size - 1, at));
    this.cursor = { x: within(this.cursor.x + dx, studio.width), y: within(this.cursor.y + dy, studio.height) };
    if (this.strokes.isDown) this.strokes.extend(this.cursor);
    this.view.reveal((this.cursor.x + 0.5) / studio.width, (this.cursor.y + 0.5) / studio.height);
    this.told(this.cursor);
    this.announce(`${this.cursor.x}, ${this.cursor.y}: ${className(studio.ids[this.cursor.y * studio.width + this.cursor.x])}`);
  }

  press() {
    if (this.strokes.isDown) {
      this.strokes.end();
      this.announce("Lifted");
      return;
    }
    this.strokes.begin(this.cursor);
    this.announce(this.strokes.isDown ? `${className(studio.classId)} down` : className(studio.classId));
  }

  placeRing() {
    const box = this.canvas.getBoundingClientRect();
    const frame = this.sheet.getBoundingClientRect();
    const scale = box.width / studio.width || 0;
    const hasDisc = studio.tool === "brush" || studio.tool === "line";
    const size = Math.max(5, (hasDisc ? studio.brush : 1) * scale);
    const x = box.left - frame.left + (this.cursor.x + 0.5) * scale - size / 2;
    const y = box.top - frame.top + (this.cursor.y + 0.5) * scale - size / 2;
    this.ring.style.width = this.ring.style.height = `${size}px`;
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
  }
}
