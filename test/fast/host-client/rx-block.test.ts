import {
  type ChannelDescription,
  ChannelMask,
  parseScanFormat,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { RxBlock } from '../../../host-client/src/core/rx-block.js';
import type { Calibration } from '../../../host-client/src/core/samples.js';
import type { CapturedBlock } from '../../../host-client/src/core/session.js';

function channel(id: string, index: number, format: string): ChannelDescription {
  return {
    id,
    direction: 'in',
    scanElement: { index, format: parseScanFormat(format) },
    attributes: [],
    eventAttributes: [],
  };
}

function blockOf(formats: Readonly<Record<string, string>>, bytes: readonly number[]): RxBlock {
  const channels = Object.entries(formats).map(([id, format], index) => channel(id, index, format));
  const mask = ChannelMask.of(channels.length, channels.keys());
  return blockIn(sampleLayout(channels, mask), Uint8Array.from(bytes));
}

function blockIn(
  layout: SampleLayout,
  bytes: Uint8Array<ArrayBuffer>,
  calibrations?: ReadonlyMap<number, Calibration>,
  onRelease: () => void = () => {},
): RxBlock {
  const owner = { layout, calibrations, released: (captured: CapturedBlock) => captured.recycle() };
  return new RxBlock(owner, 0, 0, { bytes, record: undefined, recycle: onRelease });
}

describe('a block', () => {
  it('shows one plain channel without a copy', () => {
    const block = blockOf({ a: 'le:S16/16>>0' }, [1, 0, 0xff, 0xff, 0, 0x80]);
    expect(block.samples).toBe(3);
    expect(block.channel('a')).toEqual(Int16Array.of(1, -1, -32768));
    expect(block.channel('a').buffer).toBe(block.bytes.buffer);
    expect(block.interleaved()).toEqual(Int16Array.of(1, -1, -32768));
  });

  it('shows equal plain channels interleaved without a copy, and each on its own', () => {
    const block = blockOf({ i: 'le:s16/16>>0', q: 'le:s16/16>>0' }, [1, 0, 2, 0, 3, 0, 4, 0]);
    expect(block.interleaved()).toEqual(Int16Array.of(1, 2, 3, 4));
    expect(block.interleaved()?.buffer).toBe(block.bytes.buffer);
    expect(block.channel('i')).toEqual(Int16Array.of(1, 3));
    expect(block.channel('q')).toEqual(Int16Array.of(2, 4));
  });

  it('separates samples from a timestamp, past the padding', () => {
    const block = blockOf(
      { v: 'le:u16/16>>0', timestamp: 'le:s64/64>>0' },
      [
        7, 0, 9, 9, 9, 9, 9, 9, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 9, 9, 9, 9, 9, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff,
      ],
    );
    expect(block.layout.bytes).toBe(16);
    expect(block.channel('v')).toEqual(Uint16Array.of(7, 8));
    expect(block.channel('timestamp')).toEqual(BigInt64Array.of(1n, -1n));
    expect(block.interleaved()).toBeUndefined();
  });

  it('converts what is not plain: byte order, shift, sign, repeats', () => {
    expect(blockOf({ a: 'be:s12/16>>4' }, [0xff, 0xf0, 0x7f, 0xf0]).channel('a')).toEqual(Int16Array.of(-1, 2047));
    expect(blockOf({ a: 'le:u12/16>>0' }, [0xff, 0xff]).channel('a')).toEqual(Uint16Array.of(0xfff));
    expect(blockOf({ a: 'be:U24/32>>8' }, [1, 2, 3, 4]).channel('a')).toEqual(Uint32Array.of(0x010203));
    expect(blockOf({ a: 'be:s16/16X2>>0' }, [0, 1, 0, 2]).channel('a')).toEqual(Int16Array.of(1, 2));
    expect(blockOf({ a: 'be:u40/64>>0' }, [0, 0, 0, 1, 0, 0, 0, 2]).channel('a')).toEqual(
      BigUint64Array.of(0x0100000002n),
    );
    expect(blockOf({ a: 'le:S24/64>>0' }, [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).channel('a')).toEqual(
      Int32Array.of(-2),
    );
    expect(blockOf({ a: 'be:s12/16>>4' }, [0, 0]).interleaved()).toBeUndefined();
  });

  it('is released once, also by `using`', () => {
    let released = 0;
    const channels = [channel('a', 0, 'le:s8/8>>0')];
    const layout = sampleLayout(channels, ChannelMask.of(1, [0]));
    const block = blockIn(layout, new Uint8Array(4), undefined, () => released++);
    block[Symbol.dispose]();
    block.release();
    expect(released).toBe(1);
    expect(() => block.interleaved()).toThrow(/after release/);
  });

  it('gives physical values with the scale and offset of the stream, into memory of the caller', () => {
    const channels = [channel('a', 0, 'le:s16/16>>0'), channel('b', 1, 'be:s12/16>>4')];
    const layout = sampleLayout(channels, ChannelMask.of(2, [0, 1]));
    const calibrations = new Map([[0, { scale: 0.5, offset: 10 }]]);
    const block = blockIn(layout, Uint8Array.of(2, 0, 0xff, 0xf0, 0xfe, 0xff, 0, 0x20), calibrations);
    const target = new Float32Array(8);
    const values = block.scaled('a', target);
    expect(values).toEqual(Float32Array.of(6, 4));
    expect(values.buffer).toBe(target.buffer);
    expect(block.scaled('b')).toEqual(Float32Array.of(-1, 2));
    expect(() => block.scaled('a', new Float32Array(1))).toThrow(/do not fit/);
    expect(() => blockOf({ a: 'le:s8/8>>0' }, [0]).scaled('a')).toThrow(/scaled: true/);
  });

  it('names the channels that it carries when asked for another', () => {
    const block = blockOf({ a: 'le:s8/8>>0', b: 'le:s8/8>>0' }, [0, 0]);
    expect(() => block.channel('c')).toThrow(/'c' \(channels: a, b\)/);
  });
});
