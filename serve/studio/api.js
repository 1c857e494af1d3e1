// The server, as functions. Every failure is an ApiError with the server's stable `code` ("offline" when unreachable).
// A server with a token answers 401 with a Basic challenge, and the browser itself asks its user for it.
import { readZip } from "./zip.js";

const PASSING = new Set(["busy", "not_ready", "stopping", "timeout", "offline"]);

export class ApiError extends Error {
  constructor(code, detail, retryAfterSeconds = 0) {
    super(detail);
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
    this.passes = PASSING.has(code); // the same request may work in a moment
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("offline", "The server can't be reached. Is it running, and this device on its network?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const detail = problem.detail ?? `The server answered ${answer.status}.`;
  throw new ApiError(problem.code ?? "internal", detail, Number(answer.headers.get("Retry-After") ?? 0));
}

async function askJson(path) {
  return (await ask(path)).json();
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined) data.append(name, value);
  }
  return { method: "POST", body: data };
}

export const readClasses = () => askJson("/v1/classes");
export const readModels = async () => (await askJson("/v2/models")).models;
export const readTemplates = async () => (await askJson("/v1/templates")).templates;
export const readStyles = async () => (await askJson("/v1/styles")).styles;
export const readBlob = async (path, signal) => (await ask(path, { signal })).blob();

// `classes`: hash of the table that was drawn with; `style`: the form fields of the style (see styles.js).
// -> {blob, seed, model}
export async function paint({ labelMap, classes, seed, style, signal }) {
  const headers = { "X-Classes-Hash": classes };
  const answer = await ask("/v1/paint", { ...form({ label_map: labelMap, seed, ...style }), headers, signal });
  return { blob: await answer.blob(), seed: Number(answer.headers.get("X-Seed")), model: answer.headers.get("X-Model") };
}

// The same label map with `count` seeds from `seed` on, in one call -> [{blob, seed}].
export async function paintSeveral({ labelMap, classes, seed, count, signal }) {
  const headers = { Accept: "application/zip", "X-Classes-Hash": classes };
  const answer = await ask("/v1/paint", { ...form({ label_map: labelMap, seed, n: count }), headers, signal });
  const files = await readZip(await answer.blob(), "image/png");
  return files.map(({ blob }, place) => ({ blob, seed: (seed + place) % 2 ** 32 }));
}

// A portrait -> {blob, confidence}: its label map at the generator's size.
export async function segment(picture, signal) {
  const answer = await ask("/v1/segment", { ...form({ image: picture, fit: "paint" }), signal });
  return { blob: await answer.blob(), confidence: Number(answer.headers.get("X-Confidence")) };
}

// Any label map as PNG that the server reads -> {blob, fitted}: indexed PNG at the generator's size.
export async function readLabelMap(file, signal) {
  const read = async (resize) => (await ask("/v1/label-map", { ...form({ label_map: file, resize }), signal })).blob();
  try {
    return { blob: await read("refuse"), fitted: false };
  } catch (error) {
    if (error.code !== "wrong_size") throw error;
  }
  return { blob: await read("crop"), fitted: true };
}

// A labelme annotation -> Blob of its label map at the generator's size.
export async function readLabelme(file, signal) {
  return (await ask("/v1/labelme", { ...form({ annotation: file }), signal })).blob();
}
