import { expect, test } from 'vitest';
import { ADC, Bridge, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

const SAMPLES = 16_384;
const SET_BYTES = 8;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

async function read(blocks: number): Promise<Buffer> {
  const { machine } = lab;
  const words = ['-u', 'usb:', '-T', '30000', '-b', String(SAMPLES), '-s', String(SAMPLES * blocks), ADC];
  await machine.output(`iio_readdev ${words.join(' ')} >/tmp/text-samples`);
  return Buffer.from(await machine.readFile('/tmp/text-samples'));
}

function expectCounter(samples: Buffer, sets: number): void {
  expect(samples.byteLength).toBe(sets * SET_BYTES);
  for (let set = 0; set < sets; set++) {
    if (samples.readBigUInt64LE(set * SET_BYTES) !== BigInt(set)) {
      expect(samples.readBigUInt64LE(set * SET_BYTES), `set ${set}`).toBe(BigInt(set));
    }
  }
}

test("samples of libiio's installed programs go out without a copy, and every session begins at its first set", async () => {
  const bridge = await Bridge.start(lab.machine);
  // Odd numbers of blocks: what reads through the kernel's own ring of two goes on in the middle of it.
  for (const blocks of [3, 1, 5]) {
    expectCounter(await read(blocks), SAMPLES * blocks);
    expect(bridge.streamPath).toEqual({
      mode: 'zero-copy',
      source: 'iio-dmabuf',
      sink: 'usb-dmabuf',
      fallbacks: [],
    });
  }
  expect(await lab.machine.output(`grep -c dmabuf /proc/${bridge.pid}/maps || true`)).toBe('0\n');
  await bridge.expectCleanStop();
});

test('with --mode copy they are copied, and are the same', async () => {
  const bridge = await Bridge.start(lab.machine, '--mode', 'copy');
  expectCounter(await read(3), SAMPLES * 3);
  expect(bridge.streamPath).toMatchObject({ mode: 'half-copy', source: 'iio-dmabuf', sink: 'usb-aio' });
  await bridge.expectCleanStop();
});
