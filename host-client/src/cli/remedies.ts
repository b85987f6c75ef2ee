import type { IioError } from '@iio-bridge/protocol';

/** What an errno means that came from the server without a word. */
const SERVER_ERRNOS: Readonly<Record<string, string>> = {
  EINVAL: 'the driver does not take this value or setting; attributes that end with _available tell what it takes',
  ERANGE: 'the driver does not take this value; attributes that end with _available tell what it takes',
  EBUSY: 'another program uses the device, such as a capture that goes on; end that first',
  ENODATA: 'the driver has nothing to give there now',
  ENODEV: 'the device does not have this, or is gone',
  ENOENT: 'the server knows no such thing',
  EIO: "the device did not answer the driver; the board's kernel log (dmesg) may tell more",
  ENOMEM: 'the server has no memory left for it: fewer or smaller blocks (--blocks, -b) take less',
  EOPNOTSUPP: 'the device or its driver cannot do that',
  ENOSYS: 'the server is too old for that, or the device has no such function',
};

const PERMISSIONS = 'what clients may do is in the configuration of iio-bridge (permissions, --config-file)';

/** What to do where the library cannot know that there is a program around it. */
const ADVICE: Readonly<Record<string, string>> = {
  NO_CONTEXT: "'iio-client scan' lists what there is, and -u names a context",
  NO_DEVICE: "'iio-client info' shows what there is",
  BLOCKS_HELD: 'the destination of the samples is too slow',
};

export function remedyFor({ code, message }: IioError): string | undefined {
  if (code === 'EACCES' || code === 'EPERM') {
    // On this side of the link it is the permission to open the device, and the message has the rule that gives it.
    return message.includes('udev') ? undefined : PERMISSIONS;
  }
  return message.endsWith(`: ${code}`) ? SERVER_ERRNOS[code] : ADVICE[code];
}
