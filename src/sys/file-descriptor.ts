import { closeSync } from 'node:fs';
import { IioError } from '@iio-bridge/protocol';

/**
 * Owns one open file descriptor: whoever holds this object must close it, or {@link release} it to another owner.
 * Closing twice is harmless; using it afterwards throws `EBADF`.
 */
export class FileDescriptor implements Disposable {
  readonly #object: string;
  #fd: number | undefined;

  /** Takes ownership of `fd`; `object` names the file in messages. */
  constructor(fd: number, object: string) {
    this.#fd = fd;
    this.#object = object;
  }

  /** The number, lent: it must not be closed by the borrower. */
  get fd(): number {
    if (this.#fd === undefined) {
      throw new IioError('EBADF', `${this.#object} is closed already`);
    }
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd === undefined;
  }

  /** Gives the number away: from here on the caller must close it. */
  release(): number {
    const fd = this.fd;
    this.#fd = undefined;
    return fd;
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) {
      closeSync(fd);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
