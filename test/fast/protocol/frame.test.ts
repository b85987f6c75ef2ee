import { describe, expect, it } from 'vitest';
import {
  BINARY_HANDSHAKE,
  blockFailureCode,
  blockFailureOf,
  codeHigh,
  codeLow,
  decodeFrameHeader,
  decodeU32,
  decodeU64,
  encodeFrameHeader,
  encodeU32,
  encodeU64,
  opcodeOf,
  packCode,
} from '../../../protocol/src/index.js';

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.split(' '), (byte) => Number.parseInt(byte, 16));
}

describe('frame header', () => {
  it.each([
    ['TIMEOUT 2500', '00 00 02 0b c4 09 00 00', { clientId: 0, op: 2, dev: 11, code: 2500 }],
    ['PRINT', '00 00 01 00 00 00 00 00', { clientId: 0, op: 1, dev: 0, code: 0 }],
    ['PRINT response', '00 00 00 00 39 12 00 00', { clientId: 0, op: 0, dev: 0, code: 0x1239 }],
    ['READ_CHN_ATTR 1 of channel 2', '00 00 06 00 02 00 01 00', { clientId: 0, op: 6, dev: 0, code: 0x10002 }],
    ['REFRESH_FORMAT', '00 00 1f 03 00 00 00 00', { clientId: 0, op: 31, dev: 3, code: 0 }],
    ['response -ENOSYS', '00 00 00 00 da ff ff ff', { clientId: 0, op: 0, dev: 0, code: -38 }],
    ['OPEN_BUFFER', '00 00 11 04 00 00 00 00', { clientId: 0, op: 17, dev: 4, code: 0 }],
    ['CREATE_BLOCK 0', '01 00 15 04 00 00 00 00', { clientId: 1, op: 21, dev: 4, code: 0 }],
    ['TRANSFER_BLOCK 1', '02 00 17 04 00 00 01 00', { clientId: 2, op: 23, dev: 4, code: 0x10000 }],
    ['block 1 response', '02 00 00 00 00 01 00 00', { clientId: 2, op: 0, dev: 0, code: 256 }],
    ['FREE_BLOCK 2', '00 00 16 04 00 00 02 00', { clientId: 0, op: 22, dev: 4, code: 0x20000 }],
    ['last event stream', 'ff ff 1c ff 01 00 00 80', { clientId: 0xffff, op: 28, dev: 255, code: -2147483647 }],
  ])('%s is %s', (_, bytes, header) => {
    expect(hex(encodeFrameHeader(header))).toBe(bytes);
    expect(decodeFrameHeader(fromHex(bytes))).toEqual(header);
  });

  it('is decoded at an offset of a view into a larger buffer', () => {
    const pool = fromHex('aa aa aa 02 00 17 04 00 00 01 00 aa');
    expect(decodeFrameHeader(pool.subarray(1), 2)).toEqual({ clientId: 2, op: 23, dev: 4, code: 0x10000 });
  });

  it('refuses a truncated header even when the underlying buffer goes on', () => {
    const pool = new Uint8Array(64);
    expect(() => decodeFrameHeader(pool.subarray(0, 7))).toThrow(RangeError);
    expect(() => decodeFrameHeader(pool.subarray(0, 8), 1)).toThrow(RangeError);
    expect(() => decodeU64(pool.subarray(0, 8), -1)).toThrow(RangeError);
  });
});

describe('code field', () => {
  it.each([
    [0, 0, 0],
    [1, 2, 0x10002],
    [0x7fff, 0xffff, 0x7fffffff],
    [0x8000, 0, -0x80000000],
    [0xffff, 0xffff, -1],
  ])('packs %i and %i into %i', (high, low, code) => {
    expect(packCode(high, low)).toBe(code);
    expect([codeHigh(code), codeLow(code)]).toEqual([high, low]);
  });

  it('shifts enqueue errors and leaves dequeue errors', () => {
    expect(hex(encodeU32(blockFailureCode({ stage: 'enqueue', errno: 16 })))).toBe('00 00 f0 ff');
    expect(blockFailureOf(-1048576)).toEqual({ stage: 'enqueue', errno: 16 });
    expect(blockFailureOf(-110)).toEqual({ stage: 'dequeue', errno: 110 });
    expect(blockFailureCode({ stage: 'dequeue', errno: 110 })).toBe(-110);
    expect(blockFailureOf(0)).toBeUndefined();
    expect(blockFailureOf(65536)).toBeUndefined();
  });
});

describe('integers', () => {
  it('are little-endian', () => {
    expect(hex(encodeU64(256))).toBe('00 01 00 00 00 00 00 00');
    expect(hex(encodeU64(0xfedc_ba98_7654_3210n))).toBe('10 32 54 76 98 ba dc fe');
    expect(decodeU64(fromHex('10 32 54 76 98 ba dc fe'))).toBe(0xfedc_ba98_7654_3210n);
    expect(hex(encodeU32(0xffff_fffe))).toBe('fe ff ff ff');
    expect(decodeU32(fromHex('00 fe ff ff ff'), 1)).toBe(0xffff_fffe);
  });
});

it('the handshake is BINARY and a line end', () => {
  expect(hex(BINARY_HANDSHAKE)).toBe('42 49 4e 41 52 59 0d 0a');
});

it('the frames above use the opcodes of the latest generation', () => {
  expect(opcodeOf('G', 'OPEN_BUFFER')).toBe(0x11);
  expect(opcodeOf('G', 'TRANSFER_BLOCK')).toBe(0x17);
});
