import {
  BLOCK_ANSWER_OP,
  type BlockRecord,
  type ContextDescription,
  encodeBlockRecord,
  encodeFrameHeader,
  IioError,
  parseScanFormat,
} from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Context } from '../../../host-client/src/core/context.js';
import type { Transport } from '../../../host-client/src/core/link.js';
import type { FakeTransport } from './fake-bus.js';
import { CONTEXT, FakeServer, type FakeServerOptions } from './fake-server.js';
import { FakeTextServer } from './fake-text-server.js';

/** Small, so that a document has few bytes to be cut at. */
const TINY: ContextDescription = {
  ...CONTEXT,
  attributes: new Map(),
  devices: [
    {
      ...CONTEXT.devices[0],
      id: 'a',
      channels: [],
      buffers: [],
      attributes: [],
      debugAttributes: [],
      eventAttributes: [],
    },
    {
      id: 'iio:device2',
      name: 'adc',
      channels: [
        {
          id: 'voltage0',
          direction: 'in',
          scanElement: { index: 0, format: parseScanFormat('le:S16/16>>0') },
          attributes: [],
          eventAttributes: [],
        },
      ],
      buffers: [{ index: 0, direction: 'in', attributes: [], channels: [0] }],
      attributes: [{ name: 'Zero' }],
      debugAttributes: [],
      eventAttributes: [],
    },
  ],
};

function codeOf(error: unknown): string {
  return error instanceof IioError ? error.code : String(error);
}

/** A conversation that uses every kind of answer. @returns how it ended */
async function converse(transport: Transport): Promise<string> {
  let context: Context | undefined;
  try {
    context = await Context.connect(transport, { timeoutMs: 5000 });
    const adc = context.device('adc');
    await adc.attribute('Zero').write('7');
    await adc.attribute('Zero').read();
    await adc.getTrigger();
    const stream = await adc.createRxStream({ samplesPerBlock: 4, blocks: 2 });
    for (let count = 0; count < 3; count++) {
      (await stream.next()).value?.release();
    }
    await stream.close();
    return 'done';
  } catch (error) {
    return codeOf(error);
  } finally {
    await context?.close();
  }
}

describe.each([
  ['binary', (seed: number) => new FakeServer({ context: TINY, seed, packetSize: 64 }).transport],
  ['text', (seed: number) => new FakeTextServer({ context: TINY, seed, packetSize: 64 }).transport],
] as const)('a cable that is pulled, %s', (_, start: (seed: number) => FakeTransport) => {
  it('at any byte from the device ends everything with DISCONNECTED, and nothing hangs', async () => {
    const whole = start(1);
    expect(await converse(whole)).toBe('done');
    const total = whole.bytesSent;
    expect(total).toBeGreaterThan(300);
    const ends: Record<string, number> = {};
    for (let cut = 0; cut < total; cut++) {
      const transport = start(cut);
      transport.cutAfter(cut);
      const end = await converse(transport);
      ends[end] = (ends[end] ?? 0) + 1;
      expect(transport.links.every((link) => link.isClosed)).toBe(true);
    }
    // The stream may have been closed already when the last answers to that are cut.
    const { DISCONNECTED = 0, done = 0, ...others } = ends;
    expect(others).toEqual({});
    expect(DISCONNECTED).toBeGreaterThan(total - 80);
    expect(done).toBeLessThan(80);
  }, 120_000);
});

/** A server that comes back after each loss, as one device does that is plugged in again. */
class Replugged {
  readonly servers: FakeServer[] = [];
  refusals = 0;
  readonly #options: (epoch: number) => FakeServerOptions;

  constructor(options: (epoch: number) => FakeServerOptions) {
    this.#options = options;
  }

  get current(): FakeServer | undefined {
    return this.servers.at(-1);
  }

