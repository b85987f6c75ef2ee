import { describe, expect, onTestFinished, test } from 'vitest';
import type { GuestProcess } from '../../lab/guest-process.js';
import type { Machine } from '../../lab/machine.js';
import type { RepeatReport } from '../../lab/programs/stream-repeat.js';
import { ADC, Bridge, dmabufCount, nodeProgram, openFiles, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

const SAMPLES = 16_384;
const BLOCK_KIB = (SAMPLES * 8) / 1024;

/** Streams, `batches` times `batch` of them, after as many as a batch to warm up. */
interface Amount {
  readonly batch: number;
  readonly batches: number;
}

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

interface Usage {
  readonly files: number;
  readonly rssKib: number;
  readonly slab: ReadonlyMap<string, number>;
}

/**
 * Caches whose objects come and go with what the tests themselves read (names, inodes, processes), and vmap_area, which the
 * kernel frees in bulk whenever it likes. No DMA buffer, fence,
 * request, URB, IIO block or file of the bridge is in them.
 */
const NOISY =
  /^(?:dentry|.*inode.*|kernfs_node_cache|radix_tree_node|maple_node|vm_area_struct|vmap_area|anon_vma.*|vma_lock|buffer_head|proc_dir_entry|task_struct|pid|signal_cache|sighand_cache|cred_jar|names_cache|shmem.*|ovl.*|pde_opener|seq_file|lsm_.*)/;

/**
 * Shrinking gives back what caches only keep for speed. The slab that a processor allocates from counts as full, so the least
 * of several looks is the nearest to the truth.
 */
async function usage(machine: Machine, pid: number): Promise<Usage> {
  const text = await machine.output(
    `for look in 1 2 3 4 5; do
      echo 2 >/proc/sys/vm/drop_caches; for cache in /sys/kernel/slab/*/shrink; do echo 1 >$cache; done; cat /proc/slabinfo
    done; grep VmRSS /proc/${pid}/status`,
  );
  const slab = new Map<string, number>();
  for (const [, cache = '', objects = ''] of text.matchAll(/^(\S+) +(\d+) +\d+ +\d+ +\d+ +\d+ : tunables/gm)) {
    if (!NOISY.test(cache)) {
      slab.set(cache, Math.min(Number(objects), slab.get(cache) ?? Number.POSITIVE_INFINITY));
    }
  }
  expect([...slab.keys()].filter((name) => name.startsWith('kmalloc-')).length).toBeGreaterThan(5);
  return { files: await openFiles(machine, pid), rssKib: Number(/VmRSS:\s+(\d+)/.exec(text)?.[1]), slab };
}

async function runBatch(client: GuestProcess, reports: AsyncIterator<string>, streams: number): Promise<void> {
  await client.write(`${streams}\n`);
  const { value, done } = await reports.next();
  expect(done, client.output().stderr).toBe(false);
  const report: RepeatReport = JSON.parse(value);
  expect(report).toEqual({ streams, mismatches: 0, lost: 0 });
}

async function expectFlat({ batch, batches }: Amount, ...options: readonly string[]): Promise<void> {
  const { machine } = lab;
  const bridge = await Bridge.start(machine, ...options);
  const client = await machine.spawn(nodeProgram('dist/bundle/stream-repeat.js', ADC, String(SAMPLES)));
  onTestFinished(() => client[Symbol.asyncDispose]());
  const reports = client.stdout[Symbol.asyncIterator]();
  const settled = async (files: number) => {
    await expect.poll(() => openFiles(machine, bridge.pid)).toBe(files);
    await expect.poll(() => dmabufCount(machine)).toBe(0);
  };

  const idle = await openFiles(machine, bridge.pid);
  await runBatch(client, reports, batch);
  await settled(idle);
  const before = await usage(machine, bridge.pid);
  for (let done = 0; done < batches; done += 1) {
    await runBatch(client, reports, batch);
    await settled(idle);
  }
  const after = await usage(machine, bridge.pid);

  expect(after.files).toBe(before.files);
  const growth = [...after.slab].map(([cache, objects]) => ({ cache, grown: objects - (before.slab.get(cache) ?? 0) }));
  console.log(
    `RSS ${before.rssKib} to ${after.rssKib} KiB; caches that grew:`,
    growth.flatMap(({ cache, grown }) => (grown > 0 ? `${cache} ${grown}` : [])).join(', '),
  );
  // One object per stream would be twice that; other processes' comings and goings are below a third of it.
  expect(growth.filter(({ grown }) => grown >= (batch * batches) / 2)).toEqual([]);
  // A block per stream would be twice that; a JavaScript engine's heap breathes by a few MiB.
  expect(after.rssKib - before.rssKib).toBeLessThan((BLOCK_KIB * batch * batches) / 2);

  await client.endInput();
  expect(await client.exited).toMatchObject({ code: 0 });
  expect(bridge.complaints).toEqual([]);
  await bridge.expectCleanStop();
}

// Not on QEMU: each of its processors has slabs of its own in every cache, which counts hundreds of objects up or down.
describe('many streams leave no descriptor, DMA buffer, kernel object or memory behind', () => {
  test('zero-copy', () => expectFlat({ batch: 50, batches: 4 }));
  test('with a copy on the USB side', () => expectFlat({ batch: 50, batches: 2 }, '--mode', 'copy'));
});
