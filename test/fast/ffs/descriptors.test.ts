import { describe, expect, it } from 'vitest';
import { buildDescriptors, buildStrings } from '../../../src/ffs/descriptors.js';

function hex(bytes: Uint8Array, from = 0, to = bytes.length): string {
  return Buffer.from(bytes.subarray(from, to)).toString('hex');
}

function compact(text: string): string {
  return text.replaceAll(/\s/g, '');
}

/** Splits a list of USB descriptors by their own bLength. */
function split(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += bytes[offset] ?? 0) {
    parts.push(bytes.subarray(offset, offset + (bytes[offset] ?? 0)));
  }
  return parts;
}

describe('descriptors', () => {
  it('of one pipe, byte for byte', () => {
    expect(hex(buildDescriptors({ pipes: 1, microsoft: false }))).toBe(
      compact(`
        03000000 69000000 07000000 03000000 03000000 05000000
        0904000002ff000001 07058102400000 07050102400000
        0904000002ff000001 07058102000200 07050102000200
        0904000002ff000001 07058102000400 06300f000000 07050102000400 06300f000000
      `),
    );
  });

  it.each([1, 2, 3, 7, 15])('of %d pipes have 51 + 54 N bytes, and say so', (pipes) => {
    const blob = buildDescriptors({ pipes, microsoft: false });
    const view = new DataView(blob.buffer);
    expect(blob.length).toBe(51 + 54 * pipes);
    expect(view.getUint32(4, true)).toBe(blob.length);
    expect([12, 16, 20].map((offset) => view.getUint32(offset, true))).toEqual([
      1 + 2 * pipes,
      1 + 2 * pipes,
      1 + 4 * pipes,
    ]);
  });

  it.each([1, 3, 15])('of %d pipes: endpoints alternate IN, OUT at every speed', (pipes) => {
    const all = split(buildDescriptors({ pipes, microsoft: false }).subarray(24));
    const endpoints = all.filter((descriptor) => descriptor[1] === 5);
    const perSpeed = Array.from({ length: pipes }, (_, pipe) => [0x81 + pipe, 1 + pipe]).flat();
    expect(endpoints.map((descriptor) => descriptor[2])).toEqual([...perSpeed, ...perSpeed, ...perSpeed]);
    expect(all.filter((descriptor) => descriptor[1] === 4).map((descriptor) => descriptor[4])).toEqual([
      2 * pipes,
      2 * pipes,
      2 * pipes,
    ]);
  });

  it('carry the burst that was asked for in each companion', () => {
    const all = split(buildDescriptors({ pipes: 2, maxBurst: 3, microsoft: false }).subarray(24));
    const companions = all.filter((descriptor) => descriptor[1] === 0x30);
    expect(companions.map((descriptor) => descriptor[2])).toEqual([3, 3, 3, 3]);
  });

  it('with the compatible id for Windows, byte for byte', () => {
    const plain = buildDescriptors({ pipes: 1, microsoft: false });
    const blob = buildDescriptors({ pipes: 1 });
    // flags gain 8, a count of one goes before the descriptors, the OS descriptor after them.
    expect(hex(blob, 0, 28)).toBe(compact('03000000 90000000 0f000000 03000000 03000000 05000000 01000000'));
    expect(hex(blob, 28, 28 + plain.length - 24)).toBe(hex(plain, 24));
    expect(hex(blob, plain.length + 4)).toBe(
      compact(`
        00 23000000 0001 0400 0100
        00 01 57494e5553420000 0000000000000000 000000000000
      `),
    );
  });

  it('with an interface GUID, byte for byte', () => {
    const guid = '{01234567-89AB-CDEF-0123-456789abcdef}';
    const blob = buildDescriptors({ pipes: 1, microsoft: { deviceInterfaceGuid: guid } });
    const compatible = buildDescriptors({ pipes: 1 });
    expect(new DataView(blob.buffer).getUint32(24, true)).toBe(2);
    expect(hex(blob, compatible.length)).toBe(
      compact(`
        00 54000000 0001 0500 0100
        49000000 01000000
        1400 ${Buffer.from('DeviceInterfaceGUID\0').toString('hex')}
        27000000 ${Buffer.from(`${guid}\0`).toString('hex')}
      `),
    );
  });

  it.each([
    ['no pipe', { pipes: 0 }],
    ['more endpoints than FunctionFS takes', { pipes: 16 }],
    ['half a pipe', { pipes: 1.5 }],
    ['a burst of 17 packets', { pipes: 1, maxBurst: 16 }],
    ['a GUID without braces', { pipes: 1, microsoft: { deviceInterfaceGuid: '01234567-89AB-CDEF-0123-456789ABCDEF' } }],
  ])('refuse %s', (_what, options) => {
    expect(() => buildDescriptors(options)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('strings: the one name that hosts look for', () => {
    expect(hex(buildStrings())).toBe(compact('02000000 16000000 01000000 01000000 0904 49494f00'));
  });
});
