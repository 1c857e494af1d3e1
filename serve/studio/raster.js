// Drawing on a Uint8Array of class ids, row by row. Pure functions on integers: no canvas, no antialiasing, so that the
// same strokes give the same ids in every browser. Points are pixel indices; a brush is a disc of odd or even diameter
// around a pixel's centre.

// Every pixel whose centre is within diameter / 2 of the segment (x0, y0)-(x1, y1) gets `id`. One pixel wide lines are
// 8-connected, so a 4-connected fill can't leak through a fast stroke.
export function drawSegment(ids, width, height, x0, y0, x1, y1, diameter, id) {
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length2 = dx * dx + dy * dy;
  const limit = diameter * diameter;
  const reach = Math.floor(diameter / 2);
  const left = Math.max(0, Math.min(x0, x1) - reach);
  const right = Math.min(width - 1, Math.max(x0, x1) + reach);
  const top = Math.max(0, Math.min(y0, y1) - reach);
  const bottom = Math.min(height - 1, Math.max(y0, y1) + reach);
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const px = x - x0;
      const py = y - y0;
      const along = px * dx + py * dy; // where the pixel projects to, times length2
      let near;
      if (along <= 0) {
        near = 4 * (px * px + py * py) <= limit;
      } else if (along >= length2) {
        const qx = x - x1;
        const qy = y - y1;
        near = 4 * (qx * qx + qy * qy) <= limit;
      } else {
        const cross = px * dy - py * dx;
        near = 4 * cross * cross <= limit * length2;
      }
      if (near) ids[y * width + x] = id;
    }
  }
}

// Replaces the 4-connected area of equal ids around (x, y), row spans at a time.
export function floodFill(ids, width, height, x, y, id) {
  const from = ids[y * width + x];
  if (from === id) return;
  const stack = [[x, y]];
  while (stack.length > 0) {
    const [seedX, row] = stack.pop();
    const offset = row * width;
    if (ids[offset + seedX] !== from) continue;
    let left = seedX;
    let right = seedX;
    while (left > 0 && ids[offset + left - 1] === from) left--;
    while (right < width - 1 && ids[offset + right + 1] === from) right++;
    ids.fill(id, offset + left, offset + right + 1);
    for (const next of [row - 1, row + 1]) {
      if (next < 0 || next >= height) continue;
      for (let at = left; at <= right; at++) {
        const starts = ids[next * width + at] === from && (at === left || ids[next * width + at - 1] !== from);
        if (starts) stack.push([at, next]);
      }
    }
  }
}

// What changed between two equally long arrays: {indices, before, after}, or null when nothing did.
export function difference(before, after) {
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
export function applyValues(ids, indices, values) {
  for (let slot = 0; slot < indices.length; slot++) ids[indices[slot]] = values[slot];
}
