import { ERRNO, encodeU64, packCode } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import {
  ADC,
  createBlock,
  DAC,
  openBuffer,
  ramp,
  SAMPLE_BYTES,
  TestBridge,
  type TestLink,
  transfer,
} from './binary-harness.js';

const ok = (code: number, clientId = 0) => ({ clientId, op: 0, dev: 0, code });

/** Eight samples sets of four bytes. */
const BLOCK = 32;

async function openWithBlocks(link: TestLink, dev: number, blocks: number, bytes = BLOCK): Promise<void> {
  await openBuffer(link, dev);
  for (let i = 0; i < blocks; i++) {
    await createBlock(link, dev, i, bytes);
  }
}

async function enable(link: TestLink, dev: number): Promise<void> {
  expect(await link.ask('ENABLE_BUFFER', { dev })).toEqual(ok(0));
}

describe('an input', () => {
  it('delivers blocks in the order of the requests, as libiio streams', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, ADC, 4);
    for (const index of [1, 2, 3, 0]) {
      transfer(link, ADC, index, BLOCK);
    }
    await enable(link, ADC);
    await bridge.converter.capture(ramp(4 * BLOCK));
    for (const [turn, index] of [1, 2, 3, 0].entries()) {
      expect(await link.response()).toEqual(ok(BLOCK, index + 1));
      expect([...(await link.receive(BLOCK))]).toEqual([...ramp(BLOCK, turn * BLOCK)]);
    }
    await link.expectQuiet();
  });

  it('delivers as many bytes as were asked for', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, ADC, 1);
    await enable(link, ADC);
    transfer(link, ADC, 0, 8);
    await bridge.converter.capture(ramp(BLOCK));
    expect(await link.response()).toEqual(ok(8, 1));
    expect([...(await link.receive(8))]).toEqual([...ramp(8)]);
  });

  it('lets a request time out, and hands the block out when asked again', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await link.ask('TIMEOUT', { code: 20 });
    await openWithBlocks(link, ADC, 1);
    await enable(link, ADC);
    transfer(link, ADC, 0, BLOCK);
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 1));
    await link.ask('TIMEOUT', { code: -1 });
    link.request('RETRY_DEQUEUE_BLOCK', { id: 1, dev: ADC });
    await bridge.converter.capture(ramp(BLOCK));
    expect(await link.response()).toEqual(ok(BLOCK, 1));
    expect([...(await link.receive(BLOCK))]).toEqual([...ramp(BLOCK)]);
  });

  it('lets requests time out one after the other', async () => {
    const link = await new TestBridge().connect();
    await link.ask('TIMEOUT', { code: 100 });
    await openWithBlocks(link, ADC, 2);
    transfer(link, ADC, 0, BLOCK);
    transfer(link, ADC, 1, BLOCK);
    await enable(link, ADC);
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 1));
    const first = performance.now();
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 2));
    expect(performance.now() - first).toBeGreaterThan(50);
  });

  it('does not wait in non-blocking mode', async () => {
    const link = await new TestBridge().connect();
    await link.ask('TIMEOUT', { code: -0x8000_0000 });
    await openWithBlocks(link, ADC, 1);
    await enable(link, ADC);
    transfer(link, ADC, 0, BLOCK);
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 1));
  });
});

