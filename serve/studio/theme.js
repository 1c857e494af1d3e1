// Light, dark, or as the system says: the choice outlives the visit.
import { recall, remember } from "./preferences.js";

const PREFERENCE = "studio.theme";

export function wireTheme() {
  const root = document.documentElement;
  const chosen = recall(PREFERENCE);
  if (chosen !== null) root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    remember(PREFERENCE, root.dataset.theme);
  });
}
