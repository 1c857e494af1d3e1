// Files in: by button, dropped, or pasted; what they are is seen from their content. Files out: downloads.
import * as api from "./api.js";
import { PORTRAIT_SIDE, shrunk } from "./pictures.js";
import { decodeIndexed } from "./png.js";
import { Session } from "./session.js";
import { replaceDrawing, studio } from "./state.js";
import { announce } from "./status.js";

const NO_LABEL_MAP = new Set(["unknown_colour", "unsupported_mode", "not_a_png"]);
const $ = (id) => document.getElementById(id);

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Files {
  // `attempt(action)` runs what may fail; `opened(text, portrait or null)` after a drawing has been opened.
  constructor({ session, attempt, opened }) {
    Object.assign(this, { session, attempt, opened });
    this.hasSegmenter = true;
  }

  wire() {
    this.button("open-photo", "photo-file", (file) => this.openPhoto(file));
    for (const id of ["open-map", "open-file"]) $(id).addEventListener("click", () => $("map-file").click());
    this.input("map-file", (file) => this.openData(file));
    const has = (event) => event.dataTransfer?.types.includes("Files") ?? false;
    document.addEventListener("dragover", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      $("drop").hidden = false;
    });
    $("drop").addEventListener("dragleave", () => ($("drop").hidden = true));
    document.addEventListener("drop", (event) => {
      $("drop").hidden = true;
      if (!has(event)) return;
      event.preventDefault();
      this.openAny(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => this.openAny(event.clipboardData.files[0]));
  }

  button(buttonId, inputId, action) {
    $(buttonId).addEventListener("click", () => $(inputId).click());
    this.input(inputId, action);
  }

  input(inputId, action) {
    $(inputId).addEventListener("change", () => {
      const [file] = $(inputId).files;
      $(inputId).value = ""; // the same file may be chosen again
      if (file) this.attempt(() => action(file));
    });
  }

  // A dropped or pasted file: a PNG that is no label map is taken for a portrait.
  openAny(file) {
    if (file === undefined) return;
    this.attempt(async () => {
      if (!["image/png", "application/json", ""].includes(file.type)) return this.openPhoto(file);
      try {
        await this.openData(file);
      } catch (error) {
        if (!this.hasSegmenter || !NO_LABEL_MAP.has(error.code)) throw error;
        await this.openPhoto(file);
      }
    });
  }

  async openPhoto(file) {
    announce("Reading the portrait");
    $("open-photo").dataset.busy = "";
    try {
      const picture = await shrunk(file, PORTRAIT_SIDE);
      const { blob, confidence } = await api.segment(picture);
      await this.show(blob);
      await this.opened(`From your portrait · ${Math.round(confidence * 100)} % sure`, picture);
    } finally {
      delete $("open-photo").dataset.busy;
    }
  }

  // A label map as PNG, a labelme file, or a project.
  async openData(file) {
    const start = new Uint8Array(await file.slice(0, 64).arrayBuffer());
    const isJson = new TextDecoder().decode(start).trimStart().startsWith("{");
    if (isJson) await this.openJson(file);
    else await this.openMap(file);
  }

  async openMap(file) {
    const { blob, fitted } = await api.readLabelMap(file);
    await this.show(blob);
    await this.opened(fitted ? `Cropped and resized to ${studio.width} × ${studio.height}` : `Opened ${file.name ?? ""}`, null);
  }

  async openJson(file) {
    const data = await file
      .text()
      .then(JSON.parse)
      .catch(() => {
        throw new Error("The JSON file can't be read: it is damaged. Save it again where it came from.");
      });
    if (Session.recognises(data)) {
      await this.session.openData(data);
      await this.opened(`Opened ${file.name}`, this.session.portrait);
      return;
    }
    if (!Array.isArray(data.shapes)) throw new Error("The JSON file is neither a project of the studio nor a labelme file.");
    data.imageData = null; // only the shapes are needed
    await this.show(await api.readLabelme(new Blob([JSON.stringify(data)])));
    await this.opened(`Opened ${file.name}`, null);
  }

  async openTemplate({ name, label_map: address }) {
    await this.show(await api.readBlob(address));
    await this.opened(`Opened ${name}`, null);
  }

  async show(blob) {
    const { ids, width, height } = await decodeIndexed(blob);
    if (width !== studio.width || height !== studio.height) throw new Error("The server's model has changed. Reload the page.");
    replaceDrawing(ids);
  }
}
