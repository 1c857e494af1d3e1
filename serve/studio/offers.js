// What the server offers, as buttons: classes, starter label maps, styles.

function element(tag, className, content = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.append(content);
  return node;
}

// One button per class: colour, name and the number key that chooses it.
export function swatches(classes, choose) {
  return classes.map(({ id, name, colour }) => {
    const button = element("button", "swatch");
    button.dataset.classId = id;
    const chip = element("span", "chip");
    chip.style.background = colour;
    button.append(chip, element("span", "", name));
    if (id < 9) button.append(element("kbd", "", String(id + 1)));
    button.addEventListener("click", () => choose(id));
    return button;
  });
}

function card(name, picture, pixelated) {
  const image = element("img", pixelated ? "pixelated" : "");
  image.src = picture;
  image.alt = "";
  const button = element("button", "card");
  button.append(element("span", "face", image), name);
  return button;
}

export function templateCards(templates, openTemplate) {
  return templates.map(({ name, label_map: address }) => {
    const button = card(name, address, true);
    button.addEventListener("click", () => openTemplate(address));
    return button;
  });
}

export function styleCards(styles) {
  return styles.map(({ id, name, picture }) => {
    const button = card(name, picture, false);
    button.dataset.style = id;
    return button;
  });
}
