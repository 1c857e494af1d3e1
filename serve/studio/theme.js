// Light, dark, or as the system says: the choice outlives the visit.

const PREFERENCE = "studio.theme";

export function wireTheme() {
  const root = document.documentElement;
  const chosen = localStorage.getItem(PREFERENCE);
  if (chosen !== null) root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    localStorage.setItem(PREFERENCE, root.dataset.theme);
  });
}