describe('an output', () => {
  it('plays blocks in their order and answers each when it has been taken', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 4);
    transfer(link, DAC, 0, BLOCK, ramp(BLOCK));
    await enable(link, DAC);
    for (const index of [1, 2, 3]) {
      transfer(link, DAC, index, BLOCK, ramp(BLOCK, index * BLOCK));
    }
    for (const index of [0, 1, 2, 3]) {
      expect(await link.response()).toEqual(ok(0, index + 1));
    }
    expect([...(await bridge.converter.played(4 * BLOCK))]).toEqual([...ramp(4 * BLOCK)]);
    await link.expectQuiet();
  });

  it('plays nothing before it is enabled, and has room for two blocks then', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 2);
    transfer(link, DAC, 0, BLOCK, ramp(BLOCK));
    await link.expectQuiet();
    expect(bridge.converter.enabled).toBe(false);
    await enable(link, DAC);
    expect(await link.response()).toEqual(ok(0, 1));
    expect(bridge.converter.lengths).toEqual([
      { length: (2 * BLOCK) / SAMPLE_BYTES, watermark: BLOCK / SAMPLE_BYTES / 2 },
    ]);
  });

  it('plays as many bytes as were sent, less what is no whole sample set', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 2);
    await enable(link, DAC);
    transfer(link, DAC, 0, 10, ramp(10));
    transfer(link, DAC, 1, 4, ramp(4, 100));
    expect(await link.response()).toEqual(ok(0, 1));
    expect(await link.response()).toEqual(ok(0, 2));
    expect([...(await bridge.converter.played(12))]).toEqual([...ramp(8), ...ramp(4, 100)]);
  });

  it('takes blocks of several pieces', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    const bytes = 2.5 * 1024 * 1024;
    await openWithBlocks(link, DAC, 1, bytes);
    await enable(link, DAC);
    transfer(link, DAC, 0, bytes, ramp(bytes));
    const samples = await bridge.converter.played(bytes);
    expect(Buffer.compare(samples, ramp(bytes))).toBe(0);
    expect(await link.response()).toEqual(ok(0, 1));
  });

  /** More than a pipe takes, so that a block has to wait for the converter. */
  const LARGE = 128 * 1024;

  it('lets requests time out one after the other, and answers them when asked again', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await link.ask('TIMEOUT', { code: 20 });
    await openWithBlocks(link, DAC, 2, LARGE);
    await enable(link, DAC);
    transfer(link, DAC, 0, LARGE, ramp(LARGE));
    transfer(link, DAC, 1, LARGE, ramp(LARGE));
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 1));
    expect(await link.response()).toEqual(ok(-ERRNO.ETIMEDOUT, 2));
    expect(await link.ask('TRANSFER_BLOCK', { id: 1, dev: DAC }, encodeU64(4), ramp(4))).toEqual(
      ok(-ERRNO.EBUSY << 16, 1),
    );
    await link.ask('TIMEOUT', { code: -1 });
    link.request('RETRY_DEQUEUE_BLOCK', { id: 1, dev: DAC });
    expect(await link.ask('RETRY_DEQUEUE_BLOCK', { id: 1, dev: DAC })).toEqual(ok(-ERRNO.EBUSY, 1));
    const samples = await bridge.converter.played(2 * LARGE);
    expect(Buffer.compare(samples, Buffer.concat([ramp(LARGE), ramp(LARGE)]))).toBe(0);
    expect(await link.response()).toEqual(ok(0, 1));
    expect(await link.ask('RETRY_DEQUEUE_BLOCK', { id: 2, dev: DAC, code: packCode(1, 0) })).toEqual(ok(0, 2));
    expect(await link.ask('RETRY_DEQUEUE_BLOCK', { id: 2, dev: DAC, code: packCode(1, 0) })).toEqual(
      ok(-ERRNO.EPERM, 2),
    );
  });

  it('gives back what it has not played when it is disabled, and can be enabled again', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 3, LARGE);
    await enable(link, DAC);
    for (const index of [0, 1, 2]) {
      transfer(link, DAC, index, LARGE, ramp(LARGE));
    }
    link.request('DISABLE_BUFFER', { dev: DAC });
    for (const index of [0, 1, 2]) {
      expect(await link.response()).toEqual(ok(-ERRNO.EINTR, index + 1));
    }
    expect(await link.response()).toEqual(ok(0));
    expect(bridge.converter.enabled).toBe(false);
    await enable(link, DAC);
    transfer(link, DAC, 0, BLOCK, ramp(BLOCK));
    await bridge.converter.played(64 * 1024);
    expect(await link.response()).toEqual(ok(0, 1));
  });

  it('repeats a cyclic block without a gap, and nothing else, until it is freed', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 2, 12);
    const cyclic = { id: 1, dev: DAC };
    expect(await link.ask('ENQUEUE_BLOCK_CYCLIC', cyclic, encodeU64(12), ramp(12))).toEqual(ok(0, 1));
    const second = { id: 2, dev: DAC, code: packCode(1, 0) };
    expect(await link.ask('ENQUEUE_BLOCK_CYCLIC', second, encodeU64(12), ramp(12))).toEqual(ok(-ERRNO.EBUSY << 16, 2));
    expect(await link.ask('TRANSFER_BLOCK', second, encodeU64(12), ramp(12))).toEqual(ok(-ERRNO.EBUSY << 16, 2));
    await enable(link, DAC);
    const samples = await bridge.converter.played(12 * 100_000);
    const expected = Buffer.alloc(samples.length, ramp(12));
    expect(Buffer.compare(samples, expected)).toBe(0);
    await link.expectQuiet();
    expect(await link.ask('FREE_BLOCK', { dev: DAC })).toEqual(ok(0));
    link.request('TRANSFER_BLOCK', second, encodeU64(4), Uint8Array.of(99, 98, 97, 96));
    const rest: number[] = [];
    while (!rest.includes(99)) {
      rest.push(...(await bridge.converter.playedSome()));
    }
    expect(rest.length % 12).toBe(4);
    expect(await link.response()).toEqual(ok(0, 2));
  });

  it('answers a block that the descriptor refuses', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, DAC, 1, LARGE);
    await enable(link, DAC);
    transfer(link, DAC, 0, LARGE, ramp(LARGE));
    bridge.converter.unplug();
    expect(await link.response()).toEqual(ok(-ERRNO.EPIPE, 1));
  });
});

