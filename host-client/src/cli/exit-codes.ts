/** Exit codes of `iio-client`. A reader that goes away (EPIPE on standard output) is a success. */
export const EXIT = {
  success: 0,
  /** The operation failed; standard error says why. */
  failure: 1,
  /** The command line is wrong. */
  usage: 2,
  /** 128 + SIGINT: interrupted, everything closed in order. */
  interrupted: 130,
  /** 128 + SIGTERM. */
  terminated: 143,
} as const;
