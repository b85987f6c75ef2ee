import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { IioBuffer } from '../../../src/iio/buffer.js';

const DEVICE = 'iio:device0';

interface Places {
  readonly sysfsRoot: string;
  readonly devRoot: string;
}

/** A device in sysfs with one channel and a running buffer. Its node in /dev is what `makeNode` makes. */
async function fakeDevice(makeNode: (path: string) => Promise<void>, layout = 'buffer0'): Promise<Places> {
  const root = await mkdtemp(join(tmpdir(), 'iio-buffer-'));
  onTestFinished(() => rm(root, { recursive: true }));
  const places = { sysfsRoot: join(root, 'sys'), devRoot: join(root, 'dev') };
  const buffer = join(places.sysfsRoot, DEVICE, layout);
  await mkdir(buffer, { recursive: true });
  await mkdir(places.devRoot);
  await writeFile(join(buffer, 'enable'), '1\n');
  await writeFile(join(buffer, 'in_voltage0_en'), '1\n');
  await writeFile(join(buffer, 'in_voltage0_index'), '0\n');
  await makeNode(join(places.devRoot, DEVICE));
  return places;
}

function open(places: Places, options: { readonly index?: number; readonly channels?: readonly string[] } = {}) {
  return IioBuffer.open({ device: DEVICE, index: 0, channels: ['in_voltage0'], ...options, ...places });
}

describe('an IIO buffer that cannot be opened', () => {
  test('because the kernel does not know IIO_BUFFER_GET_FD says which kernel does', async () => {
    // A regular file answers the request as an old kernel's node does: ENOTTY.
    const places = await fakeDevice((path) => writeFile(path, ''));
    await expect(open(places)).rejects.toMatchObject({
      code: 'KERNEL_TOO_OLD',
      message: expect.stringMatching(/buffer 0 of iio:device0.*Linux 5\.11.*Linux 6\.11/),
    });
    // What does not belong to us is left as it was.
    expect(await readFile(join(places.sysfsRoot, DEVICE, 'buffer0', 'enable'), 'utf8')).toBe('1\n');
  });

  test('because it has no node says so', async () => {
    const places = await fakeDevice(async () => {});
    await expect(open(places)).rejects.toMatchObject({ code: 'ENOENT', message: expect.stringMatching(/no node/) });
  });

  test('because it does not exist, or the device or the channel does not, names it', async () => {
    const places = await fakeDevice((path) => writeFile(path, ''));
    await expect(open(places, { index: 3 })).rejects.toMatchObject({
      code: 'ENODEV',
      message: 'iio:device0 has no buffer 3',
    });
    await expect(open(places, { channels: ['in_voltage7'] })).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/no channel in_voltage7; it has in_voltage0/),
    });
    await expect(IioBuffer.open({ device: '../../etc', index: 0, channels: [], ...places })).rejects.toMatchObject({
      code: 'ENODEV',
    });
  });
});
