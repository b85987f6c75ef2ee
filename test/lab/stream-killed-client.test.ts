import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { loadModules, unloadModules } from '../../lab/modules.js';
import type { StreamRequest } from '../../lab/programs/stream-check.js';
import {
  ADC,
  Bridge,
  dmabufCount,
  expectStream,
  openFiles,
  prepareConverters,
  SG_MODULES,
  startStream,
} from './bridge.js';
import { machineKind, useMachine } from './support.js';

const MIB = 1024 * 1024;
/**
 * How much longer than the first client one after a kill may take to have its first block. Well below every time-out of either
 * side, so that it is none of them that frees the stream.
 */
const FREEING_MS = 1000;
const ROUNDS = machineKind() === 'uml' ? 5 : 2;
const LONGEST_WAIT_MS = 60;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

/** The same moments in every run. */
function seededMoments(seed: number, count: number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return state % LONGEST_WAIT_MS;
  });
}

async function expectSuccessors(bridge: Bridge, seed: number): Promise<void> {
  const { machine } = lab;
  const request: StreamRequest = { device: ADC, samplesPerBlock: 32_768 };
  const { firstBlockMs: usually } = await expectStream(machine, { ...request, bytes: MIB });
  const filesBefore = await openFiles(machine, bridge.pid);

  for (const [round, wait] of seededMoments(seed, ROUNDS).entries()) {
    const victim = await startStream(machine, request);
    await victim.waitForLine(round % 3 === 1 ? /"event":"opened"/ : /"event":"streaming"/);
    await delay(wait);
    await victim.kill('SIGKILL');
    // The successor's counter begins at 0 and has no gap: nothing of the victim's is in it.
    const { firstBlockMs } = await expectStream(machine, { ...request, bytes: 4 * MIB });
    expect(firstBlockMs, `round ${round}`).toBeLessThan(usually + FREEING_MS * machine.slowness);
  }

  await expect.poll(() => openFiles(machine, bridge.pid)).toBe(filesBefore);
  await expect.poll(() => dmabufCount(machine)).toBe(0);
  await bridge.expectCleanStop();
}

describe('after a client was killed, the next one streams at once and gets nothing stale', () => {
  test('zero-copy', async () => {
    await expectSuccessors(await Bridge.start(lab.machine), 1);
  });

  // The slow machine has the way without a copy, and the worst controller.
  if (machineKind() === 'uml') {
    test('with a copy on the USB side', async () => {
      await expectSuccessors(await Bridge.start(lab.machine, '--mode', 'copy'), 2);
    });
  }

  test('on a controller that keeps short answers of a closed session', async () => {
    const { machine } = lab;
    await unloadModules(machine, ['dummy_hcd_sg']);
    await loadModules(machine, [{ name: 'dummy_hcd_sg', params: { is_super_speed: 1, fifo: 1 } }]);
    await expectSuccessors(await Bridge.start(machine), 3);
  });
});
