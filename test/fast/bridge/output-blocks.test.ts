import {
  BLOCK_ANSWER_OP,
  BLOCK_RECORD_BYTES,
  type BlockRecord,
  decodeBlockRecord,
  ERRNO,
  encodeFrameHeader,
  encodeU32,
  encodeU64,
  opcodeOf,
  packCode,
  STREAM_OPTIONS_OP,
} from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { createBlock, DAC, openBuffer, ramp, TestBridge, type TestLink, transfer } from './binary-harness.js';

const BLOCK = 32;
const ok = (code: number, clientId = 0) => ({ clientId, op: 0, dev: 0, code });

async function openWithBlocks(link: TestLink, blocks: number, bytes = BLOCK): Promise<void> {
  await openBuffer(link, DAC);
  for (let i = 0; i < blocks; i++) {
    await createBlock(link, DAC, i, bytes);
  }
}

async function enable(link: TestLink): Promise<void> {
  expect(await link.ask('ENABLE_BUFFER', { dev: DAC })).toEqual(ok(0));
}

function transferFrame(index: number, samples: Uint8Array): Buffer {
  const op = opcodeOf('G', 'TRANSFER_BLOCK') ?? 0;
  const header = encodeFrameHeader({ clientId: index + 1, op, dev: DAC, code: packCode(index, 0) });
  return Buffer.concat([header, encodeU64(samples.length), samples]);
}

describe('records of an output', () => {
  async function record(link: TestLink, id: number): Promise<BlockRecord> {
    expect(await link.response()).toEqual({ clientId: id, op: BLOCK_ANSWER_OP, dev: 0, code: 0 });
    return decodeBlockRecord(await link.receive(BLOCK_RECORD_BYTES));
  }

  it('number the blocks of an enabling, and say when each was played; failures have none', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    const json = new TextEncoder().encode('{"metadata":true}');
    link.sendFrame({ clientId: 0, op: STREAM_OPTIONS_OP, dev: DAC, code: 0 }, encodeU32(json.length), json);
    expect(await link.response()).toEqual(ok(0));
    await openWithBlocks(link, 2);
    const before = BigInt(Date.now() - 1) * 1_000_000n;
    await enable(link);
    for (const turn of [0, 1, 2]) {
      transfer(link, DAC, turn % 2, BLOCK, ramp(BLOCK));
      const { sequence, epoch, capturedAtNs, lostSets } = await record(link, (turn % 2) + 1);
      expect({ sequence, epoch, lostSets }).toEqual({ sequence: BigInt(turn), epoch: 1, lostSets: 0n });
      expect(capturedAtNs).toBeGreaterThan(before);
    }
    transfer(link, DAC, 0, 2 * BLOCK, ramp(2 * BLOCK));
    expect(await link.response()).toEqual(ok(-ERRNO.EINVAL << 16, 1));
    expect(await link.ask('DISABLE_BUFFER', { dev: DAC })).toEqual(ok(0));
    await enable(link);
    transfer(link, DAC, 1, BLOCK, ramp(BLOCK));
    expect(await record(link, 2)).toMatchObject({ sequence: 0n, epoch: 2 });
    await link.expectQuiet();
  });
});

describe('requests and samples', () => {
  it('are told apart wherever the stream is cut', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, 4);
    await enable(link);
    const sizes = [BLOCK, 4, BLOCK - 4, 8];
    const samples = sizes.map((size, index) => ramp(size, index * 50));
    const stream = Buffer.concat(samples.map((block, index) => transferFrame(index, block)));
    for (const cut of [1, 3, 7, 16, 17, 40, stream.length]) {
      for (let begin = 0; begin < stream.length; begin += cut) {
        link.send(stream.subarray(begin, begin + cut));
        // Lets some of the pieces arrive alone.
        if (cut < 8 && begin % 5 === 0) {
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      for (const index of samples.keys()) {
        expect(await link.response()).toEqual(ok(0, index + 1));
      }
      expect([...(await bridge.converter.played(sizes.reduce((sum, size) => sum + size, 0)))]).toEqual(
        samples.flatMap((block) => [...block]),
      );
    }
    await link.expectQuiet();
  });

  it('of a block that is freed in the middle are consumed, and the link goes on', async () => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await openWithBlocks(link, 2);
    await enable(link);
    const frame = transferFrame(0, ramp(BLOCK));
    link.send(frame.subarray(0, 16 + BLOCK / 2));
    await main.expectQuiet();
    expect(await main.ask('FREE_BLOCK', { dev: DAC })).toEqual(ok(0));
    link.send(frame.subarray(16 + BLOCK / 2), transferFrame(1, ramp(BLOCK, 100)));
    const answers = [await link.response(), await link.response()];
    expect(answers).toContainEqual(ok(0, 2));
    expect(answers.find(({ clientId }) => clientId === 1)?.code).toBe(-ERRNO.EBADF << 16);
    expect([...(await bridge.converter.played(BLOCK))]).toEqual([...ramp(BLOCK, 100)]);
    await link.expectQuiet();
  });

  it('of a block in use are consumed', async () => {
    const link = await new TestBridge().connect();
    await openWithBlocks(link, 1);
    link.send(transferFrame(0, ramp(BLOCK)), transferFrame(0, ramp(BLOCK)));
    expect(await link.response()).toEqual(ok(-ERRNO.EBUSY << 16, 1));
    await enable(link);
    expect(await link.response()).toEqual(ok(0, 1));
    await link.expectQuiet();
  });
});

describe('a cycle', () => {
  it('is replaced by ordinary blocks after it was freed, at the end of a cycle', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await openWithBlocks(link, 2, 12);
    await enable(link);
    expect(await link.ask('ENQUEUE_BLOCK_CYCLIC', { id: 1, dev: DAC }, encodeU64(12), ramp(12))).toEqual(ok(0, 1));
    await bridge.converter.played(1200);
    expect(await link.ask('FREE_BLOCK', { dev: DAC })).toEqual(ok(0));
    await createBlock(link, DAC, 0, 12);
    expect(await link.ask('ENQUEUE_BLOCK_CYCLIC', { id: 1, dev: DAC }, encodeU64(4), ramp(4, 200))).toEqual(ok(0, 1));
    const rest: number[] = [];
    while (rest.lastIndexOf(200) < 100) {
      rest.push(...(await bridge.converter.playedSome()));
    }
    const seam = rest.indexOf(200);
    expect(seam % 12).toBe(0);
    expect([...rest.slice(0, seam)]).toEqual(Array.from({ length: seam }, (_, i) => i % 12));
  });

  it('of which half has arrived does not hold up the end of the buffer', async () => {
    const bridge = new TestBridge();
    const [main, link] = [await bridge.connect(), await bridge.connect()];
    await openWithBlocks(link, 1);
    link.request('ENQUEUE_BLOCK_CYCLIC', { id: 1, dev: DAC }, encodeU64(BLOCK), ramp(BLOCK / 2));
    await main.expectQuiet();
    expect(await main.ask('CLOSE_BUFFER', { dev: DAC })).toEqual(ok(0));
    link.send(ramp(BLOCK / 2));
    expect(await link.response()).toEqual(ok(-ERRNO.EBADF << 16, 1));
    await link.expectQuiet();
  });
});
