// Indexed PNGs written and read here, not through a canvas: a canvas forgets the indices, and some browsers add noise to
// what is read back from one. Source: PNG specification (W3C, third edition), sections 5, 9 and 11.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MAX_PIXELS = 16_000_000;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function chunk(kind, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

async function through(transform, bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ids (width * height) and a palette of 256 [r, g, b] -> Blob of an 8-bit palette PNG.
export async function encodeIndexed(ids, width, height, palette) {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits, palette, no interlace
  const rows = new Uint8Array(height * (width + 1)); // each row begins with filter 0
  for (let y = 0; y < height; y++) rows.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const data = await through(new CompressionStream("deflate"), rows);
  const parts = [chunk("IHDR", header), chunk("PLTE", Uint8Array.from(palette.flat())), chunk("IDAT", data)];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts, chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

// Blob of an 8-bit palette or grey PNG without interlace -> {ids, width, height}. The server sends no other label maps.
export async function decodeIndexed(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (SIGNATURE.some((byte, at) => bytes[at] !== byte)) throw new Error("not a PNG");
  const view = new DataView(bytes.buffer);
  const pieces = [];
  let width = 0;
  let height = 0;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = new TextDecoder("latin1").decode(bytes.subarray(at + 4, at + 8));
    if (kind === "IHDR") {
      width = view.getUint32(at + 8);
      height = view.getUint32(at + 12);
      const [depth, colour, , , interlace] = bytes.subarray(at + 16, at + 21);
      if (depth !== 8 || (colour !== 3 && colour !== 0) || interlace !== 0) throw new Error("not an 8-bit indexed PNG");
      if (width * height > MAX_PIXELS) throw new Error("the label map has too many pixels");
    }
    if (kind === "IDAT") pieces.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  const rows = await through(new DecompressionStream("deflate"), new Blob(pieces));
  if (rows.length !== height * (width + 1)) throw new Error("the PNG ends too early");
  return { ids: unfilter(rows, width, height), width, height };
}

// Undoes the PNG row filters 0 to 4 for one byte per pixel (PNG specification, section 9.2).
function unfilter(rows, width, height) {
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)];
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const left = x > 0 ? ids[at - 1] : 0;
      const up = y > 0 ? ids[at - width] : 0;
      const corner = x > 0 && y > 0 ? ids[at - width - 1] : 0;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      ids[at] = rows[y * (width + 1) + 1 + x] + guess; // a Uint8Array keeps it modulo 256
    }
  }
  return ids;
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [toLeft, toUp, toCorner] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
