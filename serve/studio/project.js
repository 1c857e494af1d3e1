// A project file: the drawing as an indexed PNG, the seed, the style with pictures of one's own, and the portrait it
// began with, in one JSON document. The same content, as it lies in memory, is what the browser keeps between visits.
import { decodeIndexed, encodeIndexed } from "./png.js";

const FORMAT = "gaugan-studio-project";
const VERSION = 1;

// What is kept: {width, height, classes: {name, hash}, ids, seed, locked, style: see Styles.snapshot, portrait: File}.

export async function projectFile({ ids, style, portrait, ...plain }, palette) {
  const pictures = style.pictures.map(async ({ key, name, file }) => ({ key, name, file: await packed(file) }));
  const project = {
    format: FORMAT,
    format_version: VERSION,
    ...plain,
    label_map: await packed(await encodeIndexed(ids, plain.width, plain.height, palette)),
    style: { ...style, pictures: await Promise.all(pictures) },
    portrait: portrait === null ? null : await packed(portrait),
  };
  return new Blob([JSON.stringify(project)], { type: "application/json" });
}

export function isProject(data) {
  return data?.format === FORMAT;
}

// Parsed JSON -> what is kept. Raises Error with a sentence that says what is wrong.
export async function readProject(data) {
  if (data.format_version > VERSION) throw new Error("The project is of a newer studio. Open it there.");
  try {
    const { ids, width, height } = await decodeIndexed(unpacked(data.label_map));
    const pictures = data.style.pictures.map(({ key, name, file }) => ({ key, name, file: unpacked(file) }));
    const portrait = data.portrait === null ? null : unpacked(data.portrait);
    const { seed, locked, classes } = data;
    const plain = Number.isInteger(seed) && typeof locked === "boolean" && typeof classes.hash === "string";
    const blended = typeof data.style.blend === "number" && data.style.blend >= 0 && data.style.blend <= 1;
    if (!plain || !blended) throw new Error("a field has another type");
    return { width, height, classes, ids, seed, locked, style: { ...data.style, pictures }, portrait };
  } catch (error) {
    throw new Error(`The project file is damaged (${error.message}). Open another one.`);
  }
}

// Blob <-> {type, base64}

async function packed(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return { type: blob.type, base64: btoa(text) };
}

function unpacked({ type, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: type.startsWith("image/") ? type : "" });
}
