import {
  BLOCK_ANSWER_OP,
  blockFailureCode,
  type ContextDescription,
  encodeBlockRecord,
  encodeFrameHeader,
  IioError,
} from '@iio-bridge/protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { Context, type ContextOptions } from '../../../host-client/src/core/context.js';
import type { TxStreamOptions } from '../../../host-client/src/core/tx-stream.js';
import { CONTEXT, type FakeRequest, FakeServer, type FakeServerOptions } from './fake-server.js';
import { FakeTextServer, type FakeTextServerOptions } from './fake-text-server.js';

/** The ADC turned round. */
const DAC: ContextDescription = {
  ...CONTEXT,
  devices: CONTEXT.devices.map((device) => ({
    ...device,
    channels: device.channels.map((channel) => ({ ...channel, direction: 'out' as const })),
    buffers: device.buffers.map((buffer) => ({ ...buffer, direction: 'out' as const })),
  })),
};
const RECORDING = {
  ...DAC,
  attributes: new Map([
    ['iio-bridge', '1'],
    ['iio-bridge,extensions', 'stream-options'],
  ]),
};
const BRIDGE = { ...DAC, attributes: new Map([['iio-bridge', '1']]) };
const open: Context[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((context) => context.close()));
});

async function binary(options: FakeServerOptions = {}, contextOptions: ContextOptions = {}) {
  const server = new FakeServer({ context: DAC, ...options });
  const context = await Context.connect(server.transport, { timeoutMs: 5000, ...contextOptions });
  open.push(context);
  return { server, context, dac: context.device('adc') };
}

async function text(options: FakeTextServerOptions = {}) {
  const server = new FakeTextServer({ context: DAC, ...options });
  const context = await Context.connect(server.transport, { timeoutMs: 5000 });
  open.push(context);
  return { server, dac: context.device('adc') };
}

function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof IioError ? error.code : String(error)),
  );
}

/** Answers blocks when told; the others at once. */
function holding(held: FakeRequest[]): FakeServerOptions {
  return {
    intercept: (request) => {
      if (request.operation === 'TRANSFER_BLOCK') {
        held.push(request);
        return true;
      }
      return false;
    },
  };
}

function answering(operation: string, answer: number) {
  return (request: FakeRequest): boolean => {
    if (request.operation === operation) {
      request.answer(answer);
    }
    return request.operation === operation;
  };
}

const played = (request: FakeRequest) => request.answer(0);
const OPTIONS: TxStreamOptions = { samplesPerBlock: 16, blocks: 3 };

