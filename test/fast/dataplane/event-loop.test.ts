import { Worker } from 'node:worker_threads';
import { encodeFrameHeader, encodeU64 } from '@iio-bridge/protocol';
import { expect, it, onTestFinished } from 'vitest';
import { pipe, socketpair, startPlane } from './sockets.js';

const BLOCK = 4096;
const TRANSFER = 23;
const PAUSES = 4;
const PAUSE_MS = 500;

/**
 * The converter and the client, on a thread of their own: writes a block of samples, requests it, and checks that it comes,
 * with the next sequence number and nothing lost. Counts the blocks in shared memory: [blocks, failures, stop].
 */
const CLIENT = `
const { workerData: { source, socket, request, block, counts } } = require('node:worker_threads');
const { readSync, writeSync } = require('node:fs');
const pause = new Int32Array(new SharedArrayBuffer(4));
function retry(call) {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}
function read(bytes) {
  const all = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; ) at += retry(() => readSync(socket, all, at, bytes - at));
  return all;
}
for (let sequence = 0; Atomics.load(counts, 2) === 0; sequence++) {
  const samples = Buffer.alloc(block, sequence & 0xff);
  for (let at = 0; at < block; ) at += retry(() => writeSync(source, samples, at));
  retry(() => writeSync(socket, request));
  const answer = read(8 + 40 + block);
  const isRight = answer[2] === 0xe2 && answer.readBigUInt64LE(8) === BigInt(sequence) &&
    answer.readBigUInt64LE(24) === 0n && answer.subarray(48).equals(samples);
  Atomics.add(counts, isRight ? 0 : 1, 1);
}
`;

it('goes on without JavaScript: a blocked event loop costs no block', async () => {
  const plane = startPlane();
  const [near, far] = socketpair();
  const [source, sink] = pipe();
  const link = plane.openSocketLink(near);
  const options = { byRead: true, setBytes: 1, flows: false, onDemand: true, policy: 'drop-newest' } as const;
  const capture = await plane.createCapture(source.fd, options);
  const ops = { transferOp: TRANSFER, retryOp: TRANSFER + 2, device: 0, buffer: 0 };
  const reader = await capture.openBlockReader(link, { ...ops, timeoutMs: 0, sinkByAio: true, metadata: true });
  await reader.createBlock(0, 1, undefined, BLOCK);
  await reader.activate();
  await capture.start({ samplingHz: 0, fifoSets: 0, isLossless: true });
  const frames = link.readFrame();
  frames.catch(() => undefined);

  const request = Buffer.concat([encodeFrameHeader({ clientId: 1, op: TRANSFER, dev: 0, code: 0 }), encodeU64(BLOCK)]);
  const counts = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(CLIENT, {
    eval: true,
    workerData: { source: sink.fd, socket: far.fd, request, block: BLOCK, counts },
  });
  onTestFinished(async () => void (await worker.terminate()));
  await expect.poll(() => Atomics.load(counts, 0), { timeout: 20_000 }).toBeGreaterThan(0);
  for (let pause = 0; pause < PAUSES; pause++) {
    const before = Atomics.load(counts, 0);
    const nothing = new Int32Array(new SharedArrayBuffer(4));
    Atomics.wait(nothing, 0, 0, PAUSE_MS);
    expect(Atomics.load(counts, 0) - before, `blocks during pause ${pause}`).toBeGreaterThan(10);
  }
  Atomics.store(counts, 2, 1);
  await new Promise((resolve) => worker.once('exit', resolve));
  expect(Atomics.load(counts, 1)).toBe(0);
}, 60_000);
