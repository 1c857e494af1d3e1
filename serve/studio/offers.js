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
    button.append(chip, element("span", "name", name));
    if (id < 9) {
      button.append(element("kbd", "", String(id + 1)));
      button.lastChild.ariaHidden = "true";
      button.setAttribute("aria-keyshortcuts", String(id + 1));
    }
    button.addEventListener("click", () => choose(id));
    return button;
  });
}

// A picture with its name below; `address` is any that an <img> takes.
export function card(name, address, pixelated = false) {
  const image = element("img", pixelated ? "pixelated" : "");
  image.src = address;
  image.alt = "";
  const button = element("button", "card");
  button.append(element("span", "face", image), name);
  return button;
}

export function templateCards(templates, openTemplate) {
  return templates.map((template) => {
    const button = card(template.name, template.label_map, true);
    button.addEventListener("click", () => openTemplate(template));
    return button;
  });
}
