import { getResponder } from '@homebridge/ciao';
import type { Logger } from './logger.js';
import type { Announcement, Announcer, ServiceRecord } from './tcp-server.js';

/**
 * Announces by multicast DNS, through a responder in this process. A name that is taken already gets a number.
 *
 * `@homebridge/ciao` is the responder because it probes for and resolves conflicts of names, follows addresses that come
 * and go, and can be held to one address (RFC 6762, RFC 6763); it is plain JavaScript without native parts.
 */
export class DnsSdAnnouncer implements Announcer {
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  announce({ name, type, port, address }: ServiceRecord): Announcement {
    const responder = getResponder();
    const isEveryAddress = address === '::' || address === '0.0.0.0';
    const service = responder.createService({
      name,
      type,
      port,
      ...(isEveryAddress ? { disabledIpv6: address === '0.0.0.0' } : { restrictedAddresses: [address] }),
    });
    const announced = service.advertise().then(
      () => this.#log.info({ name: service.getFQDN(), port }, 'announced'),
      (error: unknown) =>
        this.#log.warn({ err: error }, 'the service cannot be announced: clients must name its address'),
    );
    return {
      withdraw: async () => {
        await announced;
        await responder.shutdown();
      },
    };
  }
}
