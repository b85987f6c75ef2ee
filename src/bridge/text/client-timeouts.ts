/** What libiio's local backend waits for samples when a client does not say. */
const DEFAULT_TIMEOUT_MS = 1000;

/** How long one link's requests wait for samples. */
export interface LinkTimeout {
  /** In ms; 0 = for ever. */
  ms: number;
}

/**
 * The time-outs of text clients. Each link has its own; but libiio tells a server over TCP only on the link that it makes
 * first, so a link that was told nothing takes what its client said last on any other link.
 */
export class ClientTimeouts {
  readonly #latest = new WeakMap<object, number>();

  /** @param client the same object for all links of a client */
  forLinkOf(client: object): LinkTimeout {
    const latest = this.#latest;
    let own: number | undefined;
    return {
      get ms(): number {
        return own ?? latest.get(client) ?? DEFAULT_TIMEOUT_MS;
      },
      set ms(ms: number) {
        own = ms;
        latest.set(client, ms);
      },
    };
  }
}
