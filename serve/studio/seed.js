// The seed field with its dice and lock.
import { ApiError } from "./api.js";

const MAX_SEED = 2 ** 32 - 1;
const ROLLED = 1_000_000; // what the dice rolls is short enough to say aloud
const $ = (id) => document.getElementById(id);

export class Seed {
  // `changed(delay)` after every change that a person made.
  constructor(changed) {
    this.changed = changed;
    $("seed").addEventListener("input", () => changed());
    $("dice").addEventListener("click", () => this.another());
    $("lock").addEventListener("click", () => this.lock(!this.locked));
    this.roll();
  }

  // Raises ApiError when the field holds no seed.
  get value() {
    const number = Number($("seed").value.trim() || Number.NaN);
    const valid = Number.isInteger(number) && number >= 0 && number <= MAX_SEED;
    $("seed").setAttribute("aria-invalid", String(!valid));
    if (!valid) throw new ApiError("invalid_field", `The seed is a whole number from 0 to ${MAX_SEED}. Change it, or roll the dice.`);
    return number;
  }

  set value(number) {
    $("seed").value = String(number);
  }

  // As written, also when it is no seed.
  get text() {
    return $("seed").value.trim();
  }

  get locked() {
    return $("lock").getAttribute("aria-pressed") === "true";
  }

  lock(locked) {
    $("lock").setAttribute("aria-pressed", String(locked));
    $("lock").querySelector("use").setAttribute("href", locked ? "#i-lock" : "#i-unlock");
  }

  roll() {
    this.value = crypto.getRandomValues(new Uint32Array(1))[0] % ROLLED;
  }

  another() {
    if ($("dice").disabled) return;
    this.roll();
    this.changed(0);
  }

  // A style picture decides instead of the seed.
  enable(enabled) {
    for (const id of ["seed", "dice", "lock"]) $(id).disabled = !enabled;
  }
}
