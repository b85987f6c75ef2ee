import { describe, expect, it } from 'vitest';
import { ChannelMask } from '../../../protocol/src/index.js';

describe('channel mask', () => {
  it.each([
    [2, [0, 1], '00000003', [3, 0, 0, 0]],
    [4, [1, 3], '0000000a', [10, 0, 0, 0]],
    [32, [31], '80000000', [0, 0, 0, 128]],
    [34, [0, 33], '0000000200000001', [1, 0, 0, 0, 2, 0, 0, 0]],
    [65, [64], '000000010000000000000000', [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]],
    [0, [], '', []],
  ])('of %i channels with %j is %s', (count, positions, text, bytes) => {
    const mask = ChannelMask.of(count, positions);
    expect(mask.toText()).toBe(text);
    expect(Array.from(mask.toBytes())).toEqual(bytes);
    expect(mask.positions()).toEqual(positions);
    expect(mask.wordCount).toBe(bytes.length / 4);
    expect(ChannelMask.fromText(count, text).equals(mask)).toBe(true);
    expect(ChannelMask.fromText(count, text.toUpperCase()).equals(mask)).toBe(true);
    expect(ChannelMask.fromBytes(count, Uint8Array.from(bytes)).equals(mask)).toBe(true);
  });

  it.each([
    [34, '00000001'],
    [2, '1'],
    [2, '0000000000000001'],
    [2, '0x000003'],
    [2, '0000000g'],
    [2, '       3'],
    [2, ''],
  ])('of %i channels refuses the text "%s"', (count, text) => {
    expect(() => ChannelMask.fromText(count, text)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('refuses a binary form of the wrong length, and positions that do not exist', () => {
    for (const length of [0, 3, 5, 8]) {
      expect(() => ChannelMask.fromBytes(2, new Uint8Array(length))).toThrow(/mask of \d bytes/);
    }
    for (const position of [-1, 2, 0.5, Number.NaN]) {
      expect(() => ChannelMask.of(2, [position])).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
  });

  it('drops bits beyond the channel count', () => {
    expect(ChannelMask.fromText(3, 'ffffffff').positions()).toEqual([0, 1, 2]);
    expect(ChannelMask.fromBytes(33, new Uint8Array(8).fill(255)).toText()).toBe('00000001ffffffff');
  });

  it('reads from a view into a larger buffer', () => {
    expect(ChannelMask.fromBytes(2, Uint8Array.of(9, 9, 9, 2, 0, 0, 0).subarray(3)).positions()).toEqual([1]);
  });

  it('unites masks of one device only', () => {
    const union = ChannelMask.of(40, [0, 31]).union(ChannelMask.of(40, [31, 39]));
    expect(union.positions()).toEqual([0, 31, 39]);
    expect(union.toText()).toBe('0000008080000001');
    expect(() => union.union(ChannelMask.of(41, []))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(union.equals(ChannelMask.of(41, [0, 31, 39]))).toBe(false);
  });

  it('knows positions outside of the device as disabled', () => {
    const mask = ChannelMask.of(32, [0]);
    expect([mask.has(0), mask.has(32), mask.has(-1), mask.has(1000)]).toEqual([true, false, false, false]);
    expect([mask.isEmpty, ChannelMask.empty(64).isEmpty]).toEqual([false, true]);
  });
});
