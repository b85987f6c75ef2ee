import { ERRNO, encodeU64, packCode } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Config } from '../../../src/bridge/config.js';
import { DEVICE, DOCUMENT, serveDocument } from '../bridge/served-document.js';
import { ClientLink } from '../fuzz/links.js';

const { adc, dac } = DEVICE;
const MASK = Uint8Array.of(1, 0, 0, 0);

async function open(link: ClientLink, dev: number): Promise<void> {
  await link.receive(await link.ask('OPEN_BUFFER', dev, 0, 0, MASK));
}

function create(link: ClientLink, dev: number, index: number, bytes: number): Promise<number> {
  return link.ask('CREATE_BLOCK', dev, packCode(index, 0), index + 1, encodeU64(bytes));
}

async function command(link: ClientLink, line: string, payload = new Uint8Array(0)): Promise<number> {
  link.send(Buffer.concat([new TextEncoder().encode(`${line}\r\n`), payload]));
  return Number(await link.receiveLine());
}

type Row = readonly [
  what: string,
  limits: Partial<Config['limits']>,
  protocol: 'binary' | 'text',
  /** What stays below the limit, and what does not; returns the answer to that. */
  exceed: (link: ClientLink) => Promise<number>,
  errno: number,
  complaint: RegExp,
];

const ROWS: readonly Row[] = [
  ...[adc, dac].flatMap((dev): Row[] => [
    [
      `blocks of device ${dev}`,
      { blocks: 2 },
      'binary',
      async (link) => {
        await open(link, dev);
        expect([await create(link, dev, 0, 64), await create(link, dev, 1, 64)]).toEqual([0, 0]);
        return await create(link, dev, 2, 64);
      },
      ERRNO.ENOMEM,
      /2 blocks already/,
    ],
    [
      `bytes of a block of device ${dev}`,
      { blockBytes: 4096 },
      'binary',
      async (link) => {
        await open(link, dev);
        expect(await create(link, dev, 0, 4096)).toBe(0);
        return await create(link, dev, 1, 4098);
      },
      ERRNO.EINVAL,
      /4098 bytes is above the limit of 4096/,
    ],
    [
      `bytes of all blocks, of device ${dev}`,
      { totalBytes: 8192 },
      'binary',
      async (link) => {
        await open(link, dev);
        expect([await create(link, dev, 0, 4096), await create(link, dev, 1, 4096)]).toEqual([0, 0]);
        return await create(link, dev, 2, 2);
      },
      ERRNO.ENOMEM,
      /limit of 8192/,
    ],
  ]),
  [
    'bytes of a value',
    { attributeBytes: 256 },
    'binary',
    async (link) => await link.ask('WRITE_ATTR', adc, 0, 0, Buffer.concat([encodeU64(257), new Uint8Array(257)])),
    ERRNO.EFBIG,
    /257 bytes is above the limit of 256/,
  ],
  [
    'bytes of a value',
    { attributeBytes: 256 },
    'text',
    async (link) => await command(link, 'WRITE adc sampling_frequency 257', new Uint8Array(257)),
    ERRNO.EFBIG,
    /above the limit/,
  ],
  ...['adc', 'dac'].flatMap((device): Row[] => [
    [
      `bytes of a block of ${device}`,
      { blockBytes: 4096 },
      'text',
      async (link) => {
        expect(await command(link, `OPEN ${device} 2048 00000001`)).toBe(0);
        expect(await command(link, `CLOSE ${device}`)).toBe(0);
        return await command(link, `OPEN ${device} 2049 00000001`);
      },
      ERRNO.EINVAL,
      /4098 bytes is above the limit of 4096/,
    ],
    [
      `bytes of all blocks, of ${device}`,
      { totalBytes: 4096 },
      'text',
      async (link) => await command(link, `OPEN ${device} 2049 00000001`),
      ERRNO.ENOMEM,
      /limit of 4096/,
    ],
  ]),
];

describe('what is above a limit gets its errno and one line in the log', () => {
  it.each(ROWS)('%s: %j, %s', async (_what, limits, protocol, exceed, errno, complaint) => {
    const served = await serveDocument(DOCUMENT, { limits, protocol: { generation: 'G' } });
    const link = await ClientLink.connect(served.port);
    onTestFinished(() => link.destroy('destroy'));
    if (protocol === 'binary') {
      await link.goBinary();
    }
    expect(await exceed(link)).toBe(-errno);
    expect(served.complaints).toEqual([expect.stringMatching(complaint)]);
    // The link is in step, and everything goes on.
    if (protocol === 'binary') {
      expect(await link.ask('NOP', 0, 0)).toBe(0);
    } else {
      expect(await command(link, 'TIMEOUT 1')).toBe(0);
    }
  });

  it('what is merely wrong gets its errno and no line', async () => {
    const served = await serveDocument(DOCUMENT, { protocol: { generation: 'G' } });
    const link = await ClientLink.connect(served.port);
    onTestFinished(() => link.destroy('destroy'));
    expect(await command(link, 'OPEN adc 4 00000000')).toBe(-ERRNO.EINVAL);
    await link.goBinary();
    await open(link, adc);
    expect([await create(link, adc, 0, 64), await create(link, adc, 0, 64)]).toEqual([0, -ERRNO.EEXIST]);
    expect(served.complaints).toEqual([]);
  });
});