describe('across links', () => {
  it.each([ADC, DAC])('blocks and buffers of device %i are freed from any link, once', async (dev) => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await openWithBlocks(link, dev, 2);
    expect(await main.ask('OPEN_BUFFER', { dev }, Uint8Array.of(3, 0, 0, 0))).toEqual(ok(-ERRNO.EEXIST));
    expect(await main.ask('FREE_BLOCK', { id: 4, dev })).toEqual(ok(0, 4));
    expect(await main.ask('FREE_BLOCK', { id: 4, dev })).toEqual(ok(-ERRNO.EBADF, 4));
    expect(await main.ask('CLOSE_BUFFER', { dev })).toEqual(ok(0));
    expect(await main.ask('CLOSE_BUFFER', { dev })).toEqual(ok(-ERRNO.EBADF));
    expect(await link.ask('ENABLE_BUFFER', { dev })).toEqual(ok(-ERRNO.EBADF));
    await openBuffer(main, dev);
  });

  it('a block that waits for samples is freed at once', async () => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await link.ask('TIMEOUT', { code: -1 });
    await openWithBlocks(link, ADC, 1);
    await enable(link, ADC);
    transfer(link, ADC, 0, BLOCK);
    await link.expectQuiet();
    expect(await main.ask('FREE_BLOCK', { dev: ADC })).toEqual(ok(0));
    expect(await main.ask('CLOSE_BUFFER', { dev: ADC })).toEqual(ok(0));
    await link.expectQuiet();
  });

  it('a buffer is closed although half of a block is missing', async () => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await openWithBlocks(link, DAC, 1);
    await enable(link, DAC);
    transfer(link, DAC, 0, BLOCK, ramp(BLOCK / 2));
    expect(await main.ask('CLOSE_BUFFER', { dev: DAC })).toEqual(ok(0));
    expect(bridge.converter.closed).toBe(true);
    link.send(ramp(BLOCK / 2));
    expect(await link.response()).toEqual(ok(-ERRNO.EBADF << 16, 1));
    await link.expectQuiet();
  });

  it.each([ADC, DAC])('the buffer of device %i dies with the link that opened it, and only with that', async (dev) => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await openWithBlocks(link, dev, 1);
    await enable(link, dev);
    main.close();
    await main.ended;
    expect(bridge.converter.enabled).toBe(true);
    link.close();
    await link.ended;
    expect(bridge.converter).toMatchObject({ enabled: false, closed: true });
    const next = await bridge.connect();
    await openWithBlocks(next, dev, 1);
  });

  it('a program that comes back at once waits for the end of the last one', async () => {
    const bridge = new TestBridge();
    for (let turn = 0; turn < 20; turn++) {
      const [main, link] = [await bridge.connect(), await bridge.connect()];
      await openWithBlocks(link, DAC, 1);
      main.request('CLOSE_BUFFER', { dev: DAC });
      main.request('OPEN_BUFFER', { dev: DAC }, Uint8Array.of(3, 0, 0, 0));
      expect((await main.response()).code).toBe(0);
      expect((await main.response()).code).toBe(4);
      main.close();
      link.close();
      await Promise.all([main.ended, link.ended]);
    }
  });

  it('a buffer of text clients is busy', async () => {
    const bridge = new TestBridge();
    using _claim = bridge.claims.claim('iio:device0', 0, 'text');
    const link = await bridge.connect();
    expect(await link.ask('OPEN_BUFFER', { dev: ADC }, Uint8Array.of(3, 0, 0, 0))).toEqual(ok(-ERRNO.EBUSY));
    await openBuffer(link, DAC);
    expect(bridge.claims.holder('iio:device1', 0)).toBe('binary');
    link.close();
    await link.ended;
    expect(bridge.claims.holder('iio:device1', 0)).toBeUndefined();
  });
});

describe('limits', () => {
  it('hold for the number of blocks and for the memory of all of them, which is given back', async () => {
    const bridge = new TestBridge({ limits: { blocks: 3, totalBytes: 8192 } });
    const link = await bridge.connect();
    for (const dev of [ADC, DAC]) {
      await openWithBlocks(link, dev, 2, 4096);
      const third = { id: 3, dev, code: packCode(2, 0) };
      expect(await link.ask('CREATE_BLOCK', third, encodeU64(4096))).toEqual(ok(-ERRNO.ENOMEM, 3));
      expect(await link.ask('FREE_BLOCK', { dev })).toEqual(ok(0));
      await createBlock(link, dev, 2, 2048);
      await createBlock(link, dev, 3, 2048);
      expect(await link.ask('CREATE_BLOCK', { id: 5, dev, code: packCode(4, 0) }, encodeU64(4))).toEqual(
        ok(-ERRNO.ENOMEM, 5),
      );
      expect(await link.ask('CLOSE_BUFFER', { dev })).toEqual(ok(0));
    }
  });
});
