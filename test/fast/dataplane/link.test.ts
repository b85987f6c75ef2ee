import { writeSync } from 'node:fs';
import { createConnection } from 'node:net';
import { decodeFrameHeader, encodeFrameHeader } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { BlockReaderOptions } from '../../../src/dataplane/block-reader.js';
import { DataPlane } from '../../../src/dataplane/data-plane.js';
import type { Link } from '../../../src/dataplane/link.js';
import { openDescriptors, PeerSocket, pattern, pipe, socketpair, startPlane } from './sockets.js';

const TRANSFER = 23;
const RETRY = 25;
const BLOCK = 4096;
const CLIENT = 7;

const code = (name: string) => expect.objectContaining({ code: name });
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const OPTIONS: BlockReaderOptions = {
  device: 2,
  buffer: 1,
  transferOp: TRANSFER,
  retryOp: RETRY,
  timeoutMs: 0,
  sinkByAio: true,
  metadata: false,
};

function openPair(plane = startPlane()): { link: Link; peer: PeerSocket; plane: DataPlane } {
  const [near, far] = socketpair();
  return { plane, link: plane.openSocketLink(near), peer: new PeerSocket(far) };
}

function transfer(block: number, bytes: number, op = TRANSFER): Uint8Array {
  const header = encodeFrameHeader({ clientId: 99, op, dev: 2, code: (block << 16) | 1 });
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes), true);
  return op === RETRY ? header : Buffer.concat([header, length]);
}

async function answer(peer: PeerSocket): Promise<{ clientId: number; code: number }> {
  const { clientId, code: value } = decodeFrameHeader(await peer.read(8));
  return { clientId, code: value };
}

/** A capture whose one reader's requests are what is captured, as far as these tests use it. */
async function openRequested(plane: DataPlane, link: Link, fd: number, options: BlockReaderOptions) {
  const capture = await plane.createCapture(fd, {
    byRead: true,
    setBytes: 1,
    flows: false,
    onDemand: true,
    policy: 'drop-newest',
  });
  const reader = await capture.openBlockReader(link, options);
  await reader.activate();
  return {
    createBlock: reader.createBlock.bind(reader),
    freeBlock: reader.freeBlock.bind(reader),
    setTimeout: reader.setTimeout.bind(reader),
    statistics: () => reader.statistics(),
    start: () => capture.start({ samplingHz: 0, fifoSets: 0, isLossless: true }),
    stop: () => capture.stop(),
    close: async () => {
      await reader.close();
      await capture.close();
    },
  };
}

/** A stream from a pipe, with `blocks` blocks of {@link BLOCK} bytes, started. */
async function openStream(
  options: Partial<BlockReaderOptions> = {},
  blocks = 1,
  blockBytes = BLOCK,
  plane = startPlane(),
) {
  const { link, peer } = openPair(plane);
  const [source, sink] = pipe();
  const stream = await openRequested(plane, link, source.fd, { ...OPTIONS, ...options });
  const frames = link.readFrame();
  frames.catch(() => undefined);
  const paths = [];
  for (let i = 0; i < blocks; i++) {
    paths.push(await stream.createBlock(i, CLIENT + i, undefined, blockBytes));
  }
  await stream.start();
  return { plane, link, peer, stream, source, sink, frames, paths };
}

