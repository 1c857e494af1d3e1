// Mouse, pen and fingers on the sheet. One pointer draws; two fingers move and zoom the view, and a tap with two undoes.
// Once a pen has been seen fingers only move the view, so that a resting hand doesn't draw.
import { studio, undo } from "./state.js";
import { actsAtOnce } from "./strokes.js";

const ERASER_BUTTONS = 2 | 32; // right mouse button, eraser end of a pen
const MIDDLE_BUTTON = 1;
const TAP_MS = 300;
const TAP_PX = 12;
const WHEEL_STEP = 1.0015; // zoom factor per pixel of the wheel

export class Pointers {
  // `pixelAt({clientX, clientY})` -> {x, y} of the label map; `hover(pixel or null, event)`; `penSeen()` once.
  constructor(sheet, { view, strokes, pixelAt, hover, penSeen }) {
    Object.assign(this, { sheet, view, strokes, pixelAt, hover, penSeen });
    this.points = new Map(); // pointer id -> {x, y} in client pixels, while down
    this.mode = "idle"; // idle | draw | pan | pinch | rest (until every finger is lifted)
    this.hasPen = false;
    this.whenLifted = null; // what a finger does with a tool that acts at once, unless a second one makes it a pinch
    const listen = (kind, action, options) => sheet.addEventListener(kind, action, options);
    listen("pointerdown", (event) => this.down(event));
    listen("pointermove", (event) => this.move(event));
    listen("pointerup", (event) => this.up(event));
    listen("pointercancel", (event) => this.lost(event));
    listen("pointerleave", () => this.hover(null));
    listen("contextmenu", (event) => event.preventDefault());
    listen("mousedown", (event) => event.button === MIDDLE_BUTTON && event.preventDefault()); // no autoscroll
    listen("wheel", (event) => this.wheel(event), { passive: false });
  }

  down(event) {
    if (event.pointerType === "pen" && !this.hasPen) {
      this.hasPen = true;
      this.penSeen();
    }
    this.sheet.setPointerCapture(event.pointerId);
    this.points.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.points.size === 1) this.first(event);
    else if (this.points.size === 2 && event.pointerType === "touch" && this.mode !== "rest") this.second();
  }

  first(event) {
    const moves = studio.tool === "hand" || event.button === MIDDLE_BUTTON;
    if (moves || (this.hasPen && event.pointerType === "touch")) {
      this.mode = "pan";
      return;
    }
    this.mode = "draw";
    const options = { erases: (event.buttons & ERASER_BUTTONS) !== 0, pressure: pressureOf(event) };
    const point = this.pixelAt(event);
    const begin = () => this.strokes.begin(point, event.altKey ? { ...options, tool: "pick" } : options);
    if (event.pointerType === "touch" && actsAtOnce(studio.tool)) this.whenLifted = begin;
    else begin();
  }

  second() {
    this.whenLifted = null;
    this.strokes.cancel();
    this.mode = "pinch";
    this.pinch = { ...this.spread(), since: performance.now(), travel: 0 };
  }

  // Where two fingers are: their middle and their distance.
  spread() {
    const [a, b] = this.points.values();
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }

  move(event) {
    const before = this.points.get(event.pointerId);
    if (before === undefined || this.mode === "draw") this.hover(this.pixelAt(event), event);
    if (before === undefined) return;
    this.points.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.mode === "pan") this.view.pan(event.clientX - before.x, event.clientY - before.y);
    if (this.mode === "pinch") this.pinched();
    if (this.mode === "draw" && this.strokes.isDown) this.drawTo(event);
  }

  drawTo(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length > 0 ? events : [event]) {
      this.strokes.extend(this.pixelAt(each), { constrain: event.shiftKey, pressure: pressureOf(each) });
    }
  }

  pinched() {
    const now = this.spread();
    const { x, y, apart } = this.pinch;
    this.pinch.travel += Math.abs(now.x - x) + Math.abs(now.y - y) + Math.abs(now.apart - apart);
    this.view.zoom(now.apart / apart, x, y);
    this.view.pan(now.x - x, now.y - y);
    Object.assign(this.pinch, now);
  }

  up(event) {
    this.points.delete(event.pointerId);
    if (this.mode === "draw") {
      this.whenLifted?.();
      this.whenLifted = null;
      this.strokes.end();
    }
    if (this.mode === "pinch" && this.pinch.travel < TAP_PX && performance.now() - this.pinch.since < TAP_MS) undo();
    this.mode = this.points.size > 0 ? "rest" : "idle";
  }

  // The system took the pointer away: what was drawn so far stays.
  lost(event) {
    this.points.delete(event.pointerId);
    this.whenLifted = null;
    this.strokes.end();
    this.mode = this.points.size > 0 ? "rest" : "idle";
  }

  // With Ctrl (also what a pinch on a touchpad sends) the wheel zooms; in a zoomed view it moves; else the page scrolls.
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && this.view.scale === 1) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) this.view.zoom(WHEEL_STEP ** -event.deltaY, event.clientX, event.clientY);
    else this.view.pan(-event.deltaX, -event.deltaY);
  }
}

function pressureOf(event) {
  return event.pointerType === "pen" ? event.pressure : null;
}
