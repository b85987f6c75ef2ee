import { expect, test } from 'vitest';
import { Bridge, SG_MODULES } from './bridge.js';
import { expectPlayed, prepareDac, SimulatedDac, startPlaying } from './playback.js';
import { useMachine } from './support.js';

const CYCLIC_MS = 2000;
const SAMPLING_HZ = 100_000;
/** As in src/bridge/cycle.ts. */
const PIECE_SECONDS = 0.25;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareDac });

test('a cycle is repeated without a gap or a seam, short or long', async () => {
  const { machine } = lab;
  const dac = await SimulatedDac.find(machine);
  const bridge = await Bridge.start(machine);
  await dac.set('free_running', 0);
  await dac.set('sampling_frequency', SAMPLING_HZ);
  // 10 ms and 0.2 s: repeated into pieces of a quarter of a second or more; and 0.4 s, which is not.
  for (const sets of [1000, 20_000, 40_000]) {
    const cyclesPerPiece = Math.ceil((PIECE_SECONDS * SAMPLING_HZ) / sets);
    const before = {
      bytes: await dac.playedBytes(),
      errors: await dac.number('pattern_errors'),
      overruns: await dac.number('overruns'),
      lost: await dac.number('lost'),
    };
    const player = await startPlaying(machine, {
      dev: dac.dev,
      blockBytes: sets * 8,
      blocks: 2,
      count: 1,
      cyclicMs: CYCLIC_MS,
    });
    expect((await player.exited).code, player.output().stderr).toBe(0);
    const cycles = ((await dac.playedBytes()) - before.bytes) / (sets * 8);
    expect(cycles).toBeGreaterThanOrEqual(3);
    // The DAC had its next sample set whenever one was due.
    expect(await dac.number('overruns')).toBe(before.overruns);
    expect(await dac.number('lost')).toBe(before.lost);
    // It expects the numbers to go on: they differ once at each seam, where they begin again, and nowhere else.
    const errors = (await dac.number('pattern_errors')) - before.errors;
    expect(errors).toBeGreaterThanOrEqual(cycles - 1);
    // What was played of the last piece, which was cut off, is not among the bytes.
    expect(errors).toBeLessThanOrEqual(cycles + cyclesPerPiece);
  }
  await dac.set('free_running', 1);
  await expectPlayed(machine, { dev: dac.dev, blockBytes: 65_536, blocks: 2, count: 4 });
  await bridge.expectCleanStop();
});