  open(): Transport {
    const server = new FakeServer(this.#options(this.servers.length));
    this.servers.push(server);
    return Object.assign(server.transport, {
      reopen: async () => {
        if (this.refusals-- > 0) {
          throw new IioError('NO_CONTEXT', 'not plugged in');
        }
        return this.open();
      },
    });
  }
}

describe('a context with `reconnect`', () => {
  async function connect(device: Replugged, timeoutMs = 5000) {
    const context = await Context.connect(device.open(), { timeoutMs, reconnect: true });
    onTestFinished(() => context.close());
    return { context, adc: context.device('adc') };
  }

  it('ends what is pending, and answers what is asked afterwards', async () => {
    const device = new Replugged((epoch) =>
      epoch === 0 ? { intercept: ({ operation }) => operation === 'READ_ATTR' } : {},
    );
    const { adc } = await connect(device);
    const pending = adc.attribute('Zero').read();
    setImmediate(() => device.current?.transport.disconnect());
    await expect(pending).rejects.toMatchObject({ code: 'DISCONNECTED' });
    device.refusals = 2;
    expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
    expect(device.servers).toHaveLength(2);
    expect(device.servers[0]?.transport.closed).toBe(true);
  });

  it('says that it looks for the context while that is away', async () => {
    const device = new Replugged(() => ({}));
    const { adc, context } = await connect(device, 100);
    device.refusals = 1000;
    device.current?.transport.disconnect();
    await new Promise((resolve) => setImmediate(resolve));
    await expect(adc.attribute('Zero').read()).rejects.toMatchObject({
      code: 'DISCONNECTED',
      message: expect.stringMatching(/disconnected|looked for/),
    });
    await expect(adc.attribute('Zero').read()).rejects.toMatchObject({
      code: 'DISCONNECTED',
      message: expect.stringContaining('looked for'),
    });
    await context.close();
  });

  it('goes on with its streams in a new epoch, and never mixes old and new', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const device = new Replugged((epoch) => ({ seed: seed + epoch }));
      const { adc } = await connect(device);
      const stream = await adc.createRxStream({ samplesPerBlock: 16, blocks: 4 });
      onTestFinished(() => stream.close());
      let epoch = 0;
      let expected = 0n;
      let sequence = 0;
      while (epoch < 3) {
        const { value: block } = await stream.next();
        if (block === undefined) {
          throw new Error('the stream ended');
        }
        if (block.epoch !== epoch) {
          expect(block.epoch).toBe(epoch + 1);
          epoch = block.epoch;
          expected = 0n;
        }
        expect(block.sequence).toBe(sequence++);
        for (const set of new BigUint64Array(block.bytes.slice().buffer)) {
          expect(set).toBe(expected++);
        }
        block.release();
        if (expected > BigInt(16 * (4 + seed)) && device.servers.length === epoch + 1) {
          setImmediate(() => device.servers[epoch]?.transport.disconnect());
        }
      }
      expect(stream.statistics.epoch).toBeGreaterThanOrEqual(3);
    }
  });

  it('refuses a context that came back as another', async () => {
    const device = new Replugged((epoch) => (epoch === 0 ? {} : { context: TINY }));
    const { adc } = await connect(device);
    const stream = await adc.createRxStream({ samplesPerBlock: 16 });
    device.current?.transport.disconnect();
    const drain = async () => {
      for await (const block of stream) {
        block.release();
      }
    };
    await expect(drain()).rejects.toMatchObject({ code: 'CONTEXT_CHANGED' });
  });
});

