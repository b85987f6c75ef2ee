import { writeSync } from 'node:fs';
import {
  ChannelMask,
  type ContextDescription,
  type DeviceDescription,
  IioError,
  parseScanFormat,
} from '@iio-bridge/protocol';
import { BlockMemory } from '../../../src/bridge/block-memory.js';
import { BufferClaims } from '../../../src/bridge/buffer-claims.js';
import { BufferStatistics } from '../../../src/bridge/buffer-statistics.js';
import { configSchema } from '../../../src/bridge/config.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { LossCounters } from '../../../src/bridge/loss-counters.js';
import { ServedContext } from '../../../src/bridge/served-context.js';
import { ClientTimeouts } from '../../../src/bridge/text/client-timeouts.js';
import type { BlockIo } from '../../../src/bridge/text/shared-buffer.js';
import { SharedBuffers } from '../../../src/bridge/text/shared-buffers.js';
import { type TextLink, TextSession } from '../../../src/bridge/text/text-session.js';
import type { Backend, BackendBuffer } from '../../../src/iio/backend.js';
import type { BufferLengths } from '../../../src/iio/buffer.js';
import type { AttributeRef } from '../../../src/iio/context.js';
import type { FileDescriptor } from '../../../src/sys/file-descriptor.js';
import { pipe, startPlane } from '../dataplane/sockets.js';

const encoder = new TextEncoder();

function named(...names: string[]) {
  return names.map((name) => ({ name }));
}

function scanChannel(id: string, direction: 'in' | 'out', index: number, format: string, name?: string) {
  return {
    id,
    direction,
    ...(name === undefined ? {} : { name }),
    scanElement: { index, format: parseScanFormat(format) },
    attributes: named('raw', 'scale'),
    eventAttributes: [],
  };
}

const NO_ATTRIBUTES = { attributes: [], debugAttributes: [], eventAttributes: [] };

const DEVICES: readonly DeviceDescription[] = [
  {
    id: 'iio:device0',
    name: 'adc',
    label: 'rx-adc',
    channels: [
      scanChannel('voltage0', 'in', 0, 'le:s12/16>>0', 'i'),
      scanChannel('voltage1', 'in', 1, 'le:s12/16>>0'),
      scanChannel('timestamp', 'in', 2, 'le:s64/64>>0'),
    ],
    buffers: [{ index: 0, direction: 'in', attributes: named('data_available', 'watermark'), channels: [0, 1, 2] }],
    attributes: named('sampling_frequency', 'waiting&debug'),
    debugAttributes: named('direct_reg_access'),
    eventAttributes: [],
  },
  {
    id: 'iio:device1',
    name: 'dac',
    channels: [scanChannel('voltage0', 'out', 0, 'le:s16/16>>0'), scanChannel('voltage1', 'out', 1, 'le:s16/16>>0')],
    buffers: [{ index: 0, direction: 'out', attributes: [], channels: [0, 1] }],
    ...NO_ATTRIBUTES,
  },
  { id: 'iio:device2', name: 'clock', channels: [], buffers: [], ...NO_ATTRIBUTES, attributes: named('rate') },
  { id: 'trigger0', name: 'sysfstrig1', channels: [], buffers: [], ...NO_ATTRIBUTES },
];

export const DESCRIPTION: ContextDescription = {
  name: 'local',
  description: 'a context for tests',
  version: { major: 1, minor: 0, git: 'v1.0' },
  attributes: new Map(),
  devices: DEVICES,
};

export const ADC = 'iio:device0';
export const DAC = 'iio:device1';

/** A buffer of the fake backend, open: what was asked of it, and what a device would do with it. */
export class FakeBuffer implements BackendBuffer {
  readonly fd: number;
  readonly mask: ChannelMask;
  lengths: BufferLengths | undefined;
  closed = false;
  readonly written: Uint8Array[] = [];
  /** Set to make writes wait, as for a full FIFO. */
  full = false;
  readonly #onClose: () => void;
  /** What the data plane reads from, of an input, and its other end. */
  readonly #pipe: readonly [FileDescriptor, FileDescriptor];
  #stuck: ((error: Error) => void)[] = [];

  constructor(mask: ChannelMask, onClose: () => void) {
    this.#pipe = pipe();
    this.fd = this.#pipe[0].fd;
    this.mask = mask;
    this.#onClose = onClose;
  }

