import { decodeU64, IioError } from '@iio-bridge/protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { Context, type ContextOptions } from '../../../host-client/src/core/context.js';
import type { RxStream, RxStreamOptions } from '../../../host-client/src/core/rx-stream.js';
import { seededRandom } from './fake-bus.js';
import { CONTEXT, type FakeRequest, FakeServer, type FakeServerOptions } from './fake-server.js';

/** A sample set of the fake ADC: four 16-bit channels. */
const SAMPLE_BYTES = 8;
const open: Context[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((context) => context.close()));
});

async function connect(options: FakeServerOptions = {}, contextOptions: ContextOptions = {}) {
  const server = new FakeServer(options);
  const context = await Context.connect(server.transport, { timeoutMs: 5000, ...contextOptions });
  open.push(context);
  return { server, context };
}

async function startStream(
  options: FakeServerOptions,
  streamOptions: Partial<RxStreamOptions> = {},
  contextOptions: ContextOptions = {},
) {
  const { server, context } = await connect(options, contextOptions);
  const stream = await context.device('adc').createRxStream({ samplesPerBlock: 64, ...streamOptions });
  return { server, context, stream };
}

function bufferLink(server: FakeServer) {
  const link = server.transport.links[1];
  if (link === undefined) {
    throw new Error('no buffer link was opened');
  }
  return link;
}

function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof IioError ? error.code : String(error)),
  );
}

/** Takes blocks and checks that their samples count on from `first` without a gap. Returns the next sample. */
async function take(stream: RxStream, blocks: number, first = 0n): Promise<bigint> {
  let expected = first;
  for (let i = 0; i < blocks; i++) {
    const { value: block } = await stream.next();
    if (block === undefined) {
      throw new Error(`the stream ended after ${i} blocks`);
    }
    const samples = new BigUint64Array(block.bytes.slice().buffer);
    for (const sample of samples) {
      if (sample !== expected) {
        throw new Error(`block ${block.sequence}: sample ${sample} instead of ${expected}`);
      }
      expected++;
    }
    block.release();
  }
  return expected;
}

describe('a stream', () => {
  it('is set up in the order that servers expect', async () => {
    const { server, stream } = await startStream({}, { blocks: 3 });
    await take(stream, 1);
    expect(server.log.slice(2, 11)).toEqual([
      'buffer: TIMEOUT',
      'buffer: OPEN_BUFFER',
      'buffer: CREATE_BLOCK 0 id 1',
      'buffer: CREATE_BLOCK 1 id 2',
      'buffer: CREATE_BLOCK 2 id 3',
      'buffer: TRANSFER_BLOCK 0 id 1',
      'buffer: TRANSFER_BLOCK 1 id 2',
      'buffer: TRANSFER_BLOCK 2 id 3',
      'buffer: ENABLE_BUFFER',
    ]);
  });

  it.each([
    { packetSize: 512, samplesPerBlock: 64, what: 'exactly one packet' },
    { packetSize: 512, samplesPerBlock: 1, what: 'less than a header’s packet' },
    { packetSize: 512, samplesPerBlock: 65, what: 'a packet and a bit' },
    { packetSize: 512, samplesPerBlock: 4096, what: '64 packets' },
    { packetSize: 1024, samplesPerBlock: 4097, what: 'an odd size at SuperSpeed' },
    { packetSize: 64, samplesPerBlock: 1000, what: 'full speed' },
    { packetSize: 1024, samplesPerBlock: 200_000, what: 'two chunks' },
  ])('delivers every sample once: $what', { timeout: 60_000 }, async ({ packetSize, samplesPerBlock }) => {
    for (let seed = 1; seed <= (samplesPerBlock > 10_000 ? 2 : 8); seed++) {
      const { server, context, stream } = await startStream(
        { packetSize, seed, blocksBeforeEnabled: seed % 5 },
        { samplesPerBlock },
      );
      const blocks = samplesPerBlock > 10_000 ? 6 : 40;
      expect(await take(stream, blocks)).toBe(BigInt(blocks * samplesPerBlock));
      expect(bufferLink(server).isClosed).toBe(false);
      await context.close();
    }
  });

  it('posts whole responses ahead and hands out the buffers that the bus filled', async () => {
    const samplesPerBlock = 4096;
    const { server, stream } = await startStream({ blocksBeforeEnabled: 0 }, { samplesPerBlock, blocks: 4 });
    await take(stream, 60);
    const { bytesCopied, realignments, blocks, bytes } = stream.statistics;
    expect({ bytesCopied, realignments }).toEqual({ bytesCopied: 0, realignments: 0 });
    expect(blocks).toBeGreaterThanOrEqual(60);
    expect(bytes).toBe(blocks * samplesPerBlock * SAMPLE_BYTES);
    expect(bufferLink(server).mostBytesPosted).toBe(4 * (512 + samplesPerBlock * SAMPLE_BYTES));
  });

  it('reuses its memory', async () => {
    const { stream } = await startStream({}, { blocks: 3 });
    const seen = new Set<ArrayBuffer>();
    for (let i = 0; i < 50; i++) {
      const { value: block } = await stream.next();
      if (block !== undefined) {
        seen.add(block.bytes.buffer);
        block.release();
      }
    }
    expect(seen.size).toBeLessThanOrEqual(3);
  });

  it('sends a block’s request in one transfer to a server that announces it, else in two', async () => {
    for (const announced of [true, false]) {
      const attributes = new Map(announced ? [['iio-bridge', '0.1.0']] : []);
      const { server, stream } = await startStream({ context: { ...CONTEXT, attributes } });
      await take(stream, 10);
      const coalesced = bufferLink(server).hostTransfers.filter(({ length }) => length === 16);
      expect(coalesced.length > 10).toBe(announced);
    }
  });
});

