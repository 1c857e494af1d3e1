// Zip archives whose files are stored as they are, as /v1/paint answers several pictures. Source: APPNOTE.TXT 6.3.10,
// sections 4.3.12 and 4.3.16 (PKWARE).

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const LOCAL_BYTES = 30;

// Blob -> [{name, blob}], in the archive's order.
export async function readZip(blob, type) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const end = bytes.length - END_BYTES; // there is no archive comment
  if (end < 0 || view.getUint32(end, true) !== END) throw new Error("The server's archive can't be read.");
  const files = [];
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true)];
    if (view.getUint32(at, true) !== ENTRY || method !== 0) throw new Error("The server's archive is compressed.");
    const nameLength = view.getUint16(at + 28, true);
    const local = view.getUint32(at + 42, true);
    const start = local + LOCAL_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    files.push({ name, blob: new Blob([bytes.subarray(start, start + size)], { type }) });
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}
