import { contextToXml, IioError } from '@iio-bridge/protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { Context, type ContextOptions } from '../../../host-client/src/core/context.js';
import { CONTEXT } from './fake-server.js';
import { FakeTextServer, type FakeTextServerOptions } from './fake-text-server.js';

const open: Context[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((context) => context.close()));
});

async function connect(options: FakeTextServerOptions = {}, contextOptions: ContextOptions = {}) {
  const server = new FakeTextServer(options);
  const context = await Context.connect(server.transport, { timeoutMs: 5000, ...contextOptions });
  open.push(context);
  return { server, context, adc: context.device('adc') };
}

function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof IioError ? error.code : String(error)),
  );
}

function raise(): never {
  throw new Error('the context has no device');
}

describe('a server that refuses the binary protocol', () => {
  it('is spoken to in text: time-out, then the document, compressed if it can', async () => {
    const { server, context } = await connect();
    expect(context.protocol).toBe('text');
    expect(server.log).toEqual(['main: BINARY', 'main: TIMEOUT 2500', 'main: ZPRINT', 'main: PRINT']);
  });

  it('may answer ZPRINT with XML as it is', async () => {
    const { server, context } = await connect({ compressed: Buffer.from(contextToXml(CONTEXT)) });
    expect(context.devices).toHaveLength(2);
    expect(server.log).not.toContain('main: PRINT');
  });

  it('may know no time-outs', async () => {
    const { context } = await connect({
      intercept: (command, answer) => {
        if (command.startsWith('TIMEOUT')) {
          answer('-22\n');
          return true;
        }
        return false;
      },
    });
    expect(context.devices).toHaveLength(2);
  });

  it.each([64, 512, 1024])('sends documents and lines around multiples of %i bytes', async (packetSize) => {
    for (let length = 1; length < packetSize + 70; length += 61) {
      const { adc, server } = await connect({ packetSize, seed: length });
      const value = 'x'.repeat(length);
      await adc.attribute('Zero').write(value);
      expect(await adc.attribute('Zero').read()).toBe(value);
      expect(server.values.get('Zero')).toBe(value);
    }
  });
});

describe('attributes in text', () => {
  it('are addressed by their names', async () => {
    const { server, adc } = await connect();
    expect(await adc.attribute('Zero').read()).toBe('Zero');
    expect(await adc.channel('voltage2').attribute('raw').read()).toBe('INPUT voltage2 raw');
    expect(await adc.debugAttribute('direct_reg_access').read()).toBe('DEBUG direct_reg_access');
    expect(await adc.buffer(0).attribute('watermark').read()).toBe('BUFFER watermark');
    expect(server.log.slice(-4)).toEqual([
      'main: READ iio:device2 Zero',
      'main: READ iio:device2 INPUT voltage2 raw',
      'main: READ iio:device2 DEBUG direct_reg_access',
      'main: READ iio:device2 BUFFER watermark',
    ]);
  });

  it('give every one of many callers its own answer', async () => {
    const { adc } = await connect({ seed: 5 });
    const values = await Promise.all(
      adc.channels.flatMap((channel) => [channel.attribute('raw').read(), channel.attribute('offset').read()]),
    );
    expect(values).toEqual(adc.channels.flatMap(({ id }) => [`INPUT ${id} raw`, `INPUT ${id} offset`]));
  });

  it('carry the errno, and the link stays in step', async () => {
    const { server, adc } = await connect({
      intercept: (command, answer) => {
        if (command === 'READ iio:device2 Zero') {
          answer('-16\n');
          return true;
        }
        return false;
      },
    });
    expect(await code(adc.attribute('Zero').read())).toBe('EBUSY');
    expect(await adc.attribute('sampling_frequency').read()).toBe('sampling_frequency');
    expect(server.transport.links).toHaveLength(1);
  });

  it('registers go through direct_reg_access', async () => {
    const { server, adc } = await connect();
    await adc.writeRegister(0x10, 0xff);
    expect(server.values.get('DEBUG direct_reg_access')).toBe('0x10 0xff');
    const reading = adc.readRegister(0x20);
    await expect(reading).resolves.toBe(0x20);
    expect(await code(adc.openEvents())).toBe('ENOSYS');
    expect(await code(adc.readRegister(-1))).toBe('EINVAL');
  });

  it('triggers go by name', async () => {
    const { adc, context } = await connect();
    expect(await adc.getTrigger()).toBeUndefined();
    await adc.setTrigger('other');
    expect(await adc.getTrigger()).toBe(context.device('other'));
    await adc.setTrigger(undefined);
    expect(await adc.getTrigger()).toBeUndefined();
    expect(await code(adc.setTrigger('nobody'))).toBe('NO_DEVICE');
  });
});

describe('a device without a trigger', () => {
  it.each(['0\n', '-5\n', '-19\n'])('may be told as %j', async (line) => {
    const { name: _name, ...nameless } = CONTEXT.devices[0] ?? raise();
    const { adc } = await connect({
      context: { ...CONTEXT, devices: [nameless, ...CONTEXT.devices.slice(1)] },
      intercept: (command, answer) => {
        if (command.startsWith('GETTRIG')) {
          answer(line);
          return true;
        }
        return false;
      },
    });
    expect(await adc.getTrigger()).toBeUndefined();
  });
});

