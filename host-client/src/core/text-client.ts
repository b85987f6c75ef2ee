import { IioError } from '@iio-bridge/protocol';
import { withDeadline } from './deadline.js';
import type { Link } from './link.js';
import type { Logger } from './logger.js';
import { TextReader } from './text-reader.js';

const encoder = new TextEncoder();
/** How long a block under way may take before the link is just closed. Milliseconds. */
const TEARDOWN_BUDGET_MS = 700;
/** What servers take in one line. Bytes. */
const MAX_COMMAND_BYTES = 1024;

export interface TextOptions {
  readonly logger: Logger;
  /** Milliseconds to wait for an answer; `Infinity` waits for ever. The server is told half of it. */
  readonly timeoutMs: number;
}

/**
 * The text protocol on one link. Owns the link: `close()`, or a failure, ends both. Answers have no mark of the request that
 * they belong to; so after a time-out, or an answer that makes no sense, the link is closed and not used again.
 */
export class TextClient {
  readonly reader: TextReader;
  readonly #link: Link;
  readonly #options: TextOptions;
  #queue: Promise<unknown> = Promise.resolve();
  #failure: IioError | undefined;
  readonly #onFailure: ((error: IioError) => void)[] = [];

  private constructor(link: Link, options: TextOptions) {
    this.#link = link;
    this.#options = options;
    this.reader = new TextReader(link);
  }

  /** Tells the server the time-out; servers that know none are forgiven. Closes the link if that fails. */
  static async start(link: Link, options: TextOptions): Promise<TextClient> {
    const client = new TextClient(link, options);
    const { timeoutMs } = options;
    const told = timeoutMs === Number.POSITIVE_INFINITY ? 0 : Math.max(1, Math.floor(timeoutMs / 2));
    try {
      await client.status(`TIMEOUT ${told}`, 'set the time-out');
    } catch (error) {
      if (!(error instanceof IioError && error.code === 'EINVAL')) {
        await client.close();
        throw error;
      }
    }
    return client;
  }

  get name(): string {
    return this.#link.name;
  }

  get logger(): Logger {
    return this.#options.logger;
  }

  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** Set once the link is of no use any more. */
  get failure(): IioError | undefined {
    return this.#failure;
  }

  whenFailed(callback: (error: IioError) => void): void {
    if (this.#failure === undefined) {
      this.#onFailure.push(callback);
    } else {
      callback(this.#failure);
    }
  }

  /** Sends a command that is answered with a number. @throws IioError with the server's errno where that is negative */
  status(command: string, what: string, payload?: Uint8Array): Promise<number> {
    return this.exchange(command, what, payload, async () => this.#checked(await this.reader.readInteger(), what));
  }

  /** Sends a command that is answered with bytes, at most `limit`. @throws IioError with the server's errno */
  blob(command: string, what: string, limit: number): Promise<Uint8Array> {
    return this.exchange(command, what, undefined, async () => {
      const length = this.#checked(await this.reader.readInteger(), what);
      if (length > limit) {
        throw new IioError('EPROTO', `${this.name}: ${length} bytes announced in answer to '${what}'`);
      }
      const memory = new Uint8Array(this.reader.capacityFor(length));
      await this.reader.readInto(memory, length);
      return memory.subarray(0, length);
    });
  }

  /**
   * A command and what `receive` makes of its answer; one at a time. An error of `receive` that is not the server's errno
   * ends the link, because nobody knows how much of the answer is still to come.
   */
  async exchange<T>(
    command: string,
    what: string,
    payload: Uint8Array | undefined,
    receive: () => Promise<T>,
    timeoutMs: number = this.#options.timeoutMs,
  ): Promise<T> {
    const turn = this.#queue.then(async () => {
      this.requireAlive(what);
      const answer = receive();
      try {
        await withDeadline(Promise.all([answer, this.send(command, payload)]), { timeoutMs, what }, () => {
          return new IioError('ETIMEDOUT', `${what}: the server did not answer in ${timeoutMs} ms`);
        });
        return await answer;
      } catch (error) {
        if (!(error instanceof RefusedError)) {
          this.fail(asIioError(error, this.name));
        }
        throw error instanceof IioError && !(error instanceof RefusedError)
          ? new IioError(error.code, error.message.startsWith(what) ? error.message : `${what}: ${error.message}`, {
              cause: error,
            })
          : error;
      }
    });
    this.#queue = turn.catch(() => {});
    return await turn;
  }

  /** Writes a command line, and its payload as a transfer of its own. */
  async send(command: string, payload?: Uint8Array): Promise<void> {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that they do not occur is the point
    if (/[\u0000-\u001f\u007f]/.test(command)) {
      throw new RefusedError('EINVAL', `${JSON.stringify(command)} cannot be said in the text protocol`);
    }
    let line = encoder.encode(`${command}\r\n`);
    if (line.length % this.#link.packetSize === 0 && this.#link.packetSize > 1) {
      // Without a short packet the server would go on waiting.
      line = encoder.encode(`${command} \r\n`);
    }
    if (line.length > MAX_COMMAND_BYTES) {
      throw new RefusedError('EINVAL', `'${command.slice(0, 40)}...' is too long for the text protocol`);
    }
    await this.#link.write(line, ...(payload === undefined ? [] : [payload]));
  }

  write(payload: Uint8Array): Promise<void> {
    return this.#link.write(payload);
  }

  /** @throws IioError why the link failed */
  requireAlive(what: string): void {
    if (this.#failure !== undefined) {
      throw new IioError(this.#failure.code, `${what}: ${this.#failure.message}`, { cause: this.#failure });
    }
  }

  /** Ends the link: what would come over it belongs to nobody. */
  fail(error: IioError): void {
    if (this.#failure !== undefined) {
      return;
    }
    this.#failure = error;
    this.#link.close().catch((closing: unknown) => this.logger.warn(() => `${this.name}: ${String(closing)}`));
    for (const callback of this.#onFailure.splice(0)) {
      callback(error);
    }
  }

  /**
   * Closes a device's buffer, and the link. Waits for the block under way, because old servers do not survive a client that
   * goes in the middle of one. Never rejects; takes at most about a second.
   */
  async closeBuffer(device: string, what: string, underWay: Promise<void> | undefined): Promise<void> {
    const limits = { timeoutMs: TEARDOWN_BUDGET_MS, what: `close ${what}` };
    try {
      await withDeadline(underWay ?? Promise.resolve(), limits);
      if (this.#failure === undefined) {
        const receive = () => this.reader.readInteger();
        await this.exchange(`CLOSE ${device}`, limits.what, undefined, receive, limits.timeoutMs);
      }
    } catch (error) {
      this.logger.debug(() => String(error));
    }
    await this.close();
  }

  async close(): Promise<void> {
    this.#failure ??= new IioError('ECANCELED', `${this.name}: closed`);
    await this.#link.close();
  }

  #checked(code: number, what: string): number {
    if (code < 0) {
      const { code: name, message } = IioError.fromErrno(code, what);
      throw new RefusedError(name, message);
    }
    return code;
  }
}

/** The server's errno, or a command that was never sent: the link is in step. */
export class RefusedError extends IioError {}

function asIioError(error: unknown, where: string): IioError {
  return error instanceof IioError ? error : new IioError('EIO', `${where}: ${String(error)}`, { cause: error });
}
