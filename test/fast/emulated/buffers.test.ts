import { readSync, writeSync } from 'node:fs';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { ChannelMask } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import {
  deviceNamed,
  fixture,
  generator,
  LENGTHS,
  openBackend,
  openBuffer,
  openSockets,
  readBytes,
  readNow,
  writeBytes,
  writeText,
} from './support.js';

const FREE = { freeRunning: true };
const LOOPBACK = { from: 'emu-dac', to: 'emu-adc' };

describe('a buffer', () => {
  it('gives nothing before it is enabled, nor after it is disabled', async () => {
    const { buffer } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc');
    expect(readNow(buffer.fd, 8)).toHaveLength(0);
    await buffer.enable(LENGTHS);
    await readBytes(buffer.fd, 8);
    await buffer.disable();
    expect(readNow(buffer.fd, 8)).toHaveLength(0);
  });

  it('starts at set 0 whenever it is enabled, wherever it was stopped', async () => {
    const { buffer } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc');
    for (const bytes of [8, 13, 0, 65_536, 300_000, 300_003]) {
      await buffer.enable(LENGTHS);
      await buffer.enable(LENGTHS);
      const read = await readBytes(buffer.fd, bytes);
      const numbers = new BigUint64Array(read.buffer, 0, Math.floor(bytes / 8));
      expect(numbers.findIndex((number, set) => number !== BigInt(set))).toBe(-1);
      await buffer.disable();
      await buffer.disable();
    }
  });

  it('that is stopped while its reader sleeps stops', async () => {
    const { buffer } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc');
    await buffer.enable(LENGTHS);
    await readBytes(buffer.fd, 1);
    await buffer.disable();
    expect(readNow(buffer.fd, 1)).toHaveLength(0);
  });

  it('has one user at a time', async () => {
    const backend = await openBackend(fixture('converters'), FREE);
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await expect(openBuffer(backend, 'emu-adc')).rejects.toMatchObject({ code: 'EBUSY' });
    await openBuffer(backend, 'emu-mixed');
    await buffer.close();
    await openBuffer(backend, 'emu-adc');
  });

  it('must exist and have channels, of which those of others do not count', async () => {
    const backend = await openBackend(fixture('pluto'));
    const device = deviceNamed(backend, 'cf-ad9361-dds-core-lpc');
    const open = (index: number, positions: number[]) =>
      backend.openBuffer(device, index, ChannelMask.of(4, positions));
    await expect(open(0, [])).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(open(0, [2, 3])).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(open(1, [0])).rejects.toMatchObject({ code: 'ENODEV' });
    await expect(backend.openBuffer(99, 0, ChannelMask.of(1, [0]))).rejects.toMatchObject({ code: 'ENODEV' });
    await expect(backend.openBuffer(0, 0, ChannelMask.of(6, [0]))).rejects.toMatchObject({ code: 'ENODEV' });
    await using buffer = await open(0, [1, 2]);
    expect(buffer.mask.positions()).toEqual([1]);
  });

  it('is useless after close, which may come twice and at any time', async () => {
    const backend = await openBackend(fixture('converters'), FREE);
    const { buffer } = await openBuffer(backend, 'emu-adc');
    const enabling = buffer.enable(LENGTHS);
    const closing = [buffer.close(), buffer.close()];
    await enabling.catch((error: unknown) => expect(error).toMatchObject({ code: 'EBADF' }));
    await Promise.all(closing);
    expect(() => buffer.fd).toThrow(expect.objectContaining({ code: 'EBADF' }));
    await expect(buffer.enable(LENGTHS)).rejects.toMatchObject({ code: 'EBADF' });
    await buffer.disable();
  });

  it('leaves no descriptor behind in 200 rounds', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const before = openSockets();
    for (let round = 0; round < 200; round++) {
      const { buffer: input } = await openBuffer(backend, round % 2 === 0 ? 'emu-adc' : 'emu-mixed');
      const { buffer: output } = await openBuffer(backend, 'emu-dac');
      if (round % 3 > 0) await input.enable(LENGTHS);
      if (round % 4 > 0) await output.enable(LENGTHS);
      writeSync(output.fd, new Uint8Array(800));
      if (round % 5 > 3) await input.disable();
      await Promise.all([input.close(), output.close()]);
    }
    expect(openSockets()).toEqual(before);
  });
});

