import { ERRNO, IioError } from '@iio-bridge/protocol';

/** A value with its final NUL, or the negative errno of reading it. */
export type AttributeResult = Uint8Array | number;

const LENGTH_BYTES = 4;

/**
 * The answer to a READ without attribute name: for each attribute, in the document's order, a big-endian int32 with the
 * length or the negative errno, then the value padded to a multiple of 4 bytes. What no longer fits `limit` bytes becomes
 * `-EFBIG`; the list ends where not even that fits.
 */
export function encodeAttributeList(results: readonly AttributeResult[], limit: number): Uint8Array {
  const list = new Uint8Array(limit);
  const view = new DataView(list.buffer);
  let end = 0;
  for (const result of results) {
    if (end + LENGTH_BYTES > limit) {
      break;
    }
    if (typeof result === 'number' || end + LENGTH_BYTES + padded(result.byteLength) > limit) {
      view.setInt32(end, typeof result === 'number' ? result : -ERRNO.EFBIG);
      end += LENGTH_BYTES;
    } else {
      view.setInt32(end, result.byteLength);
      list.set(result, end + LENGTH_BYTES);
      end += LENGTH_BYTES + padded(result.byteLength);
    }
  }
  return list.slice(0, end);
}

/**
 * The payload of a WRITE without attribute name: the same list, where a length of 0 or below leaves the attribute alone
 * (`undefined`). The padding of the last value may be missing.
 *
 * @throws {IioError} `EINVAL` unless it holds exactly `count` entries
 */
export function decodeAttributeList(list: Uint8Array, count: number): (Uint8Array | undefined)[] {
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const values: (Uint8Array | undefined)[] = [];
  let at = 0;
  while (values.length < count && at + LENGTH_BYTES <= list.byteLength) {
    const length = view.getInt32(at);
    at += LENGTH_BYTES;
    if (length <= 0) {
      values.push(undefined);
    } else if (at + length <= list.byteLength) {
      values.push(list.subarray(at, at + length));
      at += padded(length);
    } else {
      break;
    }
  }
  if (values.length !== count || at < list.byteLength) {
    throw new IioError('EINVAL', `a list of ${list.byteLength} bytes does not hold values for ${count} attributes`);
  }
  return values;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
