// The drawing surface: shows the ids in the class colours, turns pointer and keyboard into strokes.
import { BACKGROUND, choose, fill, finishStep, onChange, restore, stroke, studio } from "./state.js";

const ERASER_BUTTONS = 2 | 32; // right mouse button, eraser end of a pen

export class Surface {
  constructor(canvas, ring) {
    this.canvas = canvas;
    this.ring = ring; // an element that shows the brush's outline
    this.context = canvas.getContext("2d");
    this.gesture = null; // {before, start, last, id} while a button is down
    this.cursor = { x: 0, y: 0 };
    this.frame = 0;
    onChange((kind) => (kind === "tools" ? this.toolsChanged() : this.draw()));
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => this.up());
    canvas.addEventListener("pointercancel", () => this.up());
    canvas.addEventListener("pointerleave", () => this.showRing(false));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.showRing(false));
    new ResizeObserver(() => this.placeRing()).observe(canvas);
  }

  toolsChanged() {
    if (this.canvas.width !== studio.width || this.canvas.height !== studio.height) {
      this.canvas.width = studio.width;
      this.canvas.height = studio.height;
      this.canvas.style.aspectRatio = `${studio.width} / ${studio.height}`;
      this.image = this.context.createImageData(studio.width, studio.height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.cursor = { x: studio.width >> 1, y: studio.height >> 1 };
    }
    this.canvas.dataset.tool = studio.tool;
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
  pixelAt(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: Math.floor(((event.clientX - box.left) / box.width) * studio.width),
      y: Math.floor(((event.clientY - box.top) / box.height) * studio.height),
    };
  }

  down(event) {
    if (!event.isPrimary || this.gesture !== null) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.begin(this.pixelAt(event), (event.buttons & ERASER_BUTTONS) !== 0);
  }

  move(event) {
    this.cursor = this.pixelAt(event);
    this.placeRing();
    this.showRing(event.pointerType !== "touch");
    if (!event.isPrimary || this.gesture === null) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length > 0 ? events : [event]) this.extend(this.pixelAt(each));
  }

  begin({ x, y }, erases) {
    const id = erases ? BACKGROUND : studio.classId;
    const inside = x >= 0 && y >= 0 && x < studio.width && y < studio.height;
    if (studio.tool === "pick") {
      if (inside) choose({ classId: studio.ids[y * studio.width + x], tool: "brush" });
      return;
    }
    const before = studio.ids.slice();
    if (studio.tool === "fill") {
      if (inside) fill(x, y, id);
      finishStep(before);
      return;
    }
    this.gesture = { before, start: { x, y }, last: { x, y }, id };
    stroke(x, y, x, y, id);
  }

  extend({ x, y }) {
    const { before, start, last, id } = this.gesture;
    if (x === last.x && y === last.y) return;
    if (studio.tool === "line") {
      restore(before);
      stroke(start.x, start.y, x, y, id);
    } else {
      stroke(last.x, last.y, x, y, id);
    }
    this.gesture.last = { x, y };
  }

  up() {
    if (this.gesture === null) return;
    const { before } = this.gesture;
    this.gesture = null;
    finishStep(before);
  }

  // Arrow keys move the cursor (with Shift by ten), Space or Enter puts the pen down and up again; fill and pick act at once.
  key(event) {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      const [dx, dy] = moves[event.key];
      this.cursor.x = Math.max(0, Math.min(studio.width - 1, this.cursor.x + dx));
      this.cursor.y = Math.max(0, Math.min(studio.height - 1, this.cursor.y + dy));
      if (this.gesture !== null) this.extend(this.cursor);
    } else if (event.key === " " || event.key === "Enter") {
      if (this.gesture === null) this.begin({ ...this.cursor }, false);
      else this.up();
    } else {
      return;
    }
    event.preventDefault();
    this.placeRing();
    this.showRing(true);
  }

  placeRing() {
    const scale = this.canvas.clientWidth / studio.width || 0;
    const pixels = studio.tool === "fill" || studio.tool === "pick" ? 1 : studio.brush;
    const size = Math.max(5, pixels * scale);
    this.ring.style.width = this.ring.style.height = `${size}px`;
    const [x, y] = [(this.cursor.x + 0.5) * scale - size / 2, (this.cursor.y + 0.5) * scale - size / 2];
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
  }

  showRing(shown) {
    this.ring.hidden = !shown;
  }
}
