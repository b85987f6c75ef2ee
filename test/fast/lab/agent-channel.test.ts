import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { type AgentEvent, encodeFrame, FrameDecoder, MAX_BODY } from '../../../lab/agent-protocol.js';
import { WindowedWriter } from '../../../lab/windowed-writer.js';

test('frames survive any cutting of the stream', () => {
  const messages: readonly AgentEvent[] = [
    { type: 'ready', protocol: 1 },
    { type: 'output', id: 7, stream: 'stdout' },
    { type: 'failed', id: 8, code: 'ENOENT', message: 'größer\n' },
  ];
  const bodies = [Buffer.alloc(0), Buffer.from([...Array(300).keys()].map((n) => n % 256)), Buffer.alloc(MAX_BODY, 1)];
  const stream = Buffer.concat(messages.map((message, index) => encodeFrame(message, bodies[index])));
  for (const step of [1, 7, 4096, stream.length]) {
    const decoder = new FrameDecoder<AgentEvent>();
    const frames = [];
    for (let at = 0; at < stream.length; at += step) {
      frames.push(...decoder.push(stream.subarray(at, at + step)));
    }
    expect(frames.map(({ message }) => message)).toEqual(messages);
    expect(frames.every(({ body }, index) => body.equals(bodies[index] ?? Buffer.alloc(1)))).toBe(true);
  }
});

test('bytes that are not frames are refused, and not waited on', () => {
  expect(() => new FrameDecoder().push(Buffer.from('login: something'))).toThrow(/not a frame: login/);
  const tooLong = encodeFrame({ type: 'pong' });
  tooLong.writeUInt32LE(MAX_BODY + 1, 8);
  expect(() => new FrameDecoder().push(tooLong)).toThrow(/not a frame/);
});

test('the writer never has more than its window unconfirmed, and loses nothing', async () => {
  const received: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      received.push(chunk);
      done();
    },
  });
  const size = () => received.reduce((sum, chunk) => sum + chunk.length, 0);
  const writer = new WindowedWriter(stream, 10);
  const data = Buffer.from('0123456789abcdefghijklmnopqrstuvwxyz');
  const done: string[] = [];
  const writes = [
    writer.write(data.subarray(0, 4)).then(() => done.push('first')),
    writer.write(data.subarray(4)).then(() => done.push('second')),
  ];
  expect(size()).toBe(10);
  let confirmed = 0;
  while (confirmed < data.length) {
    const step = Math.min(3, size() - confirmed);
    confirmed += step;
    writer.confirm(step);
    expect(size() - confirmed).toBeLessThanOrEqual(10);
  }
  await Promise.all(writes);
  expect(done).toEqual(['first', 'second']);
  expect(Buffer.concat(received).equals(data)).toBe(true);
});

test('an abandoned writer keeps nobody waiting', async () => {
  const writer = new WindowedWriter(new Writable({ write: (_chunk, _encoding, done) => done() }), 1);
  const waiting = writer.write(Buffer.from('abc'));
  writer.abandon();
  await waiting;
});
