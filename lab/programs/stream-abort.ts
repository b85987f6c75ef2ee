import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@iio-bridge/host-client';
import { CounterChecker } from '../../bench/counter.js';
import type { RepeatReport } from './stream-repeat.js';

/**
 * Cuts streams of a simulated converter off wherever their blocks are: `stream-abort DEVICE SEED STREAMS` opens a context,
 * runs that many streams with blocks of seeded sizes and numbers, closes each after a seeded number of blocks and a seeded
 * pause in which nobody takes any, and prints a {@link RepeatReport} as a JSON line.
 */

const LONGEST_PAUSE_MS = 12;

function seeded(seed: number): (count: number) => number {
  let state = seed;
  return (count) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % count;
  };
}

const [name = '', seed = '1', streams = '1'] = process.argv.slice(2);
const pick = seeded(Number(seed));
await using context = await Context.open('usb:');
const device = context.device(name);
let mismatches = 0;
let lost = 0;
for (let run = 0; run < Number(streams); run += 1) {
  const checker = new CounterChecker('every-set');
  const samplesPerBlock = [16, 1000, 16_384, 131_072][pick(4)] ?? 16;
  let left = pick(5);
  await using stream = await device.createRxStream({ samplesPerBlock, blocks: 1 + pick(6) });
  if (left > 0) {
    for await (using block of stream) {
      checker.check(block.bytes);
      left -= 1;
      if (left === 0) {
        break;
      }
    }
  }
  await delay(pick(LONGEST_PAUSE_MS));
  mismatches += checker.mismatches;
  lost += checker.lostSets;
}
const report: RepeatReport = { streams: Number(streams), mismatches, lost };
process.stdout.write(`${JSON.stringify(report)}\n`);
