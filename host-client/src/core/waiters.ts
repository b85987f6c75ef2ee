import type { IioError } from '@iio-bridge/protocol';
import { Fifo } from './fifo.js';

/** Reused. */
interface Waiter<T> {
  resolve: (value: T) => void;
  reject: (error: IioError) => void;
  until: number;
}

/**
 * Those who wait for something, in the order in which they came, each no longer than the time-out. One timer serves them
 * all, because a timer per block would be most of the garbage of a stream; for the same reason nothing is made per wait
 * but its promise.
 */
export class Waiters<T> {
  readonly #timeoutMs: number;
  readonly #onTimeout: () => IioError;
  readonly #waiting = new Fifo<Waiter<T>>();
  readonly #idle = new Fifo<Waiter<T>>();
  readonly #enqueue = (resolve: (value: T) => void, reject: (error: IioError) => void): void => {
    const until = performance.now() + this.#timeoutMs;
    const waiter = this.#idle.shift();
    if (waiter === undefined) {
      this.#waiting.push({ resolve, reject, until });
    } else {
      waiter.resolve = resolve;
      waiter.reject = reject;
      waiter.until = until;
      this.#waiting.push(waiter);
    }
  };
  readonly #onTimer = (): void => this.#expire();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(timeoutMs: number, onTimeout: () => IioError) {
    this.#timeoutMs = timeoutMs;
    this.#onTimeout = onTimeout;
  }

  get hasWaiters(): boolean {
    return this.#waiting.length > 0;
  }

  wait(): Promise<T> {
    const promise = new Promise<T>(this.#enqueue);
    this.#arm();
    return promise;
  }

  /** @returns false if nobody waits */
  resolveOne(value: T): boolean {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) {
      return false;
    }
    this.#idle.push(waiter);
    waiter.resolve(value);
    return true;
  }

  resolveAll(value: T): void {
    this.#disarm();
    for (const { resolve } of this.#waiting.drain()) {
      resolve(value);
    }
  }

  rejectAll(error: IioError): void {
    this.#disarm();
    for (const { reject } of this.#waiting.drain()) {
      reject(error);
    }
  }

  #arm(): void {
    const { first } = this.#waiting;
    if (this.#timer === undefined && first !== undefined && first.until !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(this.#onTimer, Math.max(1, Math.ceil(first.until - performance.now())));
    }
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    while (this.#waiting.first !== undefined && this.#waiting.first.until <= now) {
      this.#waiting.shift()?.reject(this.#onTimeout());
    }
    this.#arm();
  }
}
