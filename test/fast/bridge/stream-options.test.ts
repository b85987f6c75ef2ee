import {
  BLOCK_ANSWER_OP,
  BLOCK_RECORD_BYTES,
  type BlockRecord,
  decodeBlockRecord,
  ERRNO,
  EXPLAIN_OP,
  encodeU32,
  encodeU64,
  packCode,
  STREAM_OPTIONS_OP,
} from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { ADC, createBlock, DAC, openBuffer, ramp, TestBridge, type TestLink, transfer } from './binary-harness.js';

const BLOCK = 32;
const ok = (code: number, clientId = 0) => ({ clientId, op: 0, dev: 0, code });

async function setOptions(link: TestLink, options: object | string, dev = ADC): Promise<number> {
  const json = new TextEncoder().encode(typeof options === 'string' ? options : JSON.stringify(options));
  link.sendFrame({ clientId: 0, op: STREAM_OPTIONS_OP, dev, code: 0 }, encodeU32(json.length), json);
  return (await link.response()).code;
}

async function explain(link: TestLink): Promise<string> {
  link.sendFrame({ clientId: 0, op: EXPLAIN_OP, dev: 0, code: 0 });
  const { code } = await link.response();
  return (await link.receive(code)).toString('utf8');
}

async function openWith(link: TestLink, options: object, blocks: number): Promise<void> {
  expect(await setOptions(link, options)).toBe(0);
  await openBuffer(link, ADC);
  for (let i = 0; i < blocks; i++) {
    await createBlock(link, ADC, i, BLOCK);
  }
}

async function enable(link: TestLink): Promise<void> {
  expect(await link.ask('ENABLE_BUFFER', { dev: ADC })).toEqual(ok(0));
}

async function block(link: TestLink): Promise<{ id: number; record: BlockRecord; samples: number[] }> {
  const { clientId, op, code } = await link.response();
  expect({ op, code }).toEqual({ op: BLOCK_ANSWER_OP, code: BLOCK });
  const record = decodeBlockRecord(await link.receive(BLOCK_RECORD_BYTES));
  return { id: clientId, record, samples: [...(await link.receive(code))] };
}

describe('block records', () => {
  it('number the blocks of an enabling, say when each was captured, and that nothing was lost', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWith(link, { metadata: true }, 2);
    const before = BigInt(Date.now() - 1) * 1_000_000n;
    await enable(link);
    for (const turn of [0, 1, 2, 3]) {
      transfer(link, ADC, turn % 2, BLOCK);
      await bridge.converter.capture(ramp(BLOCK, turn * BLOCK));
      const { id, record, samples } = await block(link);
      expect(id).toBe((turn % 2) + 1);
      expect(samples).toEqual([...ramp(BLOCK, turn * BLOCK)]);
      expect(record).toMatchObject({ sequence: BigInt(turn), epoch: 1, lostSets: 0n, dropped: false });
      expect(record.capturedAtNs).toBeGreaterThan(before);
      expect(record.capturedAtNs).toBeLessThan(BigInt(Date.now() + 1) * 1_000_000n);
    }
    await link.ask('DISABLE_BUFFER', { dev: ADC });
    await enable(link);
    transfer(link, ADC, 0, BLOCK);
    await bridge.converter.capture(ramp(BLOCK));
    expect((await block(link)).record).toMatchObject({ sequence: 0n, epoch: 2 });
  });

  it('come only to whom has asked for them, and for the next opening only', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWith(link, { metadata: true }, 1);
    expect(await link.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
    await openBuffer(link, ADC);
    await createBlock(link, ADC, 0, BLOCK);
    await enable(link);
    transfer(link, ADC, 0, BLOCK);
    await bridge.converter.capture(ramp(BLOCK));
    expect(await link.response()).toEqual(ok(BLOCK, 1));
    await link.receive(BLOCK);
  });
});

