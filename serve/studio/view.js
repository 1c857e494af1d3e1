// How much of the drawing is seen: zoom and pan, as one CSS transform on the stage inside the sheet.

const MAX_SCALE = 16;

export class View {
  // `sheet` is the window, `stage` what moves behind it; `changed(scale)` is called after every move.
  constructor(sheet, stage, changed) {
    Object.assign(this, { sheet, stage, changed });
    this.fit();
    new ResizeObserver(() => this.apply()).observe(sheet);
  }

  fit() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.apply();
  }

  // Zooms so that what lies under the point (in client pixels; default: the middle) stays there.
  zoom(factor, clientX, clientY) {
    const box = this.sheet.getBoundingClientRect();
    const px = (clientX ?? box.left + box.width / 2) - box.left;
    const py = (clientY ?? box.top + box.height / 2) - box.top;
    const scale = Math.min(MAX_SCALE, Math.max(1, this.scale * factor));
    this.x = px - ((px - this.x) * scale) / this.scale;
    this.y = py - ((py - this.y) * scale) / this.scale;
    this.scale = scale;
    this.apply();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.apply();
  }

  // Moves just so far that the point, in fractions of the drawing, is inside with some room.
  reveal(fractionX, fractionY) {
    const { clientWidth: width, clientHeight: height } = this.sheet;
    const inside = (at, size) => Math.max(0, size * 0.1 - at) + Math.min(0, size * 0.9 - at);
    const dx = inside(this.x + fractionX * width * this.scale, width);
    const dy = inside(this.y + fractionY * height * this.scale, height);
    if (dx !== 0 || dy !== 0) this.pan(dx, dy);
  }

  // The drawing never leaves the sheet's edges.
  apply() {
    const limit = (at, size) => Math.min(0, Math.max(size * (1 - this.scale), at));
    this.x = limit(this.x, this.sheet.clientWidth);
    this.y = limit(this.y, this.sheet.clientHeight);
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.changed(this.scale);
  }
}
