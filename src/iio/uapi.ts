import { endianness } from 'node:os';
import { type IoctlRequest, ior, iow, iowr } from '../sys/ioctl-number.js';

/**
 * Requests of IIO, dma-heap and udmabuf that the control plane issues. Those that occur per block (DMABUF_ENQUEUE,
 * DMA_BUF_IOCTL_SYNC, EXPORT_SYNC_FILE, SYNC_IOC_FILE_INFO) belong to the native data plane and are defined there.
 */

/** `_IOR('i', 0x90, int)`, include/uapi/linux/iio/events.h: file descriptor out. */
export const IIO_GET_EVENT_FD: IoctlRequest = { name: 'IIO_GET_EVENT_FD', number: ior('i', 0x90, 4) };

/** `_IOWR('i', 0x91, int)`, include/uapi/linux/iio/buffer.h: buffer index in, file descriptor out. */
export const IIO_BUFFER_GET_FD: IoctlRequest = { name: 'IIO_BUFFER_GET_FD', number: iowr('i', 0x91, 4) };

/** `_IOW('i', 0x92, int)`, include/uapi/linux/iio/buffer.h: make a dmabuf known to the buffer. */
export const IIO_BUFFER_DMABUF_ATTACH: IoctlRequest = { name: 'IIO_BUFFER_DMABUF_ATTACH', number: iow('i', 0x92, 4) };

/** `_IOW('i', 0x93, int)`, include/uapi/linux/iio/buffer.h: the reverse. */
export const IIO_BUFFER_DMABUF_DETACH: IoctlRequest = { name: 'IIO_BUFFER_DMABUF_DETACH', number: iow('i', 0x93, 4) };

/** `_IOWR('H', 0x0, struct dma_heap_allocation_data)`, include/uapi/linux/dma-heap.h. */
export const DMA_HEAP_IOCTL_ALLOC: IoctlRequest = { name: 'DMA_HEAP_IOCTL_ALLOC', number: iowr('H', 0, 24) };

/** `_IOW('u', 0x42, struct udmabuf_create)`, include/uapi/linux/udmabuf.h. */
export const UDMABUF_CREATE: IoctlRequest = { name: 'UDMABUF_CREATE', number: iow('u', 0x42, 24) };

const LITTLE_ENDIAN = endianness() === 'LE';

/** struct dma_heap_allocation_data: u64 len, u32 fd (filled by the kernel), u32 fd_flags, u64 heap_flags (0). */
export function encodeHeapAllocation(bytes: number, fdFlags: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(0, BigInt(bytes), LITTLE_ENDIAN);
  view.setUint32(12, fdFlags, LITTLE_ENDIAN);
  return new Uint8Array(view.buffer);
}

/** The descriptor that DMA_HEAP_IOCTL_ALLOC wrote into its argument. */
export function decodeHeapAllocation(allocation: Uint8Array): number {
  return new DataView(allocation.buffer, allocation.byteOffset).getUint32(8, LITTLE_ENDIAN);
}

const UDMABUF_FLAGS_CLOEXEC = 1;

/** struct udmabuf_create: u32 memfd, u32 flags, u64 offset, u64 size; both lengths are whole pages. */
export function encodeUdmabufCreate(memfd: number, bytes: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(24));
  view.setUint32(0, memfd, LITTLE_ENDIAN);
  view.setUint32(4, UDMABUF_FLAGS_CLOEXEC, LITTLE_ENDIAN);
  view.setBigUint64(16, BigInt(bytes), LITTLE_ENDIAN);
  return new Uint8Array(view.buffer);
}
