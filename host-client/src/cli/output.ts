/** One object, for people and machines. Integers beyond 2^53 become strings. */
export function toJson(value: unknown): string {
  return `${JSON.stringify(value, jsonValue, 2)}\n`;
}

/** One object on one line, for streams of them. */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value, jsonValue)}\n`;
}

function jsonValue(_: string, value: unknown): unknown {
  return typeof value !== 'bigint' ? value : Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}

/** Writes to standard output; resolves to false when nobody reads it any more. */
export function print(text: string | Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === null || error === undefined) {
        resolve(true);
      } else if ('code' in error && error.code === 'EPIPE') {
        resolve(false);
      } else {
        reject(error);
      }
    });
  });
}

const PROGRESS_INTERVAL_MS = 500;

/** A line on standard error that renews itself, only where a person can see it. @returns what ends it */
export function showProgress(line: () => string): () => void {
  if (!process.stderr.isTTY) {
    return () => {};
  }
  const timer = setInterval(() => process.stderr.write(`\r${line()}\x1b[K`), PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    process.stderr.write('\r\x1b[K');
  };
}

export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
