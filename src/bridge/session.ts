import { IioError } from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import { BinarySession } from './binary-session.js';
import type { BridgeState } from './bridge-state.js';
import type { Logger } from './logger.js';

/** Clients keep command lines below 1024 bytes. */
const MAX_LINE_BYTES = 8192;

const encoder = new TextEncoder();

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
      if (await this.#handshake()) {
        await new BinarySession(this.#link, { state: this.#state, client, owner: this, log: this.#log }).run();
      }
    } catch (error) {
      if (!(error instanceof IioError)) {
        this.#log.error({ err: error }, 'session failed');
      } else if (error.code !== 'ESHUTDOWN') {
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

  /** Text mode: answers what it does not know with an error. True when the client has switched to binary. */
  async #handshake(): Promise<boolean> {
    for (;;) {
      const bytes = await this.#link.readLine(MAX_LINE_BYTES);
      const line = new TextDecoder('latin1').decode(bytes).trim();
      if (line === '') {
        continue;
      }
      if (line === 'EXIT' || line === 'QUIT') {
        return false;
      }
      if (line.toUpperCase() === 'BINARY') {
        this.#link.send(encoder.encode('0\n'));
        return true;
      }
      this.#link.send(encoder.encode('-22\n'));
    }
  }
}
