import type { BufferLengths } from './buffer.js';

/**
 * Kernel queues for read() and write() are one or two contiguous pieces of memory. Above 4 MiB (MAX_PAGE_ORDER,
 * include/linux/mmzone.h) the page allocator warns and refuses them.
 */
const LARGEST_FIFO_BYTES = 4 * 1024 * 1024;

/**
 * Sizes, in sample sets, for a buffer that is read() or written: room for `blocks` blocks of `blockSets` sample sets of
 * `setBytes` bytes each; for less where the kernel would have no memory for it.
 */
export function fifoLengths(blockSets: number, blocks: number, setBytes: number): BufferLengths {
  const largest = Math.max(2, Math.floor(LARGEST_FIFO_BYTES / setBytes));
  const wanted = blockSets * blocks;
  // The kernel's DMA buffers pass samples on by halves of the length: a half that divides a block leaves nothing of it behind.
  const length = wanted <= largest ? wanted : 2 * Math.ceil(blockSets / Math.ceil(blockSets / Math.floor(largest / 2)));
  return { length, watermark: Math.max(1, Math.floor(Math.min(blockSets, length / 2) / 2)) };
}