describe('a ring', () => {
  /** Twice, because the first answer may overtake what happens in the data plane. */
  async function settle(link: TestLink): Promise<void> {
    await link.expectQuiet();
    await link.expectQuiet();
  }

  it('keeps what comes before it is requested, up to its size', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWith(link, { metadata: true, ring: { bytes: 4 * BLOCK } }, 2);
    await enable(link);
    await bridge.converter.capture(ramp(6 * BLOCK));
    await expect.poll(() => figures(bridge), { interval: 5 }).toMatchObject({ ringFill: { waiting: 6, blocks: 6 } });
    for (const turn of [0, 1, 2, 3, 4, 5]) {
      transfer(link, ADC, turn % 2, BLOCK);
      const { id, record, samples } = await block(link);
      expect(id).toBe((turn % 2) + 1);
      expect(record.sequence).toBe(BigInt(turn));
      expect(samples).toEqual([...ramp(BLOCK, turn * BLOCK)]);
    }
    await settle(link);
  });

  it('gives up the oldest where its policy says so, and says how many sample sets that were', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWith(link, { metadata: true, ring: { bytes: 3 * BLOCK }, policy: 'drop-oldest' }, 1);
    await enable(link);
    await bridge.converter.capture(ramp(12 * BLOCK));
    await expect.poll(() => figures(bridge), { interval: 5 }).toMatchObject({ blocks: 12 });
    transfer(link, ADC, 0, BLOCK);
    const { record, samples } = await block(link);
    const first = Number(record.sequence);
    expect(first).toBeGreaterThanOrEqual(8);
    expect(record).toMatchObject({ lostSets: BigInt(first * 8), dropped: true, exact: true });
    expect(samples).toEqual([...ramp(BLOCK, first * BLOCK)]);
    transfer(link, ADC, 0, BLOCK);
    expect((await block(link)).record).toMatchObject({ sequence: BigInt(first + 1), lostSets: 0n, dropped: false });
  });

  it('ends the stream where its policy says so, after what it has kept', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWith(link, { metadata: true, ring: { bytes: 2 * BLOCK }, policy: 'stop' }, 1);
    await enable(link);
    await bridge.converter.capture(ramp(5 * BLOCK));
    await expect.poll(() => figures(bridge), { interval: 5 }).toMatchObject({ ringFill: { waiting: 3 } });
    for (const turn of [0, 1, 2]) {
      transfer(link, ADC, 0, BLOCK);
      expect((await block(link)).samples).toEqual([...ramp(BLOCK, turn * BLOCK)]);
    }
    for (let i = 0; i < 2; i++) {
      transfer(link, ADC, 0, BLOCK);
      expect(await link.response()).toEqual(ok(-ERRNO.ENOBUFS, 1));
    }
  });

  it('that does not fit the limits is refused when the buffer is enabled', async () => {
    const bridge = new TestBridge({ limits: { totalBytes: 8192 } });
    const link = await bridge.connect();
    await openWith(link, { ring: { bytes: 1024 * 1024 } }, 1);
    expect(await link.ask('ENABLE_BUFFER', { dev: ADC })).toEqual(ok(-ERRNO.ENOMEM));
    expect(await explain(link)).toMatch(/blocks/);
    expect(await link.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
    expect(bridge.state.memory.usedBytes).toBe(0);
  });

  it('in ms needs a sampling frequency', async () => {
    const bridge = new TestBridge();
    bridge.backend.values.set('device sampling_frequency', new TextEncoder().encode('unknown\0'));
    const link = await bridge.connect();
    await openWith(link, { ring: { ms: 100 } }, 1);
    expect(await link.ask('ENABLE_BUFFER', { dev: ADC })).toEqual(ok(-ERRNO.EINVAL));
    expect(await explain(link)).toContain('give the ring in bytes');
    bridge.backend.values.set('device sampling_frequency', new TextEncoder().encode('1000\0'));
    await enable(link);
    // 100 sample sets of 4 bytes are 13 blocks.
    expect(await figures(bridge)).toMatchObject({ ringFill: { blocks: 14 } });
  });
});

