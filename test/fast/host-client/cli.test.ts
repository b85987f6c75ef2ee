import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collectInfo, formatInfo } from '../../../host-client/src/cli/info.js';
import { formatSummary, read } from '../../../host-client/src/cli/read.js';
import { Context } from '../../../host-client/src/core/context.js';
import { FakeServer, type FakeServerOptions } from './fake-server.js';

const MAIN = fileURLToPath(new URL('../../../host-client/dist/cli/main.js', import.meta.url));
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'iio-client-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function connect(options: FakeServerOptions = {}) {
  const server = new FakeServer(options);
  return { server, context: await Context.connect(server.transport, { timeoutMs: 500 }) };
}

describe('info', () => {
  it('shows the tree with values, and the error of an attribute that cannot be read', async () => {
    const { context } = await connect({
      intercept: (request) => {
        if (request.operation === 'READ_BUF_ATTR') {
          request.answer(-38);
          return true;
        }
        return false;
      },
    });
    const info = await collectInfo(context);
    await context.close();
    expect(formatInfo(info)).toBe(
      `IIO context usb:1.4.0
Description: Linux fake
Server version: 1.0 (git v1.0)
Context attributes: 3
  hw_model: Fake
  uri: usb:1.4.0
  usb,serial: 007
Devices: 2
  iio:device10: other
    1 attributes:
      b: ATTR 0 0 0
  iio:device2: adc [front end]
    4 channels:
${[0, 1, 2, 3]
  .map(
    (i) => `      voltage${i} (input, index ${i}, format le:S16/16>>0)
        offset: CHN_ATTR 1 0 ${i}
        raw: CHN_ATTR 1 1 ${i}
`,
  )
  .join('')}    1 buffers:
      buffer 0 (input: voltage0, voltage1, voltage2, voltage3)
        watermark: ERROR ENOSYS
    2 attributes:
      Zero: ATTR 1 0 0
      sampling_frequency: ATTR 1 1 0
    1 debug attributes:
      direct_reg_access: DBG_ATTR 1 0 0
`,
    );
    expect(JSON.parse(JSON.stringify(info)).devices[1].buffers[0].attributes).toEqual({
      watermark: { error: 'ENOSYS' },
    });
  });
});

describe('read', () => {
  const options = {
    device: 'adc',
    channels: [],
    samplesPerBlock: 100,
    blocks: 4,
    timeoutMs: 500,
    signal: new AbortController().signal,
  };

  it('writes exactly the samples asked for, in order', async () => {
    const { server, context } = await connect();
    const output = join(directory, 'samples');
    const summary = await read(context, { ...options, samples: 1234, output });
    await context.close();
    const bytes = await readFile(output);
    expect(bytes).toHaveLength(1234 * 8);
    expect(Array.from({ length: 1234 }, (_, i) => bytes.readBigUInt64LE(i * 8))).toEqual(
      Array.from({ length: 1234 }, (_, i) => BigInt(i)),
    );
    expect(summary).toMatchObject({ samplesWritten: 1234, sampleBytes: 8, device: 'adc' });
    expect(formatSummary(summary)).toMatch(/^1234 samples of voltage0, voltage1, voltage2, voltage3 \(0\.0 MB\) in /);
    expect(server.log.at(-2)).toBe('buffer: closed');
  });

  it('ends in order when interrupted, and tells what was written', async () => {
    const { server, context } = await connect();
    const interruption = new AbortController();
    const reading = read(context, {
      ...options,
      samples: undefined,
      output: join(directory, 'samples'),
      signal: interruption.signal,
    });
    setTimeout(() => interruption.abort(), 50);
    const { samplesWritten } = await reading;
    await context.close();
    const bytes = await readFile(join(directory, 'samples'));
    expect(samplesWritten).toBeGreaterThan(0);
    expect(bytes).toHaveLength(samplesWritten * 8);
    expect(server.log).toContain('main: CLOSE_BUFFER');
  });

  it('fails if no samples come', async () => {
    const { context } = await connect({ noSamples: true });
    const reading = read(context, { ...options, samples: 1, output: join(directory, 'samples'), timeoutMs: 50 });
    await expect(reading).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    await context.close();
  });
});

describe('the command line', () => {
  it.each([
    [['--help'], 0],
    [['read'], 2],
    [['read', 'adc', '-s', 'many', '-o', 'x'], 2],
    [['frobnicate'], 2],
    [['info', '-u', 'ip:localhost:1'], 1],
    [['info', '-u', 'usb:nonsense'], 1],
  ])('%j exits with %i', (args, expected) => {
    expect(existsSync(MAIN), `${MAIN} must be built`).toBe(true);
    const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
    expect({ status, stderr }).toMatchObject({ status: expected });
    expect(stderr === '').toBe(expected === 0);
  });
});
