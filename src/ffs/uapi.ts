import { type IoctlRequest, io, iow } from '../sys/ioctl-number.js';

/**
 * Requests on FunctionFS endpoint files, from include/uapi/linux/usb/functionfs.h. DMABUF_TRANSFER is missing on purpose:
 * it happens per block, so only the native data plane issues it.
 */

/** `_IO('g', 2)`: throw away what the controller's FIFO still holds, e.g. of a session that was cut off. */
export const FUNCTIONFS_FIFO_FLUSH: IoctlRequest = { name: 'FUNCTIONFS_FIFO_FLUSH', number: io('g', 2) };

/** `_IO('g', 3)`: end a halt of the endpoint. */
export const FUNCTIONFS_CLEAR_HALT: IoctlRequest = { name: 'FUNCTIONFS_CLEAR_HALT', number: io('g', 3) };

/** `_IOW('g', 131, int)`: make a dmabuf known to the endpoint. */
export const FUNCTIONFS_DMABUF_ATTACH: IoctlRequest = { name: 'FUNCTIONFS_DMABUF_ATTACH', number: iow('g', 131, 4) };

/** `_IOW('g', 132, int)`: the reverse. After the UDC was unbound this crashes Linux 6.12: then close the endpoint. */
export const FUNCTIONFS_DMABUF_DETACH: IoctlRequest = { name: 'FUNCTIONFS_DMABUF_DETACH', number: iow('g', 132, 4) };
