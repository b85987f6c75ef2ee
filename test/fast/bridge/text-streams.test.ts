import { describe, expect, it } from 'vitest';
import { ramp, TestBridge } from './binary-harness.js';

const SETS = 512 * 1024;
const BYTES = 4 * SETS;

function text(line: string): Uint8Array {
  return new TextEncoder().encode(line);
}

describe('a text client that sends its commands all at once', () => {
  it.each(['CLOSE iio:device0\r\nVERSION', 'EXIT'])('gets all samples before %s is executed', async (last) => {
    const bridge = new TestBridge();
    const link = bridge.connectText();
    link.send(text(`OPEN iio:device0 ${SETS} 00000003\r\nREADBUF iio:device0 ${BYTES}\r\n${last}\r\n`));
    expect((await link.receive(2)).toString()).toBe('0\n');
    const samples = ramp(BYTES, 7);
    // More than the socket holds: the client reads slowly, and the rest of the block waits in the bridge.
    await bridge.converter.capture(samples);
    const lines = `${BYTES}\n00000003\n`;
    expect((await link.receive(lines.length)).toString()).toBe(lines);
    expect(Buffer.compare(await link.receive(BYTES, 20_000), samples)).toBe(0);
    if (last === 'EXIT') {
      await link.end();
    } else {
      expect((await link.receive(2)).toString()).toBe('0\n');
      expect((await link.receive(4)).toString()).toMatch(/^\d/);
      expect(bridge.converter.closed).toBe(true);
    }
  });
});