  /** The device has sampled; at most as much at once as a pipe holds. */
  produce(bytes: Uint8Array): void {
    writeSync(this.#pipe[1].fd, bytes);
  }

  /** The device breaks. */
  fail(): void {
    this.#pipe[1].close();
  }

  get writtenBytes(): Uint8Array {
    return Buffer.concat(this.written);
  }

  async enable(lengths: BufferLengths): Promise<void> {
    this.lengths = lengths;
  }

  async disable(): Promise<void> {}

  async close(): Promise<void> {
    this.closed = true;
    this.#onClose();
    for (const end of this.#pipe) {
      end.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Stands in for the data plane's; the members that text sessions use. */
  sampleIo(): BlockIo {
    let closed = false;
    return {
      write: async (bytes, timeoutMs) => {
        if (this.full) {
          await new Promise<void>((_resolve, reject) => {
            this.#stuck.push(reject);
            if (timeoutMs > 0) {
              setTimeout(() => reject(new IioError('ETIMEDOUT', 'the fake FIFO is full')), timeoutMs);
            }
          });
        }
        // A cycle is written for ever: leave the event loop a turn.
        await new Promise((resolve) => setImmediate(resolve));
        if (closed) {
          throw new IioError('EBADF', 'closed');
        }
        this.written.push(bytes.slice());
      },
      close: () => {
        closed = true;
        for (const reject of this.#stuck.splice(0)) {
          reject(new IioError('EBADF', 'closed'));
        }
      },
    };
  }
}

/** Attribute values by `kind device sub attribute`, and buffers that tests play the device of. */
export class FakeBackend implements Backend {
  readonly description = DESCRIPTION;
  readonly values = new Map<string, string>([
    ['device 0 - 0', '961538\0'],
    ['device 0 - 1', 'odd\0'],
    ['debug 0 - 0', '0x1234\0'],
    ['buffer 0 0 0', '7\0'],
    ['buffer 0 0 1', '128\0'],
    ['channel 0 0 0', '-17\0'],
    ['channel 0 0 1', '0.5\0'],
    ['channel 0 1 0', '5\0'],
    ['device 2 - 0', '961538\0'],
  ]);
  readonly written: [ref: string, value: string][] = [];
  /** Every buffer that was ever opened, by opening. */
  readonly buffers: FakeBuffer[] = [];
  /** By device: the trigger's position; null for none. */
  readonly triggers = new Map<number, number | null>([[0, null]]);
  openFailure: string | undefined;
  /** Channels that the device switches on together with others. */
  coupled: readonly number[] = [];

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    const value = this.values.get(keyOf(ref));
    if (value === undefined) {
      throw new IioError('EACCES', 'this attribute cannot be read');
    }
    return encoder.encode(value);
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    this.written.push([keyOf(ref), new TextDecoder().decode(value)]);
    return value.byteLength;
  }

  async trigger(device: number): Promise<number> {
    const trigger = this.triggers.get(device);
    if (trigger === undefined || trigger === null) {
      throw new IioError(trigger === null ? 'ENODEV' : 'ENOENT', 'no trigger');
    }
    return trigger;
  }

  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    if (!this.triggers.has(device)) {
      throw new IioError('ENOENT', 'takes no trigger');
    }
    if (trigger !== undefined && !DEVICES[trigger]?.id.startsWith('trigger')) {
      throw new IioError('EINVAL', 'not a trigger');
    }
    this.triggers.set(device, trigger ?? null);
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    if (this.openFailure !== undefined) {
      throw new IioError(this.openFailure, 'the fake backend refuses');
    }
    const description = DEVICES[device];
    const buffer = description?.buffers.find(({ index }) => index === bufferIndex);
    if (description === undefined || buffer === undefined) {
      throw new IioError('ENODEV', 'no such buffer');
    }
    if (this.#running.has(device)) {
      throw new IioError('EBUSY', 'the kernel grants one user at a time');
    }
    if (mask.isEmpty) {
      throw new IioError('EINVAL', 'no channel');
    }
    const positions = new Set([...mask.positions(), ...this.coupled]);
    const opened = new FakeBuffer(ChannelMask.of(mask.channelCount, positions), () => this.#running.delete(device));
    this.#running.add(device);
    this.buffers.push(opened);
    return opened;
  }

  readonly #running = new Set<number>();

  async openEvents(): Promise<never> {
    throw new IioError('ENODEV', 'no events');
  }

  async readRegister(): Promise<never> {
    throw new IioError('ENOENT', 'no registers');
  }

  async writeRegister(): Promise<never> {
    throw new IioError('ENOENT', 'no registers');
  }

  /** The buffer that was opened last. */
  get buffer(): FakeBuffer {
    const last = this.buffers.at(-1);
    if (last === undefined) {
      throw new Error('no buffer has been opened');
    }
    return last;
  }
}

function keyOf(ref: AttributeRef): string {
  return `${ref.kind} ${ref.device} ${'sub' in ref ? ref.sub : '-'} ${ref.attribute}`;
}

/** A client and the link to it, without anything in between. */
export class FakeLink implements TextLink {
  readonly transfers: Uint8Array[] = [];
  readonly whenEnded: Promise<unknown>;
  /** A client that does not read: what is sent is not drained. */
  stalled = false;
  #incoming: Uint8Array = new Uint8Array(0);
  #ended = false;
  #settleEnd: (end: unknown) => void = () => undefined;
  readonly #changes = new Set<() => void>();

  constructor() {
    this.whenEnded = new Promise((resolve) => {
      this.#settleEnd = resolve;
    });
  }

  async readLine(limit: number): Promise<Uint8Array> {
    for (;;) {
      const newline = this.#incoming.subarray(0, limit).indexOf(0x0a);
      if (newline >= 0) {
        return this.#take(newline + 1);
      }
      if (this.#incoming.byteLength >= limit) {
        this.#take(limit);
        throw new IioError('E2BIG', 'no newline');
      }
      await this.#moreOrEnd();
    }
  }

  async read(bytes: number): Promise<Uint8Array> {
    while (this.#incoming.byteLength < bytes) {
      await this.#moreOrEnd();
    }
    return this.#take(bytes);
  }

  send(...transfers: readonly Uint8Array[]): void {
    this.transfers.push(...transfers.map((transfer) => transfer.slice()));
    this.#changed();
  }

  async drained(): Promise<void> {
    while (this.stalled && !this.#ended) {
      await this.#change();
    }
    if (this.#ended) {
      throw new IioError('ESHUTDOWN', 'the link is down');
    }
  }

  /** The client sends. */
  type(...pieces: (string | Uint8Array)[]): void {
    this.#incoming = Buffer.concat([
      this.#incoming,
      ...pieces.map((piece) => (typeof piece === 'string' ? encoder.encode(piece) : piece)),
    ]);
    this.#changed();
  }

