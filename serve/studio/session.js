// Everything that a visit is about, as one object: kept by the browser after each change, saved to and opened from files.
import { isProject, projectFile, readProject } from "./project.js";
import { resized } from "./raster.js";
import { replaceDrawing, restore, studio } from "./state.js";
import { notice } from "./status.js";
import { Store } from "./store.js";

export class Session {
  constructor({ seed, styles, look }) {
    Object.assign(this, { seed, styles, look });
    this.portrait = null; // the picture that the drawing began with
    this.store = null;
  }

  snapshot() {
    const { width, height, ids, classes } = studio;
    const { seed, styles, portrait } = this;
    return {
      width,
      height,
      classes: { name: classes.name, hash: classes.hash },
      ids: ids.slice(),
      seed: Number(seed.text) || 0,
      locked: seed.locked,
      style: styles.snapshot(),
      portrait,
    };
  }

  // Raises Error when the project was drawn with other classes. `asStep`: the drawing can be undone.
  async apply(project, asStep) {
    const { classes, width, height } = studio;
    if (project.classes.hash !== classes.hash) {
      throw new Error(
        `The project was drawn with the classes "${project.classes.name}", this server paints "${classes.name}". ` +
          "Open it where it was drawn, or save its label map there and map the classes.",
      );
    }
    const ids = resized(project.ids, project.width, project.height, width, height);
    if (ids.some((id) => id >= classes.classes.length)) throw new Error("The project file is damaged: unknown classes.");
    if (asStep) replaceDrawing(ids);
    else restore(ids);
    this.seed.value = project.seed; // after the drawing, which may roll another
    this.seed.lock(project.locked);
    const complete = this.styles.restore(project.style);
    await this.setPortrait(project.portrait);
    if (!complete) notice("warn", "file", "This server doesn't have all styles of the project. Choose another one.");
  }

  async setPortrait(file) {
    this.portrait = file;
    const image = file === null ? null : await createImageBitmap(file).catch(() => null);
    if (file === this.portrait) this.look.setPortrait(image); // else another one came while this was decoded
  }

  toFile(palette) {
    return projectFile(this.snapshot(), palette);
  }

  async openData(data) {
    await this.apply(await readProject(data), true);
  }

  static recognises(data) {
    return isProject(data);
  }

  // The project of the last visit with these classes, or null.
  async kept() {
    try {
      this.store = await Store.open();
      return (await this.store.read(studio.classes.hash)) ?? null;
    } catch {
      this.cantKeep();
      return null;
    }
  }

  async keep() {
    try {
      await this.store?.write(studio.classes.hash, this.snapshot());
    } catch {
      this.cantKeep();
    }
  }

  cantKeep() {
    this.store = null;
    notice("warn", "store", "This browser doesn't let the studio keep your drawing. Save the project before you leave.");
  }
}