describe('responses that are not what was planned', () => {
  it.each([512, 1024])('do not cost a sample: failed dequeues between the blocks (packet %i)', async (packetSize) => {
    for (const samplesPerBlock of [packetSize / SAMPLE_BYTES, 3 * (packetSize / SAMPLE_BYTES), 100]) {
      for (let seed = 1; seed <= 6; seed++) {
        const blockFailures = new Map([3, 4, 9, 17, 18, 19, 20, 31].map((block) => [block, -110]));
        const { context, stream } = await startStream({ packetSize, seed, blockFailures }, { samplesPerBlock });
        await take(stream, 50);
        const { retries, realignments } = stream.statistics;
        expect(retries).toBeGreaterThan(4);
        expect(realignments).toBeGreaterThan(0);
        await context.close();
      }
    }
  });

  it('are taken for the block that they name, in any order of answers', async () => {
    const BLOCKS = 5;
    for (let seed = 1; seed <= 10; seed++) {
      const random = seededRandom(seed);
      const waiting: FakeRequest[] = [];
      const order: number[] = [];
      let counter = 0n;
      const intercept = (request: FakeRequest): boolean => {
        if (request.operation !== 'TRANSFER_BLOCK') {
          return false;
        }
        waiting.push(request);
        while (waiting.length > random() * BLOCKS) {
          const [next] = waiting.splice(Math.floor(random() * waiting.length), 1);
          const length = Number(decodeU64(next?.payload ?? new Uint8Array(8)));
          const samples = BigUint64Array.from({ length: length / SAMPLE_BYTES }, () => counter++);
          next?.answer(length, new Uint8Array(samples.buffer));
          order.push(next?.header.clientId ?? 0);
        }
        return true;
      };
      const { context, stream } = await startStream({ seed, intercept }, { samplesPerBlock: 200, blocks: BLOCKS });
      await take(stream, 60);
      expect(order.slice(0, 20)).not.toEqual(Array.from({ length: 20 }, (_, i) => 1 + (i % BLOCKS)));
      await context.close();
    }
  });

  it('do not cost a sample: blocks shorter than asked for, also by whole packets', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const blockBytes = (block: number, asked: number) =>
        block % 3 === 0 ? asked - 512 * (1 + (block % 2)) : asked - 8;
      const { context, stream } = await startStream({ seed, blockBytes }, { samplesPerBlock: 512, blocks: 5 });
      await take(stream, 60);
      expect(stream.statistics.retries).toBe(0);
      await context.close();
    }
  });

  it('never leave a block stuck in a read that is too long, when the user holds the others', async () => {
    const blockBytes = (block: number, asked: number) => (block === 2 ? asked - 1024 : asked);
    const { stream } = await startStream({ blockBytes }, { samplesPerBlock: 512, blocks: 3 });
    const held = [await stream.next(), await stream.next(), await stream.next()];
    expect(held.map(({ value }) => value?.bytes.length)).toEqual([4096, 4096, 3072]);
  });

  it('do not spoil a block that is shorter than its first read, though later reads point into its memory', async () => {
    const sent = 100_000 * SAMPLE_BYTES;
    const { stream } = await startStream({ blockBytes: () => sent }, { samplesPerBlock: 400_000, blocks: 3 });
    const blocks = [await stream.next(), await stream.next(), await stream.next()];
    const samples = blocks.flatMap(({ value }) => [
      ...new BigUint64Array(value?.bytes.slice().buffer ?? new ArrayBuffer()),
    ]);
    expect(samples).toHaveLength(300_000);
    expect(samples.findIndex((sample, i) => sample !== BigInt(i))).toBe(-1);
  });

  it('end the stream if they carry an error', async () => {
    for (const [failure, expected] of [
      [-16 << 16, 'EBUSY'],
      [-108, 'ESHUTDOWN'],
      [0, 'EPROTO'],
    ] as const) {
      const { server, stream } = await startStream({ blockFailures: new Map([[2, failure]]) });
      await take(stream, 2);
      await expect(stream.next()).rejects.toMatchObject({
        code: expected,
        message: expect.stringContaining('iio:device2'),
      });
      await stream.close();
      expect(server.log.at(-1)).toBe('buffer: closed');
    }
  });

  it('end the stream if they announce more than a block', async () => {
    const { stream } = await startStream({ blockBytes: (block, asked) => (block === 1 ? asked + 8 : asked) });
    await take(stream, 1);
    expect(await code(stream.next())).toBe('EPROTO');
  });

  it('end the stream if they are cut short', async () => {
    let blocks = 0;
    const { stream } = await startStream({
      intercept: (request) => {
        if (request.operation !== 'TRANSFER_BLOCK' || ++blocks !== 6) {
          return false;
        }
        request.answer(512, new Uint8Array(500));
        return true;
      },
    });
    expect(await code(take(stream, 20))).toBe('TRUNCATED');
  });
});

