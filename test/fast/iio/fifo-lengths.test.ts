import { expect, test } from 'vitest';
import { fifoLengths } from '../../../src/iio/fifo-lengths.js';

const MIB = 1024 * 1024;

test('a queue has room for the blocks that were asked for', () => {
  expect(fifoLengths(1024, 4, 8)).toEqual({ length: 4096, watermark: 512 });
  expect(fifoLengths(1, 1, 8)).toEqual({ length: 1, watermark: 1 });
});

test.each([
  { blockSets: 300_000, blocks: 2, setBytes: 8 },
  { blockSets: 300_000, blocks: 4, setBytes: 8 },
  { blockSets: 16 * MIB, blocks: 2, setBytes: 2 },
  { blockSets: 333_333, blocks: 3, setBytes: 24 },
])(
  '$blocks blocks of $blockSets sets of $setBytes bytes: the queue stays below what the kernel has memory for',
  ({ blockSets, blocks, setBytes }) => {
    const { length, watermark } = fifoLengths(blockSets, blocks, setBytes);
    expect(length * setBytes).toBeLessThanOrEqual(4 * MIB);
    expect(length * setBytes).toBeGreaterThan(MIB);
    expect(watermark).toBeLessThanOrEqual(length / 2);
    // Halves of it make up a block: but for rounding, nothing is left over.
    const halves = Math.ceil(blockSets / (length / 2));
    expect((halves * length) / 2 - blockSets).toBeLessThan(halves);
  },
);
