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

// The box with the corners (x0, y0) and (x1, y1), ends included, whole or as the ellipse that touches its four sides:
// every pixel whose centre lies inside.
export function drawBox(ids, width, height, x0, y0, x1, y1, round, id) {
  const [left, right] = x0 < x1 ? [x0, x1] : [x1, x0];
  const [top, bottom] = y0 < y1 ? [y0, y1] : [y1, y0];
  const across2 = (right - left + 1) ** 2;
  const down2 = (bottom - top + 1) ** 2;
  for (let y = Math.max(0, top); y <= Math.min(height - 1, bottom); y++) {
    for (let x = Math.max(0, left); x <= Math.min(width - 1, right); x++) {
      const inside = (2 * x - left - right) ** 2 * down2 + (2 * y - top - bottom) ** 2 * across2 <= across2 * down2;
      if (inside || !round) ids[y * width + x] = id;
    }
  }
}

// The end of a line or box while Shift is held: lines lie at multiples of 45 degrees, boxes are square.
export function constrained(start, end, isLine) {
  const dx = end.x - start.x;
  const dy = end.y - start.y;
  if (isLine && Math.abs(dx) > 2 * Math.abs(dy)) return { x: end.x, y: start.y };
  if (isLine && Math.abs(dy) > 2 * Math.abs(dx)) return { x: start.x, y: end.y };
  const side = Math.max(Math.abs(dx), Math.abs(dy));
  return { x: start.x + (dx < 0 ? -side : side), y: start.y + (dy < 0 ? -side : side) };
}

// `ids` at another size, the nearest pixel each.
export function resized(ids, width, height, newWidth, newHeight) {
  const answer = new Uint8Array(newWidth * newHeight);
  for (let y = 0; y < newHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / newHeight) * width;
    for (let x = 0; x < newWidth; x++) answer[y * newWidth + x] = ids[row + Math.floor(((x + 0.5) * width) / newWidth)];
  }
  return answer;
}
