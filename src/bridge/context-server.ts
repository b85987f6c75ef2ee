import type { Backend } from '../iio/backend.js';
import type { Logger } from './logger.js';
import { ServedContext } from './served-context.js';

/** Where the devices are that a context is made of. */
export interface ContextSource {
  /** @throws {IioError} `ENOENT` if there are none. */
  discover(): Backend;
  /** Cheap to tell, and another one after a device has come or gone. */
  fingerprint(): string;
}

/**
 * The context that new clients get. Contexts never change, because clients number the parts of the one they were given:
 * when devices come or go, there is a new one, and sessions keep theirs.
 */
export class ContextServer {
  readonly #source: ContextSource;
  readonly #log: Logger;
  #fingerprint: string;
  #current: ServedContext;

  /** @throws {IioError} what {@link ContextSource.discover} throws. */
  constructor(source: ContextSource, log: Logger) {
    this.#source = source;
    this.#log = log;
    // Taken first: what happens in between is noticed the next time.
    this.#fingerprint = source.fingerprint();
    this.#current = new ServedContext(source.discover());
  }

  /** Serves a context that never changes. */
  static fixed(backend: Backend, log: Logger): ContextServer {
    return new ContextServer({ discover: () => backend, fingerprint: () => '' }, log);
  }

  get current(): ServedContext {
    return this.#current;
  }

  /** The context as of now. */
  refresh(): ServedContext {
    const fingerprint = this.#source.fingerprint();
    if (fingerprint !== this.#fingerprint) {
      this.#fingerprint = fingerprint;
      try {
        this.#current = new ServedContext(this.#source.discover());
        const devices = this.#current.backend.description.devices.map(({ name, id }) => name ?? id);
        this.#log.info({ devices }, 'devices have come or gone');
      } catch (error) {
        this.#log.warn({ err: error }, 'devices have come or gone, but the new ones cannot be listed');
      }
    }
    return this.#current;
  }
}
