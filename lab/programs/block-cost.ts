import { readFile } from 'node:fs/promises';
import { Context } from '@iio-bridge/host-client';
import { processCpuSeconds } from '../../bench/clocks.js';
import { CounterChecker } from '../../bench/counter.js';

/**
 * What a block costs the bridge: `block-cost BRIDGE_PID DEVICE BLOCK_BYTES BLOCKS` streams through the client library and
 * prints a {@link BlockCost} as JSON. The converter must be set to the counter signal, sparse and free-running.
 */

export interface BlockCost {
  readonly blockBytes: number;
  /** CPU time of the bridge's process, in µs per block. */
  readonly cpuMicroseconds: number;
  /** DMA buffers that the bridge's process had mapped in the middle of the stream. */
  readonly mappedDmabufs: number;
  readonly mismatches: number;
  readonly lost: number;
}

/** Setting the stream up does not count, nor do the first caches filled. */
const WARM_UP_BLOCKS = 8;

/** The kernel names the mapping of a DMA buffer `/dmabuf:NAME`. */
async function countMappedDmabufs(pid: number): Promise<number> {
  return (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n').filter((line) => line.includes('/dmabuf:')).length;
}

const [pid = 0, , blockBytes = 0, blocks = 0] = process.argv.slice(2).map(Number);
await using context = await Context.open('usb:');
await using stream = await context.device(process.argv[3] ?? '').createRxStream({ samplesPerBlock: blockBytes / 8 });
const checker = new CounterChecker('sparse');
let count = 0;
let before = 0;
let mappedDmabufs = 0;
for await (using block of stream) {
  checker.check(block.bytes);
  count += 1;
  if (count === WARM_UP_BLOCKS) {
    mappedDmabufs = await countMappedDmabufs(pid);
    before = processCpuSeconds(pid);
  }
  if (count === WARM_UP_BLOCKS + blocks) {
    break;
  }
}
const cost: BlockCost = {
  blockBytes,
  cpuMicroseconds: ((processCpuSeconds(pid) - before) * 1e6) / blocks,
  mappedDmabufs,
  mismatches: checker.mismatches,
  lost: checker.lostSets,
};
process.stdout.write(`${JSON.stringify(cost)}\n`);
