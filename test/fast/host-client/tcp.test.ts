import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { IioError } from '@iio-bridge/protocol';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type PendingRead, readOnce } from '../../../host-client/src/core/read-once.js';
import { Context } from '../../../host-client/src/index.js';
import { browse, type FoundService, findNetworkContext } from '../../../host-client/src/tcp/dns-sd.js';
import { TcpLink } from '../../../host-client/src/tcp/tcp-link.js';
import { ipUri, parseIpUri } from '../../../host-client/src/tcp/tcp-transport.js';
import { parseConfig } from '../../../src/bridge/config.js';
import { Service } from '../../../src/bridge/service.js';
import { FakeLog } from '../bridge/text-fakes.js';
import { seededRandom } from './fake-bus.js';

function codeOf(error: unknown): string {
  return error instanceof IioError ? error.code : String(error);
}

async function listen(
  onConnection: (socket: Socket) => void,
): Promise<{ readonly port: number; readonly server: Server }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  const address = server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : 0, server };
}

describe('an ip: URI', () => {
  it('is parsed, and written again', () => {
    expect(parseIpUri('ip:')).toBeUndefined();
    expect(parseIpUri('ip:pluto.local')).toEqual({ host: 'pluto.local', port: 30431 });
    expect(parseIpUri('ip:192.168.2.1:4242')).toEqual({ host: '192.168.2.1', port: 4242 });
    expect(parseIpUri('ip:[fe80::1%eth0]:4242')).toEqual({ host: 'fe80::1%eth0', port: 4242 });
    expect(parseIpUri('ip:2001:db8::7')).toEqual({ host: '2001:db8::7', port: 30431 });
    for (const uri of ['ip:a', 'ip:a:1', 'ip:::1', 'ip:[::1]:5']) {
      const target = parseIpUri(uri);
      expect(target === undefined ? '' : ipUri(target)).toBe(uri);
    }
  });

  it.each(['ip', 'ip:a:b', 'ip:a:0', 'ip:a:70000', 'ip:[::1', 'ip:a b', 'ip::', 'usb:'])("'%s' is refused", (uri) => {
    expect(() => parseIpUri(uri)).toThrow(expect.objectContaining({ code: 'BAD_URI' }));
  });

  it('without a server says what to look at', async () => {
    const { port, server } = await listen(() => {});
    await new Promise((resolve) => server.close(resolve));
    await expect(Context.open(`ip:127.0.0.1:${port}`)).rejects.toMatchObject({
      code: 'NO_CONTEXT',
      message: expect.stringContaining(`nobody listens on port ${port}`),
    });
  });

  it('to somebody else ends in a typed error', async () => {
    const chatty = await listen((socket) => {
      const line = Buffer.alloc(64 * 1024, 'HTTP/1.1 400 Bad Request ');
      const more = (): void => {
        if (!socket.destroyed) {
          socket.write(line, more);
        }
      };
      more();
    });
    await expect(Context.open(`ip:127.0.0.1:${chatty.port}`, { timeoutMs: 20_000 })).rejects.toMatchObject({
      code: 'EPROTO',
    });
    const silent = await listen(() => {});
    await expect(Context.open(`ip:127.0.0.1:${silent.port}`, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
    });
    const rude = await listen((socket) => socket.destroy());
    await expect(Context.open(`ip:127.0.0.1:${rude.port}`)).rejects.toMatchObject({ code: 'DISCONNECTED' });
  });
});