describe('buffers of all kinds', () => {
  it('survive any order of operations, and every start is clean (seeded)', async () => {
    const random = generator(3_141_592);
    const pick = (below: number) => Math.floor(random() * below);
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    const { buffer: mixed } = await openBuffer(backend, 'emu-mixed', ['voltage2']);
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    const operations = [
      () => output.enable(LENGTHS),
      () => output.disable(),
      () => input.enable(LENGTHS),
      () => input.disable(),
      async () => readNow(input.fd, pick(200_000)),
      async () => {
        try {
          writeSync(output.fd, new Uint8Array(pick(200_000)));
        } catch (error) {
          expect(error).toMatchObject({ code: 'EAGAIN' });
        }
      },
      () => setImmediate(),
      async () => {
        await mixed.disable();
        await mixed.enable(LENGTHS);
        const count = 1 + pick(40_000);
        const numbers = new Int32Array((await readBytes(mixed.fd, 4 * count)).buffer);
        expect([numbers[0], numbers[count - 1]]).toEqual([0, count - 1]);
      },
    ];
    for (let step = 0; step < 1500; step++) {
      await operations[pick(operations.length)]?.();
    }
    // The wire works as if nothing had been. What was written while the output was off has to go, too.
    await output.enable(LENGTHS);
    await Promise.all([output.disable(), input.disable()]);
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([...(await readBytes(input.fd, 8))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe('an output', () => {
  it('takes samples before it is enabled', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    writeSync(output.fd, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    expect([...(await readBytes(input.fd, 8))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('throws away what it has not played when it is disabled, half a sample set included', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    // The input is not read: the wire fills up, and the output stops in the middle.
    const filler = new Uint8Array(64 * 1024 + 3).fill(7);
    for (let full = false; !full; ) {
      try {
        full = writeSync(output.fd, filler) < filler.byteLength;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
        full = true;
      }
    }
    await output.disable();
    await input.disable();
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([...(await readBytes(input.fd, 8))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('without a wire swallows what it plays', async () => {
    const backend = await openBackend(fixture('converters'), FREE);
    const { buffer } = await openBuffer(backend, 'emu-dac', ['voltage1']);
    await buffer.enable(LENGTHS);
    await writeBytes(buffer.fd, new Uint8Array(3_000_000));
  });
});

describe('a loopback', () => {
  it('carries every bit', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    const sent = Uint8Array.from({ length: 2_000_000 }, (_, i) => (i * 2_654_435_761) >>> 24);
    const writing = writeBytes(output.fd, sent);
    const parts: Uint8Array[] = [];
    for (let done = 0; done < sent.byteLength; ) {
      // The wire fills up between one look and the next.
      for (let turn = 0; turn < 30; turn++) await setImmediate();
      const part = readNow(input.fd, Math.min(100_000, sent.byteLength - done));
      parts.push(part);
      done += part.byteLength;
    }
    await writing;
    expect(Buffer.concat(parts).equals(sent)).toBe(true);
  });

  it('joins channels by their place, by value; what is not played is 0', async () => {
    const xml = `<context name="x">
      <device id="iio:device0" name="adc">
        <channel id="voltage0" type="input"><scan-element index="0" format="be:s12/16&gt;&gt;4"/></channel>
        <channel id="voltage1" type="input"><scan-element index="1" format="le:s24/32&gt;&gt;8"/></channel>
      </device>
      <device id="iio:device1" name="dac">
        <channel id="voltage0" type="output"><scan-element index="0" format="le:s16/16&gt;&gt;0"/></channel>
        <channel id="voltage1" type="output"><scan-element index="1" format="le:s16/16&gt;&gt;0"/></channel>
      </device></context>`;
    const backend = await openBackend(xml, { loopback: { from: 'iio:device1', to: 'adc' } });
    const { buffer: input } = await openBuffer(backend, 'adc');
    const { buffer: output } = await openBuffer(backend, 'dac');
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, new Uint8Array(Int16Array.of(-2, -3, 0x123, 0x456).buffer));
    const view = new DataView((await readBytes(input.fd, 16)).buffer);
    expect([view.getInt16(0), view.getInt16(8)]).toEqual([-2 << 4, 0x123 << 4]);
    expect([view.getInt32(4, true), view.getInt32(12, true)]).toEqual([-3 << 8, 0x456 << 8]);
    await output.close();

    const { buffer: single } = await openBuffer(backend, 'dac', ['voltage1']);
    await single.enable(LENGTHS);
    await writeBytes(single.fd, new Uint8Array(Int16Array.of(5).buffer));
    const next = new DataView((await readBytes(input.fd, 8)).buffer);
    expect([next.getInt16(0), next.getInt32(4, true)]).toEqual([0, 5 << 8]);
  });

  it('loses what is played while the input is off', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, loopback: LOOPBACK });
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    await output.enable(LENGTHS);
    // More than socket and queue hold: most of it has been played.
    await writeBytes(output.fd, new Uint8Array(2_000_000).fill(1));
    await output.disable();
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, new Uint8Array(8).fill(2));
    expect([...(await readBytes(input.fd, 8))]).toEqual(Array(8).fill(2));
  });

  it('needs devices that have such buffers', async () => {
    for (const loopback of [
      { from: 'nothing', to: 'emu-adc' },
      { from: 'emu-adc', to: 'emu-dac' },
    ]) {
      await expect(openBackend(fixture('converters'), { loopback })).rejects.toMatchObject({ code: 'EINVAL' });
    }
  });
});

describe('a converter that fails', () => {
  it('ends its stream instead of the process', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'iio-emulated-'));
    const path = `${directory}/emu-adc_buf0.bin`;
    await writeFile(path, new Uint8Array(8000));
    const backend = await openBackend(fixture('converters'), { ...FREE, sampleDirectory: directory });
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    await truncate(path, 0);
    await rm(directory, { recursive: true });
    const scrap = new Uint8Array(1 << 20);
    for (let count = -1; count !== 0; ) {
      await setImmediate();
      try {
        count = readSync(buffer.fd, scrap);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
      }
    }
    await buffer.disable();
    await expect(buffer.enable(LENGTHS)).rejects.toMatchObject({ code: 'EIO' });
    await buffer.close();
    // The next user gets a working one.
    const again = await openBuffer(backend, 'emu-adc');
    await writeText(backend, '1\0', 'device', 'emu-adc', 'free_running');
    await again.buffer.enable(LENGTHS);
    expect(await readBytes(again.buffer.fd, 8)).toHaveLength(8);
  });
});
