import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collectInfo, formatInfo } from '../../../host-client/src/cli/info.js';
import { formatSummary, read } from '../../../host-client/src/cli/read.js';
import { remedyFor } from '../../../host-client/src/cli/remedies.js';
import { Context } from '../../../host-client/src/core/context.js';
import { FakeServer, type FakeServerOptions } from './fake-server.js';

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
  const options = { samplesPerBlock: 100, blocks: 4, timeoutMs: 500 };

  it('writes exactly the samples asked for, in order', async () => {
    const { server, context } = await connect();
    const output = join(directory, 'samples');
    const summary = await read(context.device('adc'), options, { samples: 1234, output });
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
    const output = join(directory, 'samples');
    const reading = read(
      context.device('adc'),
      { ...options, signal: interruption.signal },
      { samples: Number.POSITIVE_INFINITY, output },
    );
    setTimeout(() => interruption.abort(), 50);
    const { samplesWritten } = await reading;
    await context.close();
    const bytes = await readFile(output);
    expect(samplesWritten).toBeGreaterThan(0);
    expect(bytes).toHaveLength(samplesWritten * 8);
    expect(server.log).toContain('main: CLOSE_BUFFER');
  });

  it('fails if no samples come', async () => {
    const { context } = await connect({ noSamples: true });
    const output = join(directory, 'samples');
    const reading = read(context.device('adc'), { ...options, timeoutMs: 50 }, { samples: 1, output });
    await expect(reading).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    await context.close();
  });
});

describe('the advice to an error', () => {
  const advice = (code: string, message: string) => remedyFor(new IioError(code, message)) ?? 'none';

  it('explains the errno of a server that sent nothing else', () => {
    expect(advice('EINVAL', 'write 5 to a/b: EINVAL')).toContain('_available');
    expect(advice('EBUSY', 'open buffer 0: EBUSY')).toContain('another program');
    expect(advice('EINVAL', 'write 5 to a/b: it takes 1, 2, 3')).toBe('none');
  });

  it('tells a forbidden device from a forbidden operation', () => {
    expect(advice('EACCES', 'no permission to open it; put this line into /etc/udev/rules.d/')).toBe('none');
    expect(advice('EACCES', 'read register 5: EACCES')).toContain('--config-file');
  });
});
