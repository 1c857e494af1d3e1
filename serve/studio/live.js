// The live result: asks for a painting a moment after the last change, keeps only the newest answer, and comes back by
// itself when the server was busy or away.
export const DEBOUNCE_MS = 250;
const NAMES = { offline: "Offline", busy: "Server busy", timeout: "Too slow" }; // else the model isn't up
const RETRY_S = 3;
const LONG_MS = 1500; // from here on the page says how long it has been

export class LivePainter {
  // ask(signal) -> painting, with what is drawn at that moment; show(painting, askedAt); tell(state, text);
  // problem(error, seconds until the next try or null) and then `fine()` once a painting has come again.
  constructor({ ask, show, tell, problem, fine }) {
    Object.assign(this, { ask, show, tell, problem, fine });
    this.newest = 0;
    this.timer = 0;
    this.running = null;
    this.due = null; // when the next try after a failure begins
    window.addEventListener("online", () => this.due !== null && this.schedule(0));
  }

  // Paints soon; whatever is on its way is dropped. While the server is away its next try stays where it is.
  schedule(delay = DEBOUNCE_MS) {
    this.newest++;
    this.running?.abort();
    if (this.due !== null && delay > 0) return;
    this.due = null;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.go(this.newest), delay);
  }

  async go(number) {
    this.running = new AbortController();
    const started = performance.now();
    this.tell("busy", "Painting …");
    const watch = setInterval(() => this.waiting(performance.now() - started), 1000);
    try {
      const painting = await this.ask(this.running.signal);
      if (number !== this.newest) return;
      this.tell("ok", "Up to date");
      this.fine();
      this.show(painting, started);
    } catch (error) {
      if (number === this.newest && error.name !== "AbortError") this.failed(error);
    } finally {
      clearInterval(watch);
    }
  }

  waiting(milliseconds) {
    if (milliseconds > LONG_MS && this.due === null) {
      this.tell("busy", `In the queue · ${Math.round(milliseconds / 1000)} s`);
    }
  }

  failed(error) {
    if (!error.passes) {
      this.tell("error", "Not painted");
      this.problem(error, null);
      return;
    }
    this.tell(error.code === "offline" ? "offline" : "busy", NAMES[error.code] ?? "Model waking up");
    this.due = performance.now() + (error.retryAfterSeconds || RETRY_S) * 1000;
    this.countDown(error);
  }

  countDown(error) {
    const left = Math.ceil((this.due - performance.now()) / 1000);
    if (left <= 0) {
      this.schedule(0);
      return;
    }
    this.problem(error, left);
    this.timer = setTimeout(() => this.countDown(error), 1000);
  }
}
