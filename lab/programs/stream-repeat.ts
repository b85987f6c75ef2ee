import { createInterface } from 'node:readline';
import { Context } from '@iio-bridge/host-client';
import { CounterChecker } from '../../bench/counter.js';

/**
 * Opens and closes streams of a simulated converter through the client library: `stream-repeat DEVICE SAMPLES_PER_BLOCK`.
 * For each number N on standard input it opens a context, runs N streams of one to four blocks, each cut off in the middle
 * of what is under way, closes the context, and prints a {@link RepeatReport} as a JSON line.
 */

export interface RepeatReport {
  readonly streams: number;
  readonly mismatches: number;
  readonly lost: number;
}

const BLOCKS = 4;

async function repeat(name: string, samplesPerBlock: number, streams: number): Promise<RepeatReport> {
  await using context = await Context.open('usb:');
  const device = context.device(name);
  let mismatches = 0;
  let lost = 0;
  for (let run = 0; run < streams; run += 1) {
    const checker = new CounterChecker('every-set');
    let left = 1 + (run % BLOCKS);
    await using stream = await device.createRxStream({ samplesPerBlock, blocks: BLOCKS });
    for await (using block of stream) {
      checker.check(block.bytes);
      left -= 1;
      if (left === 0) {
        break;
      }
    }
    mismatches += checker.mismatches;
    lost += checker.lostSets;
  }
  return { streams, mismatches, lost };
}

const [name = '', samplesPerBlock = ''] = process.argv.slice(2);
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await repeat(name, Number(samplesPerBlock), Number(line)))}\n`);
}
