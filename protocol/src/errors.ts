/** Linux errno numbers (asm-generic/errno*.h): the wire carries them negated, whatever the host's system is. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENOSYS: 38,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ESHUTDOWN: 108,
  ETIMEDOUT: 110,
  ECANCELED: 125,
} as const satisfies Record<string, number>;

export type ErrnoName = keyof typeof ERRNO;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** `16` or `-16` → `'EBUSY'`; a number that this table lacks → `'ERRNO_<n>'`. */
export function errnoName(errno: number): string {
  const number = Math.abs(errno);
  return NAMES.get(number) ?? `ERRNO_${number}`;
}

/** The errno number behind an error code such as `'EBUSY'`, if it is one. */
export function errnoNumber(code: string): number | undefined {
  const known: Readonly<Record<string, number>> = ERRNO;
  const named = /^ERRNO_(\d+)$/.exec(code)?.[1];
  return known[code] ?? (named === undefined ? undefined : Number(named));
}

/**
 * Every error that the bridge and the client raise on purpose. `code` is an errno name (`'EBUSY'`) where the kernel or
 * the other end gave one, and a name of ours (`'NO_UDC'`) otherwise; the message says what happened, to what, and what
 * the user can do.
 */
export class IioError extends Error {
  override readonly name: string = 'IioError';
  readonly code: string;

  constructor(code: string, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** An error from a negative or positive errno: `IioError.fromErrno(-16, 'open buffer 0 of iio:device0')`. */
  static fromErrno(errno: number, operation: string): IioError {
    const code = errnoName(errno);
    return new IioError(code, `${operation}: ${code}`);
  }

  /** The errno number (positive) of {@link code}, if the code is an errno name. */
  get errno(): number | undefined {
    return errnoNumber(this.code);
  }
}
