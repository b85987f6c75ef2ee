import { ERRNO, encodeU32, encodeU64, packCode } from '@iio-bridge/protocol';
import { decompress } from 'fzstd';
import { describe, expect, it } from 'vitest';
import { ADC, createBlock, DAC, MONITOR, openBuffer, TestBridge, type TestLink, TRIGGER } from './binary-harness.js';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const BINARY = encode('BINARY\r\n');
const ok = (code: number, clientId = 0) => ({ clientId, op: 0, dev: 0, code });

describe('the greeting', () => {
  it('switches a fresh link, and is answered again in binary mode', async () => {
    const link = await new TestBridge().connect();
    link.send(BINARY);
    expect((await link.receive(3)).toString()).toBe('0\r\n');
    await link.expectQuiet();
  });
});

type Row = [name: string, check: (link: TestLink) => Promise<void>];

describe('each request is answered once', () => {
  const ROWS: readonly Row[] = [
    ['NOP, without its id', async (link) => expect(await link.ask('NOP', { id: 5 })).toEqual(ok(0))],
    ...([1000, -1, 0, -0x8000_0000] as const).map(
      (ms): Row => [
        `TIMEOUT ${ms}`,
        async (link: TestLink) => expect(await link.ask('TIMEOUT', { code: ms })).toEqual(ok(0)),
      ],
    ),
    ['TIMEOUT -2', async (link) => expect(await link.ask('TIMEOUT', { code: -2 })).toEqual(ok(-ERRNO.EINVAL))],
    [
      'READ_ATTR of device 200',
      async (link) => expect(await link.ask('READ_ATTR', { dev: 200 })).toEqual(ok(-ERRNO.EINVAL)),
    ],
    [
      'READ_CHN_ATTR',
      async (link) => {
        expect(await link.ask('READ_CHN_ATTR', { code: packCode(1, 1) })).toEqual(ok(16));
        expect((await link.receive(16)).toString()).toBe('channel 1 scale\0');
      },
    ],
    [
      'READ_DEV_EVT_ATTR and READ_CHN_EVT_ATTR',
      async (link) => {
        expect((await link.ask('READ_DEV_EVT_ATTR', { dev: MONITOR })).code).toBe(13);
        expect((await link.receive(13)).toString()).toBe('event period\0');
        expect((await link.ask('READ_CHN_EVT_ATTR', { dev: MONITOR })).code).toBe(33);
        expect((await link.receive(33)).toString()).toBe('channel-event 0 thresh_rising_en\0');
      },
    ],
    [
      'WRITE_ATTR, whose positive code has no payload',
      async (link) => {
        expect(await link.ask('WRITE_ATTR', {}, encodeU64(3), encode('12\0'))).toEqual(ok(3));
        expect(await link.ask('READ_ATTR')).toEqual(ok(3));
        expect((await link.receive(3)).toString()).toBe('12\0');
      },
    ],
    [
      'WRITE_ATTR of 0 bytes',
      async (link) => expect(await link.ask('WRITE_ATTR', {}, encodeU64(0))).toEqual(ok(-ERRNO.EIO)),
    ],
    [
      'WRITE_ATTR of an attribute, a channel, a device that is not there: the payload is not taken for requests',
      async (link) => {
        const payload = [encodeU64(8), BINARY];
        expect(await link.ask('WRITE_ATTR', { code: packCode(99, 0) }, ...payload)).toEqual(ok(-ERRNO.EINVAL));
        expect(await link.ask('WRITE_CHN_ATTR', { code: packCode(0, 99) }, ...payload)).toEqual(ok(-ERRNO.EINVAL));
        expect(await link.ask('WRITE_DBG_ATTR', { dev: 200 }, ...payload)).toEqual(ok(-ERRNO.EINVAL));
      },
    ],
    [
      'WRITE_ATTR above the limit',
      async (link) => {
        const value = new Uint8Array(300_000).fill(0x20);
        expect(await link.ask('WRITE_ATTR', {}, encodeU64(value.length), value)).toEqual(ok(-ERRNO.EFBIG));
      },
    ],
    [
      'GETTRIG without a trigger',
      async (link) => expect(await link.ask('GETTRIG', { code: 77 })).toEqual(ok(-ERRNO.ENODEV)),
    ],
    [
      'SETTRIG, GETTRIG',
      async (link) => {
        expect(await link.ask('SETTRIG', { code: TRIGGER })).toEqual(ok(0));
        expect(await link.ask('GETTRIG')).toEqual(ok(TRIGGER));
        expect(await link.ask('SETTRIG', { code: ADC })).toEqual(ok(-ERRNO.EINVAL));
        expect(await link.ask('SETTRIG', { code: -1 })).toEqual(ok(0));
        expect(await link.ask('GETTRIG')).toEqual(ok(-ERRNO.ENODEV));
      },
    ],
    [
      'REFRESH_FORMAT of device 200',
      async (link) => expect(await link.ask('REFRESH_FORMAT', { dev: 200 })).toEqual(ok(-ERRNO.ENODEV)),
    ],
    [
      'REFRESH_FORMAT',
      async (link) => {
        expect(await link.ask('REFRESH_FORMAT', { code: 1 })).toEqual(ok(12));
        expect((await link.receive(12)).toString()).toBe('le:S16/16>>0');
      },
    ],
    [
      'REG_WRITE, REG_READ with an address above 31 bits',
      async (link) => {
        expect(await link.ask('REG_WRITE', { code: 0x8000_0088 | 0 }, encodeU32(0xdead_beef))).toEqual(ok(0));
        expect(await link.ask('REG_READ', { code: 0x8000_0088 | 0 })).toEqual(ok(4));
        expect([...(await link.receive(4))]).toEqual([0xef, 0xbe, 0xad, 0xde]);
      },
    ],
    [
      'REG_READ without debug access',
      async (link) => expect(await link.ask('REG_READ', { dev: MONITOR })).toEqual(ok(-ERRNO.ENOENT)),
    ],
    [
      'REG_WRITE to device 200: its value is not taken for a request',
      async (link) => expect(await link.ask('REG_WRITE', { dev: 200 }, encodeU32(1))).toEqual(ok(-ERRNO.ENODEV)),
    ],
    [
      'ENABLE_BUFFER that is not open',
      async (link) => expect(await link.ask('ENABLE_BUFFER')).toEqual(ok(-ERRNO.EBADF)),
    ],
    [
      'DISABLE_BUFFER of device 200',
      async (link) => expect(await link.ask('DISABLE_BUFFER', { dev: 200 })).toEqual(ok(-ERRNO.EBADF)),
    ],
    ['CLOSE_BUFFER that is not open', async (link) => expect(await link.ask('CLOSE_BUFFER')).toEqual(ok(-ERRNO.EBADF))],
    [
      'OPEN_BUFFER twice: the second mask is not taken for a request',
      async (link) => {
        await openBuffer(link, ADC);
        expect(await link.ask('OPEN_BUFFER', {}, Uint8Array.of(3, 0, 0, 0))).toEqual(ok(-ERRNO.EEXIST));
      },
    ],
    [
      'OPEN_BUFFER without channels',
      async (link) => expect(await link.ask('OPEN_BUFFER', {}, new Uint8Array(4))).toEqual(ok(-ERRNO.EINVAL)),
    ],
    [
      'ENABLE_BUFFER without blocks',
      async (link) => {
        for (const dev of [ADC, DAC]) {
          await openBuffer(link, dev);
          expect(await link.ask('ENABLE_BUFFER', { dev })).toEqual(ok(-ERRNO.EINVAL));
        }
      },
    ],
    ...[ADC, DAC].map(
      (dev): Row => [
        `CREATE_BLOCK of device ${dev}: once, twice, too small, too large, without a buffer, index 0x8000`,
        async (link: TestLink) => {
          expect(await link.ask('CREATE_BLOCK', { id: 1, dev }, encodeU64(64))).toEqual(ok(-ERRNO.EBADF, 1));
          await openBuffer(link, dev);
          await createBlock(link, dev, 0, 64);
          expect(await link.ask('CREATE_BLOCK', { id: 1, dev }, encodeU64(64))).toEqual(ok(-ERRNO.EEXIST, 1));
          const second = { id: 2, dev, code: packCode(1, 0) };
          expect(await link.ask('CREATE_BLOCK', second, encodeU64(1))).toEqual(ok(-ERRNO.EINVAL, 2));
          expect(await link.ask('CREATE_BLOCK', second, encodeU64(2n ** 63n))).toEqual(ok(-ERRNO.EINVAL, 2));
          const far = { id: 3, dev, code: packCode(0x8000, 0) };
          expect(await link.ask('CREATE_BLOCK', far, encodeU64(64))).toEqual(ok(-ERRNO.EINVAL, 3));
        },
      ],
    ),
    ...[ADC, DAC].map(
      (dev): Row => [
        `TRANSFER_BLOCK of device ${dev} with 0 bytes, unshifted`,
        async (link: TestLink) => {
          await openBuffer(link, dev);
          await createBlock(link, dev, 0, 64);
          expect(await link.ask('TRANSFER_BLOCK', { id: 1, dev }, encodeU64(0))).toEqual(ok(-ERRNO.EINVAL, 1));
        },
      ],
    ),
    [
      'TRANSFER_BLOCK of an input that is not open, of a block that is not there: shifted',
      async (link) => {
        const failure = ok(-ERRNO.EBADF << 16, 1);
        expect(await link.ask('TRANSFER_BLOCK', { id: 1 }, encodeU64(64))).toEqual(failure);
        await openBuffer(link, ADC);
        expect(await link.ask('TRANSFER_BLOCK', { id: 1, code: packCode(0x7fff, 0) }, encodeU64(64))).toEqual(failure);
      },
    ],
    [
      'TRANSFER_BLOCK of an output that is not open, of a block that is not there: the samples are not taken for requests',
      async (link) => {
        const failure = ok(-ERRNO.EBADF << 16, 1);
        const samples = new Uint8Array(100_000).fill(0x20);
        expect(await link.ask('TRANSFER_BLOCK', { id: 1, dev: DAC }, encodeU64(100_000), samples)).toEqual(failure);
        await openBuffer(link, DAC);
        expect(await link.ask('TRANSFER_BLOCK', { id: 1, dev: DAC }, encodeU64(100_000), samples)).toEqual(failure);
      },
    ],
    [
      'a block of more bytes than it has: shifted',
      async (link) => {
        for (const dev of [ADC, DAC]) {
          await openBuffer(link, dev);
          await createBlock(link, dev, 0, 64);
          const samples = dev === DAC ? [new Uint8Array(68)] : [];
          const answer = await link.ask('TRANSFER_BLOCK', { id: 1, dev }, encodeU64(68), ...samples);
          expect(answer).toEqual(ok(-ERRNO.EINVAL << 16, 1));
        }
      },
    ],
    [
      'ENQUEUE_BLOCK_CYCLIC of an input: shifted',
      async (link) => {
        await openBuffer(link, ADC);
        await createBlock(link, ADC, 0, 64);
        expect(await link.ask('ENQUEUE_BLOCK_CYCLIC', { id: 1 }, encodeU64(64))).toEqual(ok(-ERRNO.EINVAL << 16, 1));
      },
    ],
    [
      'RETRY_DEQUEUE_BLOCK of an idle block, of none',
      async (link) => {
        for (const dev of [ADC, DAC]) {
          await openBuffer(link, dev);
          await createBlock(link, dev, 0, 64);
          expect(await link.ask('RETRY_DEQUEUE_BLOCK', { id: 1, dev })).toEqual(ok(-ERRNO.EPERM, 1));
          const none = { id: 2, dev, code: packCode(1, 0) };
          expect(await link.ask('RETRY_DEQUEUE_BLOCK', none)).toEqual(ok(-ERRNO.EBADF, 2));
        }
      },
    ],
    [
      'event streams that are not there',
      async (link) => {
        expect(await link.ask('CREATE_EVSTREAM', { id: 0xffff, dev: ADC })).toEqual(ok(-ERRNO.ENODEV, 0xffff));
        expect(await link.ask('READ_EVENT', { id: 0xffff, dev: MONITOR })).toEqual(ok(-ERRNO.EBADF, 0xffff));
        expect(await link.ask('FREE_EVSTREAM', { dev: MONITOR, code: 0xffff })).toEqual(ok(-ERRNO.EBADF));
      },
    ],
  ];

  it.each(ROWS)('%s', async (_name, check) => {
    const link = await new TestBridge().connect();
    await check(link);
    await link.expectQuiet();
  });
});

