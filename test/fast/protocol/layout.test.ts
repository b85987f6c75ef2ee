import { describe, expect, it } from 'vitest';
import {
  type ChannelDescription,
  ChannelMask,
  decodeSample,
  encodeSample,
  parseScanFormat,
  sampleLayout,
} from '../../../protocol/src/index.js';

function channel(id: string, index?: number, format = 'le:s16/16>>0'): ChannelDescription {
  return {
    id,
    direction: 'in',
    attributes: [],
    eventAttributes: [],
    ...(index === undefined ? {} : { scanElement: { index, format: parseScanFormat(format) } }),
  };
}

function channels(...formats: string[]): ChannelDescription[] {
  return formats.map((format, index) => channel(`voltage${index}`, index, format));
}

describe('sample set layout', () => {
  it.each([
    ['two of 16 bits', ['le:s16/16>>0', 'le:s16/16>>0'], [0, 2], 4],
    ['s16, s32, s16: padded inside and at the end', ['le:s16/16>>0', 'le:s32/32>>0', 'le:s16/16>>0'], [0, 4, 8], 12],
    ['three axes and a timestamp', ['le:s16/16>>0', 'le:s16/16>>0', 'le:s16/16>>0', 'le:s64/64>>0'], [0, 2, 4, 8], 16],
    ['one byte before a timestamp', ['le:u8/8>>0', 'le:s64/64>>0'], [0, 8], 16],
    ['a timestamp before one byte', ['le:s64/64>>0', 'le:u8/8>>0'], [0, 8], 16],
    ['a quaternion aligned to all of its repeats', ['le:s16/16>>0', 'le:s32/32X4>>0'], [0, 16], 32],
    ['a repeated element first', ['le:s16/16X2>>0', 'le:s16/16>>0'], [0, 4], 8],
    ['one element', ['be:u24/32>>8'], [0], 4],
  ])('%s', (_, formats, offsets, bytes) => {
    const device = channels(...formats);
    const layout = sampleLayout(device, ChannelMask.of(device.length, device.keys()));
    expect(layout.channels.map(({ offset }) => offset)).toEqual(offsets);
    expect(layout.bytes).toBe(bytes);
    expect(layout.channels.map(({ position }) => position)).toEqual([...device.keys()]);
  });

  it('places enabled channels only', () => {
    const device = channels('le:s16/16>>0', 'le:s32/32>>0', 'le:s16/16>>0');
    const layout = sampleLayout(device, ChannelMask.of(3, [0, 2]));
    expect(layout.channels.map(({ position, offset }) => [position, offset])).toEqual([
      [0, 0],
      [2, 2],
    ]);
    expect(layout.bytes).toBe(4);
    expect(sampleLayout(device, ChannelMask.empty(3))).toEqual({ bytes: 0, channels: [] });
  });

  it('lets channels of one scan index share storage', () => {
    const device = [
      channel('voltage0', 0, 'le:u4/16>>0'),
      channel('voltage1', 0, 'le:u4/16>>4'),
      channel('voltage2', 1, 'le:u16/16>>0'),
    ];
    const layout = sampleLayout(device, ChannelMask.of(3, [0, 1, 2]));
    expect(layout.channels.map(({ offset }) => offset)).toEqual([0, 0, 2]);
    expect(layout.bytes).toBe(4);
  });

  it('goes by scan index, and leaves out channels that have none', () => {
    const device = [channel('voltage1', 7, 'le:s32/32>>0'), channel('temp0'), channel('voltage0', 3)];
    const layout = sampleLayout(device, ChannelMask.of(3, [0, 1, 2]));
    expect(layout.channels.map((entry) => [entry.channel.id, entry.offset])).toEqual([
      ['voltage0', 0],
      ['voltage1', 4],
    ]);
    expect(layout.bytes).toBe(8);
  });
});

function view(...bytes: number[]): DataView {
  return new DataView(Uint8Array.from(bytes).buffer);
}