describe('an answer in text that comes late, or wrong', () => {
  it('is never taken for the next one’s: the link is opened anew', async () => {
    let held: (() => void) | undefined;
    const { server, adc } = await connect(
      {
        intercept: (command, answer) => {
          if (command === 'READ iio:device2 Zero') {
            held = () => answer('5\n');
            return true;
          }
          return false;
        },
      },
      { timeoutMs: 60 },
    );
    expect(await code(adc.attribute('Zero').read())).toBe('ETIMEDOUT');
    held?.();
    expect(await adc.attribute('sampling_frequency').read()).toBe('sampling_frequency');
    expect(server.transport.links).toHaveLength(2);
    expect(server.transport.links[0]?.isClosed).toBe(true);
  });

  it.each([
    ['no number', 'hello\n', 'EPROTO'],
    ['an absurd length', '2000000000\n', 'EPROTO'],
    ['a line without end', 'x'.repeat(9000), 'EPROTO'],
  ])('%s ends in a typed error, and the next request works', async (_, answer, expected) => {
    const { adc } = await connect({
      intercept: (command, send) => {
        if (command === 'READ iio:device2 Zero') {
          send(answer);
          return true;
        }
        return false;
      },
    });
    expect(await code(adc.attribute('Zero').read())).toBe(expected);
    expect(await adc.attribute('sampling_frequency').read()).toBe('sampling_frequency');
  });
});

describe('a stream in text', () => {
  async function check(options: FakeTextServerOptions, blocks: number, samplesPerBlock = 100) {
    const { server, adc } = await connect(options);
    const stream = await adc.createRxStream({ channels: ['voltage1', 'voltage3'], samplesPerBlock, blocks: 3 });
    let set = 0;
    for (let count = 0; count < blocks; count++) {
      const { value: block } = await stream.next();
      expect(block?.samples).toBe(samplesPerBlock);
      const values = block?.interleaved();
      for (let i = 0; i < samplesPerBlock; i++, set++) {
        expect([values?.[2 * i], values?.[2 * i + 1]]).toEqual([
          ((4 * set + 1) << 16) >> 16,
          ((4 * set + 3) << 16) >> 16,
        ]);
      }
      block?.release();
    }
    await stream.close();
    return { server, stream };
  }

  it('reads blocks into their own memory', async () => {
    const { server, stream } = await check({ seed: 2 }, 12);
    expect(stream.statistics).toMatchObject({ bytesCopied: 0, gaps: undefined, lostSamples: undefined });
    expect(server.log.filter((line) => line.startsWith('buffer'))).toEqual([
      'buffer: TIMEOUT 2500',
      'buffer: OPEN iio:device2 100 0000000a',
      ...Array.from(
        { length: server.log.filter((line) => line.includes('READBUF')).length },
        () => 'buffer: READBUF iio:device2 400',
      ),
      'buffer: CLOSE iio:device2',
      'buffer: closed',
    ]);
  });

  it.each([1, 7, 64, 399, 400, 1024])('takes chunks of %i bytes', async (chunkBytes) => {
    await check({ seed: chunkBytes, chunkBytes, packetSize: 64 }, 6);
  });

  it('picks its channels from a wider mask, also while that comes and goes', async () => {
    await check({ others: () => [0, 2] }, 8);
    await check({ others: () => [0] }, 8);
    for (let seed = 1; seed < 6; seed++) {
      await check({ seed, others: (request) => (Math.floor(request / seed) % 2 === 0 ? [] : [0, 2]) }, 10, 33);
    }
  });

  it('asks again when there were no samples in time', async () => {
    let refusals = 2;
    const { stream } = await check(
      {
        intercept: (command, answer) => {
          if (command.startsWith('READBUF') && refusals-- > 0) {
            answer('-110\n');
            return true;
          }
          return false;
        },
      },
      3,
    );
    expect(stream.statistics.retries).toBe(2);
  });

  it.each([
    ['an error', '-5\n', 'EIO'],
    ['more than was asked for', '500\n0000000a\n', 'EPROTO'],
    ['a mask without its channels', '400\n00000005\n', 'EPROTO'],
    ['a mask that is none', '400\nzz\n', 'EPROTO'],
  ])('%s ends it', async (_, answer, expected) => {
    const { adc } = await connect({
      intercept: (command, send) => {
        if (command.startsWith('READBUF')) {
          for (const line of answer.split(/(?<=\n)/)) {
            send(line);
          }
          return true;
        }
        return false;
      },
    });
    const stream = await adc.createRxStream({ channels: ['voltage1', 'voltage3'], samplesPerBlock: 100 });
    expect(await code(stream.next())).toBe(expected);
    await stream.close();
  });

  it('is closed though no samples come', async () => {
    const { server, adc } = await connect({ intercept: (command) => command.startsWith('READBUF') });
    const stream = await adc.createRxStream({ samplesPerBlock: 100 });
    const waiting = stream.next();
    await stream.close();
    expect((await waiting).done).toBe(true);
    expect(server.transport.links.at(-1)?.isClosed).toBe(true);
  });
});