describe('holding blocks', () => {
  it('is backpressure: nothing is asked for until one is released', async () => {
    const { server, stream } = await startStream({}, { blocks: 2, timeoutMs: 60 });
    const first = await stream.next();
    const second = await stream.next();
    expect(stream.statistics).toMatchObject({ held: 2, inFlight: 0, ready: 0 });
    const asked = server.log.length;
    await expect(stream.next()).rejects.toMatchObject({
      code: 'BLOCKS_HELD',
      message: expect.stringContaining('release()'),
    });
    expect(server.log).toHaveLength(asked);
    first.value?.release();
    const third = await stream.next();
    expect(third.value?.sequence).toBe(2);
    second.value?.release();
    third.value?.release();
  });

  it('keeps their samples while others arrive', async () => {
    const { stream } = await startStream({}, { blocks: 3 });
    const { value: kept } = await stream.next();
    const before = Buffer.from(kept?.bytes ?? []).toString('hex');
    await take(stream, 30, 64n);
    expect(Buffer.from(kept?.bytes ?? []).toString('hex')).toBe(before);
  });

  it('ends with release(): later use throws, a second release does nothing', async () => {
    const { server, stream } = await startStream({}, { blocks: 2 });
    const { value: block } = await stream.next();
    block?.release();
    block?.release();
    expect(() => block?.bytes).toThrow(/after release/);
    expect(() => block?.channel('voltage0')).toThrow(/after release/);
    await take(stream, 20, 64n);
    expect(server.mostQueued).toBeLessThanOrEqual(2);
  });
});