  /** The client is gone. */
  end(): void {
    this.#ended = true;
    this.#settleEnd('closed');
    this.#changed();
  }

  readOn(): void {
    this.stalled = false;
    this.#changed();
  }

  /** What the client has received and not looked at yet, once it is `count` transfers. */
  async receive(count: number): Promise<Uint8Array[]> {
    while (this.transfers.length < count) {
      await this.#change();
    }
    return this.transfers.splice(0, count);
  }

  /** As {@link receive}, as text. */
  async receiveText(count: number): Promise<string[]> {
    return (await this.receive(count)).map((transfer) => new TextDecoder('latin1').decode(transfer));
  }

  #take(bytes: number): Uint8Array {
    const taken = this.#incoming.slice(0, bytes);
    this.#incoming = this.#incoming.slice(bytes);
    return taken;
  }

  async #moreOrEnd(): Promise<void> {
    if (this.#ended) {
      throw new IioError('ESHUTDOWN', 'the link is down');
    }
    await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const once = (): void => {
        this.#changes.delete(once);
        resolve();
      };
      this.#changes.add(once);
    });
  }

  #changed(): void {
    for (const change of [...this.#changes]) {
      change();
    }
  }
}

/** Everything that is logged as a warning or worse, for tests that expect it. */
export class FakeLog implements Logger {
  readonly warnings: string[] = [];
  readonly errors: unknown[] = [];
  debug(): void {}
  info(): void {}
  warn(_fields: object, message: string): void {
    this.warnings.push(message);
  }
  error(fields: object, message: string): void {
    this.errors.push([fields, message]);
  }
  child(): Logger {
    return this;
  }
}

/** A bridge with nothing but text clients. */
export class TextBench {
  readonly backend = new FakeBackend();
  readonly claims = new BufferClaims();
  readonly log = new FakeLog();
  readonly context = new ServedContext(this.backend);
  readonly timeouts = new ClientTimeouts();
  readonly plane = startPlane();
  readonly memory: BlockMemory;
  readonly shared: SharedBuffers;

  constructor(options: { readonly demux?: boolean } = {}) {
    const config = configSchema.parse({ stream: { mode: 'copy' }, limits: { blockBytes: 1024 * 1024 } });
    this.memory = new BlockMemory(config, undefined);
    this.shared = new SharedBuffers({
      claims: this.claims,
      openSampleIo: (fd) => {
        const buffer = this.backend.buffers.find((candidate) => !candidate.closed && candidate.fd === fd);
        if (buffer === undefined) {
          throw new Error(`no buffer has descriptor ${fd}`);
        }
        return buffer.sampleIo();
      },
      inputs: {
        dataPlane: this.plane,
        memory: this.memory,
        statistics: new BufferStatistics(),
        lossCounters: new LossCounters([]),
      },
      demux: options.demux ?? false,
    });
  }

  /** A session, as if a client had connected; `client` tells one host from another. */
  connect(client: object = {}): { link: FakeLink; ended: Promise<string> } {
    const link = new FakeLink();
    const session = new TextSession(link, {
      sharedBuffers: this.shared,
      timeout: this.timeouts.forLinkOf(client),
      maxValueBytes: 64 * 1024,
      context: () => this.context,
      freshContext: () => this.context,
      log: this.log,
    });
    const ended = session
      .run()
      .catch((error: unknown) => (error instanceof IioError ? error.code : String(error)))
      .finally(() => session.close());
    return { link, ended };
  }
}
