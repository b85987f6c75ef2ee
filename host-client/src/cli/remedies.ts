import type { IioError } from '@iio-bridge/protocol';

/** What the user can do about an error whose message cannot know it, because it was the server's or the system's. */
const REMEDIES: Readonly<Record<string, string>> = {
  NO_CONTEXT: "'iio-client scan' lists what there is; -u names a context",
  ECONNREFUSED: 'nothing listens there: is the server running, and was the port (30431 unless given) right?',
  EHOSTUNREACH: 'there is no way to that host: is it on, and in the same network?',
  ENETUNREACH: 'there is no way to that network: is this machine connected to it?',
  ENOTFOUND: 'no such host is known: check the spelling, or use its address',
  EPERM: 'the server does not allow it on this kind of link (iiod, and iio-bridge by its configuration)',
  EINVAL: 'the driver refused the value or the setting; *_available attributes tell what it takes',
  ENODATA: 'the driver has nothing to give there now',
  EOPNOTSUPP: 'the device or its driver cannot do that',
  ENOSYS: 'the server is too old for that, or the device has no such function',
};

export function remedyFor({ code, message }: IioError): string | undefined {
  const remedy = REMEDIES[code];
  return remedy === undefined || message.includes(remedy) ? undefined : remedy;
}
