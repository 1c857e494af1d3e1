// The tool row, the classes and the brush: buttons that follow the state, and the state that follows the buttons.
import { BACKGROUND, TOOLS, choose, className, onChange, redo, replaceDrawing, studio, undo } from "./state.js";
import { announce } from "./status.js";

const $ = (id) => document.getElementById(id);

export function chooseTool(tool) {
  choose({ tool });
  announce(TOOLS[tool]);
}

export function chooseClass(id) {
  if (id >= studio.classes.classes.length) return;
  choose({ classId: id, tool: studio.tool === "pick" || studio.tool === "hand" ? studio.lastTool : studio.tool });
  announce(className(id));
}

export function sizeBrush(change) {
  choose({ brush: studio.brush + change });
  announce(`Brush ${studio.brush} pixels`);
}

export function toggleMirror() {
  choose({ mirror: !studio.mirror });
  announce(studio.mirror ? "Mirror on" : "Mirror off");
}

export function clear() {
  replaceDrawing(new Uint8Array(studio.ids.length).fill(BACKGROUND));
}

export function takeBack(action) {
  const { length } = studio.history.done;
  action();
  if (studio.history.done.length !== length) announce(studio.history.done.length < length ? "Undone" : "Redone");
}

export function wireToolbox(view) {
  for (const button of $("tools").children) button.addEventListener("click", () => chooseTool(button.dataset.tool));
  $("mirror").addEventListener("click", toggleMirror);
  $("undo").addEventListener("click", () => takeBack(undo));
  $("redo").addEventListener("click", () => takeBack(redo));
  $("clear").addEventListener("click", clear);
  $("brush").addEventListener("input", () => choose({ brush: Number($("brush").value) }));
  $("gap").addEventListener("input", () => choose({ gap: Number($("gap").value) }));
  $("pressure").addEventListener("change", () => choose({ pressure: $("pressure").checked }));
  $("zoom-in").addEventListener("click", () => view.zoom(1.5));
  $("zoom-out").addEventListener("click", () => view.zoom(1 / 1.5));
  $("zoom-fit").addEventListener("click", () => view.fit());
  onChange((kind) => {
    if (kind === "tools") showTools();
    if (kind !== "pixels") showHistory();
  });
}

function showTools() {
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === studio.tool));
  for (const button of $("swatches").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.classId) === studio.classId));
  }
  $("mirror").setAttribute("aria-pressed", String(studio.mirror));
  $("axis").hidden = !studio.mirror;
  $("brush").value = studio.brush;
  $("brush-size").value = `${studio.brush} px`;
  $("gap").value = studio.gap;
  $("gap-size").value = studio.gap === 0 ? "none" : `${studio.gap} px`;
  $("gap-field").hidden = studio.tool !== "fill";
  $("size-field").hidden = studio.tool === "fill";
}

function showHistory() {
  $("undo").disabled = !studio.history.canUndo;
  $("redo").disabled = !studio.history.canRedo;
}

export function showZoom(scale) {
  $("zoom-fit").textContent = `${Math.round(scale * 100)} %`;
  $("zoom-out").disabled = scale === 1;
}
