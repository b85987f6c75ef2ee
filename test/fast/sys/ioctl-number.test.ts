import { describe, expect, it } from 'vitest';
import {
  FUNCTIONFS_CLEAR_HALT,
  FUNCTIONFS_DMABUF_ATTACH,
  FUNCTIONFS_DMABUF_DETACH,
  FUNCTIONFS_FIFO_FLUSH,
} from '../../../src/ffs/uapi.js';
import {
  DMA_HEAP_IOCTL_ALLOC,
  decodeHeapAllocation,
  encodeHeapAllocation,
  encodeUdmabufCreate,
  IIO_BUFFER_DMABUF_ATTACH,
  IIO_BUFFER_DMABUF_DETACH,
  IIO_BUFFER_GET_FD,
  UDMABUF_CREATE,
} from '../../../src/iio/uapi.js';
import { io, ior, iow, iowr } from '../../../src/sys/ioctl-number.js';

describe('ioctl numbers', () => {
  // What a C compiler prints for the kernel's own macros on x86-64 and arm64.
  it.each([
    [IIO_BUFFER_GET_FD, 0xc0046991],
    [IIO_BUFFER_DMABUF_ATTACH, 0x40046992],
    [IIO_BUFFER_DMABUF_DETACH, 0x40046993],
    [FUNCTIONFS_FIFO_FLUSH, 0x6702],
    [FUNCTIONFS_CLEAR_HALT, 0x6703],
    [FUNCTIONFS_DMABUF_ATTACH, 0x40046783],
    [FUNCTIONFS_DMABUF_DETACH, 0x40046784],
    [DMA_HEAP_IOCTL_ALLOC, 0xc0184800],
    [UDMABUF_CREATE, 0x40187542],
  ])('$name', (request, number) => {
    expect(request.number).toBe(number);
  });

  it.each([
    ['IIO_GET_EVENT_FD', ior('i', 0x90, 4), 0x80046990],
    ['IIO_BUFFER_DMABUF_ENQUEUE', iow('i', 0x94, 16), 0x40106994],
    ['FUNCTIONFS_DMABUF_TRANSFER', iow('g', 133, 16), 0x40106785],
    ['FUNCTIONFS_ENDPOINT_DESC', ior('g', 130, 9), 0x80096782],
    ['FUNCTIONFS_FIFO_STATUS', io('g', 1), 0x6701],
    ['DMA_BUF_IOCTL_SYNC', iow('b', 0, 8), 0x40086200],
    ['ADI BLOCK_QUERY', iowr('i', 0xa2, 32), 0xc02069a2],
  ])('%s, built from its macro', (_name, number, expected) => {
    expect(number).toBe(expected);
  });
});

describe('ioctl arguments', () => {
  it('dma_heap_allocation_data: length first, then a place for the descriptor, then its flags', () => {
    const argument = encodeHeapAllocation(0x1_0000_2000, 0o2000002);
    expect([...argument]).toEqual([0, 0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    argument[8] = 23;
    expect(decodeHeapAllocation(argument)).toBe(23);
  });

  it('udmabuf_create: memfd, close-on-exec, offset 0, size', () => {
    expect([...encodeUdmabufCreate(9, 0x4000)]).toEqual([
      9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0,
    ]);
  });
});
