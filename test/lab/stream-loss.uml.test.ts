import { expect, onTestFinished, test } from 'vitest';
import type { LossRequest, LossResult } from '../../lab/programs/loss-check.js';
import { ADC, bridgeProgram, nodeProgram, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

// Not on QEMU: an emulated processor is too slow for a converter that keeps its rate.

const PORT = 30431;
const KIB = 1024;
const HERTZ = 50_000;
const BLOCK_BYTES = 64 * KIB;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

async function adcDirectory(): Promise<string> {
  return (await lab.machine.output(`dirname $(grep -lx ${ADC} /sys/bus/iio/devices/iio:device*/name)`)).trim();
}

/** The bridge on TCP, and the ADC at its sampling frequency. */
async function startBridge(): Promise<{
  readonly lostSince: () => Promise<number>;
  readonly stop: () => Promise<void>;
}> {
  const { machine } = lab;
  const adc = await adcDirectory();
  await machine.output(`echo 0 >${adc}/free_running && echo ${HERTZ} >${adc}/sampling_frequency`);
  const register = async (): Promise<number> => Number(await machine.output(`cat ${adc}/lost`));
  const before = await register();
  const child = await machine.spawn(bridgeProgram('serve', '--no-usb', '--tcp', String(PORT)));
  onTestFinished(() => child[Symbol.asyncDispose]());
  await child.waitForLine(/"msg":"ready"/);
  return {
    lostSince: async () => (await register()) - before,
    stop: async () => {
      await child.kill('SIGTERM');
      expect((await child.exited).code).toBe(0);
    },
  };
}

async function check(request: Partial<LossRequest>): Promise<LossResult> {
  const whole: LossRequest = {
    port: PORT,
    device: ADC,
    blockBytes: BLOCK_BYTES,
    blocks: 4,
    fetch: 40,
    pauseEvery: 10,
    pauseMs: 500,
    ...request,
  };
  return JSON.parse(await lab.machine.output(nodeProgram('dist/bundle/loss-check.js', JSON.stringify(whole))));
}

test('what a client that pauses has received and what was reported lost is what the converter has produced', async () => {
  const bridge = await startBridge();
  const result = await check({});
  expect(result.mismatches).toBe(0);
  expect(result.received + result.reportedLost, result.firstWrong).toBe(result.produced);
  // Three pauses of 500 ms at 50 kHz, less what four blocks hold.
  expect(result.reportedLost).toBeGreaterThan(3 * (HERTZ / 2 - (4 * BLOCK_BYTES) / 8));
  expect(result).toMatchObject({ exact: result.losses, dropped: 0, skipped: 0 });
  // The buffer counts on while the client asks for its attributes.
  const { lost_samples: lostSamples, overruns } = result.attributes;
  expect(Number(lostSamples)).toBeGreaterThanOrEqual(result.reportedLost);
  expect(Number(overruns)).toBeGreaterThanOrEqual(3);
  await bridge.stop();
  expect(await bridge.lostSince()).toBeGreaterThanOrEqual(result.reportedLost);
});

test('a ring that is long enough loses nothing', async () => {
  const bridge = await startBridge();
  const result = await check({ options: { ring: { bytes: 240 * BLOCK_BYTES } } });
  expect(result).toMatchObject({ mismatches: 0, wrongRecords: 0, reportedLost: 0, dropped: 0, skipped: 0 });
  expect(result.received).toBe(result.produced);
  expect(result.attributes).toMatchObject({ overruns: '0', lost_samples: '0', mode: 'half-copy', fallbacks: '' });
  await bridge.stop();
  expect(await bridge.lostSince()).toBe(0);
});

test('a ring that is too short says what it has dropped', async () => {
  const bridge = await startBridge();
  const result = await check({ options: { ring: { bytes: 4 * BLOCK_BYTES }, policy: 'drop-oldest' }, pauseMs: 2000 });
  expect(result.mismatches).toBe(0);
  expect(result.received + result.reportedLost, result.firstWrong).toBe(result.produced);
  expect(result.dropped).toBeGreaterThan(0);
  await bridge.stop();
});
