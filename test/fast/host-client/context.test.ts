import { contextToXml, IioError } from '@iio-bridge/protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { Context, type ContextOptions } from '../../../host-client/src/core/context.js';
import { ADC, CONTEXT, type FakeRequest, FakeServer, type FakeServerOptions } from './fake-server.js';

const open: Context[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((context) => context.close()));
});

async function connect(options: FakeServerOptions = {}, contextOptions: ContextOptions = {}) {
  const server = new FakeServer(options);
  const context = await Context.connect(server.transport, { timeoutMs: 300, ...contextOptions });
  open.push(context);
  return { server, context };
}

function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof IioError ? error.code : String(error)),
  );
}

/** A zstd frame of one raw block, with the content size in its header, as servers send it (RFC 8878). */
function zstdFrame(content: Uint8Array): Uint8Array {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(content.length);
  const block = (content.length << 3) | 1;
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0]),
    size,
    Buffer.from([block & 0xff, (block >> 8) & 0xff, block >> 16]),
    content,
  ]);
}

describe('opening a context', () => {
  it('asks for binary mode, the time-out and the document, and reads no attribute', async () => {
    const { server } = await connect();
    expect(server.log).toEqual(['main: TIMEOUT', 'main: PRINT']);
    const [link] = server.transport.links;
    expect(link?.hostTransfers.map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual([
      Buffer.from('BINARY\r\n').toString('hex'),
      '0000020096000000',
      '0000010000000000',
    ]);
  });

  it('numbers devices in byte order and finds them by id, name and label', async () => {
    const { context } = await connect();
    expect(context.devices.map(({ id }) => id)).toEqual(['iio:device10', 'iio:device2']);
    for (const key of ['iio:device2', 'adc', 'front end']) {
      expect(context.device(key).index).toBe(ADC);
    }
    expect(() => context.device('dac')).toThrow(/no device 'dac' \(devices: .*iio:device2 \(adc\)/);
    expect(context.attributes.get('usb,serial')).toBe('007');
    expect(context.attributes.get('uri')).toBe('usb:1.4.0');
  });

  it('reads a compressed document', async () => {
    const { context } = await connect({ document: zstdFrame(Buffer.from(contextToXml(CONTEXT))) });
    expect(context.device('adc').channels).toHaveLength(4);
  });

  it.each([64, 512, 1024])('reads documents around multiples of %i bytes', async (packetSize) => {
    for (const surplus of [-1, 0, 1]) {
      const xml = contextToXml(CONTEXT);
      const length = Math.ceil(xml.length / packetSize) * packetSize + packetSize + surplus;
      const { context } = await connect({ packetSize, document: Buffer.from(xml.padEnd(length)) });
      expect(context.devices).toHaveLength(2);
    }
  });

  it('refuses a text-only server if told so', async () => {
    const server = new FakeServer({ handshake: '-22\n' });
    expect(await code(Context.connect(server.transport, { protocol: 'binary' }))).toBe('TEXT_ONLY');
    expect(server.transport.closed).toBe(true);
  });

  it('drops what an earlier session left in the pipe', async () => {
    const stale = [Buffer.alloc(1536, 0xab), Buffer.from('\n\n'), Buffer.from('xyz')];
    const { context } = await connect({ stale });
    expect(context.devices).toHaveLength(2);
  });

  it('gives up on a silent server, and closes the transport', async () => {
    const server = new FakeServer({ handshake: undefined });
    expect(await code(Context.connect(server.transport, { timeoutMs: 50 }))).toBe('ETIMEDOUT');
    expect(server.transport.closed).toBe(true);
    expect(server.transport.links[0]?.isClosed).toBe(true);
  });

  it('ends at once when aborted, and closes the transport', async () => {
    const server = new FakeServer({ handshake: undefined });
    const signal = AbortSignal.timeout(20);
    const startedAt = performance.now();
    expect(await code(Context.connect(server.transport, { timeoutMs: 5000, signal }))).toBe('ECANCELED');
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(server.transport.closed).toBe(true);
  });

  it('reports a document that is none', async () => {
    const server = new FakeServer({ document: Buffer.from('<html>') });
    expect(await code(Context.connect(server.transport))).toBe('BAD_XML');
  });
});

describe('attributes', () => {
  it('are addressed by their rank in byte order, channels by position', async () => {
    const { context } = await connect();
    const adc = context.device('adc');
    expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
    expect(await adc.attribute('sampling_frequency').read()).toBe('ATTR 1 1 0');
    expect(await adc.channel('voltage2').attribute('raw').read()).toBe('CHN_ATTR 1 1 2');
    expect(await adc.debugAttribute('direct_reg_access').read()).toBe('DBG_ATTR 1 0 0');
    expect(await adc.buffer(0).attribute('watermark').read()).toBe('BUF_ATTR 1 0 0');
    expect(() => adc.attribute('gain')).toThrow(/no attribute 'gain' \(there: Zero, sampling_frequency\)/);
  });

  it('are written with their terminating NUL', async () => {
    const { server, context } = await connect();
    const attribute = context.device('adc').attribute('sampling_frequency');
    await attribute.write('48 kHz µ');
    expect(await attribute.read()).toBe('48 kHz µ');
    const payload = server.transport.links[0]?.hostTransfers.slice(-3, -1);
    expect(payload?.map((bytes) => bytes.length)).toEqual([8, 10]);
  });

  it('give every one of many callers its own answer', async () => {
    const { context } = await connect({ seed: 7 });
    const channels = context.device('adc').channels;
    const values = await Promise.all(
      Array.from({ length: 40 }, (_, i) => channels[i % 4]?.attribute(i % 3 === 0 ? 'raw' : 'offset').read()),
    );
    expect(values).toEqual(Array.from({ length: 40 }, (_, i) => `CHN_ATTR 1 ${i % 3 === 0 ? 1 : 0} ${i % 4}`));
  });

  it('carry the driver’s errno', async () => {
    const { context } = await connect({
      intercept: (request) => {
        if (request.operation.endsWith('_ATTR')) {
          request.answer(request.operation === 'READ_ATTR' ? -16 : -22);
          return true;
        }
        return false;
      },
    });
    const attribute = context.device('adc').attribute('Zero');
    await expect(attribute.read()).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('iio:device2/Zero'),
    });
    expect(await code(attribute.write('1'))).toBe('EINVAL');
  });
});

