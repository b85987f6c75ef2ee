import type { Call } from './data-plane.js';
import type { Link } from './link.js';
import type { NativeDataPlane } from './native.js';

/** A TCP connection that has come in. */
export interface Connection {
  readonly link: Link;
  /** Numeric address and port: `127.0.0.1:40000`, `[::1]:40000`. */
  readonly peer: string;
}

/** A listening TCP socket, which the data plane owns; `close()` gives it up. Links that it has accepted live on. */
export class TcpListener {
  /** The port that it listens on. */
  readonly port: number;
  readonly #id: number;
  readonly #call: Call;
  readonly #adopt: (accept: (native: NativeDataPlane, link: number, token: number) => void) => Promise<Connection>;

  /** Made by {@link DataPlane.listenTcp}; `adopt` makes the link of a connection. */
  constructor(
    id: number,
    port: number,
    call: Call,
    adopt: (accept: (native: NativeDataPlane, link: number, token: number) => void) => Promise<Connection>,
  ) {
    this.#id = id;
    this.port = port;
    this.#call = call;
    this.#adopt = adopt;
  }

  /**
   * Waits for the next connection; one call at a time. Those that come in between wait in the kernel.
   *
   * @throws {IioError} `EBADF` once the listener is closed; `EMFILE`, `ENFILE`, `ENOMEM` when the system has no room for
   * a connection at the moment.
   */
  accept(): Promise<Connection> {
    return this.#adopt((native, link, token) => native.accept(this.#id, link, token));
  }

  async close(): Promise<void> {
    await this.#call('stop listening', (native, token) => native.closeListener(this.#id, token));
  }
}
