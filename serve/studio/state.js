// What is being drawn, and with what. The Uint8Array `ids` is the truth; everything on screen follows from it.
import { History } from "./history.js";
import { drawSegment, floodFill } from "./raster.js";

export const BACKGROUND = 0;
export const MAX_BRUSH = 96;
const SAVED = "studio.drawing.v1";

export const studio = {
  width: 0,
  height: 0,
  ids: new Uint8Array(0),
  classes: { name: "", hash: "", classes: [] },
  history: new History(),
  tool: "brush", // brush | line | fill | pick
  classId: 0,
  brush: 14, // diameter in pixels of the label map
  mirror: false,
};

const listeners = new Set();

// Calls `listener(kind)` after every change: "pixels" while drawing, "drawing" when a step is complete, "tools".
export function onChange(listener) {
  listeners.add(listener);
}

function tell(kind) {
  for (const listener of listeners) listener(kind);
}

export function open(width, height, classes) {
  Object.assign(studio, { width, height, classes, ids: new Uint8Array(width * height) });
  studio.history.forget();
  studio.classId = Math.min(classes.classes.length - 1, 5);
  tell("tools");
}

export function choose(values) {
  Object.assign(studio, values);
  studio.brush = Math.max(1, Math.min(MAX_BRUSH, studio.brush));
  tell("tools");
}

// Replaces the whole drawing, as one step that can be undone.
export function replaceDrawing(ids) {
  const before = studio.ids.slice();
  studio.ids.set(ids);
  finishStep(before);
}

export function finishStep(before) {
  if (studio.history.record(before, studio.ids)) tell("drawing");
  else tell("pixels");
}

export function undo() {
  if (studio.history.undo(studio.ids)) tell("drawing");
}

export function redo() {
  if (studio.history.redo(studio.ids)) tell("drawing");
}

// One piece of a stroke, mirrored when the mirror is on. Not a step yet: see finishStep.
export function stroke(x0, y0, x1, y1, id) {
  const { ids, width, height, brush } = studio;
  drawSegment(ids, width, height, x0, y0, x1, y1, brush, id);
  if (studio.mirror) drawSegment(ids, width, height, width - 1 - x0, y0, width - 1 - x1, y1, brush, id);
  tell("pixels");
}

export function fill(x, y, id) {
  const { ids, width, height } = studio;
  floodFill(ids, width, height, x, y, id);
  if (studio.mirror) floodFill(ids, width, height, width - 1 - x, y, id);
  tell("pixels");
}

export function restore(ids) {
  studio.ids.set(ids);
  tell("pixels");
}

// The drawing survives a reload of the page. A full or forbidden store is no reason to stop drawing.
export function save() {
  const { width, height, ids, classes } = studio;
  const runs = [];
  for (let at = 0; at < ids.length; ) {
    let end = at + 1;
    while (end < ids.length && ids[end] === ids[at]) end++;
    runs.push(ids[at], end - at);
    at = end;
  }
  try {
    localStorage.setItem(SAVED, JSON.stringify({ width, height, hash: classes.hash, runs }));
  } catch {
    // not saved
  }
}

// The saved drawing, or null when there is none for this size and class table.
export function saved() {
  try {
    const { width, height, hash, runs } = JSON.parse(localStorage.getItem(SAVED));
    if (width !== studio.width || height !== studio.height || hash !== studio.classes.hash) return null;
    const ids = new Uint8Array(width * height);
    for (let slot = 0, at = 0; slot < runs.length; at += runs[slot + 1], slot += 2) {
      ids.fill(runs[slot], at, at + runs[slot + 1]);
    }
    return ids.every((id) => id < studio.classes.classes.length) ? ids : null;
  } catch {
    return null;
  }
}
