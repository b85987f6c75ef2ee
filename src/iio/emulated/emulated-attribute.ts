import { IioError } from '@iio-bridge/protocol';
import { MAX_ATTRIBUTE_BYTES } from '../attributes.js';

/** An attribute that behaves like a file of sysfs. */
export interface EmulatedAttribute {
  /** The value and its final NUL. @throws {IioError} */
  read(): Uint8Array;
  /** Returns how many bytes were taken: all. @throws {IioError} */
  write(bytes: Uint8Array): number;
}

/** What a driver makes of a write: up to the first NUL, without the newline at the end. */
export function writtenValue(bytes: Uint8Array, path: string): Uint8Array {
  if (bytes.byteLength === 0) {
    throw new IioError('EIO', `write ${path}: an empty value writes nothing`);
  }
  if (bytes.byteLength > MAX_ATTRIBUTE_BYTES) {
    throw new IioError('EFBIG', `write ${path}: the value is longer than ${MAX_ATTRIBUTE_BYTES} bytes`);
  }
  const nul = bytes.indexOf(0);
  const end = nul < 0 ? bytes.byteLength : nul;
  return bytes.slice(0, bytes[end - 1] === 0x0a ? end - 1 : end);
}