describe('sample values', () => {
  it.each([
    ['le:s12/16>>0', [0xff, 0x0f], -1],
    ['le:s12/16>>0', [0xff, 0xf7], 2047],
    ['le:u12/16>>4', [0x30, 0x12], 0x123],
    ['le:s12/16>>4', [0x00, 0x80], -2048],
    ['le:S12/16>>0', [0x00, 0xf8], -2048],
    ['be:s16/16>>0', [0x80, 0x01], -32767],
    ['be:u24/32>>8', [0x12, 0x34, 0x56, 0xff], 0x123456],
    ['be:S24/32>>8', [0xff, 0xff, 0xfe, 0x00], -2],
    ['be:U24/32>>8', [0xff, 0xff, 0xfe, 0x00], 0xfffffe],
    ['le:u32/32>>0', [0xff, 0xff, 0xff, 0xff], 0xffffffff],
    ['le:s32/32>>0', [0xff, 0xff, 0xff, 0xff], -1],
    ['le:u8/8>>0', [0x80], 128],
    ['le:s8/8>>0', [0x80], -128],
    ['le:u1/8>>7', [0x80], 1],
    ['le:s24/24>>0', [0x00, 0x00, 0x80], -8388608],
    ['be:u24/24>>0', [0x80, 0x00, 0x01], 0x800001],
    ['le:s64/64>>0', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -1n],
    ['le:u64/64>>0', [0, 0, 0, 0, 0, 0, 0, 0x80], 1n << 63n],
    ['be:s40/64>>16', [0xaa, 0x80, 0, 0, 0, 1, 0xaa, 0xaa], 0x80_0000_0001n - (1n << 40n)],
    ['le:s32/64>>0', [0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0], -2],
    ['le:u128/128>>0', [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], (1n << 120n) | 1n],
  ])('%s: %j reads as %s', (text, bytes, value) => {
    expect(decodeSample(view(0xaa, ...bytes), 1, parseScanFormat(text))).toBe(value);
  });

  it('reads each element of a repeated one', () => {
    const format = parseScanFormat('le:s16/16X3>>0');
    const data = view(1, 0, 2, 0, 0xff, 0xff);
    expect([0, 1, 2].map((element) => decodeSample(data, 0, format, element))).toEqual([1, 2, -1]);
  });

  it.each([
    ['le:s12/16>>4', -2048, [0x00, 0x80]],
    ['le:u12/16>>4', 0x123, [0x30, 0x12]],
    ['le:u12/16>>0', 0x1fff, [0xff, 0x0f]],
    ['be:u24/32>>8', 0x123456, [0x12, 0x34, 0x56, 0x00]],
    ['le:S12/16>>0', -1, [0xff, 0xff]],
    ['be:s16/16>>0', -2, [0xff, 0xfe]],
    ['le:s64/64>>0', -1n, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ])('%s: %s is written as %j', (text, value, bytes) => {
    const data = view(...new Array<number>(bytes.length).fill(0xaa));
    encodeSample(data, 0, parseScanFormat(text), value);
    expect(Array.from(new Uint8Array(data.buffer))).toEqual(bytes);
  });

  it('survive writing and reading at the ends of every range', () => {
    for (const text of [
      'le:s12/16>>4',
      'be:u10/32>>3',
      'le:S16/16>>0',
      'be:s24/24>>0',
      'le:u64/64>>0',
      'be:s48/64>>2',
    ]) {
      const format = parseScanFormat(text);
      const span = 1n << BigInt(format.bits);
      const [least, most] = format.signed ? [-(span / 2n), span / 2n - 1n] : [0n, span - 1n];
      for (const value of [least, 0n, 1n, most]) {
        const data = new DataView(new ArrayBuffer(16));
        encodeSample(data, 8, format, value);
        expect(BigInt(decodeSample(data, 8, format)), `${text} ${value}`).toBe(value);
      }
    }
  });

  it('refuses to write a fraction', () => {
    expect(() => encodeSample(view(0, 0), 0, parseScanFormat('le:s16/16>>0'), 0.5)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });
});
