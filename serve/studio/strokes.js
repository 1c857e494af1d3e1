// From "down, move, up" to steps of the drawing: what each tool does, for pointers and for the keyboard alike.
import { BACKGROUND, box, choose, fill, finishStep, onChange, restore, stroke, studio } from "./state.js";
import { constrained } from "./raster.js";

const LIGHTEST = 0.2; // of the brush, under a pen without pressure

const draws = (tool) => ["brush", "line", "rectangle", "ellipse"].includes(tool);
export const actsAtOnce = (tool) => tool === "fill" || tool === "pick";

// A pen's pressure (0 to 1; null for mouse and finger) -> diameter of the brush.
function diameter(pressure) {
  if (pressure === null || !studio.pressure) return studio.brush;
  return Math.max(1, Math.round(studio.brush * (LIGHTEST + (1 - LIGHTEST) * pressure)));
}

export class Strokes {
  constructor() {
    this.current = null; // {before, start, last, id, tool} between begin and end
    onChange((kind) => kind === "interrupt" && this.end());
  }

  get isDown() {
    return this.current !== null;
  }

  // Fill and eyedropper act at once, the others until `end`. `tool` may differ from the chosen one.
  begin(point, { erases = false, pressure = null, tool = studio.tool } = {}) {
    this.end(); // of the keyboard, when a pointer comes down meanwhile
    const id = erases ? BACKGROUND : studio.classId;
    const inside = point.x >= 0 && point.y >= 0 && point.x < studio.width && point.y < studio.height;
    if (tool === "pick" && inside) {
      choose({ classId: studio.ids[point.y * studio.width + point.x], tool: studio.tool === "pick" ? studio.lastTool : studio.tool });
    }
    if (tool === "fill" && inside) {
      const before = studio.ids.slice();
      fill(point, id);
      finishStep(before);
    }
    if (!draws(tool)) return;
    this.current = { before: studio.ids.slice(), start: point, last: point, id, tool };
    this.mark(point, point, pressure);
  }

  extend(point, { constrain = false, pressure = null } = {}) {
    const { before, start, last, tool } = this.current;
    if (tool === "brush") {
      if (point.x !== last.x || point.y !== last.y) this.mark(last, point, pressure);
    } else {
      restore(before);
      this.mark(start, constrain ? constrained(start, point, tool === "line") : point, pressure);
    }
    this.current.last = point;
  }

  mark(from, to, pressure) {
    const { id, tool } = this.current;
    if (tool === "brush") stroke(from, to, id, diameter(pressure));
    else if (tool === "line") stroke(from, to, id);
    else box(from, to, id, tool === "ellipse");
  }

  end() {
    if (this.current === null) return;
    const { before } = this.current;
    this.current = null;
    finishStep(before);
  }

  // As if it had never begun.
  cancel() {
    if (this.current === null) return;
    restore(this.current.before);
    this.current = null;
  }
}
