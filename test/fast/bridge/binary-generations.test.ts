import {
  ERRNO,
  encodeU32,
  encodeU64,
  GENERATIONS,
  type Generation,
  type Operation,
  opcodeCount,
  opcodeOf,
  packCode,
} from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { ADC, DAC, MONITOR, ramp, SAMPLE_BYTES, TestBridge, type TestLink, TRIGGER } from './binary-harness.js';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const SCALE_OF_FIRST_CHANNEL = packCode(1, 0);
const BLOCK = 8 * SAMPLE_BYTES;

async function print(link: TestLink): Promise<void> {
  const { code } = await link.ask('PRINT');
  await link.receive(code);
}

/** What libiio of a generation does to make a context: formats since G, scale and offset of the channels that have one. */
async function makeContext(link: TestLink, generation: Generation): Promise<void> {
  await link.ask('TIMEOUT', { code: 2500 });
  await print(link);
  for (const dev of [ADC, DAC]) {
    for (const channel of [0, 1]) {
      if (generation === 'G') {
        await link.receive((await link.ask('REFRESH_FORMAT', { dev, code: channel })).code);
      }
      await link.receive((await link.ask('READ_CHN_ATTR', { dev, code: packCode(1, channel) })).code);
    }
  }
}

async function readText(link: TestLink, operation: Operation, dev: number, code: number): Promise<string> {
  return (await link.receive((await link.ask(operation, { dev, code })).code)).toString();
}

/** Streams a block in each direction, on links of its own, and gives everything back through the main link. */
async function stream(bridge: TestBridge, main: TestLink, generation: Generation, peer: string): Promise<void> {
  for (const dev of [ADC, DAC]) {
    const link = await bridge.connect(peer);
    await link.ask('TIMEOUT', { code: 2500 });
    const ask = (operation: Operation, ...rest: Uint8Array[]) =>
      link.ask(operation, { id: 1, dev, generation }, ...rest);
    expect((await ask('OPEN_BUFFER', Uint8Array.of(3, 0, 0, 0))).code).toBe(4);
    await link.receive(4);
    expect((await ask('CREATE_BLOCK', encodeU64(BLOCK))).code).toBe(0);
    const samples = dev === DAC ? [ramp(BLOCK)] : [];
    link.request('TRANSFER_BLOCK', { id: 1, dev, generation }, encodeU64(BLOCK), ...samples);
    expect((await ask('ENABLE_BUFFER')).code).toBe(0);
    if (dev === ADC) {
      await bridge.converter.capture(ramp(BLOCK));
    }
    expect((await link.response()).code).toBe(dev === ADC ? BLOCK : 0);
    await link.receive(dev === ADC ? BLOCK : 0);
    expect(await main.ask('FREE_BLOCK', { id: 0, dev, generation })).toMatchObject({ clientId: 0, code: 0 });
    expect((await ask('DISABLE_BUFFER')).code).toBe(0);
    expect((await main.ask('CLOSE_BUFFER', { dev, generation })).code).toBe(0);
    expect((await main.ask('CLOSE_BUFFER', { dev, generation })).code).toBe(-ERRNO.EBADF);
    link.close();
    await link.ended;
  }
}

describe.each(GENERATIONS)('generation %s', (generation) => {
  it('is served as configured, and an opcode beyond its last ends the link', async () => {
    const bridge = new TestBridge({ generation });
    const link = await bridge.connect();
    const ask = (operation: Operation, fields: object, ...rest: Uint8Array[]) =>
      link.ask(operation, { generation, ...fields }, ...rest);
    expect((await ask('WRITE_ATTR', {}, encodeU64(2), encode('1\0'))).code).toBe(2);
    expect((await ask('WRITE_CHN_ATTR', { code: packCode(0, 1) }, encodeU64(2), encode('2\0'))).code).toBe(2);
    expect((await ask('WRITE_DBG_ATTR', {}, encodeU64(2), encode('3\0'))).code).toBe(2);
    expect((await ask('WRITE_BUF_ATTR', {}, encodeU64(2), encode('4\0'))).code).toBe(2);
    expect([...bridge.backend.values.keys()]).toEqual([
      'device sampling_frequency',
      'channel 1 raw',
      'debug direct_reg_access',
      'buffer 0 data_available',
    ]);
    expect((await ask('SETTRIG', { code: TRIGGER })).code).toBe(0);
    expect((await ask('GETTRIG', {})).code).toBe(TRIGGER);
    expect((await ask('CREATE_EVSTREAM', { id: 0xffff, dev: MONITOR })).code).toBe(0);
    expect((await ask('READ_EVENT', { id: 0xffff, dev: MONITOR, code: 1 })).code).toBe(-ERRNO.EAGAIN);
    expect((await ask('FREE_EVSTREAM', { dev: MONITOR, code: 0xffff })).code).toBe(0);
    await stream(bridge, link, generation, 'test');
    if (generation >= 'D') {
      expect((await ask('REG_WRITE', { code: 5 }, encodeU32(7))).code).toBe(0);
    }
    if (generation >= 'F') {
      expect((await ask('NOP', { id: 3 })).code).toBe(0);
    }
    link.sendFrame({ clientId: 0, op: opcodeCount(generation), dev: 0, code: 0 });
    await link.end();
  });

  it('is recognised from what a libiio of it does', async () => {
    const bridge = new TestBridge({ generation: 'auto' });
    const main = await bridge.connect('client');
    await makeContext(main, generation);
    await stream(bridge, main, generation, 'client');
    expect((await main.ask('WRITE_ATTR', { generation }, encodeU64(2), encode('1\0'))).code).toBe(2);
    expect([...bridge.backend.values.keys()]).toEqual(['device sampling_frequency']);
    await main.ask('SETTRIG', { generation, code: TRIGGER });
    expect((await main.ask('GETTRIG', { generation })).code).toBe(TRIGGER);
    if (generation >= 'F') {
      expect(await main.ask('NOP', { generation, id: 3 })).toEqual({ clientId: 0, op: 0, dev: 0, code: 0 });
    }
    await main.ask('TIMEOUT', { code: -1 });
  });

  it('is recognised although it writes before it opens a buffer', async () => {
    const bridge = new TestBridge({ generation: 'auto' });
    const main = await bridge.connect('client');
    await makeContext(main, generation);
    const fields = { generation, code: packCode(1, 1) };
    expect((await main.ask('WRITE_CHN_ATTR', fields, encodeU64(4), encode('1.5\0'))).code).toBe(4);
    expect([...bridge.backend.values.keys()]).toEqual(['channel 1 scale']);
  });
});

