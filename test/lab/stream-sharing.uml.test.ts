import { expect, onTestFinished, test } from 'vitest';
import type { LossRequest, LossResult } from '../../lab/programs/loss-check.js';
import { ADC, bridgeProgram, nodeProgram, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

// Not on QEMU: an emulated processor is too slow for a converter that keeps its rate.

const PORT = 30432;
const BLOCK_BYTES = 64 * 1024;
/** A block takes 0.16 s. */
const HERTZ = 50_000;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

async function client(request: Partial<LossRequest>): Promise<LossResult> {
  const whole: LossRequest = {
    port: PORT,
    device: ADC,
    blockBytes: BLOCK_BYTES,
    blocks: 8,
    fetch: 40,
    pauseEvery: 1000,
    pauseMs: 0,
    ...request,
  };
  return JSON.parse(await lab.machine.output(nodeProgram('dist/bundle/loss-check.js', JSON.stringify(whole))));
}

test('two clients get the same blocks; the one that pauses loses some and is told, the other loses none by it', async () => {
  const { machine } = lab;
  await machine.output(
    `cd $(dirname $(grep -lx ${ADC} /sys/bus/iio/devices/iio:device*/name)) && echo 0 >free_running && echo ${HERTZ} >sampling_frequency`,
  );
  const child = await machine.spawn(bridgeProgram('serve', '--no-usb', '--tcp', String(PORT)));
  onTestFinished(() => child[Symbol.asyncDispose]());
  await child.waitForLine(/"msg":"ready"/);
  const ring = { ring: { bytes: 24 * BLOCK_BYTES }, share: true };
  const [fast, slow] = await Promise.all([
    client({ options: ring, fetch: 130 }),
    // It pauses with block 43. Then come the blocks that it may hold, 8 and half of the ring, and after the loss some more.
    client({ options: ring, fetch: 71, pauseEvery: 36, pauseMs: 12_000 }),
  ]);
  for (const result of [fast, slow]) {
    expect(result.mismatches).toBe(0);
    expect(result.received + result.reportedLost, result.firstWrong).toBe(result.produced);
  }
  expect(fast).toMatchObject({ reportedLost: 0, dropped: 0, skipped: 0 });
  expect(slow.dropped).toBeGreaterThan(0);
  await child.kill('SIGTERM');
  expect((await child.exited).code).toBe(0);
});
