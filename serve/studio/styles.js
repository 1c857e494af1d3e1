// The style of the painting: from the seed, from a picture of the gallery or of one's own, or a blend of two pictures.
import { card } from "./offers.js";

export const FROM_SEED = "seed";
const MAX_OWN = 6;
const $ = (id) => document.getElementById(id);

export class Styles {
  // `changed(delay)` after every choice.
  constructor(changed) {
    this.changed = changed;
    this.offers = new Map(); // key -> {name, id} of the gallery or {name, file} of one's own; each with its address
    this.first = FROM_SEED;
    this.second = null;
    this.slot = "first"; // where the next choice goes
    this.wire();
  }

  wire() {
    $("styles").querySelector("[data-style=seed]").addEventListener("click", () => this.pick(FROM_SEED));
    $("blend-toggle").addEventListener("click", () => this.toggleBlend());
    $("blend").addEventListener("input", () => this.changed());
    for (const button of document.querySelectorAll("[data-slot]")) {
      button.addEventListener("click", () => {
        this.slot = button.dataset.slot;
        this.show();
      });
    }
  }

  offerGallery(styles) {
    for (const { id, name, picture } of styles) this.offer(`gallery:${id}`, { name, id, address: picture });
    this.show();
  }

  // A picture of one's own -> its key. The oldest unused one makes room.
  add(file, name = "Mine") {
    const own = [...this.offers.keys()].filter((key) => key.startsWith("own:"));
    const spare = own.find((key) => key !== this.first && key !== this.second);
    if (own.length >= MAX_OWN) this.remove(spare);
    const number = Math.max(0, ...own.map((key) => Number(key.slice(4)))) + 1;
    this.offer(`own:${number}`, { name, file, address: URL.createObjectURL(file) });
    return `own:${number}`;
  }

  offer(key, { name, id, file, address }) {
    const button = card(name, address);
    button.dataset.style = key;
    button.addEventListener("click", () => this.pick(key));
    this.offers.set(key, { name, id, file, address });
    if (file === undefined) $("styles").append(button);
    else $("open-style").after(button);
  }

  remove(key) {
    URL.revokeObjectURL(this.offers.get(key).address);
    this.offers.delete(key);
    $("styles").querySelector(`[data-style="${CSS.escape(key)}"]`).remove();
  }

  pick(key) {
    if (this.second === null) this.first = key;
    else if (key !== FROM_SEED) this[this.slot] = key;
    this.show();
    this.changed(0);
  }

  toggleBlend() {
    const [a, b] = this.offers.keys();
    if (this.second !== null) {
      this.second = null;
    } else if (a !== undefined) {
      if (this.first === FROM_SEED) this.first = a;
      this.second = [...this.offers.keys()].find((key) => key !== this.first) ?? b ?? a;
      this.slot = "second";
    }
    this.show();
    this.changed(0);
  }

  // Mixes another picture in.
  blendWith(key, share) {
    this.second = key;
    this.slot = "second";
    $("blend").value = String(Math.round(share * 100));
    this.show();
    this.changed(0);
  }

  get usesSeed() {
    return this.first === FROM_SEED;
  }

  // The form fields of /v1/paint that ask for this style, or for this style mixed with another.
  fields(second = this.second, share = Number($("blend").value) / 100) {
    const fields = this.usesSeed ? {} : this.part(this.first, "style");
    return second === null ? fields : { ...fields, ...this.part(second, "style2"), blend: share };
  }

  part(key, field) {
    const { id, file } = this.offers.get(key);
    return file === undefined ? { [`${field}_id`]: id } : { [field]: file };
  }

  show() {
    const blending = this.second !== null;
    for (const button of $("styles").querySelectorAll("[data-style]")) {
      const { style } = button.dataset;
      button.setAttribute("aria-pressed", String(style === this.first || style === this.second));
      if (style === FROM_SEED) button.disabled = blending;
    }
    $("blend-toggle").setAttribute("aria-pressed", String(blending));
    $("blend-toggle").textContent = blending ? "No blend" : "Blend two";
    $("blend-toggle").hidden = this.offers.size === 0;
    $("blend-field").hidden = !blending;
    for (const button of document.querySelectorAll("[data-slot]")) this.showSlot(button);
  }

  showSlot(button) {
    const offer = this.offers.get(this[button.dataset.slot]);
    button.setAttribute("aria-pressed", String(button.dataset.slot === this.slot));
    if (offer === undefined) return;
    const image = button.querySelector("img") ?? button.appendChild(document.createElement("img"));
    image.alt = offer.name;
    image.src = offer.address;
  }

  // What a project keeps, and back.
  snapshot() {
    const pictures = [...this.offers].filter(([, { file }]) => file !== undefined);
    return {
      first: this.first,
      second: this.second,
      blend: Number($("blend").value) / 100,
      pictures: pictures.map(([key, { name, file }]) => ({ key, name, file })),
    };
  }

  // Styles that this server's gallery lacks become "from seed"; returns whether all were found.
  restore({ first, second, blend, pictures }) {
    Object.assign(this, { first: FROM_SEED, second: null });
    for (const key of [...this.offers.keys()]) if (key.startsWith("own:")) this.remove(key);
    const keys = new Map(pictures.map(({ key, name, file }) => [key, this.add(file, name)]));
    const known = (key) => keys.get(key) ?? (this.offers.has(key) ? key : null);
    this.first = known(first) ?? FROM_SEED;
    this.second = this.usesSeed ? null : known(second);
    $("blend").value = String(Math.round(blend * 100));
    this.show();
    return this.first === (keys.get(first) ?? first) && this.second === (keys.get(second) ?? second);
  }
}
