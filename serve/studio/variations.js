// Four paintings of the same drawing, shown over the painting until one is chosen.

export const COUNT = 4;
const $ = (id) => document.getElementById(id);

export class Variations {
  // load(signal) -> [{blob, label, choose}], asked for when the panel opens; `failed(error)`.
  constructor(load, failed) {
    Object.assign(this, { load, failed });
    this.running = null;
    $("vary").addEventListener("click", () => this.toggle());
    $("four").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
      $("vary").focus();
    });
  }

  get isOpen() {
    return !$("four").hidden;
  }

  toggle() {
    if (this.isOpen) this.close();
    else this.open();
  }

  async open() {
    this.running = new AbortController();
    const { signal } = this.running;
    $("four").replaceChildren(...Array.from({ length: COUNT }, () => placeholder()));
    this.show(true);
    try {
      const pictures = await this.load(signal);
      if (signal.aborted) return;
      $("four").replaceChildren(...pictures.map((picture) => this.tile(picture)));
      $("four").firstChild.focus();
    } catch (error) {
      this.close();
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  tile({ blob, label, choose }) {
    const button = document.createElement("button");
    const image = document.createElement("img");
    image.alt = "";
    image.src = URL.createObjectURL(blob);
    const caption = document.createElement("span");
    caption.textContent = label;
    button.append(image, caption);
    button.addEventListener("click", () => {
      this.close();
      $("vary").focus();
      choose();
    });
    return button;
  }

  close() {
    this.running?.abort();
    for (const image of $("four").querySelectorAll("img")) URL.revokeObjectURL(image.src);
    $("four").replaceChildren();
    this.show(false);
  }

  show(open) {
    $("four").hidden = !open;
    $("vary").setAttribute("aria-pressed", String(open));
  }
}

function placeholder() {
  const node = document.createElement("div");
  node.className = "coming";
  return node;
}
