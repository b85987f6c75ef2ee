import { closeSync, constants, openSync } from 'node:fs';
import { errorCode, fromFsError, privilegeHint, systemError } from '../sys/errors.js';
import { FileDescriptor } from '../sys/file-descriptor.js';
import { ioctlInt, setNonBlocking } from '../sys/libc.js';
import { IIO_GET_EVENT_FD } from './uapi.js';

/** struct iio_event_data, include/uapi/linux/iio/events.h: u64 id, s64 time stamp in ns. */
export const EVENT_BYTES = 16;

/**
 * Takes the events of a device for this process: the kernel grants them to one reader at a time. `node` is the device's
 * path in /dev.
 *
 * @throws {IioError} `EBUSY` if another program reads them; `ENODEV` if the device has none; `EACCES`, `EPERM`.
 */
export function openEventDescriptor(node: string): FileDescriptor {
  const busy = 'another program has it open: an iiod, or a capture that was not closed';
  let device: number;
  try {
    device = openSync(node, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw fromFsError(error, `open ${node}`, {
      EBUSY: busy,
      EACCES: privilegeHint(node),
      EPERM: privilegeHint(node),
      ENOENT: 'the device has no node: it offers no events, or nobody created it',
    });
  }
  try {
    const fd = ioctlInt(device, IIO_GET_EVENT_FD, 0, node, { EBUSY: 'another program reads the events' });
    setNonBlocking(fd, `events of ${node}`);
    return new FileDescriptor(fd, `events of ${node}`);
  } catch (error) {
    const code = errorCode(error);
    // What the IIO core says of a request that the device does not have has changed over time.
    if (code === 'ENOTTY' || code === 'EINVAL' || code === 'ENODEV') {
      throw systemError('ENODEV', `events of ${node}`, { ENODEV: 'the device has no events' }, { cause: error });
    }
    throw error;
  } finally {
    closeSync(device);
  }
}
