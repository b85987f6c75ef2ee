import { setImmediate } from 'node:timers/promises';
import { type ChannelMask, IioError, type SampleLayout } from '@iio-bridge/protocol';
import type { BackendBuffer } from '../backend.js';
import type { BufferLengths } from '../buffer.js';
import type { Clock } from './clock.js';
import { type Rate, SampleClock } from './sample-clock.js';
import { SamplePort } from './sample-port.js';
import { CHUNK_BYTES, type SampleSource } from './sample-source.js';

/** What the samples of a buffer come from or go to, from one enable to the next disable. */
export type Flow =
  | {
      readonly direction: 'in';
      readonly source: SampleSource;
      /** Sees every sample set. */
      readonly watch: (bytes: Uint8Array, first: number) => void;
    }
  | {
      readonly direction: 'out';
      /** Takes whole sample sets; may wait. */
      readonly play: (bytes: Uint8Array, signal: AbortSignal) => Promise<void>;
    };

export interface EmulatedBufferOptions {
  readonly name: string;
  readonly direction: 'in' | 'out';
  readonly mask: ChannelMask;
  readonly layout: SampleLayout;
  readonly clock: Clock;
  /** Asked for again and again. */
  readonly rate: () => Rate;
  /** @throws {IioError} why the buffer cannot be enabled. */
  readonly start: (clock: SampleClock, maxSets: number) => Promise<Flow>;
  readonly onLengths: (lengths: BufferLengths) => void;
  readonly onEnabled: (enabled: boolean) => void;
  readonly onClosed: () => void;
}

/** How far the clock may run ahead of a slow reader, if the buffer's length does not say more: seconds. */
const SLACK_SECONDS = 0.25;

interface Run {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

/**
 * A buffer of an emulated device: owns the descriptor and, while enabled, the converter that fills or empties it. Nothing is
 * lost: a converter whose reader is slow stands still.
 */
export class EmulatedBuffer implements BackendBuffer {
  readonly mask: ChannelMask;
  readonly isLossless = true;
  readonly #options: EmulatedBufferOptions;
  readonly #port: SamplePort;
  readonly #maxSets: number;
  #run: Run | undefined;
  #closing: Promise<void> | undefined;
  #failure: unknown;

  constructor(options: EmulatedBufferOptions) {
    this.#options = options;
    this.mask = options.mask;
    this.#port = new SamplePort(options.direction, options.layout.bytes, options.name);
    this.#maxSets = Math.max(1, Math.floor(CHUNK_BYTES / options.layout.bytes));
  }

  get fd(): number {
    return this.#port.fd;
  }

  /** Starts from sample set 0. Does nothing if it is enabled. @throws {IioError} `EIO` after a failure; `EBADF` when closed. */
  async enable(lengths: BufferLengths): Promise<void> {
    const { clock, rate, start, onLengths, onEnabled } = this.#options;
    if (this.#closing !== undefined) {
      throw new IioError('EBADF', `${this.#options.name} is closed`);
    }
    if (this.#failure !== undefined) {
      throw new IioError('EIO', `${this.#options.name} has failed`, { cause: this.#failure });
    }
    if (this.#run !== undefined) {
      return;
    }
    const samples = new SampleClock(clock, rate());
    const flow = await start(samples, this.#maxSets);
    if (this.#closing !== undefined) {
      if (flow.direction === 'in') await flow.source.close();
      throw new IioError('EBADF', `${this.#options.name} was closed meanwhile`);
    }
    onLengths(lengths);
    onEnabled(true);
    const abort = new AbortController();
    const moving =
      flow.direction === 'in'
        ? this.#capture(flow, samples, lengths.length, abort.signal)
        : this.#play(flow, samples, abort.signal);
    this.#run = { abort, done: this.#guard(moving, abort.signal) };
  }

  /** Stops the converter and throws away what has not been read or played. */
  async disable(): Promise<void> {
    const run = this.#run;
    if (run === undefined) {
      return;
    }
    this.#run = undefined;
    run.abort.abort();
    let stopped = false;
    const stopping = run.done.then(() => {
      stopped = true;
    });
    // A write that is under way ends only when the kernel has taken all of it.
    while (!stopped) {
      this.#port.discard();
      await Promise.race([stopping, setImmediate()]);
    }
    this.#port.discard();
    this.#options.onEnabled(false);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.disable();
    } finally {
      await this.#port.close();
      this.#options.onClosed();
    }
  }

  /** A converter that fails must not take the process with it: the other end sees that the stream has ended. */
  async #guard(moving: Promise<void>, signal: AbortSignal): Promise<void> {
    try {
      await moving;
    } catch (error) {
      if (!signal.aborted) {
        this.#failure = error;
        await this.#port.hangUp();
      }
    }
  }

  async #capture(
    { source, watch }: Extract<Flow, { direction: 'in' }>,
    clock: SampleClock,
    length: number,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      while (!signal.aborted) {
        const { hertz, pace } = this.#options.rate();
        clock.setRate({ hertz, pace: source.followsAnother ? 'free' : pace });
        const due = await clock.due(this.#maxSets, signal);
        const bytes = await source.next(due, signal);
        watch(bytes, clock.taken);
        clock.take(bytes.byteLength / this.#options.layout.bytes);
        if (await this.#port.write(bytes)) {
          clock.limitBacklog(Math.max(length, clock.setsIn(SLACK_SECONDS)));
        }
        // Lets others have their turn, also if nothing above had to wait.
        await setImmediate();
      }
    } finally {
      await source.close();
    }
  }

  async #play({ play }: Extract<Flow, { direction: 'out' }>, clock: SampleClock, signal: AbortSignal): Promise<void> {
    const { bytes: setBytes } = this.#options.layout;
    const port = this.#port;
    while (!signal.aborted) {
      if (port.available < setBytes) {
        await port.arrival(setBytes, signal);
        // Without samples the converter pauses.
        clock.limitBacklog(0);
      }
      clock.setRate(this.#options.rate());
      const due = await clock.due(this.#maxSets, signal);
      const sets = Math.min(due, Math.floor(port.available / setBytes));
      clock.take(sets);
      await play(port.consume(sets * setBytes), signal);
      clock.limitBacklog(clock.setsIn(SLACK_SECONDS));
      await setImmediate();
    }
  }
}
