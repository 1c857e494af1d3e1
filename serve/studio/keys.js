// Keys of the whole page, and the dialog that lists them. Single letters can be turned off (WCAG 2.2, 2.1.4).
import { recall, remember } from "./preferences.js";
import { redo, undo } from "./state.js";
import { chooseClass, chooseTool, sizeBrush, takeBack, toggleMirror } from "./toolbox.js";

const PREFERENCE = "studio.single-keys";
const TOOL_KEYS = { b: "brush", l: "line", r: "rectangle", e: "ellipse", f: "fill", i: "pick", h: "hand" };
const $ = (id) => document.getElementById(id);

export class Keys {
  constructor({ view, look, seed, variations }) {
    this.actions = {
      "[": () => sizeBrush(-1),
      "]": () => sizeBrush(1),
      ",": () => sizeBrush(-1), // where brackets need AltGr
      ".": () => sizeBrush(1),
      m: toggleMirror,
      "+": () => view.zoom(1.5),
      "=": () => view.zoom(1.5),
      "-": () => view.zoom(1 / 1.5),
      0: () => view.fit(),
      s: () => seed.another(),
      v: () => $("vary").click(),
      o: () => look.choose("overlay"),
      c: () => look.choose("compare"),
      "?": () => $("shortcuts").showModal(),
      escape: () => variations.close(),
    };
    for (const [key, tool] of Object.entries(TOOL_KEYS)) this.actions[key] = () => chooseTool(tool);
    $("single-keys").checked = recall(PREFERENCE) !== "off";
    $("single-keys").addEventListener("change", () => {
      remember(PREFERENCE, $("single-keys").checked ? "on" : "off");
    });
    $("help").addEventListener("click", () => $("shortcuts").showModal());
    $("close-shortcuts").addEventListener("click", () => $("shortcuts").close());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
    if (event.ctrlKey || event.metaKey) this.withControl(event);
    else if (!event.altKey && !isTyping(event.target) && $("single-keys").checked) this.single(event);
  }

  withControl(event) {
    const key = letterOf(event);
    if (isTyping(event.target) && key !== "s" && key !== "o") return;
    const actions = {
      z: () => takeBack(event.shiftKey ? redo : undo),
      y: () => takeBack(redo),
      s: () => $("save-project").click(),
      o: () => $("open-file").click(),
    };
    if (!(key in actions)) return;
    event.preventDefault();
    actions[key]();
  }

  single(event) {
    const key = letterOf(event);
    if (/^[1-9]$/.test(key)) chooseClass(Number(key) - 1);
    else if (key in this.actions) this.actions[key]();
    else return;
    event.preventDefault();
  }
}

// In layouts without Latin letters the place of the key counts.
function letterOf({ key, code }) {
  return key.length === 1 && key > "\x7f" && code.startsWith("Key") ? code.slice(3).toLowerCase() : key.toLowerCase();
}

function isTyping(node) {
  return node.matches("select, textarea, input:not([type=range], [type=checkbox])");
}
