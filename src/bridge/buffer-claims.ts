import { IioError } from '@iio-bridge/protocol';

/** Who may have a buffer: the text clients together, or one binary client. */
export type ClaimHolder = 'text' | 'binary';

/** The right to open a buffer of the backend, until it is released. */
export interface BufferClaim extends Disposable {
  readonly holder: ClaimHolder;
  /** Does nothing the second time. */
  release(): void;
}

/**
 * Which buffers are taken, and by which of the two protocols. The kernel would refuse a second opening too, but only
 * after the first one's hardware has been touched.
 */
export class BufferClaims {
  readonly #claims = new Map<string, BufferClaim>();
  readonly #waiting = new Set<() => void>();

  /**
   * @param deviceId such as `iio:device0`: positions change when devices come and go
   * @throws {IioError} `EBUSY` if it is taken
   */
  claim(deviceId: string, buffer: number, holder: ClaimHolder): BufferClaim {
    const key = keyOf(deviceId, buffer);
    const taken = this.#claims.get(key);
    if (taken !== undefined) {
      throw new IioError(
        'EBUSY',
        `buffer ${buffer} of ${deviceId} is in use by a client of the ${taken.holder} protocol`,
      );
    }
    const release = (): void => {
      if (this.#claims.get(key) === claim) {
        this.#claims.delete(key);
        for (const wake of [...this.#waiting]) {
          wake();
        }
      }
    };
    const claim: BufferClaim = { holder, release, [Symbol.dispose]: release };
    this.#claims.set(key, claim);
    return claim;
  }

  /** Whose the buffer is; undefined if it is free. */
  holder(deviceId: string, buffer: number): ClaimHolder | undefined {
    return this.#claims.get(keyOf(deviceId, buffer))?.holder;
  }

  /** Settles when some claim is released, or after `ms` milliseconds. */
  changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waiting.add(wake);
    });
  }
}

function keyOf(deviceId: string, buffer: number): string {
  return `${deviceId}:${buffer}`;
}
