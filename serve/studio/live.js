// The live result: asks for a painting a moment after the last change, keeps only the newest answer, and comes back by
// itself when the server was busy or away.
import { ApiError, paint } from "./api.js";

export const DEBOUNCE_MS = 250;
const RETRY_CODES = new Set(["busy", "not_ready", "offline", "timeout"]);
const OFFLINE_RETRY_S = 3;

export class LivePainter {
  // request() -> fields for api.paint, asked for at the last moment; show(painting, milliseconds); tell(state, text).
  constructor(request, show, tell) {
    Object.assign(this, { request, show, tell });
    this.newest = 0;
    this.timer = 0;
    this.running = null;
  }

  // Paints soon; whatever is on its way is dropped.
  schedule(delay = DEBOUNCE_MS) {
    this.newest++;
    clearTimeout(this.timer);
    this.running?.abort();
    this.timer = setTimeout(() => this.go(this.newest), delay);
  }

  async go(number) {
    this.running = new AbortController();
    const started = performance.now();
    this.tell("busy", "Painting …");
    try {
      const painting = await paint({ ...(await this.request()), signal: this.running.signal });
      if (number !== this.newest) return;
      this.show(painting, performance.now() - started);
      this.tell("ok", "Up to date");
    } catch (error) {
      if (number === this.newest && error.name !== "AbortError") this.failed(error);
    }
  }

  failed(error) {
    const code = error instanceof ApiError ? error.code : "internal";
    if (RETRY_CODES.has(code)) {
      const seconds = error.retryAfterSeconds || OFFLINE_RETRY_S;
      const words = { offline: "Offline", busy: "The server is busy", not_ready: "The model is waking up", timeout: "Too slow" };
      this.tell(code === "offline" ? "offline" : "busy", `${words[code]} – trying again in ${seconds} s`);
      this.newest++;
      const number = this.newest;
      this.timer = setTimeout(() => this.go(number), seconds * 1000);
      return;
    }
    this.tell("error", error.message);
  }
}