describe('a connection', () => {
  async function pair() {
    let peer: Socket | undefined;
    const { port } = await listen((socket) => {
      peer = socket;
    });
    const link = await TcpLink.open('test', '127.0.0.1', port, 5000);
    onTestFinished(() => link.close());
    while (peer === undefined) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { link, peer };
  }

  it('fills reads in order, small and large, whatever the pieces are', async () => {
    const { link, peer } = await pair();
    const random = seededRandom(3);
    const data = randomBytes(random, 1_000_000);
    for (let at = 0; at < data.length; ) {
      const size = Math.ceil(random() ** 4 * 200_000);
      peer.write(data.subarray(at, at + size));
      at += size;
    }
    for (let at = 0; at < data.length; ) {
      const reads: { readonly memory: Uint8Array; readonly read: PendingRead }[] = [];
      for (let posted = at; posted < data.length && reads.length < 5; ) {
        const size = Math.min(data.length - posted, reads.length % 2 === 0 ? 8 : Math.ceil(random() ** 2 * 300_000));
        const memory = new Uint8Array(size);
        reads.push({ memory, read: readOnce(link, memory) });
        posted += size;
      }
      for (const { memory, read } of reads) {
        expect(await read.done).toEqual({ length: memory.length, cancelled: false });
        expect(Buffer.compare(memory, data.subarray(at, at + memory.length))).toBe(0);
        at += memory.length;
      }
    }
  });

  it('ends a read at its minimum, and a cancelled one with what it has', async () => {
    const { link, peer } = await pair();
    peer.write(Buffer.from('0123456789'));
    const memory = new Uint8Array(48);
    expect(await readOnce(link, memory, 8).done).toEqual({ length: 10, cancelled: false });
    const reads = [readOnce(link, memory), readOnce(link, memory)];
    reads[1]?.cancel();
    expect(await reads[1]?.done).toEqual({ length: 0, cancelled: true });
    reads[0]?.cancel();
    expect(await reads[0]?.done).toEqual({ length: 0, cancelled: true });
    // Memory that the kernel has cannot be taken back: the read ends with what comes.
    const large = readOnce(link, new Uint8Array(100_000));
    peer.write(Buffer.alloc(60_000, 1));
    await readOnceArrived(large, link, peer);
  });

  it('holds the peer back while nobody reads', async () => {
    const { link, peer } = await pair();
    const data = Buffer.alloc(24 * 1024 * 1024, 7);
    let isWritten = false;
    peer.write(data, () => {
      isWritten = true;
    });
    const first = new Uint8Array(16);
    await readOnce(link, first).done;
    for (let turn = 0; turn < 200; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(isWritten).toBe(false);
    const rest = new Uint8Array(data.length - 16);
    await readOnce(link, rest).done;
    expect(Buffer.compare(rest, data.subarray(16))).toBe(0);
  }, 30_000);

  it('that the peer ends rejects what waits, after what had arrived', async () => {
    const { link, peer } = await pair();
    peer.end(Buffer.from('abc'));
    const reads = [readOnce(link, new Uint8Array(3)), readOnce(link, new Uint8Array(1))];
    expect(await reads[0]?.done).toEqual({ length: 3, cancelled: false });
    await expect(reads[1]?.done).rejects.toMatchObject({ code: 'DISCONNECTED' });
    await expect(readOnce(link, new Uint8Array(1)).done).rejects.toMatchObject({ code: 'DISCONNECTED' });
    await expect(link.write(Uint8Array.of(1))).rejects.toMatchObject({ code: 'DISCONNECTED' });
  });

  it('that is closed gives the memory of its reads back', async () => {
    const { link } = await pair();
    const reads = [readOnce(link, new Uint8Array(1_000_000)), readOnce(link, new Uint8Array(8))];
    await link.close();
    expect(await Promise.all(reads.map(({ done }) => done))).toEqual(Array(2).fill({ length: 0, cancelled: true }));
  });
});

/** Cancels a read whose memory is lent, and shows that the bytes that come next land in it. */
async function readOnceArrived(large: PendingRead, link: TcpLink, peer: Socket): Promise<void> {
  for (let turn = 0; turn < 50; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  large.cancel();
  const next = new Uint8Array(3);
  const read = readOnce(link, next);
  peer.write(Buffer.from('abc'));
  peer.write(Buffer.from('abc'));
  const { length, cancelled } = await large.done;
  expect(cancelled).toBe(true);
  expect([60_000, 60_003, 60_006]).toContain(length);
  if (length < 60_006) {
    await read.done;
    expect(Buffer.from(next).toString()).toBe('abc');
  }
}

function randomBytes(random: () => number, length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0; i < words.length; i++) {
    words[i] = random() * 2 ** 32;
  }
  return Buffer.from(words.buffer, 0, length);
}

describe('a connection that breaks', () => {
  const log = new FakeLog();
  let service: Service;

  beforeAll(async () => {
    const config = parseConfig(
      {
        usb: { enabled: false },
        tcp: { listen: ['127.0.0.1:0'] },
        emulate: { context: 'test/fixtures/emulated/converters.xml', freeRunning: true },
      },
      'test',
    );
    service = await Service.start(config, { log });
  });

  afterAll(() => service.stop());

  async function converse(port: number, protocol: 'binary' | 'text'): Promise<string> {
    try {
      await using context = await Context.open(`ip:127.0.0.1:${port}`, { protocol, timeoutMs: 10_000 });
      const adc = context.device('emu-adc');
      await adc.channel('voltage0').attribute('scale').read();
      await using stream = await adc.createRxStream({ samplesPerBlock: 8, blocks: 2 });
      for (let count = 0; count < 3; count++) {
        (await stream.next()).value?.release();
      }
      return 'done';
    } catch (error) {
      return codeOf(error);
    }
  }

  it.each(['binary', 'text'] as const)(
    'at any byte of the server ends with DISCONNECTED: %s',
    async (protocol) => {
      let budget = Number.POSITIVE_INFINITY;
      let passed = 0;
      const { port } = await listen((socket) => {
        const upstream = dial(service.endpoints[0]?.port ?? 0, '127.0.0.1');
        upstream.on('error', () => {});
        socket.pipe(upstream);
        socket.on('close', () => upstream.destroy());
        upstream.on('data', (bytes: Buffer) => {
          const room = Math.max(0, budget - passed);
          passed += bytes.length;
          socket.write(bytes.subarray(0, room));
          if (bytes.length > room) {
            socket.end();
            upstream.destroy();
          }
        });
        upstream.on('close', () => socket.end());
      });
      expect(await converse(port, protocol)).toBe('done');
      const total = passed;
      const step = Math.ceil(total / 150);
      const ends: Record<string, number> = {};
      for (let cut = 0; cut < total; cut += cut < 60 || cut > total - 250 ? 3 : step) {
        [budget, passed] = [cut, 0];
        const end = await converse(port, protocol);
        ends[end] = (ends[end] ?? 0) + 1;
      }
      const { DISCONNECTED = 0, done = 0, ...others } = ends;
      expect(others).toEqual({});
      // The last answers are to the closing of the stream.
      expect(DISCONNECTED).toBeGreaterThan(100);
      expect(done).toBeLessThan(90);
    },
    120_000,
  );
});

describe('DNS-SD', () => {
  function responder(services: readonly FoundService[]) {
    let destroyed = false;
    return {
      isDestroyed: () => destroyed,
      load: async () => ({
        find: (_: { type: string }, onUp: (service: FoundService) => void) => {
          for (const service of services) {
            onUp(service);
          }
          return { stop: () => {} };
        },
        destroy: () => {
          destroyed = true;
        },
      }),
    };
  }
  const PLUTO = { name: 'iiod on pluto', host: 'pluto.local', port: 30431, addresses: ['fe80::1', '192.168.2.1'] };
  const BOARD = { name: 'iiod on board', host: 'board.local', port: 4242, addresses: ['2001:db8::7'] };

  it('lists what announces itself, by an address that works', async () => {
    const { load, isDestroyed } = responder([PLUTO, BOARD, PLUTO]);
    expect((await browse(1, load)).map(({ uri, description }) => [uri, description])).toEqual([
      ['ip:192.168.2.1', 'iiod on pluto (pluto.local, 192.168.2.1)'],
      ['ip:[2001:db8::7]:4242', 'iiod on board (board.local, 2001:db8::7)'],
    ]);
    expect(isDestroyed()).toBe(true);
  });

  it('gives `ip:` the only one, or says why not', async () => {
    expect((await findNetworkContext(1, responder([PLUTO]).load)).address).toBe('192.168.2.1');
    await expect(findNetworkContext(1, responder([]).load)).rejects.toMatchObject({ code: 'NO_CONTEXT' });
    await expect(findNetworkContext(1, responder([PLUTO, BOARD]).load)).rejects.toMatchObject({
      code: 'SEVERAL_CONTEXTS',
      message: expect.stringMatching(/ip:192\.168\.2\.1 .*\n.*ip:\[2001:db8::7\]:4242/),
    });
  });
});

describe('xml:', () => {
  it('opens a description without values', async () => {
    await using context = await Context.open('xml:test/fixtures/emulated/converters.xml');
    expect(context.protocol).toBe('none');
    expect(context.device('emu-adc').channels).toHaveLength(4);
    await expect(context.device('emu-adc').createRxStream({ samplesPerBlock: 1 })).rejects.toMatchObject({
      code: 'OFFLINE',
    });
    await expect(Context.open('xml:/nowhere')).rejects.toMatchObject({ code: 'NO_CONTEXT' });
    await expect(Context.open('serial:/dev/ttyS0')).rejects.toMatchObject({ code: 'BAD_URI' });
  });
});