describe('PRINT', () => {
  it('is a zstd frame, with its content size, of the document', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    const { code } = await link.ask('PRINT', { dev: 11 });
    const frame = await link.receive(code);
    expect(code).toBeLessThan(bridge.state.contexts.current.xml.length);
    expect([...frame.subarray(0, 4)]).toEqual([0x28, 0xb5, 0x2f, 0xfd]);
    // Frame_Header_Descriptor: a content size is there unless the flag and Single_Segment are both 0.
    expect((frame[4] ?? 0) & 0xe0).not.toBe(0);
    expect(Buffer.from(decompress(frame))).toEqual(Buffer.from(bridge.state.contexts.current.xml));
  });
});

describe('what no client sends ends the link', () => {
  it.each([33, 100, 255])('opcode %i', async (op) => {
    const link = await new TestBridge().connect();
    link.sendFrame({ clientId: 0, op, dev: 0, code: 0 });
    await link.end();
  });

  it.each([2n ** 32n, 2n ** 63n, 2n ** 64n - 1n])('a value of %i bytes', async (bytes) => {
    const link = await new TestBridge().connect();
    link.request('WRITE_ATTR', {}, encodeU64(bytes));
    await link.end();
  });

  it.each([2n ** 32n, 2n ** 63n])('%i bytes of samples', async (bytes) => {
    const link = await new TestBridge().connect();
    await openBuffer(link, DAC);
    await createBlock(link, DAC, 0, 64);
    link.request('TRANSFER_BLOCK', { id: 1, dev: DAC }, encodeU64(bytes));
    await link.end();
  });

  it('a mask for a device that is not there', async () => {
    const link = await new TestBridge().connect();
    link.request('OPEN_BUFFER', { dev: 200 }, Uint8Array.of(3, 0, 0, 0));
    await link.end();
  });
});

it('answers pipelined requests in their order', async () => {
  const link = await new TestBridge().connect();
  link.request('READ_ATTR');
  link.request('NOP', { id: 9 });
  link.request('READ_EVENT', { id: 7, dev: MONITOR });
  link.request('TIMEOUT', { code: -2 });
  expect(await link.response()).toEqual(ok(26));
  await link.receive(26);
  expect(await link.response()).toEqual(ok(0));
  const rest = [await link.response(), await link.response()];
  expect(rest).toContainEqual(ok(-ERRNO.EBADF, 7));
  expect(rest).toContainEqual(ok(-ERRNO.EINVAL));
  await link.expectQuiet();
});
