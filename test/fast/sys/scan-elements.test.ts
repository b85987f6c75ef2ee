import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ScanFormat } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { IioBuffer, listScanElements, matchScanElement, type ScanChannel } from '../../../src/iio/buffer.js';

const format: ScanFormat = {
  endianness: 'le',
  signed: true,
  fullyDefined: false,
  bits: 16,
  storageBits: 16,
  repeat: 1,
  shift: 0,
};

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

function scanElements(directory: string, indexes: Readonly<Record<string, number>>): void {
  mkdirSync(directory, { recursive: true });
  for (const [stem, index] of Object.entries(indexes)) {
    writeFileSync(join(directory, `${stem}_en`), '0\n');
    writeFileSync(join(directory, `${stem}_index`), `${index}\n`);
    writeFileSync(join(directory, `${stem}_type`), 'le:s16/16>>0\n');
  }
}

function channel(direction: 'in' | 'out', id: string, index: number, name?: string): ScanChannel {
  return { id, direction, scanElement: { index, format }, ...(name === undefined ? {} : { name }) };
}

describe('scan elements', () => {
  it('come in sample-set order, not in that of the directory', async () => {
    const directory = temporaryDirectory();
    scanElements(directory, { in_voltage10: 10, in_timestamp: 11, in_voltage2: 2, out_voltage0: 0 });
    expect((await listScanElements(directory)).map(({ stem }) => stem)).toEqual([
      'out_voltage0',
      'in_voltage2',
      'in_voltage10',
      'in_timestamp',
    ]);
  });

  it('are found by index, whatever the file name adds to the id', async () => {
    const directory = temporaryDirectory();
    scanElements(directory, { in_voltage0_vccint: 0, in_voltage1_vccaux: 1, out_voltage0: 0 });
    const elements = await listScanElements(directory);
    expect(matchScanElement(elements, channel('in', 'voltage0', 0, 'vccint'))?.stem).toBe('in_voltage0_vccint');
    expect(matchScanElement(elements, channel('in', 'voltage1', 1))?.stem).toBe('in_voltage1_vccaux');
    expect(matchScanElement(elements, channel('out', 'voltage0', 0))?.stem).toBe('out_voltage0');
    expect(matchScanElement(elements, channel('out', 'voltage0', 1))).toBeUndefined();
  });

  it('that share an index are told apart by name', async () => {
    const directory = temporaryDirectory();
    scanElements(directory, { in_voltage0: 0, in_voltage0_flags: 0 });
    const elements = await listScanElements(directory);
    expect(matchScanElement(elements, channel('in', 'voltage0', 0, 'flags'))?.stem).toBe('in_voltage0');
    expect(matchScanElement(elements, channel('in', 'voltage0_flags', 0))?.stem).toBe('in_voltage0_flags');
  });
});

describe('IioBuffer.open', () => {
  it('of a device that does not exist: ENODEV', async () => {
    const sysfsRoot = temporaryDirectory();
    await expect(IioBuffer.open({ device: 'iio:device7', index: 0, channels: [], sysfsRoot })).rejects.toMatchObject({
      code: 'ENODEV',
      message: 'there is no IIO device iio:device7',
    });
  });

  it.each(['../device0', '', 'a/b'])("does not take '%s' for a device", async (device) => {
    const sysfsRoot = temporaryDirectory();
    await expect(IioBuffer.open({ device, index: 0, channels: [], sysfsRoot })).rejects.toMatchObject({
      code: 'ENODEV',
    });
  });

  it('of a buffer that the device does not have: ENODEV', async () => {
    const sysfsRoot = temporaryDirectory();
    scanElements(join(sysfsRoot, 'iio:device0', 'buffer0'), { in_voltage0: 0 });
    await expect(IioBuffer.open({ device: 'iio:device0', index: 1, channels: [], sysfsRoot })).rejects.toMatchObject({
      code: 'ENODEV',
      message: 'iio:device0 has no buffer 1',
    });
  });

  it('with a channel that the buffer does not have: ENOENT with those it has, before the device is touched', async () => {
    const sysfsRoot = temporaryDirectory();
    scanElements(join(sysfsRoot, 'iio:device0', 'scan_elements'), { in_voltage0: 0, in_voltage1: 1 });
    const open = IioBuffer.open({ device: 'iio:device0', index: 0, channels: ['in_voltage9'], sysfsRoot });
    await expect(open).rejects.toMatchObject({
      code: 'ENOENT',
      message: 'buffer 0 of iio:device0 has no channel in_voltage9; it has in_voltage0, in_voltage1',
    });
  });

  it('on a file that is no IIO device: KERNEL_TOO_OLD with the version that is needed', async () => {
    const root = temporaryDirectory();
    scanElements(join(root, 'iio:device0', 'buffer0'), { in_voltage0: 0 });
    mkdirSync(join(root, 'dev'));
    writeFileSync(join(root, 'dev', 'iio:device0'), '');
    const options = { device: 'iio:device0', index: 0, channels: ['in_voltage0'], sysfsRoot: root };
    await expect(IioBuffer.open({ ...options, devRoot: join(root, 'dev') })).rejects.toMatchObject({
      code: 'KERNEL_TOO_OLD',
      message: expect.stringContaining('Linux 5.11'),
    });
  });
});
