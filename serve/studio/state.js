// What is being drawn, and with what. The Uint8Array `ids` is the truth; everything on screen follows from it.
import { gapFill } from "./fill.js";
import { History } from "./history.js";
import { drawBox, drawSegment } from "./raster.js";

export const BACKGROUND = 0;
export const MAX_BRUSH = 96;
export const MAX_GAP = 16;
export const TOOLS = {
  brush: "Brush",
  line: "Line",
  rectangle: "Rectangle",
  ellipse: "Ellipse",
  fill: "Fill",
  pick: "Eyedropper",
  hand: "Move the view",
};

export const studio = {
  width: 0,
  height: 0,
  ids: new Uint8Array(0),
  classes: { name: "", hash: "", classes: [] },
  history: new History(),
  tool: "brush", // a key of TOOLS
  lastTool: "brush", // the last one that paints: what the eyedropper gives back
  classId: 0,
  brush: 14, // diameter in pixels of the label map
  gap: 4, // openings up to this wide, in pixels, hold a fill
  mirror: false,
  pressure: true, // a pen's pressure changes the brush
};

const listeners = new Set();

// Calls `listener(kind)` after every change: "pixels" while drawing, "drawing" when a step is complete, "tools"; and
// with "interrupt" before something other than a stroke changes the drawing.
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
  studio.brush = Math.max(3, Math.round(Math.max(width, height) / 14));
  studio.gap = Math.min(MAX_GAP, Math.max(1, Math.round(Math.max(width, height) / 64)));
  tell("tools");
}

export function choose(values) {
  if (values.tool !== undefined && studio.tool !== "pick" && studio.tool !== "hand") studio.lastTool = studio.tool;
  Object.assign(studio, values);
  studio.brush = Math.max(1, Math.min(MAX_BRUSH, studio.brush));
  tell("tools");
}

export function className(id) {
  return studio.classes.classes[id].name;
}

// Replaces the whole drawing, as one step that can be undone.
export function replaceDrawing(ids) {
  tell("interrupt");
  const before = studio.ids.slice();
  studio.ids.set(ids);
  finishStep(before);
}

export function finishStep(before) {
  if (studio.history.record(before, studio.ids)) tell("drawing");
  else tell("pixels");
}

export function undo() {
  tell("interrupt");
  if (studio.history.undo(studio.ids)) tell("drawing");
}

export function redo() {
  tell("interrupt");
  if (studio.history.redo(studio.ids)) tell("drawing");
}

// Calls `draw(flip)` once, or with the mirror on twice; `flip` turns an x into its mirror image the second time.
function twice(draw) {
  draw((x) => x);
  if (studio.mirror) draw((x) => studio.width - 1 - x);
  tell("pixels");
}

// One piece of a stroke. Not a step yet: see finishStep. The same holds for the next two.
export function stroke(from, to, id, diameter = studio.brush) {
  const { ids, width, height } = studio;
  twice((flip) => drawSegment(ids, width, height, flip(from.x), from.y, flip(to.x), to.y, diameter, id));
}

export function box(from, to, id, round) {
  const { ids, width, height } = studio;
  twice((flip) => drawBox(ids, width, height, flip(from.x), from.y, flip(to.x), to.y, round, id));
}

export function fill({ x, y }, id) {
  const { ids, width, height, gap } = studio;
  twice((flip) => gapFill(ids, width, height, flip(x), y, id, gap));
}

// Puts ids back without a step of their own.
export function restore(ids) {
  studio.ids.set(ids);
  tell("pixels");
}
