// Small choices that outlive the visit, where the browser allows it: some forbid to keep anything.

export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // it holds until the page is closed
  }
}
