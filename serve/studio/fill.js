// Filling an area of equal ids, and doing so without leaking through small gaps in its outline.

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

const OUTSIDE = 255; // no class has this id
const OURS = 1;
const OTHERS = 2;

// Like floodFill, but an opening of at most `gap` pixels keeps the paint in: a square of side gap + 1 slides from (x, y)
// as far as it can. Corners too narrow for the square belong to the area that is nearer: that of our square, or one
// that only other squares reach. Where no such square fits around (x, y) a smaller one is taken, down to one pixel.
// (Zhang, Chen, Fu, Martin, Hu, "Vectorizing cartoon animations", 2009, roll a ball in the same way.)
export function gapFill(ids, width, height, x, y, id, gap) {
  if (ids[y * width + x] === id) return;
  const area = ids.slice();
  floodFill(area, width, height, x, y, OUTSIDE);
  for (let at = 0; at < area.length; at++) area[at] = area[at] === OUTSIDE ? 1 : 0;
  const sums = areaSums(area, width, height);
  for (let side = gap + 1; side > 1; side--) {
    const fits = placesOf(sums, width, height, side);
    const reached = slide(fits, width, height, x, y, side);
    if (reached === null) continue;
    const owner = shareOut(area, fits, reached, width, height, side);
    for (let at = 0; at < ids.length; at++) if (owner[at] === OURS) ids[at] = id;
    return;
  }
  floodFill(ids, width, height, x, y, id);
}

// Sums of `area` over everything left of and above a pixel's corner, (width + 1) by (height + 1).
function areaSums(area, width, height) {
  const sums = new Int32Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      row += area[y * width + x];
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
    }
  }
  return sums;
}

// 1 where a square with this upper left pixel lies in the area altogether.
function placesOf(sums, width, height, side) {
  const fits = new Uint8Array(width * height);
  const stride = width + 1;
  for (let y = 0; y + side <= height; y++) {
    for (let x = 0; x + side <= width; x++) {
      const top = y * stride + x;
      const bottom = top + side * stride;
      fits[y * width + x] = sums[bottom + side] - sums[bottom] - sums[top + side] + sums[top] === side * side ? 1 : 0;
    }
  }
  return fits;
}

// The places that a square around (x, y) can slide to, 1 each; null when no square fits there.
function slide(fits, width, height, x, y, side) {
  const reached = new Uint8Array(fits.length);
  const queue = [];
  for (let top = Math.max(0, y - side + 1); top <= y; top++) {
    for (let left = Math.max(0, x - side + 1); left <= x; left++) {
      if (fits[top * width + left]) queue.push(top * width + left);
    }
  }
  if (queue.length === 0) return null;
  for (const place of queue) reached[place] = 1;
  grow(queue, reached, width, height, (next) => fits[next] === 1);
  return reached;
}

// Every pixel of the area: OURS or OTHERS, whichever square's ground is fewer steps away; ours wins a tie.
function shareOut(area, fits, reached, width, height, side) {
  const ours = covered(reached, width, height, side);
  const others = covered(fits.map((fit, at) => fit & (1 - reached[at])), width, height, side);
  const owner = new Uint8Array(area.length);
  const queue = [];
  for (let at = 0; at < owner.length; at++) if (ours[at]) queue.push(at);
  for (let at = 0; at < owner.length; at++) if (others[at] && !ours[at]) queue.push(at);
  for (const at of queue) owner[at] = ours[at] ? OURS : OTHERS;
  grow(queue, owner, width, height, (next) => area[next] === 1);
  return owner;
}

// Breadth first: each place of the queue hands its mark to its 4 neighbours that have none and are `open`.
function grow(queue, marks, width, height, open) {
  for (let head = 0; head < queue.length; head++) {
    const at = queue[head];
    const x = at % width;
    const neighbours = [x > 0 ? at - 1 : -1, x < width - 1 ? at + 1 : -1, at - width, at + width];
    for (const next of neighbours) {
      if (next < 0 || next >= width * height || marks[next] !== 0 || !open(next)) continue;
      marks[next] = marks[at];
      queue.push(next);
    }
  }
}

// The pixels under squares with these upper left pixels.
function covered(places, width, height, side) {
  const rows = new Uint8Array(places.length);
  for (let y = 0; y < height; y++) spread(places, rows, y * width, width, 1, side);
  const answer = new Uint8Array(places.length);
  for (let x = 0; x < width; x++) spread(rows, answer, x, height, width, side);
  return answer;
}

// Along one row or column: every 1 becomes `side` ones.
function spread(from, to, start, count, stride, side) {
  let left = 0;
  for (let at = 0; at < count; at++) {
    if (from[start + at * stride]) left = side;
    if (left-- > 0) to[start + at * stride] = 1;
  }
}
