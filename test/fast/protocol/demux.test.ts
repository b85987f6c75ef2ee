import { type ChannelDescription, ChannelMask, demux, parseScanFormat, sampleLayout } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';

function channel(id: string, index: number, format: string): ChannelDescription {
  return {
    id,
    direction: 'in',
    scanElement: { index, format: parseScanFormat(format) },
    attributes: [],
    eventAttributes: [],
  };
}

/** s16, u8, s32, s16 twice, and a time stamp: 2 + 1 + pad 1 + 4 + 4 + pad 4 + 8 = 24 bytes. */
const MIXED = [
  channel('a', 0, 'le:s16/16>>0'),
  channel('b', 1, 'le:u8/8>>0'),
  channel('c', 2, 'be:s24/32>>8'),
  channel('d', 3, 'le:s16/16X2>>0'),
  channel('timestamp', 4, 'le:s64/64>>0'),
];

function layout(channels: readonly ChannelDescription[], positions: readonly number[]) {
  return sampleLayout(channels, ChannelMask.of(channels.length, positions));
}

function counting(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => i + 1);
}

describe('demux', () => {
  it('picks channels of mixed widths and keeps their alignment in the smaller set', () => {
    const from = layout(MIXED, [0, 1, 2, 3, 4]);
    const to = layout(MIXED, [1, 3, 4]);
    expect([from.bytes, to.bytes]).toEqual([24, 16]);

    const picked = demux(from, to)(counting(48));

    // b at 2, d at 8…11, timestamp at 16…23 of each 24 bytes; padding in between is 0.
    expect([...picked]).toEqual([
      ...[3, 0, 0, 0, 9, 10, 11, 12, 17, 18, 19, 20, 21, 22, 23, 24],
      ...[27, 0, 0, 0, 33, 34, 35, 36, 41, 42, 43, 44, 45, 46, 47, 48],
    ]);
  });

  it('agrees with the layout for every subset of channels', () => {
    const all = layout(MIXED, [0, 1, 2, 3, 4]);
    const source = counting(all.bytes * 3);
    for (let bits = 1; bits < 32; bits++) {
      const to = layout(
        MIXED,
        [0, 1, 2, 3, 4].filter((position) => (bits >> position) & 1),
      );
      const picked = demux(all, to)(source);
      expect(picked.byteLength).toBe(3 * to.bytes);
      for (let sample = 0; sample < 3; sample++) {
        for (const { position, offset, bytes } of to.channels) {
          const place = all.channels.find((candidate) => candidate.position === position)?.offset ?? Number.NaN;
          const from = sample * all.bytes + place;
          const at = sample * to.bytes + offset;
          expect([...picked.subarray(at, at + bytes)]).toEqual([...source.subarray(from, from + bytes)]);
        }
      }
    }
  });

  it('copies storage that channels share once, for either of them', () => {
    const shared = [channel('x', 0, 'le:u4/8>>0'), channel('y', 0, 'le:u4/8>>4'), channel('z', 1, 'le:u8/8>>0')];
    const from = layout(shared, [0, 1, 2]);

    expect([...demux(from, layout(shared, [1]))(counting(4))]).toEqual([1, 3]);
    expect([...demux(from, layout(shared, [0, 1, 2]))(counting(4))]).toEqual([1, 2, 3, 4]);
  });

  it('drops an incomplete sample set at the end', () => {
    expect(demux(layout(MIXED, [0, 1]), layout(MIXED, [1]))(counting(11)).byteLength).toBe(2);
  });

  it('copies rather than lends, even where nothing is left out', () => {
    const source = counting(8);
    const picked = demux(layout(MIXED, [2]), layout(MIXED, [2]))(source);
    source.fill(0);
    expect([...picked]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('refuses a channel that was not sampled', () => {
    expect(() => demux(layout(MIXED, [0]), layout(MIXED, [0, 2]))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
