import { IioError } from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import { BinarySession } from './binary-session.js';
import type { BridgeState } from './bridge-state.js';
import type { Client } from './client.js';
import type { Logger } from './logger.js';
import { TextSession } from './text/text-session.js';

/** How links end when a client, a cable or the bridge goes. */
const ORDINARY_ENDS: ReadonlySet<string> = new Set(['ESHUTDOWN', 'ECONNRESET', 'EPIPE']);

/**
 * The conversation with one client on one link, from its opening to its end. Owns the buffers that are opened on the
 * link; `ended` settles when they and the link are gone.
 */
export class Session {
  readonly ended: Promise<void>;
  readonly #link: Link;
  readonly #state: BridgeState;
  readonly #peer: string;
  readonly #log: Logger;

  /** `peer`: who is at the other end, as `Clients` tells them apart. */
  constructor(link: Link, state: BridgeState, peer: string, log: Logger) {
    this.#link = link;
    this.#state = state;
    this.#peer = peer;
    this.#log = log;
    this.ended = this.#run();
  }

  /** Ends the conversation at once; {@link ended} tells when that is done. */
  async close(): Promise<void> {
    await this.#link.close();
    await this.ended;
  }

  async #run(): Promise<void> {
    const { client, leave } = this.#state.clients.join(this.#peer);
    try {
      if ((await this.#serveText(client)) === 'binary') {
        await new BinarySession(this.#link, { state: this.#state, client, owner: this, log: this.#log }).run();
      }
    } catch (error) {
      if (!(error instanceof IioError)) {
        this.#log.error({ err: error }, 'session failed');
      } else if (!ORDINARY_ENDS.has(error.code)) {
        this.#log.warn({ code: error.code }, error.message);
      }
    } finally {
      leave();
      await this.#state.buffers
        .closeOwnedBy(this)
        .catch((error: unknown) => this.#log.error({ err: error }, 'buffers of a session did not close'));
      await this.#link.close();
      this.#log.debug({ end: await this.#link.whenEnded }, 'session ended');
    }
  }

  /** Links start in text mode. A buffer that was opened in it is given up with the link, or with that mode. */
  async #serveText(client: Client): Promise<'exit' | 'binary'> {
    const { sharedBuffers, timeouts, limits } = this.#state;
    const session = new TextSession(this.#link, {
      sharedBuffers,
      timeout: timeouts.forLinkOf(client),
      maxValueBytes: limits.attributeBytes,
      context: () => client.context,
      freshContext: () => client.renew(),
      log: this.#log,
    });
    try {
      return await session.run();
    } finally {
      await session.close();
    }
  }
}
