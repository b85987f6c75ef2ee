import {
  ERRNO,
  encodeFrameHeader,
  encodeU32,
  encodeU64,
  type Operation,
  opcodeOf,
  packCode,
} from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ClientLink } from '../fuzz/links.js';
import { DEVICE, DOCUMENT, serveDocument } from './served-document.js';

/** Registers and debug attributes are closed over TCP otherwise. */
const TRUSTED = { permissions: { tcp: { debugAttributes: true, registers: true } }, protocol: { generation: 'G' } };

async function connect(port?: number): Promise<ClientLink> {
  const link = await ClientLink.connect(port ?? (await serveDocument(DOCUMENT, TRUSTED)).port);
  onTestFinished(() => link.destroy('destroy'));
  return link;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const VERSION = '1.0.v1.0   \n';

describe('a text probe over TCP', () => {
  it.each<[sent: string, answer: string]>([
    ['VERSION\r\n', VERSION],
    ['FOO\r\n', '-22\n'],
    ['Version\r\n', '-22\n'],
    ['\r\n', ''],
    ['read iio:device0 INPUT voltage0 raw\r\n', '4\n-17\0\n'],
    ['READ nosuch raw\r\n', '-19\n'],
    ['READ iio:device0 nosuch\r\n', '-2\n'],
    ['READ iio:device0 INPUT nosuch raw\r\n', '-6\n'],
    ['READ iio:device2 \r\n', '12\n\0\0\0\x07961538\0\0\n'],
    ['WRITE iio:device0 nosuch 2\r\n1\0', '-2\n'],
    ['WRITE nosuch attr 9\r\nVERSION\r\n', '-19\n'],
    ['TIMEOUT 1000\r\n', '0\n'],
    ['SET iio:device4 BUFFERS_COUNT 4\r\n', '0\n'],
    ['SET iio:device4 BUFFERS_COUNT 0\r\n', '-22\n'],
    ['OPEN nosuch 64 00000001\r\n', '-19\n'],
    ['OPEN iio:device0 64 1\r\n', '-22\n'],
    ['CLOSE iio:device0\r\n', '-6\n'],
    ['READBUF iio:device0 64\r\n', '-9\n'],
    ['SETTRIG iio:device0 nosuch\r\n', '-2\n'],
    ['GETTRIG iio:device0\r\n', '0\n'],
    ['GETTRIG iio:device4\r\n', '-2\n'],
  ])('%j gets %j', async (sent, answer) => {
    const link = await connect();
    link.send(bytes(`${sent}VERSION\r\n`));
    expect((await link.receive(answer.length + VERSION.length)).toString('latin1')).toBe(answer + VERSION);
  });

  it('READ of all attributes of a buffer gets them', async () => {
    const link = await connect();
    link.send(bytes('READ iio:device0 BUFFER\r\nVERSION\r\n'));
    const list = await link.receive(Number(await link.receiveLine()));
    expect(list.toString('latin1')).toContain('\0\0\0\x020\0\0\0');
    expect(String(await link.receive(1 + VERSION.length))).toBe(`\n${VERSION}`);
  });

  it('ZPRINT gets a zstd frame, and its newline', async () => {
    const link = await connect();
    link.send(bytes('ZPRINT\r\nVERSION\r\n'));
    const frame = await link.receive(Number(await link.receiveLine()));
    expect([...frame.subarray(0, 4)]).toEqual([0x28, 0xb5, 0x2f, 0xfd]);
    expect(String(await link.receive(1 + VERSION.length))).toBe(`\n${VERSION}`);
  });

  it('BINARY gets 0, and the link is binary from then on', async () => {
    const link = await connect();
    link.send(bytes('BINARY\r\n'));
    expect(await link.receiveLine()).toBe('0\n');
    expect(await link.ask('NOP', 0, 0)).toBe(0);
  });

  it.each(['EXIT\r\n', '\r\nEXIT\r\n', 'QUIT\n'])('%j ends the connection without an answer', async (sent) => {
    const link = await connect();
    link.send(bytes(sent));
    await expect(link.receive(1)).rejects.toThrow('0 of 1 bytes came before the link ended');
  });
});

async function connectBinary(port?: number): Promise<ClientLink> {
  const link = await connect(port);
  await link.goBinary();
  return link;
}

/** Nothing but what was received has been sent, and the link is in step. */
async function expectQuiet(link: ClientLink): Promise<void> {
  link.send(request('NOP', 0x55, 0, 0));
  expect(await answer(link)).toEqual([0, 0]);
}

function request(
  operation: Operation,
  clientId: number,
  dev: number,
  code: number,
  rest = new Uint8Array(0),
): Uint8Array {
  return Buffer.concat([encodeFrameHeader({ clientId, op: opcodeOf('G', operation) ?? 0, dev, code }), rest]);
}

/** Client id and code. */
async function answer(link: ClientLink): Promise<[clientId: number, code: number]> {
  const header = await link.receive(8);
  expect(header.readUInt16LE(2)).toBe(0);
  return [header.readUInt16LE(0), header.readInt32LE(4)];
}

const ID = 7;
const MASK = encodeU32(1);
const { adc, clock, dac, monitor, idle } = DEVICE;

type Exchange = readonly [
  operation: Operation,
  dev: number,
  code: number,
  rest: Uint8Array | undefined,
  expected: number,
  /** `own`: answered in the conversation of the request. */
  conversation: 'default' | 'own',
  payload?: string,
];

/** What is asked with client id {@link ID}, one after the other, and the code of each answer. */
const BINARY_PROBES: readonly [name: string, ...Exchange[]][] = [
  ['NOP, whose id is not echoed', ['NOP', 0, 0, undefined, 0, 'default']],
  ['TIMEOUT 1000', ['TIMEOUT', 0, 1000, undefined, 0, 'default']],
  ['TIMEOUT -1', ['TIMEOUT', 0, -1, undefined, 0, 'default']],
  ['TIMEOUT 0', ['TIMEOUT', 0, 0, undefined, 0, 'default']],
  ['TIMEOUT INT32_MIN', ['TIMEOUT', 0, -0x8000_0000, undefined, 0, 'default']],
  ['TIMEOUT -2', ['TIMEOUT', 0, -2, undefined, -ERRNO.EINVAL, 'default']],
  ['READ_ATTR of device 200', ['READ_ATTR', 200, 0, undefined, -ERRNO.EINVAL, 'default']],
  ['REFRESH_FORMAT of device 200', ['REFRESH_FORMAT', 200, 0, undefined, -ERRNO.ENODEV, 'default']],
  ['REG_READ of a device without registers', ['REG_READ', clock, 0, undefined, -ERRNO.ENOENT, 'default']],
  ['ENABLE_BUFFER of a buffer that is not open', ['ENABLE_BUFFER', adc, 0, undefined, -ERRNO.EBADF, 'default']],
  ['OPEN_BUFFER', ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000']],
  [
    'OPEN_BUFFER twice: its mask is not taken for a request',
    ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000'],
    ['OPEN_BUFFER', adc, 0, MASK, -ERRNO.EEXIST, 'default'],
  ],
  [
    'ENABLE_BUFFER without blocks',
    ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000'],
    ['ENABLE_BUFFER', adc, 0, undefined, -ERRNO.EINVAL, 'default'],
  ],
  [
    'CREATE_BLOCK, the same again, of 1 byte',
    ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000'],
    ['CREATE_BLOCK', adc, packCode(0, 0), encodeU64(64), 0, 'own'],
    ['CREATE_BLOCK', adc, packCode(0, 0), encodeU64(64), -ERRNO.EEXIST, 'own'],
    ['CREATE_BLOCK', adc, packCode(1, 0), encodeU64(1), -ERRNO.EINVAL, 'own'],
  ],
  [
    'TRANSFER_BLOCK of 0 bytes',
    ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000'],
    ['CREATE_BLOCK', adc, packCode(0, 0), encodeU64(64), 0, 'own'],
    ['TRANSFER_BLOCK', adc, packCode(0, 0), encodeU64(0), -ERRNO.EINVAL, 'own'],
  ],
  [
    'RETRY_DEQUEUE_BLOCK of an idle block',
    ['OPEN_BUFFER', adc, 0, MASK, 4, 'default', '01000000'],
    ['CREATE_BLOCK', adc, packCode(0, 0), encodeU64(64), 0, 'own'],
    ['RETRY_DEQUEUE_BLOCK', adc, packCode(0, 0), undefined, -ERRNO.EPERM, 'own'],
  ],
  ['CREATE_EVSTREAM of a device without events', ['CREATE_EVSTREAM', adc, 0, undefined, -ERRNO.ENODEV, 'own']],
  ['CREATE_EVSTREAM', ['CREATE_EVSTREAM', monitor, 0, undefined, 0, 'own']],
  ['READ_EVENT without a stream', ['READ_EVENT', monitor, 0, undefined, -ERRNO.EBADF, 'own']],
  ['FREE_EVSTREAM without a stream', ['FREE_EVSTREAM', monitor, ID, undefined, -ERRNO.EBADF, 'default']],
  [
    'WRITE_ATTR of what is not there: its value is not taken for a request',
    ['WRITE_ATTR', adc, packCode(99, 0), announced('BINARY\r\n'), -ERRNO.EINVAL, 'default'],
    ['WRITE_ATTR', 200, 0, announced('BINARY\r\n'), -ERRNO.EINVAL, 'default'],
    ['WRITE_CHN_ATTR', adc, packCode(0, 99), announced('BINARY\r\n'), -ERRNO.EINVAL, 'default'],
  ],
  [
    'TRANSFER_BLOCK of a buffer or block that is not there: answered once, the samples are not taken for requests',
    ['TRANSFER_BLOCK', dac, packCode(0, 0), announced('x'.repeat(64)), -ERRNO.EBADF << 16, 'own'],
    ['OPEN_BUFFER', dac, 0, MASK, 4, 'default', '01000000'],
    ['TRANSFER_BLOCK', dac, packCode(0x7fff, 0), announced('x'.repeat(64)), -ERRNO.EBADF << 16, 'own'],
    ['ENQUEUE_BLOCK_CYCLIC', dac, packCode(0x7fff, 0), announced('x'.repeat(64)), -ERRNO.EBADF << 16, 'own'],
    ['RETRY_DEQUEUE_BLOCK', dac, packCode(0x7fff, 0), undefined, -ERRNO.EBADF, 'own'],
  ],
  [
    'REG_WRITE to a device that is not there: its value is not taken for a request',
    ['REG_WRITE', 200, 0, encodeU32(0x1f1f_1f1f), -ERRNO.ENODEV, 'default'],
  ],
  ['WRITE_ATTR of 0 bytes', ['WRITE_ATTR', adc, 0, encodeU64(0), -ERRNO.EIO, 'default']],
];

function announced(text: string): Uint8Array {
  return Buffer.concat([encodeU64(text.length), bytes(text)]);
}

describe('a binary probe over TCP', () => {
  it('BINARY on a binary link gets 0 and a carriage return', async () => {
    const link = await connectBinary();
    link.send(bytes('BINARY\r\n'));
    expect(String(await link.receive(3))).toBe('0\r\n');
    await expectQuiet(link);
  });

  it.each(BINARY_PROBES)('%s', async (_, ...exchanges) => {
    const link = await connectBinary();
    for (const [operation, dev, code, rest, expected, conversation, payload] of exchanges) {
      link.send(request(operation, ID, dev, code, new Uint8Array(rest ?? [])));
      expect(await answer(link)).toEqual([conversation === 'own' ? ID : 0, expected]);
      if (payload !== undefined) {
        expect((await link.receive(expected)).toString('hex')).toBe(payload);
      }
    }
    await expectQuiet(link);
  });

  it('FREE_BLOCK and CLOSE_BUFFER from another link, twice', async () => {
    const { port } = await serveDocument(DOCUMENT, TRUSTED);
    const [main, link] = [await connectBinary(port), await connectBinary(port)];
    await link.receive(await link.ask('OPEN_BUFFER', idle, 0, 0, MASK));
    expect(await link.ask('CREATE_BLOCK', idle, packCode(2, 0), 3, encodeU64(64))).toBe(0);
    expect(await link.ask('ENABLE_BUFFER', idle, 0)).toBe(0);
    // Under way, for samples that never come: it is aborted, not waited for.
    link.send(request('TRANSFER_BLOCK', 3, idle, packCode(2, 0), new Uint8Array(encodeU64(64))));
    for (const expected of [0, -ERRNO.EBADF]) {
      main.send(request('FREE_BLOCK', ID, idle, packCode(2, 0)));
      expect(await answer(main)).toEqual([ID, expected]);
    }
    for (const expected of [0, -ERRNO.EBADF]) {
      main.send(request('CLOSE_BUFFER', ID, idle, 0));
      expect(await answer(main)).toEqual([0, expected]);
    }
    await expectQuiet(main);
  });

  it.each([33, 34, 0xdf, 0xff])('opcode %i ends the link', async (op) => {
    const link = await connectBinary();
    link.send(encodeFrameHeader({ clientId: 0, op, dev: 0, code: 0 }));
    await expect(link.receive(1)).rejects.toThrow('0 of 1 bytes came before the link ended');
  });

  it.each([2n ** 32n, 2n ** 63n])('WRITE_ATTR of %i bytes ends the link, and takes no memory', async (length) => {
    const link = await connectBinary();
    link.send(request('WRITE_ATTR', 0, adc, 0, new Uint8Array(encodeU64(length))));
    await expect(link.receive(1)).rejects.toThrow('0 of 1 bytes came before the link ended');
  });

  it.each([0, 1, 0xffff])('two requests at once are answered each in its own conversation, beside %i', async (id) => {
    const link = await connectBinary();
    await link.receive(await link.ask('OPEN_BUFFER', adc, 0, 0, MASK));
    const create = (block: number) => new Uint8Array(encodeU64(64 * (block + 1)));
    link.send(
      Buffer.concat([0, 1].map((block) => request('CREATE_BLOCK', id ^ block, adc, packCode(block, 0), create(block)))),
    );
    expect([await answer(link), await answer(link)]).toEqual([
      [id, 0],
      [id ^ 1, 0],
    ]);
    await expectQuiet(link);
  });

  it('a truncated header holds up nobody else, and its link ends with the client', async () => {
    const { port } = await serveDocument(DOCUMENT, TRUSTED);
    const [link, other] = [await connectBinary(port), await connectBinary(port)];
    link.send(Uint8Array.of(0, 0, 1));
    await expectQuiet(other);
    expect(await link.finish(5000)).toBe(true);
    await expectQuiet(other);
  });
});