describe('memory for USB transfers that runs out', () => {
  it('narrows the window, and the samples still come', async () => {
    const { server, context } = await connect();
    const { transport } = server;
    const openLink = transport.openLink.bind(transport);
    transport.openLink = async (role) => {
      const link = await openLink(role);
      const fake = transport.links.at(-1);
      if (fake !== undefined) {
        fake.memoryLimit = 40_000;
      }
      return link;
    };
    const stream = await context.device('adc').createRxStream({ samplesPerBlock: 2048, blocks: 8 });
    await take(stream, 100);
    expect(stream.statistics.windowBytes).toBeLessThan(8 * 1024 * 1024);
    expect(bufferLink(server).mostBytesPosted).toBeLessThanOrEqual(40_000);
  });

  it('takes blocks in pieces if not even one fits', async () => {
    const { server, context } = await connect();
    const stream = await context.device('adc').createRxStream({ samplesPerBlock: 40_000, blocks: 2 });
    bufferLink(server).memoryLimit = 50_000;
    await take(stream, 10);
  });

  it('is named if nothing at all can be read', async () => {
    const { server, context } = await connect();
    const stream = await context.device('adc').createRxStream({ samplesPerBlock: 40_000, blocks: 2 });
    bufferLink(server).memoryLimit = 0;
    await expect(take(stream, 50)).rejects.toMatchObject({
      code: 'ENOMEM',
      message: expect.stringContaining('usbfs_memory_mb'),
    });
  });

  it('respects a window of the user’s', async () => {
    const { server, stream } = await startStream({}, { samplesPerBlock: 2048, blocks: 8, windowBytes: 40_000 });
    await take(stream, 40);
    expect(bufferLink(server).mostBytesPosted).toBeLessThanOrEqual(40_000);
  });
});

