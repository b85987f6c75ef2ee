import { BINARY_HANDSHAKE, IioError } from '@iio-bridge/protocol';
import { withDeadline } from './deadline.js';
import type { Link } from './link.js';
import type { Logger } from './logger.js';
import { type PendingRead, readOnce } from './read-once.js';

/** Which of iiod's two protocols a link speaks. */
export type Protocol = 'binary' | 'text';

/** A line of the text protocol; what is longer is left over from somebody else's session. Bytes. */
const MAX_LINE_BYTES = 16;

/**
 * How much of an earlier session's bytes is dropped before the link is given up: what the device has in its pipe; a
 * connection has no earlier session. Bytes.
 */
const MAX_STALE_BYTES = { pipe: 4 * 1024 * 1024, connection: 1024 } as const;

/**
 * Asks a fresh link for the binary protocol. A negative answer means text; servers that speak only binary answer 0 too. A
 * server that does not answer at all is no text server: that is an error.
 * @throws IioError `ETIMEDOUT`, `EPROTO`, `DISCONNECTED`
 */
export async function negotiate(
  link: Link,
  { logger, timeoutMs }: { readonly logger: Logger; readonly timeoutMs: number },
): Promise<Protocol> {
  const what = `${link.name}: switch to the binary protocol`;
  let current: PendingRead | undefined;
  const readCode = async (): Promise<number> => {
    let line = '';
    const limit = link.packetSize > 1 ? MAX_STALE_BYTES.pipe : MAX_STALE_BYTES.connection;
    for (let stale = 0; stale < limit; ) {
      const packet = new Uint8Array(link.packetSize);
      current = readOnce(link, packet);
      const { length, cancelled } = await current.done;
      if (cancelled) {
        throw new IioError('ECANCELED', what);
      }
      // Where there are packets, a line is one of its own; what is not is left over, and so is what came before it.
      line = (link.packetSize > 1 ? '' : line) + String.fromCharCode(...packet.subarray(0, length));
      const end = line.indexOf('\n');
      if (end >= 0 && /^-?\d+\r?$/.test(line.slice(0, end)) && end === line.length - 1) {
        return Number.parseInt(line, 10);
      }
      if (link.packetSize > 1 || end >= 0 || line.length > MAX_LINE_BYTES) {
        const dropped = line.length;
        logger.debug(() => `${link.name}: dropped ${dropped} bytes left over from an earlier session`);
        stale += dropped;
        line = '';
      }
    }
    throw new IioError('EPROTO', `${what}: the other end sends bytes without end; it is no IIO server`);
  };
  const answer = readCode();
  await withDeadline(Promise.all([answer, link.write(BINARY_HANDSHAKE)]), { timeoutMs, what }, () => {
    current?.cancel();
    return new IioError('ETIMEDOUT', `${what}: the server did not answer in ${timeoutMs} ms`);
  });
  return (await answer) < 0 ? 'text' : 'binary';
}

/**
 * {@link negotiate} for the further links of a context, whose protocol is known. Closes the link if that fails.
 * @throws IioError `EPROTO` if the answer is another one than on the main link
 */
export async function requireProtocol(
  protocol: Protocol,
  link: Link,
  options: { readonly logger: Logger; readonly timeoutMs: number },
): Promise<void> {
  if (protocol === 'text') {
    return;
  }
  try {
    if ((await negotiate(link, options)) !== protocol) {
      throw new IioError('EPROTO', `${link.name}: the server refuses the binary protocol that it spoke before`);
    }
  } catch (error) {
    await link.close();
    throw error;
  }
}