describe('a link over a socket', () => {
  it('gives lines, bytes and frames, wherever the stream is cut', async () => {
    const message = Buffer.concat([
      Buffer.from('VERSION\r\n'),
      pattern(20),
      encodeFrameHeader({ clientId: 3, op: 1, dev: 0, code: -5 }),
      Buffer.from('\nEXIT\n'),
    ]);
    for (let cut = 0; cut <= message.length; cut++) {
      const { plane, link, peer } = openPair();
      peer.send(message.subarray(0, cut));
      const reading = (async () => [
        text(await link.readLine(100)),
        [...(await link.read(20))],
        decodeFrameHeader(await link.readFrame()),
        text(await link.readLine(100)),
        text(await link.readLine(100)),
      ])();
      peer.send(message.subarray(cut));
      expect(await reading, `cut at ${cut}`).toEqual([
        'VERSION\r\n',
        [...pattern(20)],
        { clientId: 3, op: 1, dev: 0, code: -5 },
        '\n',
        'EXIT\n',
      ]);
      plane.close();
    }
  });

  it('a line without an end is given up at the limit', async () => {
    const { link, peer } = openPair();
    peer.send(Buffer.from('x'.repeat(40)));
    await expect(link.readLine(32)).rejects.toThrow(code('E2BIG'));
    expect(text(await link.read(8))).toBe('x'.repeat(8));
  });

  it('sends transfers in order, far beyond what the socket holds', async () => {
    const { link, peer } = openPair();
    const parts = Array.from({ length: 300 }, (_, i) => pattern(10_000 + i, i));
    link.send(...parts);
    const whole = Buffer.concat(parts);
    expect(Buffer.compare(await peer.read(whole.length), whole)).toBe(0);
    await link.drained();
  });

  it('drained waits for the client, and fails when it goes', async () => {
    const { link, peer } = openPair();
    link.send(pattern(4 * 1024 * 1024));
    const gone = expect.stringMatching(/^(EPIPE|ECONNRESET)$/);
    const drained = expect(link.drained(1024)).rejects.toThrow(expect.objectContaining({ code: gone }));
    // Answered after the data plane has heard of the wait before it.
    await link.drained(4 * 1024 * 1024);
    await peer.close();
    await drained;
    await expect(link.drained()).rejects.toThrow();
    expect(await link.whenEnded).toEqual(gone);
  });

  it('does not read what nobody wants, nor serve who does not read his answers', async () => {
    const plane = startPlane();
    const [near, far] = socketpair();
    const link = plane.openSocketLink(near);
    link.send(pattern(3 * 1024 * 1024));
    // Answered after the data plane has taken what it will take of the client.
    const settle = () => link.drained(4 * 1024 * 1024);
    const stuffed = await stuff(far.fd, settle);
    expect(stuffed).toBeLessThan(2 * 1024 * 1024);
    let isServed = false;
    const read = link.read(16).finally(() => {
      isServed = true;
    });
    await settle();
    expect(isServed).toBe(false);
    const peer = new PeerSocket(far);
    await peer.read(3 * 1024 * 1024);
    expect([...(await read)]).toEqual([...pattern(16)]);
  });

  it('an answer is out before a client that has said its last word is let go', async () => {
    const { link, peer } = openPair();
    peer.send(Buffer.from('PRINT\r\n'));
    peer.shutdown();
    expect(text(await link.readLine(100))).toBe('PRINT\r\n');
    link.send(Buffer.from('hello\n'));
    expect(text(await peer.read(6))).toBe('hello\n');
    await expect(link.readLine(100)).rejects.toThrow(code('ESHUTDOWN'));
    expect(await link.whenEnded).toBe('ESHUTDOWN');
  });

  it('a client that is gone is noticed while its request is under way', async () => {
    const { link, peer } = openPair();
    peer.send(Buffer.from('READBUF\n'));
    await link.readLine(100);
    await peer.close();
    expect(await link.whenEnded).toBe('ESHUTDOWN');
  });

  it('a client that is gone is noticed also where it has sent more than is read before its time', async () => {
    const { link, peer } = openPair();
    peer.send(Buffer.from('READBUF\n'));
    await link.readLine(100);
    peer.send(pattern(100 * 1024));
    await peer.close();
    expect(await link.whenEnded).toBe('ESHUTDOWN');
  });

  it('close ends it at once, whatever is queued', async () => {
    const { link } = openPair();
    link.send(pattern(8 * 1024 * 1024));
    const read = expect(link.read(1)).rejects.toThrow(code('ESHUTDOWN'));
    await link.close();
    await read;
    expect(await link.whenEnded).toBe('closed');
  });

  it('is opened and closed 500 times without losing a descriptor', async () => {
    const plane = startPlane();
    const before = openDescriptors();
    for (let i = 0; i < 500; i++) {
      const [near, far] = socketpair();
      const link = plane.openSocketLink(near);
      link.send(pattern(16, i));
      if (i % 2 === 0) {
        far.close();
      }
      await link.close();
      far.close();
    }
    expect(openDescriptors()).toBe(before);
  });
});

type Context = Awaited<ReturnType<typeof openStream>>;

const BIG_BLOCK = 4 * 1024 * 1024;

/** Brings block 0 into each of its states. */
const STATES: Record<string, (context: Context) => Promise<void> | void> = {
  idle: () => undefined,
  parked: async ({ stream, peer }) => {
    await stream.stop();
    peer.send(transfer(0, 16));
  },
  'waiting for samples': ({ peer }) => peer.send(transfer(0, 16)),
  'half filled': ({ peer, sink }) => {
    peer.send(transfer(0, 16));
    writeSync(sink.fd, pattern(5));
  },
  kept: async ({ peer, sink, stream }) => {
    stream.setTimeout(1);
    peer.send(transfer(0, 16));
    expect(await answer(peer)).toMatchObject({ code: -110 });
    writeSync(sink.fd, pattern(16));
  },
  'half sent': async ({ peer, sink }) => {
    peer.send(transfer(0, BIG_BLOCK));
    await feedSlowly(sink.fd, pattern(BIG_BLOCK));
  },
};

