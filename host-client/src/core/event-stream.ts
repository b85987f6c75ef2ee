import { decodeEventId, decodeU64, type EventIdFields, IioError } from '@iio-bridge/protocol';
import { abortError } from './deadline.js';
import type { Channel, Device } from './device.js';
import type { StreamEnvironment } from './rx-stream.js';
import type { EventSource } from './session.js';

export interface EventStreamOptions {
  /** Ends the stream: whoever waits for an event gets `ECANCELED`. */
  readonly signal?: AbortSignal;
}

/** An event of a device: a threshold was crossed, a step was counted... */
export interface IioEvent extends EventIdFields {
  /** As the kernel packs it (IIO_EVENT_CODE). */
  readonly id: bigint;
  /** Of the device's clock, in ns. */
  readonly timestampNs: bigint;
  /** `voltage0`, as the device's channels are named. */
  readonly channelId: string;
  /** `undefined` if the device has none of that id. */
  readonly source: Channel | undefined;
}

/**
 * The events of a device, as they happen. Owns the event stream on the server, of which a device has one at a time. Events are
 * switched on by the device's event attributes. Ends by `close()`, by leaving the loop, by the signal, or by a failure.
 */
export class EventStream implements AsyncIterable<IioEvent>, AsyncDisposable {
  readonly #environment: StreamEnvironment;
  readonly #device: Device;
  readonly #source: EventSource;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => {
    this.close().catch(() => {});
  };
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(
    environment: StreamEnvironment,
    device: Device,
    source: EventSource,
    signal: AbortSignal | undefined,
  ) {
    this.#environment = environment;
    this.#device = device;
    this.#source = source;
    this.#signal = signal;
  }

  /** See {@link Device.openEvents}. */
  static async open(
    environment: StreamEnvironment,
    device: Device,
    { signal }: EventStreamOptions,
  ): Promise<EventStream> {
    if (signal?.aborted === true) {
      throw abortError(`open the events of ${device.id}`, signal);
    }
    const source = await environment.connection.perform((session) => session.openEvents(device));
    const stream = new EventStream(environment, device, source, signal);
    environment.streams.add(stream);
    signal?.addEventListener('abort', stream.#onAbort, { once: true });
    return stream;
  }

  /**
   * The next event; waits without limit. Callers queue.
   * @throws IioError `ECANCELED` (the signal), `DISCONNECTED`, the driver's errno
   */
  next(): Promise<IteratorResult<IioEvent, undefined>> {
    const next = this.#last.then(() => this.#next());
    this.#last = next.catch(() => {});
    return next;
  }

  [Symbol.asyncIterator](): AsyncIterator<IioEvent, undefined> {
    return {
      next: () => this.next(),
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /** Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#tearDown();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #next(): Promise<IteratorResult<IioEvent, undefined>> {
    try {
      if (this.#closing === undefined) {
        return { done: false, value: this.#decode(await this.#source.next()) };
      }
    } catch (error) {
      if (this.#closing === undefined) {
        throw error;
      }
    }
    if (this.#signal?.aborted === true) {
      throw abortError(`events of ${this.#device.id}`, this.#signal);
    }
    return { done: true, value: undefined };
  }

  #decode(record: Uint8Array): IioEvent {
    if (record.length < 16) {
      throw new IioError('EPROTO', `events of ${this.#device.id}: a record of ${record.length} bytes came`);
    }
    const id = decodeU64(record, 0);
    const fields = decodeEventId(id);
    const channelId = channelIdOf(fields);
    const source = this.#device.channels.find((channel) => channel.id === channelId);
    return { id, timestampNs: BigInt.asIntN(64, decodeU64(record, 8)), channelId, source, ...fields };
  }

  async #tearDown(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.#source.close();
    this.#environment.streams.delete(this);
  }
}

function channelIdOf({ channelType, modifier, channel, channel2 }: EventIdFields): string {
  const number = channel < 0 ? '' : String(channel);
  const other = channel2 === undefined ? '' : `-${channelType}${channel2}`;
  return `${channelType}${number}${other}${modifier === undefined ? '' : `_${modifier}`}`;
}
