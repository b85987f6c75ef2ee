import { IioError } from './errors.js';
import type { ScanFormat } from './model.js';

/** A newline or other text after the shift is ignored, as sysfs ends its values with one. */
const PATTERN = /^(.)e:(.)(\d{1,5})\/(\d{1,5})(?:X(\d{1,5}))?>>(\d{1,5})/s;

/** The kernel keeps `storagebits` in a byte (include/linux/iio/iio.h, struct iio_scan_type). */
const MAX_STORAGE_BITS = 255;

/**
 * Reads a scan element format such as `le:s12/16>>0`, `be:U24/32>>8` or `le:s16/16X2>>0`: byte order, sign (upper case:
 * the value needs no masking or sign extension), significant bits, storage bits, repeat count, right shift.
 *
 * @throws IioError `EINVAL` if the text does not have that form, or describes a value that cannot exist
 */
export function parseScanFormat(text: string): ScanFormat {
  const fields = PATTERN.exec(text);
  const [, order, sign, bitsText, storageText, repeatText = '1', shiftText] = fields ?? [];
  if (fields === null || sign === undefined) throw badFormat(text, 'expected something like le:s12/16>>4');
  if (!'sSuU'.includes(sign)) throw badFormat(text, `'${sign}' is neither signed nor unsigned`);
  const bits = Number(bitsText);
  const storageBits = Number(storageText);
  const repeat = Number(repeatText);
  const shift = Number(shiftText);
  if (storageBits === 0 || storageBits > MAX_STORAGE_BITS || storageBits % 8 !== 0) {
    throw badFormat(text, `${storageBits} storage bits are not a number of bytes`);
  }
  if (bits === 0 || bits > storageBits) throw badFormat(text, `${bits} bits do not fit a storage of ${storageBits}`);
  if (shift >= storageBits) throw badFormat(text, `a shift by ${shift} leaves nothing`);
  if (repeat === 0) throw badFormat(text, 'an element cannot be repeated 0 times');
  return {
    endianness: order === 'b' ? 'be' : 'le',
    signed: sign === 's' || sign === 'S',
    fullyDefined: sign === 'S' || sign === 'U' || bits === storageBits,
    bits,
    storageBits,
    repeat,
    shift,
  };
}

/** The inverse of {@link parseScanFormat}, in libiio's form: an upper-case sign for a fully defined value. */
export function formatScanFormat(format: ScanFormat): string {
  const letter = format.signed ? 's' : 'u';
  const sign = format.fullyDefined ? letter.toUpperCase() : letter;
  const repeat = format.repeat > 1 ? `X${format.repeat}` : '';
  return `${format.endianness}:${sign}${format.bits}/${format.storageBits}${repeat}>>${format.shift}`;
}

function badFormat(text: string, why: string): IioError {
  return new IioError('EINVAL', `scan element format '${text.slice(0, 80)}': ${why}`);
}
