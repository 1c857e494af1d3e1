// What the page says: the lamp in the bar (how the painting stands), one notice with what to do, and words for the ear.

const $ = (id) => document.getElementById(id);
let dismissed = ""; // what a person doesn't want to read again

// state: ok | busy | offline | error. `busy` is silent: it comes with every stroke.
export function tell(state, text) {
  if ($("status").dataset.state === state && $("status-text").textContent === text) return;
  const changed = $("status").dataset.state !== state;
  $("status").dataset.state = state;
  $("status-text").textContent = text;
  $("result-sheet").dataset.state = state;
  if (changed && state === "ok") announce(text);
}

export function announce(text) {
  $("spoken").textContent = text;
}

// A bar with a sentence and what can be done about it. kind: warn | error; `topic` names it for `withdraw`.
export function notice(kind, topic, text, action = null) {
  if (dismissed === topic + text) return;
  const bar = $("notice");
  Object.assign(bar.dataset, { kind, topic });
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text; // said once, not at every countdown
  bar.hidden = false;
  $("notice-action").hidden = action === null;
  if (action !== null) {
    $("notice-action").textContent = action.label;
    $("notice-action").onclick = action.run;
  }
}

export function withdraw(topic) {
  if (dismissed.startsWith(topic)) dismissed = "";
  if ($("notice").dataset.topic === topic) $("notice").hidden = true;
}

export function wireNotice() {
  $("notice-close").addEventListener("click", () => {
    dismissed = $("notice").dataset.topic + $("notice-text").textContent;
    $("notice").hidden = true;
  });
}
