import { getSystemErrorMap } from 'node:util';
import { errnoName, IioError } from '@iio-bridge/protocol';

/** What an errno means for the call at hand, by errno name: the part of a message that tells the user what to do. */
export type Hints = Readonly<Partial<Record<string, string>>>;

/** Says what to do when the kernel refuses for want of privilege; `what` is the thing that was refused. */
export function privilegeHint(what: string): string {
  return `no permission for ${what}: run as root, or grant access with a udev rule`;
}

/** `operation` names the call and its object: "ioctl IIO_BUFFER_GET_FD on /dev/iio:device0". */
export function systemError(
  code: string,
  operation: string,
  hints: Hints = {},
  options?: { readonly cause?: unknown },
): IioError {
  const meaning = hints[code] ?? describe(code);
  return new IioError(code, `${operation}: ${code}${meaning === undefined ? '' : ` (${meaning})`}`, options);
}

/** The errno name (`'EBUSY'`) that an error of Node's or of ours carries, if it carries one. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return undefined;
  }
  return error.code;
}

/** An error of Node's `fs` as an {@link IioError} with the same code; anything else is returned as it is. */
export function fromFsError(error: unknown, operation: string, hints: Hints = {}): unknown {
  const code = errorCode(error);
  if (code === undefined || error instanceof IioError) {
    return error;
  }
  return systemError(code, operation, hints, { cause: error });
}

function describe(code: string): string | undefined {
  for (const [number, [name, description]] of getSystemErrorMap()) {
    if (name === code || errnoName(number) === code) {
      return description;
    }
  }
  return undefined;
}
