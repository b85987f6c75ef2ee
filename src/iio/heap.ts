import { constants, ftruncateSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, privilegeHint } from '../sys/errors.js';
import { FileDescriptor } from '../sys/file-descriptor.js';
import { ioctl, memfdCreate, O_CLOEXEC, pageSize, sealAgainstShrinking } from '../sys/libc.js';
import {
  DMA_HEAP_IOCTL_ALLOC,
  decodeHeapAllocation,
  encodeHeapAllocation,
  encodeUdmabufCreate,
  UDMABUF_CREATE,
} from './uapi.js';

/** The allocator that makes dmabufs of shared memory (/dev/udmabuf), for kernels without DMA heaps. */
export const UDMABUF = 'udmabuf';

/**
 * In this order, if nobody chooses. The first is made of scattered pages, which DMA engines with scatter-gather or an
 * IOMMU take; the next ones are contiguous (CMA), under the names that different kernels give that heap.
 */
const DEFAULT_ORDER = ['system', 'default_cma_region', 'reserved', 'linux,cma', 'default-pool', UDMABUF];

/**
 * Allocates dmabufs: owns the open heap device. The dmabufs belong to whoever asked for them and outlive the allocator.
 */
export class DmabufAllocator implements Disposable {
  /** The heap's name (`system`, `reserved`, …) or {@link UDMABUF}. */
  readonly name: string;
  readonly #device: FileDescriptor;
  readonly #path: string;

  private constructor(name: string, path: string, device: FileDescriptor) {
    this.name = name;
    this.#path = path;
    this.#device = device;
  }

  /**
   * Opens the heap `preference`, i.e. a name below /dev/dma_heap or {@link UDMABUF}; by default the first that works of
   * system, the CMA heaps, udmabuf.
   *
   * @throws {IioError} `NO_DMA_HEAP` saying what is missing, where, and which heaps there are.
   */
  static open(preference?: string, devRoot = '/dev'): DmabufAllocator {
    const names = preference === undefined ? DEFAULT_ORDER : [preference];
    const refusals: string[] = [];
    for (const name of names) {
      const path = heapPath(name, devRoot);
      try {
        const fd = openSync(path, constants.O_RDWR);
        return new DmabufAllocator(name, path, new FileDescriptor(fd, path));
      } catch (error) {
        const code = errorCode(error);
        if (code === 'EACCES' || code === 'EPERM') {
          refusals.push(privilegeHint(path));
        } else if (code === 'ENOENT' || code === 'ENXIO' || code === 'ENODEV') {
          refusals.push(`${path} does not exist (${requirement(name)})`);
        } else {
          throw fromFsError(error, `open ${path}`);
        }
      }
    }
    const present = heapNames(devRoot);
    const alternatives = present.length > 0 ? ` Heaps on this machine: ${present.join(', ')}.` : '';
    throw new IioError('NO_DMA_HEAP', `no memory for DMA: ${refusals.join('; ')}.${alternatives}`);
  }

  /**
   * A dmabuf of at least `bytes` bytes (rounded up to whole pages), zeroed by the kernel.
   *
   * @throws {IioError} `ENOMEM` when the heap is exhausted; `EINVAL` for a size that it does not do.
   */
  allocate(bytes: number): FileDescriptor {
    if (!Number.isSafeInteger(bytes) || bytes <= 0) {
      throw new IioError('EINVAL', `cannot allocate a dmabuf of ${bytes} bytes`);
    }
    const label = `dmabuf of ${bytes} bytes from ${this.name}`;
    const fd = this.name === UDMABUF ? this.#fromSharedMemory(bytes) : this.#fromHeap(bytes);
    return new FileDescriptor(fd, label);
  }

  close(): void {
    this.#device.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fromHeap(bytes: number): number {
    const allocation = encodeHeapAllocation(bytes, constants.O_RDWR | O_CLOEXEC);
    ioctl(this.#device.fd, DMA_HEAP_IOCTL_ALLOC, allocation, this.#path, {
      ENOMEM: `no ${bytes} bytes left in heap ${this.name}: use fewer or smaller blocks, or give the kernel a larger cma= region`,
    });
    return decodeHeapAllocation(allocation);
  }

  #fromSharedMemory(bytes: number): number {
    const page = pageSize();
    const rounded = Math.ceil(bytes / page) * page;
    using memfd = new FileDescriptor(memfdCreate('iio-bridge'), 'memfd');
    ftruncateSync(memfd.fd, rounded);
    sealAgainstShrinking(memfd.fd);
    const request = encodeUdmabufCreate(memfd.fd, rounded);
    const result = ioctl(this.#device.fd, UDMABUF_CREATE, request, this.#path, {
      EINVAL: `${rounded} bytes may be above the limit in /sys/module/udmabuf/parameters/size_limit_mb`,
    });
    return result;
  }
}

/** The DMA heaps of this machine, by name. */
export function heapNames(devRoot = '/dev'): string[] {
  try {
    return readdirSync(join(devRoot, 'dma_heap')).sort();
  } catch {
    return [];
  }
}

function heapPath(name: string, devRoot: string): string {
  if (name.includes('/') || name === '' || name.startsWith('.')) {
    throw new IioError('EINVAL', `'${name}' is not the name of a DMA heap`);
  }
  return name === UDMABUF ? join(devRoot, 'udmabuf') : join(devRoot, 'dma_heap', name);
}

function requirement(name: string): string {
  switch (name) {
    case UDMABUF:
      return 'CONFIG_UDMABUF';
    case 'system':
      return 'CONFIG_DMABUF_HEAPS_SYSTEM';
    default:
      return 'CONFIG_DMABUF_HEAPS_CMA and a CMA region of that name';
  }
}
