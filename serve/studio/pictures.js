// Photographs before they travel: large ones are made smaller here, so that live painting stays quick and no upload
// meets the server's limit; other kinds become JPEG, animated ones their first frame. Small ones, and what this browser
// can't read, go as they are: the server says what is wrong.

const SMALL_BYTES = 1_000_000;
const STILL = ["image/png", "image/jpeg"];
const QUALITY = 0.92;
export const PORTRAIT_SIDE = 2048;
export const STYLE_SIDE = 768;

export async function shrunk(chosen, maxSide) {
  const file = await copied(chosen);
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    return file;
  }
  const scale = maxSide / Math.max(image.width, image.height);
  if (scale >= 1 && file.size <= SMALL_BYTES && STILL.includes(file.type)) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * Math.min(1, scale)));
  canvas.height = Math.max(1, Math.round(image.height * Math.min(1, scale)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // what the server puts behind transparent pictures
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

// What was chosen, in memory: the file itself may be changed or moved while the page still needs it.
async function copied(file) {
  try {
    return new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    throw new Error("The file can't be read. Choose a picture, no folder, and one that is still there.");
  }
}
