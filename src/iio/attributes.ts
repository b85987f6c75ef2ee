import { closeSync, constants, openSync, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { IioError } from '@iio-bridge/protocol';
import { FileDescriptor } from '../sys/file-descriptor.js';

/** The largest value, its final byte included, that iiod reads and its clients make room for. */
export const MAX_ATTRIBUTE_BYTES = 64 * 1024 - 1;

/** One sysfs page on most machines, and one byte to see its end. */
const FIRST_READ_BYTES = 4096 + 1;

const readFrom = promisify(read);
const writeTo = promisify(write);

/**
 * The value of an attribute as the protocol carries it: the whole file, its last byte (normally the newline) replaced by
 * a NUL that counts. An empty file has length 0.
 *
 * @param path absolute, from discovery: never built from a name that a client sent
 * @throws IioError with the driver's errno, naming the file; `EFBIG` beyond {@link MAX_ATTRIBUTE_BYTES}
 */
export async function readAttribute(path: string): Promise<Uint8Array> {
  return await withFile('read', path, constants.O_RDONLY, async (file) => {
    let buffer = new Uint8Array(FIRST_READ_BYTES);
    let length = 0;
    for (;;) {
      const { bytesRead } = await readFrom(file, buffer, length, buffer.byteLength - length, null);
      length += bytesRead;
      if (length > MAX_ATTRIBUTE_BYTES) {
        throw new IioError('EFBIG', `read ${path}: the value is longer than ${MAX_ATTRIBUTE_BYTES} bytes`);
      }
      // Files of sysfs and debugfs give all that there is.
      if (length < buffer.byteLength) break;
      const larger = new Uint8Array(MAX_ATTRIBUTE_BYTES + 1);
      larger.set(buffer);
      buffer = larger;
    }
    if (length > 0) buffer[length - 1] = 0;
    return buffer.subarray(0, length);
  });
}

/**
 * Writes a value, as it is, in one call, because a driver takes each write for a value of its own.
 *
 * @param path absolute, from discovery: never built from a name that a client sent
 * @returns the number of bytes that the driver accepted
 * @throws IioError with the driver's errno, naming the file; `EIO` for an empty value, which no driver would see
 */
export async function writeAttribute(path: string, bytes: Uint8Array): Promise<number> {
  if (bytes.byteLength === 0) throw new IioError('EIO', `write ${path}: an empty value writes nothing`);
  return await withFile('write', path, constants.O_WRONLY, async (file) => {
    const { bytesWritten } = await writeTo(file, bytes, 0, bytes.byteLength, null);
    return bytesWritten;
  });
}

/** The file, for repeated reading. @throws IioError as {@link readAttribute} */
export function openAttribute(path: string): FileDescriptor {
  try {
    return new FileDescriptor(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), path);
  } catch (error) {
    throw asIioError('open', path, error);
  }
}

/** Opening and closing ask no driver, so only the use of the file is worth a thread of its own. */
async function withFile<T>(
  operation: 'read' | 'write',
  path: string,
  access: number,
  use: (file: number) => Promise<T>,
): Promise<T> {
  try {
    // Node adds O_CLOEXEC. O_NONBLOCK: should the path be a FIFO after all, opening it must not wait for its other end.
    const file = openSync(path, access | constants.O_NONBLOCK);
    try {
      return await use(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw asIioError(operation, path, error);
  }
}

function asIioError(operation: string, path: string, error: unknown): IioError {
  if (error instanceof IioError) return error;
  const known = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
  return new IioError(known, `${operation} ${path}: ${known}`, { cause: error });
}
