import type { ContextServer } from './context-server.js';
import type { ServedContext } from './served-context.js';

/** The two ways to number operations that differ below the last ones: of generations C and D, and of E, F and G. */
export type NumberingFamily = 'old' | 'new';

/**
 * The links of one peer: the program at the other end of the USB cable, or at one network address. They share what only
 * one of them is told: the context, which is printed on the first link, numbers the devices on all of them.
 */
export class Client {
  readonly #contexts: ContextServer;
  #context: ServedContext;
  /** What one of its links has been recognised by; a help for the others, which may belong to another program. */
  family: NumberingFamily | undefined;

  constructor(contexts: ContextServer) {
    this.#contexts = contexts;
    this.#context = contexts.refresh();
  }

  /** The document that the client numbers devices by. */
  get context(): ServedContext {
    return this.#context;
  }

  /** A program asks for the document: it starts with what there is now. */
  renew(): ServedContext {
    this.family = undefined;
    this.#context = this.#contexts.refresh();
    return this.#context;
  }
}

/** The clients that have a link. */
export class Clients {
  readonly #contexts: ContextServer;
  readonly #present = new Map<string, { readonly client: Client; links: number }>();

  constructor(contexts: ContextServer) {
    this.#contexts = contexts;
  }

  /** The client of a new link; `leave` must be called once when the link has ended. */
  join(peer: string): { readonly client: Client; leave(): void } {
    const entry = this.#present.get(peer) ?? { client: new Client(this.#contexts), links: 0 };
    this.#present.set(peer, entry);
    entry.links++;
    const leave = (): void => {
      entry.links--;
      if (entry.links === 0) {
        this.#present.delete(peer);
      }
    };
    return { client: entry.client, leave };
  }
}
