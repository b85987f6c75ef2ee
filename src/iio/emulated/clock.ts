import { setTimeout as delay } from 'node:timers/promises';

/** Time as the emulated converters see it: the system's, or one that a test makes. */
export interface Clock {
  /** Monotonic, ns. */
  now(): bigint;
  /** ns since 1970. */
  realtime(): bigint;
  /** Resolves after at least about `ms`; rejects when `signal` aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => process.hrtime.bigint(),
  realtime: () => BigInt(Date.now()) * 1_000_000n,
  sleep: (ms, signal) => delay(ms, undefined, { signal }),
};
