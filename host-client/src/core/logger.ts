/** Where the library reports what it did by itself (a retry, a reopened pipe). Text is only built when somebody listens. */
export interface Logger {
  debug(message: () => string): void;
  warn(message: () => string): void;
}

export const silentLogger: Logger = {
  debug: () => {},
  warn: () => {},
};
