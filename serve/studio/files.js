// Files in: by button, dropped, or pasted; what they are is seen from their content. Files out: downloads.
import * as api from "./api.js";
import { PORTRAIT_SIDE, shrunk } from "./pictures.js";
import { decodeIndexed } from "./png.js";
import { Session } from "./session.js";
import { replaceDrawing, studio } from "./state.js";
import { announce } from "./status.js";

const NO_LABEL_MAP = new Set(["unknown_colour", "unsupported_mode", "not_a_png", "too_large", "body_too_large"]);
const $ = (id) => document.getElementById(id);

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Files {
  // `attempt(action)` runs what may fail; `opened(text, portrait or null, signal)` after a drawing has been opened.
  constructor({ session, attempt, opened }) {
    Object.assign(this, { session, attempt, opened });
    this.hasSegmenter = true;
    this.opening = new AbortController();
  }

  // Runs `action(signal)`, which opens something; what was asked for before and isn't there yet is given up.
  open(action) {
    this.opening.abort();
    this.opening = new AbortController();
    delete $("open-photo").dataset.busy;
    const { signal } = this.opening;
    return this.attempt(() => action(signal));
  }

  wire() {
    this.button("open-photo", "photo-file", (file) => this.open((signal) => this.openPhoto(file, signal)));
    for (const id of ["open-map", "open-file"]) $(id).addEventListener("click", () => $("map-file").click());
    this.input("map-file", (file) => this.open((signal) => this.openData(file, signal)));
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
      if (file) action(file);
    });
  }

  // A dropped or pasted file: a PNG that is no label map is taken for a portrait.
  openAny(file) {
    if (file === undefined) return;
    this.open(async (signal) => {
      if (!["image/png", "application/json", ""].includes(file.type)) return this.openPhoto(file, signal);
      try {
        await this.openData(file, signal);
      } catch (error) {
        if (!this.hasSegmenter || !NO_LABEL_MAP.has(error.code)) throw error;
        await this.openPhoto(file, signal);
      }
    });
  }

  async openPhoto(file, signal) {
    announce("Reading the portrait");
    $("open-photo").dataset.busy = "";
    try {
      const picture = await shrunk(file, PORTRAIT_SIDE);
      const { blob, confidence } = await api.segment(picture, signal);
      await this.show(blob, signal);
      await this.opened(`Portrait, ${Math.round(confidence * 100)} % sure`, picture, signal);
    } finally {
      if (!signal.aborted) delete $("open-photo").dataset.busy;
    }
  }

  // A label map as PNG, a labelme file, or a project.
  async openData(file, signal) {
    const start = new Uint8Array(await file.slice(0, 64).arrayBuffer());
    const isJson = new TextDecoder().decode(start).trimStart().startsWith("{");
    if (isJson) await this.openJson(file, signal);
    else await this.openMap(file, signal);
  }

  async openMap(file, signal) {
    const { blob, fitted } = await api.readLabelMap(file, signal);
    await this.show(blob, signal);
    const text = fitted ? `Cropped and resized to ${studio.width} × ${studio.height}` : `Opened ${file.name ?? ""}`;
    await this.opened(text, null, signal);
  }

  async openJson(file, signal) {
    const data = await file
      .text()
      .then(JSON.parse)
      .catch(() => {
        throw new Error("The JSON file can't be read: it is damaged. Save it again where it came from.");
      });
    signal.throwIfAborted();
    if (Session.recognises(data)) {
      await this.session.openData(data);
      await this.opened(`Opened ${file.name}`, this.session.portrait, signal);
      return;
    }
    if (!Array.isArray(data.shapes)) throw new Error("The JSON file is neither a project of the studio nor a labelme file.");
    data.imageData = null; // only the shapes are needed
    await this.show(await api.readLabelme(new Blob([JSON.stringify(data)]), signal), signal);
    await this.opened(`Opened ${file.name}`, null, signal);
  }

  async openTemplate({ name, label_map: address }, signal) {
    await this.show(await api.readBlob(address, signal), signal);
    await this.opened(`Opened ${name}`, null, signal);
  }

  async show(blob, signal) {
    const { ids, width, height } = await decodeIndexed(blob);
    signal.throwIfAborted();
    if (width !== studio.width || height !== studio.height) throw new Error("The server's model has changed. Reload the page.");
    replaceDrawing(ids);
  }
}
