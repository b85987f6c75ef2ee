import { describe, expect, it } from 'vitest';
import { formatScanFormat, parseScanFormat } from '../../../protocol/src/index.js';

const base = { endianness: 'le', signed: true, fullyDefined: false, bits: 12, storageBits: 16, repeat: 1, shift: 0 };

describe('scan element format', () => {
  it.each([
    ['le:s12/16>>0', base, 'le:s12/16>>0'],
    ['le:s12/16>>4\n', { ...base, shift: 4 }, 'le:s12/16>>4'],
    ['le:S12/16>>0', { ...base, fullyDefined: true }, 'le:S12/16>>0'],
    [
      'be:U24/32>>8',
      { ...base, endianness: 'be', signed: false, fullyDefined: true, bits: 24, storageBits: 32, shift: 8 },
      'be:U24/32>>8',
    ],
    ['le:s16/16X2>>0', { ...base, fullyDefined: true, bits: 16, repeat: 2 }, 'le:S16/16X2>>0'],
    ['le:S64/64>>0', { ...base, fullyDefined: true, bits: 64, storageBits: 64 }, 'le:S64/64>>0'],
    ['xe:u8/8>>0', { ...base, signed: false, fullyDefined: true, bits: 8, storageBits: 8 }, 'le:U8/8>>0'],
    ['le:s32/32X1>>0', { ...base, fullyDefined: true, bits: 32, storageBits: 32 }, 'le:S32/32>>0'],
  ])('%j', (text, format, written) => {
    expect(parseScanFormat(text)).toEqual(format);
    expect(formatScanFormat(parseScanFormat(text))).toBe(written);
    expect(parseScanFormat(written)).toEqual(format);
  });

  it.each([
    '',
    'le:s12/16',
    'le:12/16>>0',
    'le:s12>>0',
    'le:s12/16X>>0',
    'le:x12/16>>0',
    'le:s0/16>>0',
    'le:s17/16>>0',
    'le:s12/0>>0',
    'le:s12/20>>0',
    'le:s12/16X0>>0',
    'le:s12/16>>16',
    'le:s12/99999999999>>0',
    'le:s-12/16>>0',
    ' le:s12/16>>0',
  ])('refuses %j', (text) => {
    expect(() => parseScanFormat(text)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
