// Undo and redo as a list of differences, bounded in steps and in memory.

export const MAX_STEPS = 200;
const MAX_PIXELS = 16_000_000; // over all steps; 6 bytes each

// What changed between two equally long arrays: {indices, before, after}, or null when nothing did.
function difference(before, after) {
  let count = 0;
  for (let at = 0; at < before.length; at++) if (before[at] !== after[at]) count++;
  if (count === 0) return null;
  const change = { indices: new Uint32Array(count), before: new Uint8Array(count), after: new Uint8Array(count) };
  for (let at = 0, slot = 0; at < before.length; at++) {
    if (before[at] === after[at]) continue;
    change.indices[slot] = at;
    change.before[slot] = before[at];
    change.after[slot] = after[at];
    slot++;
  }
  return change;
}

// Writes `values` (change.before or change.after) back to their places.
function applyValues(ids, indices, values) {
  for (let slot = 0; slot < indices.length; slot++) ids[indices[slot]] = values[slot];
}

export class History {
  constructor() {
    this.forget();
  }

  forget() {
    this.undone = [];
    this.done = [];
    this.pixels = 0;
  }

  get canUndo() {
    return this.done.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  // Records the step from `before` to `after`; returns false when nothing changed.
  record(before, after) {
    const change = difference(before, after);
    if (change === null) return false;
    this.done.push(change);
    this.undone = [];
    this.pixels = this.done.reduce((sum, step) => sum + step.indices.length, 0);
    while (this.done.length > MAX_STEPS || (this.pixels > MAX_PIXELS && this.done.length > 1)) {
      this.pixels -= this.done.shift().indices.length;
    }
    return true;
  }

  undo(ids) {
    const change = this.done.pop();
    if (change === undefined) return false;
    applyValues(ids, change.indices, change.before);
    this.undone.push(change);
    return true;
  }

  redo(ids) {
    const change = this.undone.pop();
    if (change === undefined) return false;
    applyValues(ids, change.indices, change.after);
    this.done.push(change);
    return true;
  }
}
