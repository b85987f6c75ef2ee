import type { Clock } from './clock.js';

export interface Rate {
  /** Sample sets per second; what is not between 0 and 4·10⁹ counts as 1 MHz, unpaced. */
  readonly hertz: number | undefined;
  /** `free`: the sets are due as soon as somebody wants them; the rate only spaces their time stamps. */
  readonly pace: 'rate' | 'free';
}

/** Rates are kept in µHz, which holds what sysfs prints (six decimals) exactly. */
const MICRO = 1_000_000;

/** ns in a second times µHz in a Hz. */
const SCALE = 1_000_000_000_000_000n;

/** Above it the remainders of time stamps would no longer be exact numbers. */
const MAX_HERTZ = 4e9;

/** What a converter without a rate pretends to have. */
export const NOMINAL_HERTZ = 1_000_000;

const MIN_SLEEP_MS = 1;
const MAX_SLEEP_MS = 1000;

/**
 * The clock of a converter: which sample sets are due, and the time of each. All of it is computed from the number of the
 * set, so nothing drifts: what a late timer missed is due at once.
 */
export class SampleClock {
  readonly #clock: Clock;
  /** Time of set 0, ns since 1970. */
  readonly #start: bigint;
  #hertz: number | undefined;
  #pace: Rate['pace'];
  /** µHz */
  #rate: bigint;
  #isFree: boolean;
  /** The set that the rate counts from, when it is taken, and its time after set 0 (which no pause changes), ns. */
  #base = 0;
  #baseAt: bigint;
  #baseTime = 0n;
  #taken = 0;

  /** Starts now. */
  constructor(clock: Clock, { hertz, pace }: Rate) {
    this.#clock = clock;
    this.#hertz = hertz;
    this.#pace = pace;
    [this.#rate, this.#isFree] = resolve({ hertz, pace });
    this.#start = clock.realtime();
    this.#baseAt = clock.now();
  }

  /** Sample sets taken so far: the number of the next one. */
  get taken(): number {
    return this.#taken;
  }

  /** Goes on with another rate from the next set. */
  setRate({ hertz, pace }: Rate): void {
    if (hertz === this.#hertz && pace === this.#pace) {
      return;
    }
    const sinceBase = this.#taken - this.#base;
    this.#baseTime += (BigInt(sinceBase) * SCALE) / this.#rate;
    this.#baseAt = this.#isFree ? this.#clock.now() : this.#baseAt + this.#duration(sinceBase);
    this.#base = this.#taken;
    this.#hertz = hertz;
    this.#pace = pace;
    [this.#rate, this.#isFree] = resolve({ hertz, pace });
  }

  /** Waits until at least one set is due; returns how many are, at most `max`. Rejects when `signal` aborts. */
  async due(max: number, signal: AbortSignal): Promise<number> {
    for (;;) {
      const sets = this.#backlog();
      if (sets > 0) {
        return Math.min(sets, max);
      }
      const ns = this.#baseAt + this.#duration(this.#taken + 1 - this.#base) - this.#clock.now();
      await this.#clock.sleep(Math.min(Math.max(Number(ns) / 1e6, MIN_SLEEP_MS), MAX_SLEEP_MS), signal);
    }
  }

  take(sets: number): void {
    this.#taken += sets;
  }

  /** Stands still for as long as it takes that no more than `sets` are due: the other end was not ready. */
  limitBacklog(sets: number): void {
    const excess = this.#backlog() - sets;
    if (!this.#isFree && excess > 0) {
      this.#baseAt += this.#duration(excess);
    }
  }

  /** Whole sample sets that take up to `seconds`. */
  setsIn(seconds: number): number {
    return Math.floor((Number(this.#rate) / MICRO) * seconds);
  }

  /** The time stamps of the sets from number `first` on: floor(n / rate) after that of set 0, ns since 1970. */
  timeStamps(first: number, stamps: BigInt64Array, sets: number): void {
    const scaled = BigInt(first - this.#base) * SCALE;
    const step = Number(SCALE / this.#rate);
    const stepRest = Number(SCALE % this.#rate);
    const limit = Number(this.#rate);
    const base = this.#start + this.#baseTime + scaled / this.#rate;
    let rest = Number(scaled % this.#rate);
    let offset = 0;
    for (let i = 0; i < sets; i++) {
      stamps[i] = base + BigInt(offset);
      offset += step;
      rest += stepRest;
      if (rest >= limit) {
        rest -= limit;
        offset++;
      }
    }
  }

  /** Due and not taken. */
  #backlog(): number {
    if (this.#isFree) {
      return Number.POSITIVE_INFINITY;
    }
    const elapsed = this.#clock.now() - this.#baseAt;
    return elapsed < 0n ? 0 : this.#base + Number((elapsed * this.#rate) / SCALE) - this.#taken;
  }

  /** ns, rounded up: when it is over, the sets are due. */
  #duration(sets: number): bigint {
    return (BigInt(sets) * SCALE + this.#rate - 1n) / this.#rate;
  }
}

/** µHz, and whether sets are due at any time. */
function resolve({ hertz, pace }: Rate): [rate: bigint, isFree: boolean] {
  const micro = hertz !== undefined && hertz <= MAX_HERTZ ? Math.round(hertz * MICRO) : 0;
  return micro > 0 ? [BigInt(micro), pace === 'free'] : [BigInt(NOMINAL_HERTZ * MICRO), true];
}