describe('a server that sends header and payload in one transfer', () => {
  it.each([1, 12, 503, 504, 505, 1016, 1528, 5000])('is understood: %i bytes', async (length) => {
    const { context } = await connect({
      seed: length,
      intercept: (request) => {
        if (request.operation !== 'READ_ATTR') {
          return false;
        }
        const answer = Buffer.alloc(8 + length, 'x');
        answer.fill(0, 0, 8);
        answer.writeInt32LE(length, 4);
        request.link.send(answer);
        return true;
      },
    });
    const attribute = context.device('adc').attribute('Zero');
    expect(await attribute.read()).toBe('x'.repeat(length));
    expect(await attribute.read()).toBe('x'.repeat(length));
  });
});

describe('an answer that comes late', () => {
  it('is dropped, and never taken for the next request’s', async () => {
    const waiting: FakeRequest[] = [];
    let busy = true;
    const { server, context } = await connect(
      {
        intercept: (request) => {
          if (busy && request.operation === 'READ_ATTR') {
            waiting.push(request);
          }
          return busy && request.operation === 'READ_ATTR';
        },
      },
      { timeoutMs: 60 },
    );
    const adc = context.device('adc');
    expect(await code(adc.attribute('Zero').read())).toBe('ETIMEDOUT');
    const next = adc.attribute('sampling_frequency').read();
    setTimeout(() => {
      busy = false;
      for (const [i, request] of waiting.entries()) {
        request.answer(2, Buffer.from(`${i}\0`));
      }
    }, 20);
    expect(await next).toBe('ATTR 1 1 0');
    expect(server.transport.links).toHaveLength(1);
  });

  it('makes the link be opened anew if it does not come at all', async () => {
    const { server, context } = await connect(
      { intercept: (request) => request.operation === 'READ_DBG_ATTR' },
      { timeoutMs: 60 },
    );
    const adc = context.device('adc');
    expect(await code(adc.debugAttribute('direct_reg_access').read())).toBe('ETIMEDOUT');
    expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
    expect(server.transport.links).toHaveLength(2);
    expect(server.transport.links[0]?.isClosed).toBe(true);
  });
});

