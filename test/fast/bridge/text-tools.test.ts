import { spawn, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/bridge/config.js';
import { Service } from '../../../src/bridge/service.js';
import { FakeLog } from './text-fakes.js';

const TOOLS = ['iio_info', 'iio_readdev', 'iio_writedev', 'iio_attr', 'iio_genxml'];
const missing = TOOLS.filter((tool) => spawnSync(tool, ['-h']).error !== undefined);
if (missing.length > 0) {
  console.warn(`skipped: ${missing.join(', ')} not found; install libiio-utils`);
}

const log = new FakeLog();
let service: Service;
let uri = '';

beforeAll(async () => {
  const config = parseConfig(
    {
      usb: { enabled: false },
      tcp: { listen: ['127.0.0.1:0'] },
      emulate: {
        context: 'test/fixtures/emulated/converters.xml',
        freeRunning: true,
        loopback: { from: 'emu-dac', to: 'emu-adc' },
      },
    },
    'test',
  );
  service = await Service.start(config, { log });
  uri = `ip:127.0.0.1:${service.endpoints[0]?.port}`;
});

afterAll(async () => {
  await service.stop();
  expect(log.errors).toEqual([]);
});

interface Run {
  readonly status: number | null;
  readonly out: Buffer;
  readonly err: string;
}

/** Runs a tool; `until` ends it by SIGTERM. */
async function run(tool: string, args: readonly string[], input?: Uint8Array, until?: Promise<unknown>): Promise<Run> {
  const child = spawn(tool, ['-u', uri, ...args]);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.on('data', (piece: Buffer) => err.push(piece));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? new Uint8Array(0));
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('close', resolve);
    child.on('error', reject);
  });
  const stop = until?.then(() => child.kill('SIGTERM'));
  const status = await exited;
  await stop;
  return { status, out: Buffer.concat(out), err: Buffer.concat(err).toString() };
}

function words(bytes: Buffer): number[] {
  return Array.from({ length: bytes.byteLength / 2 }, (_, i) => bytes.readInt16LE(2 * i));
}

describe.skipIf(missing.length > 0)('libiio-utils 0.24', () => {
  it('iio_info shows every device, without an error but those of permissions', async () => {
    const { status, out } = await run('iio_info', []);
    expect(status).toBe(0);
    const text = out.toString();
    expect(text).toContain('IIO context has 4 devices');
    expect(text).toContain('emu-adc');
    const errors = text.split('\n').filter((line) => line.includes('ERROR') && !line.includes('(13)'));
    expect(errors).toEqual([]);
  });

  it('iio_genxml gets the document', async () => {
    const { status, out } = await run('iio_genxml', []);
    expect(status).toBe(0);
    expect(out.toString()).toContain('<device id="iio:device2" name="emu-dac"');
  });

  it('iio_attr reads what it has written', async () => {
    const write = await run('iio_attr', ['-c', 'emu-adc', 'voltage1', 'scale', '0.25']);
    expect(write.status).toBe(0);
    const { out } = await run('iio_attr', ['-c', 'emu-adc', 'voltage1', 'scale']);
    expect(out.toString()).toBe('0.25\n');
  });

  it.each([
    [64, 128],
    [64, 100],
    [1, 5],
    [200_000, 300_001],
  ])('iio_readdev -b %i -s %i gets all samples', async (block, count) => {
    const { status, out, err } = await run('iio_readdev', ['-b', `${block}`, '-s', `${count}`, 'emu-mixed']);
    expect([status, err]).toEqual([0, '']);
    // s16, s24 in 32, s32, u12 in 16, pad, s64
    expect(out.byteLength).toBe(count * 24);
  });

  it('iio_readdev shows the samples that iio_writedev plays, in order', async () => {
    const pattern = Int16Array.from({ length: 4 * 1000 }, (_, i) => i);
    const reading = run('iio_readdev', ['-b', '500', '-s', '4000', 'emu-adc']);
    const writing = run('iio_writedev', ['-b', '1000', '-c', 'emu-dac'], new Uint8Array(pattern.buffer), reading);
    const { out, status } = await reading;
    await writing;
    expect(status).toBe(0);
    const sets = words(out);
    expect(sets).toHaveLength(16_000);
    const first = sets.findIndex((_, i) => sets[i] === 0 && sets[i + 1] === 1);
    expect(first).toBeGreaterThanOrEqual(0);
    const played = sets.slice(first);
    expect(played).toEqual(played.map((_, i) => i % 4000));
  });

  it('two iio_readdev share a buffer, each with its own channels', async () => {
    const results = await Promise.all([
      run('iio_readdev', ['-b', '4096', '-s', '100000', 'emu-mixed', 'voltage0']),
      run('iio_readdev', ['-b', '1024', '-s', '50000', 'emu-mixed', 'voltage0', 'voltage3']),
    ]);
    expect(results.map(({ status }) => status)).toEqual([0, 0]);
    expect(results.map(({ out }) => out.byteLength)).toEqual([200_000, 200_000]);
  });

  it('iio_writedev plays all it is given', async () => {
    const { status, err } = await run('iio_writedev', ['-b', '256', '-s', '1024', 'emu-dac'], new Uint8Array(8 * 1024));
    expect([status, err]).toEqual([0, '']);
  });
});