describe('a shared input', () => {
  it('gives the same blocks to all, each of whom may be slow without harm to the others', async () => {
    const bridge = new TestBridge();
    const [fast, slow] = [await bridge.connect(), await bridge.connect()];
    await openWith(fast, { metadata: true, share: true }, 2);
    await openWith(slow, { metadata: true, share: true }, 2);
    await enable(fast);
    await enable(slow);
    for (let turn = 0; turn < 8; turn++) {
      transfer(fast, ADC, turn % 2, BLOCK);
      await bridge.converter.capture(ramp(BLOCK, turn * BLOCK));
      const { record, samples } = await block(fast);
      expect(record).toMatchObject({ sequence: BigInt(turn), lostSets: 0n });
      expect(samples).toEqual([...ramp(BLOCK, turn * BLOCK)]);
    }
    // Two blocks were kept for the slow one; the next one says how many sample sets it has lost.
    for (const sequence of [0n, 1n]) {
      transfer(slow, ADC, Number(sequence), BLOCK);
      expect((await block(slow)).record).toMatchObject({ sequence, lostSets: 0n, dropped: false });
    }
    transfer(slow, ADC, 0, BLOCK);
    await bridge.converter.capture(ramp(BLOCK, 8 * BLOCK));
    const { record, samples } = await block(slow);
    expect(record).toMatchObject({ sequence: 8n, lostSets: 48n, dropped: true, exact: true });
    expect(samples).toEqual([...ramp(BLOCK, 8 * BLOCK)]);
  });

  it('goes on while one of them has it enabled, and ends with the last', async () => {
    const bridge = new TestBridge();
    const [first, second] = [await bridge.connect(), await bridge.connect()];
    await openWith(first, {}, 1);
    await enable(first);
    await openWith(second, { share: true }, 1);
    await enable(second);
    transfer(first, ADC, 0, BLOCK);
    await first.expectQuiet();
    expect(await first.ask('DISABLE_BUFFER', { dev: ADC })).toEqual(ok(-ERRNO.EINTR, 1));
    expect(await first.response()).toEqual(ok(0));
    first.close();
    await first.ended;
    expect(bridge.converter).toMatchObject({ enabled: true, closed: false });
    transfer(second, ADC, 0, BLOCK);
    await bridge.converter.capture(ramp(BLOCK));
    expect(await second.response()).toEqual(ok(BLOCK, 1));
    await second.receive(BLOCK);
    second.close();
    await second.ended;
    expect(bridge.converter).toMatchObject({ enabled: false, closed: true });
    expect(bridge.state.memory.usedBytes).toBe(0);
  });

  it('has one mask and one size of blocks, and is for those that say so', async () => {
    const bridge = new TestBridge();
    const [first, second] = [await bridge.connect(), await bridge.connect()];
    await openWith(first, {}, 1);
    const mask = (bits: number) => Uint8Array.of(bits, 0, 0, 0);
    expect(await second.ask('OPEN_BUFFER', { dev: ADC }, mask(3))).toEqual(ok(-ERRNO.EEXIST));
    await setOptions(second, { share: true });
    expect(await second.ask('OPEN_BUFFER', { dev: ADC }, mask(1))).toEqual(ok(-ERRNO.EBUSY));
    expect(await explain(second)).toContain('is shared with the mask 00000003, not 00000001');
    await setOptions(second, { share: true });
    await openBuffer(second, ADC);
    const request = { id: 1, dev: ADC, code: packCode(0, 0) };
    expect(await second.ask('CREATE_BLOCK', request, encodeU64(2 * BLOCK))).toEqual(ok(-ERRNO.EINVAL, 1));
    expect(await explain(second)).toContain('must have the same size: 32 bytes, not 64');
    await createBlock(second, ADC, 0, BLOCK);
  });

  it('is not freed or closed on a link that does not say whose it is', async () => {
    const bridge = new TestBridge();
    const [main, first, second] = [await bridge.connect(), await bridge.connect(), await bridge.connect()];
    await openWith(first, { share: true }, 1);
    await openWith(second, { share: true }, 1);
    expect(await main.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(-ERRNO.EBUSY));
    expect(await second.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
    expect(await main.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
  });
});

describe('stream options', () => {
  it.each([
    ['no JSON', 'ring', 'this is not JSON'],
    ['a member that is none', { rings: 1 }, 'rings'],
    ['a ring of two kinds', { ring: { ms: 1, bytes: 1 } }, 'ring'],
    ['a policy that is none', { policy: 'drop' }, 'policy'],
  ])('that are %s are refused, with a sentence', async (_, options, complaint) => {
    const link = await new TestBridge().connect();
    expect(await explain(link)).toBe('');
    expect(await setOptions(link, options)).toBe(-ERRNO.EINVAL);
    expect(await explain(link)).toContain(complaint);
  });

  it('are refused for outputs as far as they are about inputs, and for buffers that do not exist', async () => {
    const link = await new TestBridge().connect();
    expect(await setOptions(link, { metadata: true }, DAC)).toBe(0);
    expect(await setOptions(link, { share: true }, DAC)).toBe(-ERRNO.EINVAL);
    expect(await setOptions(link, {}, 77)).toBe(-ERRNO.ENODEV);
    await link.expectQuiet();
  });

  it('of any length are consumed', async () => {
    const link = await new TestBridge().connect();
    expect(await setOptions(link, ' '.repeat(100_000))).toBe(-ERRNO.EINVAL);
    await link.expectQuiet();
  });
});

describe('a bridge that is told to refuse copies', () => {
  it('refuses a stream over a socket, and says why', async () => {
    const bridge = new TestBridge({ stream: { require: 'zero-copy' } });
    const link = await bridge.connect();
    await openBuffer(link, ADC);
    const request = { id: 1, dev: ADC, code: packCode(0, 0) };
    expect(await link.ask('CREATE_BLOCK', request, encodeU64(BLOCK))).toEqual(ok(-ERRNO.EOPNOTSUPP, 1));
    expect(await explain(link)).toMatch(/copy: heap-missing.*stream\.require/);
    expect(await link.ask('ENABLE_BUFFER', { dev: ADC })).toEqual(ok(-ERRNO.EINVAL));
    expect(bridge.state.memory.usedBytes).toBe(0);
    const text = bridge.connectText();
    expect(await link.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
    text.send(new TextEncoder().encode('OPEN iio:device0 8 00000003\r\n'));
    expect((await text.receive(4)).toString()).toBe('-95\n');
    expect(bridge.converter.closed).toBe(true);
  });
});

describe('the configuration', () => {
  it('gives every input a ring', async () => {
    const bridge = new TestBridge({ stream: { ring: { bytes: 3 * BLOCK } } });
    const link = await bridge.connect();
    await openBuffer(link, ADC);
    await createBlock(link, ADC, 0, BLOCK);
    await enable(link);
    expect(await figures(bridge)).toMatchObject({ mode: 'copy', ringFill: { blocks: 4 } });
    await bridge.converter.capture(ramp(4 * BLOCK));
    await expect.poll(() => figures(bridge), { interval: 5 }).toMatchObject({ ringFill: { waiting: 4 } });
  });
});

describe('explanations', () => {
  it('are of the latest refusal on the link', async () => {
    const bridge = new TestBridge();
    const [link, other] = [await bridge.connect(), await bridge.connect()];
    expect((await link.ask('ENABLE_BUFFER', { dev: ADC })).code).toBe(-ERRNO.EBADF);
    expect(await explain(link)).toBe('buffer 0 of iio:device0 is not open');
    await openBuffer(link, ADC);
    expect((await link.ask('ENABLE_BUFFER', { dev: ADC })).code).toBe(-ERRNO.EINVAL);
    expect(await explain(link)).toBe('buffer 0 of iio:device0 cannot be enabled without blocks');
    expect(await explain(other)).toBe('');
  });
});

function figures(bridge: TestBridge) {
  return bridge.state.statistics.figures('iio:device0', 0, 'in');
}