describe('a broken response', () => {
  it('that ends at any byte is reported, and the link recovers', async () => {
    const value = Buffer.from('0.610351562\0');
    const header = Buffer.alloc(8);
    header.writeInt32LE(value.length, 4);
    for (let kept = 1; kept < header.length + value.length; kept++) {
      if (kept === header.length) {
        continue;
      }
      let cut = true;
      const { context } = await connect({
        seed: kept,
        intercept: (request) => {
          if (request.operation !== 'READ_ATTR' || !cut) {
            return false;
          }
          cut = false;
          request.link.send(header.subarray(0, kept));
          if (kept > header.length) {
            request.link.send(value.subarray(0, kept - header.length));
          }
          return true;
        },
      });
      const attribute = context.device('adc').attribute('Zero');
      expect([kept, await code(attribute.read())]).toEqual([kept, 'TRUNCATED']);
      expect(await attribute.read()).toBe('ATTR 1 0 0');
    }
  });

  it('that stops between header and payload times out', async () => {
    const { context } = await connect(
      {
        intercept: (request) => {
          if (request.operation !== 'READ_ATTR') {
            return false;
          }
          const header = Buffer.alloc(8);
          header.writeInt32LE(12, 4);
          request.link.send(header);
          return true;
        },
      },
      { timeoutMs: 50 },
    );
    expect(await code(context.device('adc').attribute('Zero').read())).toBe('ETIMEDOUT');
  });

  it.each([
    ['for a conversation that nobody started', '0900000000000000'],
    ['that is a request', '0000030000000000'],
  ])('%s is a protocol error', async (_, frame) => {
    const { context } = await connect({
      intercept: (request) => {
        if (request.operation !== 'READ_ATTR') {
          return false;
        }
        request.link.send(Buffer.from(frame, 'hex'));
        return true;
      },
    });
    expect(await code(context.device('adc').attribute('Zero').read())).toBe('EPROTO');
  });

  it('that announces an absurd length is refused before memory is taken', async () => {
    const { context } = await connect({
      intercept: (request) => {
        if (request.operation !== 'READ_ATTR') {
          return false;
        }
        request.answer(0x7fffffff);
        return true;
      },
    });
    expect(await code(context.device('adc').attribute('Zero').read())).toBe('EPROTO');
  });
});

describe('an unplug', () => {
  it('ends pending and later operations with one code', async () => {
    const { server, context } = await connect({ intercept: (request) => request.operation === 'READ_ATTR' });
    const adc = context.device('adc');
    const pending = [adc.attribute('Zero').read(), adc.attribute('sampling_frequency').read()];
    setImmediate(() => server.transport.disconnect());
    expect(await Promise.all(pending.map(code))).toEqual(['DISCONNECTED', 'DISCONNECTED']);
    expect(await code(adc.attribute('Zero').read())).toBe('DISCONNECTED');
    expect(await code(adc.createRxStream({ samplesPerBlock: 16 }))).toBe('DISCONNECTED');
    await context.close();
    expect(server.transport.closed).toBe(true);
  });

  it('is noticed while nothing is asked', async () => {
    const { server, context } = await connect();
    server.transport.disconnect();
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const [link] = server.transport.links;
    expect(await code(context.device('adc').attribute('Zero').read())).toBe('DISCONNECTED');
    expect(link?.hostTransfers).toHaveLength(3);
  });
});
