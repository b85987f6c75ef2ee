/** Lets one waiter sleep until somebody calls {@link wake}. */
export class Wakeup {
  #wake: (() => void) | undefined;

  wake(): void {
    this.#wake?.();
  }

  /** Until the next {@link wake}; rejects when `signal` aborts. Ask for the condition again afterwards. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const finish = () => {
        this.#wake = undefined;
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const abort = () => {
        this.#wake = undefined;
        reject(signal.reason);
      };
      this.#wake = finish;
      signal.addEventListener('abort', abort, { once: true });
    });
  }
}
