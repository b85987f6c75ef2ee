import { IioError } from '@iio-bridge/protocol';
import { EXIT } from './exit-codes.js';

/** Ends the work in progress on the first SIGINT or SIGTERM; a second one kills. */
export class Interruption {
  readonly #controller = new AbortController();
  exitCode: number | undefined;

  constructor() {
    process.once('SIGINT', () => this.end(EXIT.interrupted));
    process.once('SIGTERM', () => this.end(EXIT.terminated));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What a signal does, for those who ask in another way. */
  end(exitCode: number): void {
    this.exitCode = exitCode;
    this.#controller.abort(new IioError('EINTR', 'interrupted'));
  }
}
