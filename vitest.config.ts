import { defineConfig } from 'vitest/config';
import type { MachineKind } from './lab/machine.js';
import { patience } from './lab/patience.js';

/** One guest at a time: two of them, and a test's own processes, would fight over the processors. */
function labProject(machine: MachineKind, order: number, exclude: readonly string[], timeFactor: number) {
  return {
    test: {
      name: machine,
      // `x.test.ts` runs on every machine, `x.uml.test.ts` and `x.qemu.test.ts` on one kind.
      include: ['test/lab/**/*.test.ts'],
      exclude: [...exclude],
      provide: { machine },
      fileParallelism: false,
      maxWorkers: 1,
      sequence: { groupOrder: order },
      // For what hangs; a guest may be slow.
      testTimeout: 300_000 * timeFactor * patience(),
      hookTimeout: 300_000 * timeFactor * patience(),
      teardownTimeout: 30_000,
      expect: { poll: { timeout: 30_000 * timeFactor * patience() } },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      // The time is for a busy machine: what hangs is to end.
      {
        test: {
          name: 'fast',
          include: ['test/fast/**/*.test.ts'],
          maxWorkers: '100%',
          sequence: { groupOrder: 0 },
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      labProject('uml', 1, ['**/*.qemu.test.ts'], 1),
      labProject('qemu', 2, ['**/*.uml.test.ts'], 3),
      // Not part of `npm test`: the kernel with KASAN and lockdep, for `vitest run --project qemu-debug`.
      labProject('qemu-debug', 3, ['**/*.uml.test.ts'], 8),
    ],
  },
});