describe('an output', () => {
  it('sends blocks in order and starts the hardware with the first', async () => {
    const { server, dac } = await binary({
      intercept: answering('TRANSFER_BLOCK', 0),
    });
    const stream = await dac.createTxStream(OPTIONS);
    let count = 0;
    for await (const block of stream) {
      block.setChannel(
        'voltage1',
        Int16Array.from({ length: 16 }, (_, i) => 100 * count + i),
      );
      block.send();
      if (++count === 7) {
        break;
      }
    }
    const log = server.log.filter((line) => line.startsWith('buffer'));
    expect(log.slice(0, 7)).toEqual([
      'buffer: TIMEOUT',
      'buffer: OPEN_BUFFER',
      'buffer: CREATE_BLOCK 0 id 1',
      'buffer: CREATE_BLOCK 1 id 2',
      'buffer: CREATE_BLOCK 2 id 3',
      'buffer: TRANSFER_BLOCK 0 id 1',
      'buffer: ENABLE_BUFFER',
    ]);
    const blocks = server.blocksReceived.map((bytes) => new Int16Array(bytes.slice().buffer));
    expect(blocks.map((values) => [values[1], values[61]])).toEqual(
      Array.from({ length: blocks.length }, (_, i) => [100 * i, 100 * i + 15]),
    );
  });

  it('has several blocks under way, and hands each out again when it was played', async () => {
    const held: FakeRequest[] = [];
    const { dac } = await binary(holding(held));
    const stream = await dac.createTxStream(OPTIONS);
    for (let i = 0; i < 3; i++) {
      (await stream.next()).value?.send();
    }
    expect(stream.statistics).toMatchObject({ inFlight: 3, held: 0, blocks: 3, underruns: undefined });
    const waiting = stream.next();
    await until(() => held.length === 3);
    // Out of order, as no server does: each is its own conversation.
    held.splice(1, 1).forEach(played);
    const { value } = await waiting;
    expect(stream.statistics).toMatchObject({ inFlight: 2, held: 1 });
    value?.release();
    const flushed = stream.flush();
    held.splice(0).forEach(played);
    await flushed;
    expect(stream.statistics.inFlight).toBe(0);
  });

  it.each([
    ['pads the last block for libiio', DAC, 128],
    ['sends the last block as it is to iio-bridge', BRIDGE, 40],
  ])('%s', async (_, context, bytes) => {
    const { server, dac } = await binary({
      context,
      intercept: answering('TRANSFER_BLOCK', 0),
    });
    const stream = await dac.createTxStream(OPTIONS);
    await stream.write(Int16Array.from({ length: 64 + 20 }, (_, i) => i + 1));
    await stream.flush();
    expect(server.blocksReceived.map(({ length }) => length)).toEqual([128, bytes]);
    const last = new Int16Array(server.blocksReceived[1]?.slice().buffer ?? new ArrayBuffer());
    expect([last[0], last[19], last[20] ?? 0]).toEqual([65, 84, 0]);
  });

  it('refuses a flush in the middle of a sample set', async () => {
    const { dac } = await binary();
    const stream = await dac.createTxStream(OPTIONS);
    await stream.write(new Uint8Array(9));
    expect(await code(stream.flush())).toBe('EINVAL');
  });

  it.each([
    { what: 'none', records: [[0n, true]], underruns: 0, unplayedSamples: 0 },
    {
      what: 'two',
      records: [
        [5n, true],
        [0n, true],
        [7n, false],
      ],
      underruns: 2,
      unplayedSamples: 12,
    },
    { what: 'what nothing tells', records: [[0n, false]], underruns: undefined, unplayedSamples: undefined },
  ] as const)('counts underruns as far as they are known: $what', async ({ records, underruns, unplayedSamples }) => {
    let block = 0;
    const { dac } = await binary({
      context: RECORDING,
      intercept: ({ operation, header, link }) => {
        const [lostSets, exact] = records[block] ?? [];
        if (operation !== 'TRANSFER_BLOCK' || lostSets === undefined) {
          return false;
        }
        const sequence = BigInt(block++);
        const record = { sequence, capturedAtNs: 1n, lostSets, gapNs: lostSets, epoch: 1, exact, dropped: false };
        const answer = { clientId: header.clientId, op: BLOCK_ANSWER_OP, dev: 0, code: 0 };
        link.send(Buffer.concat([encodeFrameHeader(answer), encodeBlockRecord(record)]));
        return true;
      },
    });
    const stream = await dac.createTxStream(OPTIONS);
    expect(stream.statistics).toMatchObject({ underruns: undefined, unplayedSamples: undefined });
    await stream.write(new Int16Array(64 * records.length));
    await stream.flush();
    expect(stream.statistics).toMatchObject({ underruns, unplayedSamples });
  });

  it('plays a cyclic block once and for all', async () => {
    const { server, dac } = await binary({
      intercept: answering('ENQUEUE_BLOCK_CYCLIC', 0),
    });
    const stream = await dac.createTxStream({ samplesPerBlock: 16, cyclic: true });
    await stream.write(new Int16Array(64));
    await stream.flush();
    expect((await stream.next()).done).toBe(true);
    expect(await code(stream.write(new Int16Array(4)))).toBe('EPIPE');
    expect(server.log.filter((line) => line.includes('BLOCK'))).toEqual([
      'buffer: CREATE_BLOCK 0 id 1',
      'buffer: ENQUEUE_BLOCK_CYCLIC 0 id 1',
    ]);
    await stream.close();
    expect(server.log.slice(-4)).toEqual([
      'main: FREE_BLOCK 0 id 0',
      'buffer: DISABLE_BUFFER',
      'main: CLOSE_BUFFER',
      'buffer: closed',
    ]);
  });

  it('asks again for a block that the hardware has not taken in time', async () => {
    let late = true;
    const { server, dac } = await binary({
      intercept: (request) => {
        if (request.operation === 'TRANSFER_BLOCK' || request.operation === 'RETRY_DEQUEUE_BLOCK') {
          request.answer(late ? -110 : 0);
          late = false;
          return true;
        }
        return false;
      },
    });
    const stream = await dac.createTxStream(OPTIONS);
    await stream.write(new Uint8Array(128));
    await stream.flush();
    expect(stream.statistics.retries).toBe(1);
    expect(server.log).toContain('buffer: RETRY_DEQUEUE_BLOCK 0 id 1');
  });

  it('ends with the reason of a block that is refused', async () => {
    const { dac } = await binary({
      intercept: answering('TRANSFER_BLOCK', blockFailureCode({ stage: 'enqueue', errno: 16 })),
    });
    const stream = await dac.createTxStream(OPTIONS);
    await stream.write(new Uint8Array(128));
    expect(await code(stream.flush())).toBe('EBUSY');
    expect(await code(stream.next())).toBe('EBUSY');
    expect(await code(stream.write(new Uint8Array(8)))).toBe('EBUSY');
  });

  it('waits no longer than told, and says whose fault it is', async () => {
    const { dac } = await binary(holding([]));
    const stream = await dac.createTxStream({ ...OPTIONS, timeoutMs: 30 });
    const blocks = [await stream.next(), await stream.next(), await stream.next()];
    expect(await code(stream.next())).toBe('BLOCKS_HELD');
    for (const { value } of blocks) {
      value?.send();
      expect(() => value?.bytes).toThrow(expect.objectContaining({ code: 'RELEASED' }));
    }
    expect(await code(stream.next())).toBe('ETIMEDOUT');
  });

  it('ends by its signal', async () => {
    const abort = new AbortController();
    const { server, dac } = await binary(holding([]));
    const stream = await dac.createTxStream({ ...OPTIONS, signal: abort.signal });
    await stream.write(new Uint8Array(128));
    const flushed = code(stream.flush());
    abort.abort();
    expect(await flushed).toBe('ECANCELED');
    await stream.close();
    expect(server.log.slice(-1)).toEqual(['buffer: closed']);
  });

  it('is a Web Stream', async () => {
    const { server, dac } = await binary({
      intercept: answering('TRANSFER_BLOCK', 0),
    });
    const stream = await dac.createTxStream(OPTIONS);
    const source = new ReadableStream<Uint8Array>({
      start: (controller) => {
        for (let i = 0; i < 10; i++) {
          controller.enqueue(new Uint8Array(64).fill(i));
        }
        controller.close();
      },
    });
    await source.pipeTo(stream.toWritableStream());
    expect(server.blocksReceived.map((bytes) => [bytes[0], bytes[64]])).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
      [6, 7],
      [8, 9],
    ]);
    expect(server.log.at(-1)).toBe('buffer: closed');
  });

  it('refuses to be read, and an input to be written', async () => {
    const { dac } = await binary();
    expect(await code(dac.createRxStream({ samplesPerBlock: 1, bufferIndex: 0 }))).toBe('EINVAL');
    const { context } = await binary({ context: CONTEXT });
    expect(await code(context.device('adc').createTxStream({ samplesPerBlock: 1, bufferIndex: 0 }))).toBe('EINVAL');
  });
});

