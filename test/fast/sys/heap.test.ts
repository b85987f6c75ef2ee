import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { DmabufAllocator } from '../../../src/iio/heap.js';

let devRoot: string;

beforeEach(() => {
  devRoot = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(devRoot, { recursive: true }));
});

/** Stands in for a heap as far as opening goes. */
function addHeap(name: string): void {
  mkdirSync(join(devRoot, 'dma_heap'), { recursive: true });
  writeFileSync(join(devRoot, 'dma_heap', name), '');
}

describe('DmabufAllocator', () => {
  it('without any heap says which kernel options are missing', () => {
    expect(() => DmabufAllocator.open(undefined, devRoot)).toThrow(
      expect.objectContaining({ code: 'NO_DMA_HEAP', message: expect.stringContaining('CONFIG_DMABUF_HEAPS_SYSTEM') }),
    );
  });

  it('a heap that does not exist: says so, and which heaps there are', () => {
    addHeap('reserved');
    addHeap('system');
    expect(() => DmabufAllocator.open('linux,cma', devRoot)).toThrow(
      expect.objectContaining({ code: 'NO_DMA_HEAP', message: expect.stringContaining('reserved, system') }),
    );
  });

  it('falls through to the CMA heap under the name that this kernel gives it', () => {
    addHeap('reserved');
    using allocator = DmabufAllocator.open(undefined, devRoot);
    expect(allocator.name).toBe('reserved');
  });

  it('prefers the system heap', () => {
    addHeap('reserved');
    addHeap('system');
    using allocator = DmabufAllocator.open(undefined, devRoot);
    expect(allocator.name).toBe('system');
  });

  it('reports what the kernel says to an allocation, with heap and size', () => {
    addHeap('system');
    using allocator = DmabufAllocator.open('system', devRoot);
    expect(() => allocator.allocate(4096)).toThrow(
      expect.objectContaining({ code: 'ENOTTY', message: expect.stringContaining('DMA_HEAP_IOCTL_ALLOC on ') }),
    );
  });

  it.each([0, -4096, 1.5, Number.NaN])('refuses %d bytes', (bytes) => {
    addHeap('system');
    using allocator = DmabufAllocator.open('system', devRoot);
    expect(() => allocator.allocate(bytes)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it.each(['../mem', '', '.'])("does not take '%s' for a heap", (name) => {
    expect(() => DmabufAllocator.open(name, devRoot)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
