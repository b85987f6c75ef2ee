import { setTimeout } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { pattern } from '../dataplane/sockets.js';
import { FILE_SAMPLES, FILE_SETS, WIDE_CHANNELS } from './context.js';
import { mixedSamples, wideSamples } from './samples.js';
import { areInstalled, resources, run, ToolBench } from './tools.js';

const installed = areInstalled('iio_readdev', 'iio_writedev', 'iio_stresstest');
const bench = ToolBench.forAll();
// Programs start slowly where many do.
vi.setConfig({ testTimeout: 30_000 });

function readdev(...args: readonly string[]): Promise<Buffer> {
  return bench.output('iio_readdev', args);
}

/** Compares without showing megabytes. */
function expectSame(got: Buffer, expected: Buffer): void {
  expect(got.byteLength).toBe(expected.byteLength);
  const first = got.findIndex((byte, i) => byte !== expected[i]);
  expect(first < 0 ? 'the same' : `differs from byte ${first} on`).toBe('the same');
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe.skipIf(!installed)('iio_readdev', () => {
  it.each([
    ['one block after the other', 64, 128],
    ['a count that is no multiple of the block', 64, 100],
    ['blocks of one set', 1, 5],
    ['blocks of more than 1 MiB', 300_000, 600_001],
  ])('gets one channel: %s', async (_, block, sets) => {
    const got = await readdev('-b', `${block}`, '-s', `${sets}`, 'emu-mixed', 'voltage2');
    expectSame(got, mixedSamples([2], 0, sets));
  });

  // Not of sets that end in padding: libiio 0.24 does not know that kernels put it there.
  it.each([
    ['the even channels', [0, 2]],
    ['all but the last and the time stamp', [0, 1, 2]],
  ])('gets %s of unequal width', async (_, channels) => {
    const sets = 1000;
    const ids = channels.map((channel) => `voltage${channel}`);
    const got = await readdev('-b', '256', '-s', `${sets}`, 'emu-mixed', ...ids);
    // 2 bytes of padding behind the first.
    const expected = range(sets).flatMap((set) => [
      mixedSamples([0], set, 1),
      Buffer.alloc(2),
      mixedSamples(channels.slice(1), set, 1),
    ]);
    expectSame(got, Buffer.concat(expected));
  });

  it('gets the odd channels', async () => {
    const got = await readdev('-b', '256', '-s', '1000', 'emu-wide', 'voltage1', 'voltage3', 'voltage5');
    expectSame(got, wideSamples([1, 3, 5], 0, 1000));
  });

  it('gets all channels with a time stamp that counts 1 µs per set', async () => {
    const sets = 3000;
    const got = await readdev('-b', '1024', '-s', `${sets}`, 'emu-mixed');
    // s16, 2 bytes of padding, s24 in 32, s32, u12 in 16, 2 bytes of padding, s64
    expect(got.byteLength).toBe(24 * sets);
    const first = got.readBigInt64LE(16);
    expect(Number(first / 1_000_000n)).toBeGreaterThan(Date.now() - 60_000);
    for (let set = 0; set < sets; set++) {
      expect(got.readBigInt64LE(24 * set + 16)).toBe(first + 1000n * BigInt(set));
      expect(got.readInt32LE(24 * set + 8)).toBe(set);
    }
  });

  it('gets more than 32 channels', async () => {
    const got = await readdev('-b', '512', '-s', '2000', 'emu-wide');
    expectSame(got, wideSamples(range(WIDE_CHANNELS), 0, 2000));
  });

  it('gets some of more than 32 channels, in both words of the mask', async () => {
    const got = await readdev('-b', '512', '-s', '2000', 'emu-wide', 'voltage1', 'voltage31', 'voltage32', 'voltage38');
    expectSame(got, wideSamples([1, 31, 32, 38], 0, 2000));
  });

  it('gets the sample file, over and over', async () => {
    const got = await readdev('-b', '300', '-s', `${2 * FILE_SETS + 10}`, 'emu-file');
    expectSame(got, Buffer.concat([FILE_SAMPLES, FILE_SAMPLES, FILE_SAMPLES.subarray(0, 40)]));
  });

  it('gives up after its time-out where no samples come', async () => {
    const started = performance.now();
    const { status, out, err } = await bench.tool('iio_readdev', ['-T', '400', '-b', '4', '-s', '4', 'emu-idle']);
    expect(out.byteLength).toBe(0);
    expect(err).toBe('Unable to refill buffer: Connection timed out (110)\n');
    expect(status).not.toBe(null);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('stopped while it waits for samples, it leaves the device to the next', async () => {
    const opened = bench.opened;
    const waiting = bench.tool('iio_readdev', ['-T', '0', '-b', '4', '-s', '4', 'emu-idle'], {
      until: bench.whenOpened(opened + 1),
    });
    await waiting;
    const { err } = await bench.tool('iio_readdev', ['-T', '200', '-b', '4', '-s', '4', 'emu-idle']);
    expect(err).toBe('Unable to refill buffer: Connection timed out (110)\n');
  });

  it('two share a device, each with its own channels, and whoever is too slow loses whole blocks', async () => {
    const [{ out: one, err }, two] = await Promise.all([
      bench.tool('iio_readdev', ['-b', '4096', '-s', '100000', 'emu-mixed', 'voltage0']),
      readdev('-b', '1024', '-s', '50000', 'emu-mixed', 'voltage0', 'voltage3'),
    ]);
    // Its way to end where it had to pick its channels out of the other's.
    expect(['', 'buffer processing failed : Operation not permitted (1)\n']).toContain(err);
    // The buffer starts anew when the other comes or goes: what was sent before counts on its own.
    expectRuns(one, 2, (sample) => sample.readInt16LE());
    expectRuns(two, 4, (sample) => sample.readInt16LE());
    expect(one.byteLength).toBe(200_000);
    expect(two.byteLength).toBe(200_000);
    for (let at = 0; at < two.byteLength; at += 4) {
      expect(two.readUInt16BE(at + 2) >> 4).toBe(two.readInt16LE(at) & 0xfff);
    }
  });
});

/** Of the two: the capture has the longer one's. */
const SHARED_BLOCK_SETS = 4096;

/** The counter goes up by one, but for the few times at which it starts at 0 again, and for blocks that were not fetched. */
function expectRuns(bytes: Buffer, step: number, counter: (sample: Buffer) => number): void {
  let restarts = 0;
  for (let at = step; at < bytes.byteLength; at += step) {
    const expected = ((counter(bytes.subarray(at - step)) + 1) << 16) >> 16;
    const got = counter(bytes.subarray(at));
    if (got === 0 && expected !== 0) {
      restarts++;
    } else {
      expect(Math.abs(got - expected) % SHARED_BLOCK_SETS, `at byte ${at}: ${got} after ${expected - 1}`).toBe(0);
    }
  }
  expect(restarts).toBeLessThanOrEqual(2);
}

/** What a program plays last is thrown away when it closes the buffer at once; so it plays more than is compared. */
const TAIL_SETS = 50_000;

describe.skipIf(!installed)('iio_writedev', () => {
  it('plays what a program reads on the other side of the wire, bit for bit', async () => {
    const samples = Buffer.from(pattern(8 * (5000 + TAIL_SETS), 3));
    const opened = bench.opened;
    const reading = readdev('-b', '500', '-s', '5000', 'emu-adc');
    await bench.whenOpened(opened + 1);
    const writing = bench.output('iio_writedev', ['-b', '250', '-s', `${5000 + TAIL_SETS}`, 'emu-dac'], {
      input: samples,
    });
    const [read] = await Promise.all([reading, writing]);
    expectSame(read, samples.subarray(0, 8 * 5000));
  });

  it('plays on some channels', async () => {
    const samples = Buffer.from(pattern(4 * (1000 + TAIL_SETS), 5));
    const opened = bench.opened;
    const reading = readdev('-b', '100', '-s', '1000', 'emu-adc', 'voltage1', 'voltage2');
    await bench.whenOpened(opened + 1);
    const args = ['-b', '100', '-s', `${1000 + TAIL_SETS}`, 'emu-dac', 'voltage1', 'voltage2'];
    const [read] = await Promise.all([reading, bench.output('iio_writedev', args, { input: samples })]);
    expectSame(read, samples.subarray(0, 4 * 1000));
  });

  it('-c plays one block again and again until it is stopped', async () => {
    const sets = 1000;
    const samples = Buffer.from(pattern(8 * sets, 9));
    const opened = bench.opened;
    const reading = readdev('-b', '500', '-s', `${4 * sets}`, 'emu-adc');
    await bench.whenOpened(opened + 1);
    const writing = bench.tool('iio_writedev', ['-b', `${sets}`, '-c', 'emu-dac'], { input: samples, until: reading });
    const read = await reading;
    await writing;
    expectSame(read, Buffer.concat([samples, samples, samples, samples]));
  });

  it('plays all it is given although nobody listens, in blocks of more than 1 MiB', async () => {
    const sets = 300_000;
    await bench.output('iio_writedev', ['-b', '150000', '-s', `${sets}`, 'emu-dac'], {
      input: new Uint8Array(8 * sets),
    });
  });
});

describe.skipIf(!installed)('iio_stresstest', () => {
  it('opens context after context and buffer after buffer, and leaves nothing behind', {
    timeout: 30_000,
  }, async () => {
    await readdev('-b', '64', '-s', '1000', 'emu-mixed', 'voltage0');
    const before = resources();
    // Without -s and -v: with them it takes one of its options for the device.
    const args = ['-u', bench.uriWithoutPort, '-t', '4', '-T', '3', '-b', '256', 'emu-mixed', 'voltage0'];
    // Its threads go on for ever; when it is ended it shows what they did.
    const { out } = await run('iio_stresstest', args, { until: setTimeout(5000) });
    const [, contexts, buffers] = /Context : (\d+) .*buffers: (\d+) /.exec(String(out)) ?? [];
    expect(Number(contexts)).toBeGreaterThan(3);
    expect(Number(buffers)).toBeGreaterThan(3);
    await expect.poll(() => resources().descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before.descriptors);
    expect(resources().residentMib - before.residentMib).toBeLessThan(150);
    expectSame(await readdev('-b', '64', '-s', '100', 'emu-mixed', 'voltage2'), mixedSamples([2], 0, 100));
  });
});
