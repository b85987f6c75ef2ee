import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { StreamReport } from '../../../bench/configuration.js';
import { HEAP_NODE_OPTIONS } from '../../../bench/memory.js';
import { PROCESS_TIMEOUT_MS, useBridge } from './cli-harness.js';

const bridge = useBridge({ args: ['--free-running'] });
const CLIENT = fileURLToPath(new URL('../../../dist/bundle/bench-client.js', import.meta.url));
const BLOCK_BYTES = 64 * 1024;
/** Enough for the program to be compiled and then weighed. */
const BLOCKS = 3300;
const MOST_BYTES_PER_BLOCK = 1024;

it(
  'a stream makes less than 1 KiB of garbage per block',
  async () => {
    const stream = ['--device', 'emu-adc', '--block-size', `${BLOCK_BYTES}`, '--total', `${BLOCKS * BLOCK_BYTES}`];
    const words = [...HEAP_NODE_OPTIONS, CLIENT, '--uri', bridge(), '--heap', ...stream];
    const { stdout } = await promisify(execFile)(process.execPath, words);
    const report: StreamReport = JSON.parse(stdout);
    expect(report.memory?.heapBytesPerBlock).toBeLessThan(MOST_BYTES_PER_BLOCK);
  },
  PROCESS_TIMEOUT_MS,
);