describe('recognition', () => {
  it('tells from the link that has a buffer open what the main link asks for', async () => {
    // 18 is FREE_BLOCK of block 0 in C and D, and CLOSE_BUFFER in E to G.
    for (const generation of ['D', 'G'] as const) {
      const bridge = new TestBridge({ generation: 'auto' });
      const link = await bridge.connect('one address');
      expect((await link.ask('OPEN_BUFFER', { dev: DAC, generation }, Uint8Array.of(3, 0, 0, 0))).code).toBe(4);
      await link.receive(4);
      const fields = { id: 1, dev: DAC, generation };
      expect((await link.ask('CREATE_BLOCK', fields, encodeU64(BLOCK))).code).toBe(0);
      const main = await bridge.connect('another address');
      main.sendFrame({ clientId: 0, op: 18, dev: DAC, code: 0 });
      expect((await main.response()).code).toBe(0);
      const isOpen = bridge.state.buffers.peek('iio:device1', 0) !== undefined;
      expect(isOpen).toBe(generation === 'D');
    }
  });

  it('takes a client for one of the newest generation if nothing says otherwise', async () => {
    const bridge = new TestBridge({ generation: 'auto' });
    const link = await bridge.connect();
    await print(link);
    // 9 is WRITE_BUF_ATTR in C and D.
    link.sendFrame({ clientId: 0, op: 9, dev: ADC, code: 0 }, encodeU64(2), encode('1\0'));
    expect((await link.response()).code).toBe(2);
    expect([...bridge.backend.values.keys()]).toEqual(['device sampling_frequency']);
  });

  it('takes that back when the client does what only older ones do', async () => {
    const bridge = new TestBridge({ generation: 'auto' });
    const link = await bridge.connect();
    // WRITE_ATTR; to a newer client it would be the read of an event attribute that the device does not have.
    link.sendFrame({ clientId: 0, op: 7, dev: ADC, code: 0 }, encodeU64(2), encode('1\0'));
    expect((await link.response()).code).toBe(2);
    expect([...bridge.backend.values.keys()]).toEqual(['device sampling_frequency']);
  });

  it('is undisturbed by another client at the same address', async () => {
    const bridge = new TestBridge({ generation: 'auto' });
    const [old, young] = [await bridge.connect('host'), await bridge.connect('host')];
    await makeContext(old, 'D');
    await makeContext(young, 'G');
    for (const [link, generation] of [
      [old, 'D'],
      [young, 'G'],
      [old, 'D'],
    ] as const) {
      expect(
        (await link.ask('WRITE_CHN_ATTR', { generation, code: packCode(1, 1) }, encodeU64(2), encode('1\0'))).code,
      ).toBe(2);
    }
    expect([...bridge.backend.values.keys()]).toEqual(['channel 1 scale']);
  });

  it('tells NOP of generation F from REFRESH_FORMAT of G, which have one number', async () => {
    const older = await new TestBridge({ generation: 'auto' }).connect();
    await print(older);
    await readText(older, 'READ_CHN_ATTR', ADC, SCALE_OF_FIRST_CHANNEL);
    older.sendFrame({ clientId: 0, op: opcodeOf('F', 'NOP') ?? 0, dev: 0, code: 0 });
    expect((await older.response()).code).toBe(0);
    const newer = await new TestBridge({ generation: 'auto' }).connect();
    await print(newer);
    expect(await readText(newer, 'REFRESH_FORMAT', ADC, 0)).toBe('le:S16/16>>0');
    await readText(newer, 'READ_CHN_ATTR', ADC, SCALE_OF_FIRST_CHANNEL);
    expect(await readText(newer, 'REFRESH_FORMAT', ADC, 0)).toBe('le:S16/16>>0');
    await newer.expectQuiet();
  });
});