const WAYS: Record<string, (context: Context) => Promise<void> | void> = {
  'free the block': async ({ stream }) => {
    await stream.freeBlock(0);
    await expect(stream.freeBlock(0)).rejects.toThrow(code('EBADF'));
  },
  'close the stream': ({ stream }) => stream.close(),
  'close the link': ({ link }) => link.close(),
  'the client goes': async ({ peer, link }) => {
    await peer.close();
    expect(await link.whenEnded).not.toBe('closed');
  },
};

describe('a data plane', () => {
  it('leaves no descriptor when it is closed, and takes no further call', async () => {
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) {
      const plane = DataPlane.start();
      const [near, far] = socketpair();
      const link = plane.openSocketLink(near);
      plane.listenTcp('127.0.0.1', 0);
      plane.close();
      link.send(pattern(4));
      await expect(link.readFrame()).rejects.toThrow(code('ESHUTDOWN'));
      expect(await link.whenEnded).toBe('closed');
      far.close();
    }
    expect(openDescriptors()).toBe(before);
  });
});

describe('an RX stream over a socket', () => {
  it('carries samples bit by bit exactly, and copies without calling it a fallback', async () => {
    const { peer, sink, stream, paths } = await openStream({}, 4);
    expect(paths[0]).toEqual({ source: 'iio-read', sink: 'tcp' });
    const samples = pattern(64 * BLOCK);
    const feed = feedSlowly(sink.fd, samples);
    for (let i = 0; i < 4; i++) {
      peer.send(transfer(i, BLOCK));
    }
    const got: Uint8Array[] = [];
    for (let i = 0; i < 64; i++) {
      expect(await answer(peer)).toEqual({ clientId: CLIENT + (i % 4), code: BLOCK });
      got.push(await peer.read(BLOCK));
      peer.send(transfer(i % 4, BLOCK));
    }
    await feed;
    expect(Buffer.compare(Buffer.concat(got), samples)).toBe(0);
    const { blocks, bytes } = await stream.statistics();
    expect({ blocks, bytes }).toEqual({ blocks: 64, bytes: 64 * BLOCK });
  });

  it('understands block requests that arrive in two pieces, cut at every byte', async () => {
    const { peer, sink } = await openStream();
    const request = transfer(0, 16);
    for (let cut = 0; cut <= request.length; cut++) {
      peer.send(request.subarray(0, cut));
      writeSync(sink.fd, pattern(16, cut));
      peer.send(request.subarray(cut));
      expect(await answer(peer)).toEqual({ clientId: CLIENT, code: 16 });
      expect([...(await peer.read(16))]).toEqual([...pattern(16, cut)]);
    }
  });

  it('hands other frames to TypeScript in their order', async () => {
    const { peer, sink, frames } = await openStream();
    writeSync(sink.fd, pattern(8));
    peer.send(Buffer.concat([transfer(0, 8), encodeFrameHeader({ clientId: 0, op: 1, dev: 2, code: 5 })]));
    expect(decodeFrameHeader(await frames)).toEqual({ clientId: 0, op: 1, dev: 2, code: 5 });
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: 8 });
  });

  it('a block that waited too long is answered with a time-out, kept, and fetched by RETRY_DEQUEUE', async () => {
    const { peer, sink, stream } = await openStream({ timeoutMs: 20 });
    peer.send(transfer(0, 16));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -110 });
    // Once while it is still empty, and once when it has been filled in the meantime.
    peer.send(transfer(0, 0, RETRY));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -110 });
    writeSync(sink.fd, pattern(16, 3));
    peer.send(transfer(0, 0, RETRY));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: 16 });
    expect([...(await peer.read(16))]).toEqual([...pattern(16, 3)]);
    peer.send(transfer(0, 0, RETRY));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -1 });
    expect((await stream.statistics()).timeouts).toBe(2);
  });

  it('refuses what makes no sense: no bytes, too many, a block that is under way', async () => {
    const { peer } = await openStream();
    peer.send(transfer(0, 0));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -22 });
    peer.send(transfer(0, BLOCK + 1));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -22 << 16 });
    peer.send(transfer(0, 8));
    peer.send(transfer(0, 8));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: -16 << 16 });
  });

  it('a slow client stops the source, and gets everything in the end', async () => {
    const blockBytes = 256 * 1024;
    const { peer, sink } = await openStream({}, 8, blockBytes);
    const samples = pattern(8 * blockBytes);
    for (let i = 0; i < 8; i++) {
      peer.send(transfer(i, blockBytes));
    }
    await feedSlowly(sink.fd, samples);
    for (let i = 0; i < 8; i++) {
      expect(await answer(peer)).toEqual({ clientId: CLIENT + i, code: blockBytes });
      const got = await peer.read(blockBytes);
      expect(Buffer.compare(got, samples.subarray(i * blockBytes, (i + 1) * blockBytes))).toBe(0);
    }
  });

  it('a block freed while half of it is sent leaves the rest of the stream decodable', async () => {
    const blockBytes = 4 * 1024 * 1024;
    const { peer, sink, stream, link } = await openStream({}, 3, blockBytes);
    const samples = pattern(2 * blockBytes);
    peer.send(transfer(0, blockBytes));
    peer.send(transfer(1, blockBytes));
    peer.send(transfer(2, 16));
    await feedSlowly(sink.fd, samples);
    // Block 0 has begun to leave, block 1 has not: its header is withdrawn with it.
    await stream.freeBlock(0);
    await stream.freeBlock(1);
    writeSync(sink.fd, pattern(16, 9));
    link.send(Buffer.from('next\n'));
    expect(await answer(peer)).toEqual({ clientId: CLIENT, code: blockBytes });
    expect(Buffer.compare(await peer.read(blockBytes), samples.subarray(0, blockBytes))).toBe(0);
    const rest = Buffer.from(await peer.read(8 + 16 + 5));
    expect(rest.includes('next\n')).toBe(true);
    const header = rest.subarray(rest.indexOf('next\n') === 0 ? 5 : 0);
    expect(decodeFrameHeader(header.subarray(0, 8))).toMatchObject({ clientId: CLIENT + 2, code: 16 });
  });

  describe.each(Object.entries(STATES))('with a block that is %s', (_, enter) => {
    it('goes away however it is told, and leaves no descriptor', async () => {
      const plane = startPlane();
      const before = openDescriptors();
      for (const [way, leave] of Object.entries(WAYS)) {
        const context = await openStream({}, 1, BIG_BLOCK, plane);
        await enter(context);
        await leave(context);
        await context.link.close();
        await expect(context.stream.createBlock(1, 1, undefined, BIG_BLOCK), way).rejects.toThrow(
          expect.objectContaining({ code: expect.stringMatching(/^(ESHUTDOWN|EBADF)$/) }),
        );
        await context.stream.close();
        await context.peer.close();
        context.sink.close();
        context.source.close();
      }
      expect(openDescriptors()).toBe(before);
    });

    it('does not hold up the end of the data plane', async () => {
      const context = await openStream({}, 1, BIG_BLOCK);
      await enter(context);
      context.plane.close();
      expect(await context.link.whenEnded).toBe('closed');
    });
  });

  it('works over TCP', async () => {
    const plane = startPlane();
    const listener = plane.listenTcp('127.0.0.1', 0);
    const accepted = listener.accept();
    const client = createConnection({ host: '127.0.0.1', port: listener.port });
    onTestFinished(() => void client.destroy());
    const { link, peer } = await accepted;
    expect(peer).toBe(`127.0.0.1:${client.localPort}`);
    link.send(Buffer.from('hi\n'));
    const [greeting] = await new Promise<[Buffer]>((resolve) => client.once('data', (data) => resolve([data])));
    expect(greeting.toString()).toBe('hi\n');
    const refused = expect(listener.accept()).rejects.toThrow(code('EBADF'));
    await listener.close();
    await refused;
  });
});

/** Writes all of `bytes` into a non-blocking pipe whose reader takes its time. */
async function feedSlowly(fd: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Writes until nothing more fits; resolves with how many bytes did. */
async function stuff(fd: number, settle: () => Promise<void>): Promise<number> {
  const bytes = pattern(64 * 1024);
  let written = 0;
  let idleRounds = 0;
  while (idleRounds < 3) {
    try {
      written += writeSync(fd, bytes);
      idleRounds = 0;
    } catch {
      idleRounds++;
      await settle();
    }
  }
  return written;
}
