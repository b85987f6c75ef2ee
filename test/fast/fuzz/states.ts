import { encodeFrameHeader, encodeU64, opcodeOf, packCode } from '@iio-bridge/protocol';
import { pick, type Random } from '../random.js';
import { binaryCase } from './binary-cases.js';
import { INPUTS, MONITOR, OUTPUTS, SLOW, SLOW_FOR_TEXT } from './context.js';
import type { ClientLink } from './links.js';
import { textCase } from './text-cases.js';

const BLOCK_BYTES = 64;
const BLOCKS = 4;

/** A state that a link can be in, how it gets there, and what it is fuzzed with from then on. */
export interface LinkState {
  readonly protocol: 'text' | 'binary';
  /** Throws where the server does not answer as it should; another link may be in the way. */
  readonly reach: (link: ClientLink, random: Random) => Promise<void>;
}

export const CASE_OF = { text: textCase, binary: binaryCase } as const;

function text(...commands: readonly ((random: Random) => string)[]): LinkState {
  return {
    protocol: 'text',
    reach: async (link, random) => {
      // The state is that of the last command; what comes before it is answered.
      for (const command of commands) {
        const line = command(random);
        link.send(new TextEncoder().encode(line));
        if (line.endsWith('\r\n') && !line.startsWith('READBUF')) {
          expectZero(line, Number(await link.receiveLine()));
        }
      }
    },
  };
}

function binary(reach: (link: ClientLink, random: Random) => Promise<void>): LinkState {
  return {
    protocol: 'binary',
    reach: async (link, random) => {
      await link.goBinary();
      await reach(link, random);
    },
  };
}

function expectZero(what: string, code: number): void {
  if (code !== 0) {
    throw new Error(`${what.trim()} was answered ${code}`);
  }
}

async function open(link: ClientLink, dev: number): Promise<void> {
  const code = await link.ask('OPEN_BUFFER', dev, 0, 0, Uint8Array.of(3, 0, 0, 0));
  expectZero('OPEN_BUFFER', Math.min(0, code));
  await link.receive(code);
}

async function openWithBlocks(link: ClientLink, dev: number): Promise<void> {
  await open(link, dev);
  for (let i = 0; i < BLOCKS; i++) {
    expectZero('CREATE_BLOCK', await link.ask('CREATE_BLOCK', dev, packCode(i, 0), i + 1, encodeU64(BLOCK_BYTES)));
  }
}

async function enable(link: ClientLink, dev: number): Promise<void> {
  expectZero('ENABLE_BUFFER', await link.ask('ENABLE_BUFFER', dev, 0));
}

function transferAll(link: ClientLink, dev: number, operation: 'TRANSFER_BLOCK' | 'ENQUEUE_BLOCK_CYCLIC'): void {
  const samples = OUTPUTS.some((output) => output === dev) ? new Uint8Array(BLOCK_BYTES) : new Uint8Array(0);
  for (let i = 0; i < (operation === 'TRANSFER_BLOCK' ? BLOCKS : 1); i++) {
    const header = { clientId: i + 1, op: opcodeOf('G', operation) ?? 0, dev, code: packCode(i, 0) };
    link.send(Buffer.concat([encodeFrameHeader(header), encodeU64(BLOCK_BYTES), samples]));
  }
}

function partOf(operation: 'WRITE_ATTR' | 'TRANSFER_BLOCK', dev: number, bytes: number): Uint8Array {
  const header = encodeFrameHeader({ clientId: 1, op: opcodeOf('G', operation) ?? 0, dev, code: 0 });
  return Buffer.concat([header, encodeU64(bytes), new Uint8Array(bytes >> 1)]);
}

const input = (random: Random) => `iio:device${pick(random, INPUTS)}`;
const output = (random: Random) => `iio:device${pick(random, OUTPUTS)}`;

export const STATES: Readonly<Record<string, LinkState>> = {
  text: text(),
  'text, input open': text((random) => `OPEN ${input(random)} 16 00000003\r\n`),
  'text, output open': text((random) => `OPEN ${output(random)} 16 00000003\r\n`),
  'text, cyclic output open': text((random) => `OPEN ${output(random)} 16 00000003 CYCLIC\r\n`),
  'text, waiting for samples': text(
    () => 'TIMEOUT 0\r\n',
    () => `OPEN iio:device${SLOW_FOR_TEXT} 16 00000003\r\n`,
    () => `READBUF iio:device${SLOW_FOR_TEXT} 64\r\n`,
  ),
  'text, within a line': text((random) => `READ ${input(random)} INP`),
  'text, within a value': text((random) => `WRITE ${input(random)} sampling_frequency 300\r\n12345`),
  'text, within samples': {
    protocol: 'text',
    reach: async (link, random) => {
      const device = output(random);
      link.send(new TextEncoder().encode(`OPEN ${device} 16 00000003\r\nWRITEBUF ${device} 6400\r\n`));
      expectZero('OPEN', Number(await link.receiveLine()));
      expectZero('WRITEBUF', Number(await link.receiveLine()));
      link.send(new Uint8Array(100));
    },
  },
  binary: binary(async () => undefined),
  'binary, input open': binary((link, random) => open(link, pick(random, INPUTS))),
  'binary, output open': binary((link, random) => open(link, pick(random, OUTPUTS))),
  'binary, blocks created': binary((link, random) => openWithBlocks(link, pick(random, [...INPUTS, ...OUTPUTS]))),
  'binary, enabled': binary(async (link, random) => {
    const dev = pick(random, [...INPUTS, ...OUTPUTS]);
    await openWithBlocks(link, dev);
    await enable(link, dev);
  }),
  'binary, input blocks in flight': binary(async (link, random) => {
    const dev = pick(random, INPUTS);
    await openWithBlocks(link, dev);
    transferAll(link, dev, 'TRANSFER_BLOCK');
    await enable(link, dev);
  }),
  'binary, waiting for samples': binary(async (link) => {
    expectZero('TIMEOUT', await link.ask('TIMEOUT', 0, -1));
    await openWithBlocks(link, SLOW);
    await enable(link, SLOW);
    transferAll(link, SLOW, 'TRANSFER_BLOCK');
  }),
  'binary, output blocks in flight': binary(async (link, random) => {
    const dev = pick(random, OUTPUTS);
    await openWithBlocks(link, dev);
    await enable(link, dev);
    transferAll(link, dev, 'TRANSFER_BLOCK');
  }),
  'binary, cyclic output': binary(async (link, random) => {
    const dev = pick(random, OUTPUTS);
    await openWithBlocks(link, dev);
    transferAll(link, dev, 'ENQUEUE_BLOCK_CYCLIC');
    await enable(link, dev).catch(() => undefined);
  }),
  'binary, event stream open': binary(async (link) => {
    expectZero('CREATE_EVSTREAM', await link.ask('CREATE_EVSTREAM', MONITOR, 0, 0xffff));
    const op = opcodeOf('G', 'READ_EVENT') ?? 0;
    link.send(encodeFrameHeader({ clientId: 0xffff, op, dev: MONITOR, code: 0 }));
  }),
  'binary, within a header': binary(async (link, random) => link.send(new Uint8Array(1 + random(7)))),
  'binary, within a value': binary(async (link, random) => link.send(partOf('WRITE_ATTR', pick(random, INPUTS), 300))),
  'binary, within samples': binary(async (link, random) => {
    const dev = pick(random, OUTPUTS);
    await openWithBlocks(link, dev);
    link.send(partOf('TRANSFER_BLOCK', dev, BLOCK_BYTES));
  }),
};