describe('an output in text', () => {
  it('sends each block when the server is ready for it, the last one partly', async () => {
    const { server, dac } = await text();
    const stream = await dac.createTxStream(OPTIONS);
    await stream.write(Uint8Array.from({ length: 300 * 8 }, (_, i) => i));
    await stream.flush();
    expect(Buffer.concat(server.played)).toEqual(Buffer.from(Array.from({ length: 300 * 8 }, (_, i) => i & 0xff)));
    expect(server.played.at(-1)).toHaveLength(12 * 8);
    await stream.close();
    expect(server.log.slice(-2)).toEqual(['buffer: CLOSE iio:device2', 'buffer: closed']);
  });

  it('asks again when there was no room in time, and ends with an error', async () => {
    const answers = ['-110\n', '-110\n', '-5\n'];
    const { server, dac } = await text({
      intercept: (command, answer) => {
        if (command.startsWith('WRITEBUF')) {
          answer(answers.shift() ?? '');
          return true;
        }
        return false;
      },
    });
    const stream = await dac.createTxStream({ ...OPTIONS, cyclic: true });
    expect(server.log).toContain('buffer: OPEN iio:device2 16 0000000f CYCLIC');
    await stream.write(new Uint8Array(128));
    expect(await code(stream.flush())).toBe('EIO');
    expect(stream.statistics.retries).toBe(2);
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
