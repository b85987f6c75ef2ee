import { IioError } from '@iio-bridge/protocol';

/** The error for work that an `AbortSignal` ended; the signal's reason is its cause. */
export function abortError(what: string, signal: AbortSignal): IioError {
  return new IioError('ECANCELED', `${what}: aborted`, { cause: signal.reason });
}

/**
 * `promise`, but rejects with `onTimeout()` after `timeoutMs` milliseconds, or with `ECANCELED` when `signal` aborts.
 * The promise itself goes on; whoever made it has to cope with its late result.
 */
export function withDeadline<T>(
  promise: Promise<T>,
  limits: { readonly timeoutMs?: number; readonly signal?: AbortSignal | undefined; readonly what: string },
  onTimeout: () => IioError = () => new IioError('ETIMEDOUT', `${limits.what}: no answer in ${limits.timeoutMs} ms`),
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const { timeoutMs, signal, what } = limits;
    const onAbort = (): void => {
      if (signal !== undefined) {
        settle(() => reject(abortError(what, signal)));
      }
    };
    const timer =
      timeoutMs === undefined || timeoutMs === Number.POSITIVE_INFINITY
        ? undefined
        : setTimeout(() => settle(() => reject(onTimeout())), timeoutMs);
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    promise.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
    if (signal?.aborted === true) {
      onAbort();
    } else {
      signal?.addEventListener('abort', onAbort, { once: true });
    }
  });
}