describe('with the extensions of iio-bridge', () => {
  const EXTENDED: ContextDescription = {
    ...CONTEXT,
    attributes: new Map([
      ['iio-bridge', '1'],
      ['iio-bridge,extensions', 'stream-options explain'],
    ]),
  };
  const RECORD: BlockRecord = {
    sequence: 5n,
    capturedAtNs: 1_700_000_000_000_000_001n,
    lostSets: 0n,
    gapNs: 0n,
    epoch: 1,
    exact: true,
    dropped: false,
  };

  async function connect(options: FakeServerOptions) {
    const server = new FakeServer({ context: EXTENDED, ...options });
    const context = await Context.connect(server.transport, { timeoutMs: 5000 });
    onTestFinished(() => context.close());
    return { server, adc: context.device('adc') };
  }

  /** Answers the n-th block with a record of its own. */
  function recording(records: (block: number) => BlockRecord): FakeServerOptions['answerBlock'] {
    let count = 0;
    return (link, clientId, samples) => {
      const header = encodeFrameHeader({ clientId, op: BLOCK_ANSWER_OP, dev: 0, code: samples.length });
      link.send(Buffer.concat([header, encodeBlockRecord(records(count++))]));
      link.send(samples);
    };
  }

  it.each([64, 512, 1024])(
    'blocks carry their records, and the statistics count gaps (packets of %i)',
    async (packetSize) => {
      for (let seed = 1; seed <= 4; seed++) {
        const { server, adc } = await connect({
          seed,
          packetSize,
          answerBlock: recording((block) => ({
            ...RECORD,
            sequence: BigInt(block),
            lostSets: block % 3 === 2 ? 10n : 0n,
            gapNs: block % 3 === 2 ? 1000n : 0n,
            exact: block !== 5,
          })),
        });
        const stream = await adc.createRxStream({ samplesPerBlock: 100, blocks: 4, ring: { ms: 50 }, policy: 'stop' });
        expect(server.streamOptions).toEqual({ metadata: true, ring: { ms: 50 }, policy: 'stop' });
        let next = 0n;
        for (let count = 0; count < 12; count++) {
          const { value: block } = await stream.next();
          expect(block?.metadata?.sequence).toBe(BigInt(count));
          expect(block?.metadata?.capturedAtNs).toBe(RECORD.capturedAtNs);
          for (const set of new BigUint64Array(block?.bytes.slice().buffer ?? new ArrayBuffer())) {
            expect(set).toBe(next++);
          }
          if (count === 4) {
            expect(stream.statistics).toMatchObject({ lostExactly: expect.any(Boolean) });
          }
          block?.release();
          expect(() => block?.metadata).toThrow(/after release/);
        }
        const { gaps = 0, lostSamples, lostExactly, bytesCopied } = stream.statistics;
        expect(gaps).toBeGreaterThanOrEqual(4);
        expect([lostSamples, lostExactly]).toEqual([gaps * 10, false]);
        expect(bytesCopied).toBeLessThan(12 * 800);
        await stream.close();
      }
    },
  );

  it('no gap is known of before the first block', async () => {
    const { adc } = await connect({ noSamples: true });
    const stream = await adc.createRxStream({ samplesPerBlock: 100 });
    expect(stream.statistics).toMatchObject({ gaps: 0, lostSamples: 0, lostExactly: true });
  });

  it('a refusal comes with the sentence of the server', async () => {
    const { adc } = await connect({
      explanation: 'another program has buffer 0 open; stop it',
      intercept: (request) => {
        if (request.operation === 'WRITE_ATTR') {
          request.answer(-16);
          return true;
        }
        return false;
      },
    });
    await expect(adc.attribute('Zero').write('1')).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('another program has buffer 0 open; stop it'),
    });
    expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
  });

  it('are not used with a server that does not have them', async () => {
    const server = new FakeServer();
    const context = await Context.connect(server.transport, { timeoutMs: 5000 });
    onTestFinished(() => context.close());
    const adc = context.device('adc');
    for (const wish of [{ ring: { ms: 1 } }, { policy: 'stop' as const }, { share: true }]) {
      await expect(adc.createRxStream({ samplesPerBlock: 16, ...wish })).rejects.toMatchObject({ code: 'ENOSYS' });
    }
    const stream = await adc.createRxStream({ samplesPerBlock: 16 });
    const { value: block } = await stream.next();
    expect(block?.metadata).toBeUndefined();
    expect(stream.statistics).toMatchObject({ gaps: undefined, lostSamples: undefined, lostExactly: undefined });
    expect(server.streamOptions).toBeUndefined();
  });
});
