import { expect, test } from 'vitest';
import type { BlockCost } from '../../lab/programs/block-cost.js';
import { ADC, Bridge, nodeProgram, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

const KIB = 1024;
const SMALL = { bytes: 64 * KIB, blocks: 1500 };
/** 64 times the bytes. */
const LARGE = { bytes: 4096 * KIB, blocks: 250 };
/** 1.3 to 1.6 were measured without a copy, and 20 to 40 with one. */
const SAME = 3;
const GROWS = 8;

// Not on QEMU: an emulated processor bills a process for the time in which the emulator itself did not run.

const lab = useMachine({
  modules: SG_MODULES,
  prepare: async (machine) => {
    await prepareConverters(machine);
    // One sample set per page, so that the simulated hardware costs next to nothing.
    await machine.output('echo 1 >/sys/module/iio_sim/parameters/sparse');
  },
});

async function costOf(bridge: Bridge, { bytes, blocks }: typeof SMALL): Promise<BlockCost> {
  const words = [bridge.pid, ADC, bytes, blocks].map(String);
  const cost: BlockCost = JSON.parse(await lab.machine.output(nodeProgram('dist/bundle/block-cost.js', ...words)));
  expect(cost).toMatchObject({ mismatches: 0, lost: 0 });
  return cost;
}

async function costs(...options: readonly string[]): Promise<{ small: BlockCost; large: BlockCost; ratio: number }> {
  const bridge = await Bridge.start(lab.machine, ...options);
  const small = await costOf(bridge, SMALL);
  const large = await costOf(bridge, LARGE);
  await bridge.expectCleanStop();
  const ratio = large.cpuMicroseconds / small.cpuMicroseconds;
  console.log(
    `${options.join(' ')} 64 KiB: ${small.cpuMicroseconds.toFixed(0)} µs, 4 MiB: ${large.cpuMicroseconds.toFixed(0)} µs, ratio ${ratio.toFixed(1)}`,
  );
  return { small, large, ratio };
}

test('the bridge maps no block, and a block of 4 MiB costs it what one of 64 KiB does; a copy does not', async () => {
  const zeroCopy = await costs();
  expect(zeroCopy.small.mappedDmabufs).toBe(0);
  expect(zeroCopy.large.mappedDmabufs).toBe(0);

  // The same measurements of a bridge that does copy: they see it.
  const halfCopy = await costs('--mode', 'copy');
  expect(halfCopy.large.mappedDmabufs).toBeGreaterThan(0);
  expect(halfCopy.ratio).toBeGreaterThan(GROWS);
  expect(zeroCopy.ratio).toBeLessThan(SAME);
});