describe('ending a stream', () => {
  const END = [
    'main: FREE_BLOCK 0 id 0',
    'main: FREE_BLOCK 1 id 0',
    'buffer: DISABLE_BUFFER',
    'main: CLOSE_BUFFER',
    'buffer: closed',
  ];

  it('frees blocks, disables, closes the buffer and then the pipe', async () => {
    const { server, stream } = await startStream({}, { blocks: 2 });
    await take(stream, 5);
    await stream.close();
    expect(server.log.slice(-5)).toEqual(END);
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  it('happens when a loop is left', async () => {
    const { server, stream } = await startStream({}, { blocks: 2 });
    for await (const block of stream) {
      expect(block.sequence).toBe(0);
      break;
    }
    expect(server.log.slice(-5)).toEqual(END);
  });

  it('is quick though no samples ever come, by abort', async () => {
    const abort = new AbortController();
    const { server, stream } = await startStream({ noSamples: true }, { blocks: 2, signal: abort.signal });
    const waiting = stream.next();
    const startedAt = performance.now();
    setImmediate(() => abort.abort(new Error('enough')));
    await expect(waiting).rejects.toMatchObject({ code: 'ECANCELED', cause: new Error('enough') });
    await stream.close();
    expect(performance.now() - startedAt).toBeLessThan(500);
    expect(server.log.slice(-5)).toEqual(END);
    expect(await code(stream.next())).toBe('ECANCELED');
  });

  it('is quick though the server does not answer, and spares the main link', async () => {
    const { server, context, stream } = await startStream({
      noSamples: true,
      intercept: ({ operation }) => operation === 'FREE_BLOCK' || operation === 'DISABLE_BUFFER',
    });
    const startedAt = performance.now();
    await stream.close();
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(bufferLink(server).isClosed).toBe(true);
    expect(await context.device('adc').attribute('Zero').read()).toBe('ATTR 1 0 0');
  });

  it('ends whoever waits for a block', async () => {
    const { stream } = await startStream({ noSamples: true });
    const waiting = [stream.next(), stream.next()];
    await stream.close();
    expect((await Promise.all(waiting)).map(({ done }) => done)).toEqual([true, true]);
  });

  it('lets the next stream start', async () => {
    const { context, stream } = await startStream({ seed: 3 });
    await take(stream, 3);
    await stream.close();
    const again = await context.device('adc').createRxStream({ samplesPerBlock: 64 });
    await take(again, 3);
  });

  it('leaves nothing in the statistics of what nobody took', async () => {
    const { stream } = await startStream({});
    await take(stream, 1);
    while (stream.statistics.ready < 2) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await stream.close();
    expect(stream.statistics).toMatchObject({ ready: 0, held: 0 });
  });

  it('is part of closing the context', async () => {
    const { server, context, stream } = await startStream({});
    const waiting = code(take(stream, 1000));
    await context.close();
    expect(await waiting).toMatch(/the stream ended/);
    expect(server.transport.links.every((link) => link.isClosed)).toBe(true);
    expect(server.transport.closed).toBe(true);
  });
});

describe('a stream that cannot be', () => {
  it('refuses wrong options before anything is sent', async () => {
    const { server, context } = await connect();
    const adc = context.device('adc');
    expect(await code(adc.createRxStream({ samplesPerBlock: 0 }))).toBe('EINVAL');
    expect(await code(adc.createRxStream({ samplesPerBlock: 1.5 }))).toBe('EINVAL');
    expect(await code(adc.createRxStream({ samplesPerBlock: 1, blocks: 40_000 }))).toBe('EINVAL');
    expect(await code(adc.createRxStream({ samplesPerBlock: 1, channels: ['voltage9'] }))).toBe('NO_CHANNEL');
    expect(await code(adc.createRxStream({ samplesPerBlock: 1, channels: [] }))).toBe('NO_CHANNEL');
    expect(await code(adc.createRxStream({ samplesPerBlock: 1, bufferIndex: 1 }))).toBe('NO_BUFFER');
    expect(await code(context.device('other').createRxStream({ samplesPerBlock: 1 }))).toBe('NO_BUFFER');
    const signal = AbortSignal.abort();
    expect(await code(adc.createRxStream({ samplesPerBlock: 1, signal }))).toBe('ECANCELED');
    expect(server.transport.links).toHaveLength(1);
  });

  it.each([
    ['OPEN_BUFFER', -17, 'EBUSY'],
    ['CREATE_BLOCK', -12, 'ENOMEM'],
    ['ENABLE_BUFFER', -22, 'EINVAL'],
  ])('%s answers %i: everything is undone', async (operation, answer, expected) => {
    const { server, context } = await connect({
      intercept: (request) => {
        if (request.operation === operation) {
          request.answer(answer);
          return true;
        }
        return false;
      },
    });
    expect(await code(context.device('adc').createRxStream({ samplesPerBlock: 64 }))).toBe(expected);
    expect(bufferLink(server).isClosed).toBe(true);
    expect(server.log.includes('main: CLOSE_BUFFER')).toBe(operation !== 'OPEN_BUFFER');
  });

  it('waits for samples no longer than told, and says what to look at', async () => {
    const { stream } = await startStream({ noSamples: true }, { timeoutMs: 40 });
    await expect(stream.next()).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: expect.stringContaining('trigger'),
    });
  });
});

describe('an unplug while streaming', () => {
  it('hands out what arrived, then ends with DISCONNECTED, and nothing hangs', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const { server, context, stream } = await startStream({ seed }, { blocks: 4 });
      const next = await take(stream, 10);
      const unplug = new Promise<void>((resolve) =>
        setImmediate(() => {
          server.transport.disconnect();
          resolve();
        }),
      );
      const rest = take(stream, 100_000, next);
      await unplug;
      expect(await code(rest)).toBe('DISCONNECTED');
      expect(await code(context.device('adc').attribute('Zero').read())).toBe('DISCONNECTED');
      await context.close();
    }
  });
});
