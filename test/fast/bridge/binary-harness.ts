import { Socket } from 'node:net';
import {
  ChannelMask,
  type ContextDescription,
  type DeviceDescription,
  decodeFrameHeader,
  encodeFrameHeader,
  encodeU64,
  type FrameHeader,
  type Generation,
  IioError,
  type Operation,
  opcodeOf,
  packCode,
  parseScanFormat,
} from '@iio-bridge/protocol';
import { expect, onTestFinished } from 'vitest';
import { BlockMemory } from '../../../src/bridge/block-memory.js';
import type { BridgeState } from '../../../src/bridge/bridge-state.js';
import { BufferClaims } from '../../../src/bridge/buffer-claims.js';
import { BufferStatistics } from '../../../src/bridge/buffer-statistics.js';
import { Buffers } from '../../../src/bridge/buffers.js';
import { Clients } from '../../../src/bridge/client.js';
import { configSchema } from '../../../src/bridge/config.js';
import { ContextServer, type ContextSource } from '../../../src/bridge/context-server.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { LossCounters } from '../../../src/bridge/loss-counters.js';
import { Session } from '../../../src/bridge/session.js';
import { ClientTimeouts } from '../../../src/bridge/text/client-timeouts.js';
import { SharedBuffers } from '../../../src/bridge/text/shared-buffers.js';
import type { SampleIo } from '../../../src/dataplane/sample-io.js';
import type { Backend, BackendBuffer } from '../../../src/iio/backend.js';
import type { BufferLengths } from '../../../src/iio/buffer.js';
import type { AttributeRef } from '../../../src/iio/context.js';
import type { FileDescriptor } from '../../../src/sys/file-descriptor.js';
import { pipe, socketpair, startPlane } from '../dataplane/sockets.js';

export const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT,
};

const SAMPLE = { index: 0, format: parseScanFormat('le:s16/16>>0') };

function streaming(id: string, name: string, direction: 'in' | 'out'): DeviceDescription {
  const channel = (index: number) => ({
    id: `voltage${index}`,
    direction,
    scanElement: { ...SAMPLE, index },
    attributes: [{ name: 'raw' }, { name: 'scale' }],
    eventAttributes: [],
  });
  return {
    id,
    name,
    channels: [channel(0), channel(1)],
    buffers: [{ index: 0, direction, attributes: [{ name: 'data_available' }], channels: [0, 1] }],
    attributes: [{ name: 'sampling_frequency' }, { name: 'zero' }],
    debugAttributes: [{ name: 'direct_reg_access' }],
    eventAttributes: [],
  };
}

/** In the order of the document: a converter for each direction, one with events only, and a trigger. */
export const ADC = 0;
export const DAC = 1;
export const MONITOR = 2;
export const TRIGGER = 3;
/** Bytes of a sample set of the converters, with both channels on. */
export const SAMPLE_BYTES = 4;

export const DESCRIPTION: ContextDescription = {
  name: 'local',
  description: 'a test',
  version: { major: 1, minor: 0, git: 'v1.0' },
  attributes: new Map(),
  devices: [
    streaming('iio:device0', 'adc', 'in'),
    streaming('iio:device1', 'dac', 'out'),
    {
      id: 'iio:device2',
      name: 'monitor',
      channels: [
        {
          id: 'temp0',
          direction: 'in',
          attributes: [{ name: 'raw' }],
          eventAttributes: [{ name: 'thresh_rising_en' }],
        },
      ],
      buffers: [],
      attributes: [],
      debugAttributes: [],
      eventAttributes: [{ name: 'period' }],
    },
    {
      id: 'trigger0',
      name: 'clock',
      channels: [],
      buffers: [],
      attributes: [],
      debugAttributes: [],
      eventAttributes: [],
    },
  ],
};

/** The hardware behind a buffer: what it plays can be read here, what it captures is written here. */
export interface FakeConverter {
  readonly lengths: readonly BufferLengths[];
  readonly enabled: boolean;
  readonly closed: boolean;
  /** The descriptor's other end is closed: reads and writes fail. */
  unplug(): void;
  /** Writes samples to capture. */
  capture(bytes: Uint8Array): Promise<void>;
  /** Reads played samples. */
  played(bytes: number): Promise<Uint8Array>;
  /** Reads what there is of them. */
  playedSome(): Promise<Uint8Array>;
}

/** Attributes that take what is written to them, buffers and events that are pipes. */
export class FakeBackend implements Backend {
  readonly description: ContextDescription;
  readonly values = new Map<string, Uint8Array>();
  readonly converters: FakeConverter[] = [];
  readonly registers = new Map<string, number>();
  readonly eventEnds: FileDescriptor[] = [];
  currentTrigger: number | undefined;
  readonly #openIo: (fd: number) => SampleIo;
  readonly #busy = new Set<string>();

  constructor(openIo: (fd: number) => SampleIo, description = DESCRIPTION) {
    this.#openIo = openIo;
    this.description = description;
  }

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    return this.values.get(this.#key(ref)) ?? new TextEncoder().encode(`${this.#key(ref)}\0`);
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    const key = this.#key(ref);
    if (value.byteLength === 0) {
      throw new IioError('EIO', 'an empty value');
    }
    this.values.set(key, value);
    return value.byteLength;
  }

  async trigger(device: number): Promise<number> {
    this.#device(device);
    if (this.currentTrigger === undefined) {
      throw new IioError('ENODEV', 'no trigger');
    }
    return this.currentTrigger;
  }

  async setTrigger(_device: number, trigger: number | undefined): Promise<void> {
    if (trigger !== undefined && trigger !== TRIGGER) {
      throw new IioError('EINVAL', 'no trigger');
    }
    this.currentTrigger = trigger;
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    const description = this.#device(device);
    const buffer = description.buffers.find(({ index }) => index === bufferIndex);
    if (buffer === undefined) {
      throw new IioError('ENODEV', 'no such buffer');
    }
    if (mask.isEmpty) {
      throw new IioError('EINVAL', 'no channel');
    }
    if (this.#busy.has(description.id)) {
      throw new IioError('EBUSY', 'the buffer is open');
    }
    this.#busy.add(description.id);
    const [reading, writing] = pipe();
    const [ours, far] = buffer.direction === 'in' ? [reading, writing] : [writing, reading];
    const io = this.#openIo(far.fd);
    const state = { enabled: false, closed: false, lengths: [] as BufferLengths[] };
    this.converters.push({
      get enabled() {
        return state.enabled;
      },
      get closed() {
        return state.closed;
      },
      lengths: state.lengths,
      capture: (bytes) => io.write(bytes, 5000),
      played: (bytes) => io.read(bytes, 5000),
      playedSome: () => io.readSome(64 * 1024, 5000),
      unplug: () => {
        io.close();
        far.close();
      },
    });
    const close = async (): Promise<void> => {
      state.enabled = false;
      state.closed = true;
      this.#busy.delete(description.id);
      ours.close();
    };
    return {
      fd: ours.fd,
      mask: ChannelMask.of(description.channels.length, [0, 1]),
      enable: async (lengths) => {
        state.lengths.push(lengths);
        state.enabled = true;
      },
      disable: async () => {
        state.enabled = false;
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  }

  async openEvents(device: number): Promise<FileDescriptor> {
    if (device !== MONITOR) {
      throw new IioError('ENODEV', 'no events');
    }
    const [reading, writing] = pipe();
    this.eventEnds.push(writing);
    return reading;
  }

  async readRegister(device: number, address: number): Promise<number> {
    this.#assertRegisters(device);
    return this.registers.get(`${device}:${address}`) ?? 0;
  }

  async writeRegister(device: number, address: number, value: number): Promise<void> {
    this.#assertRegisters(device);
    this.registers.set(`${device}:${address}`, value);
  }

  #assertRegisters(device: number): void {
    if (this.#device(device).debugAttributes.length === 0) {
      throw new IioError('ENOENT', 'no registers');
    }
  }

  #device(index: number): DeviceDescription {
    const device = this.description.devices[index];
    if (device === undefined) {
      throw new IioError('ENODEV', `there is no device ${index}`);
    }
    return device;
  }

  #key(ref: AttributeRef): string {
    const device = this.description.devices[ref.device];
    const lists = {
      device: device?.attributes,
      debug: device?.debugAttributes,
      event: device?.eventAttributes,
      channel: 'sub' in ref ? device?.channels[ref.sub]?.attributes : undefined,
      'channel-event': 'sub' in ref ? device?.channels[ref.sub]?.eventAttributes : undefined,
      buffer: 'sub' in ref ? device?.buffers[ref.sub]?.attributes : undefined,
    };
    const name = lists[ref.kind]?.[ref.attribute]?.name;
    if (name === undefined) {
      throw new IioError('EINVAL', 'no such attribute');
    }
    return `${ref.kind} ${'sub' in ref ? `${ref.sub} ` : ''}${name}`;
  }
}

export interface BridgeOptions {
  readonly generation?: Generation | 'auto';
  readonly source?: (backend: FakeBackend) => ContextSource;
  readonly limits?: Partial<BridgeState['limits']>;
}

/** A bridge over the real data plane, whose links are socket pairs. */
export class TestBridge {
  readonly plane = startPlane();
  readonly backend = new FakeBackend((fd) => this.plane.openSampleIo(fd));
  readonly claims = new BufferClaims();
  readonly state: BridgeState;

  constructor(options: BridgeOptions = {}) {
    const config = configSchema.parse({
      protocol: { generation: options.generation ?? 'G' },
      stream: { mode: 'copy' },
      limits: options.limits ?? {},
    });
    const contexts =
      options.source === undefined
        ? ContextServer.fixed(this.backend, SILENT)
        : new ContextServer(options.source(this.backend), SILENT);
    const memory = new BlockMemory(config, undefined);
    const statistics = new BufferStatistics();
    const inputs = {
      dataPlane: this.plane,
      memory,
      statistics,
      lossCounters: new LossCounters(config.loss.counters),
    };
    this.state = {
      contexts,
      clients: new Clients(contexts),
      buffers: new Buffers(this.claims),
      sharedBuffers: new SharedBuffers({
        claims: this.claims,
        inputs,
        openSampleIo: (fd) => this.plane.openSampleIo(fd),
        demux: config.protocol.demux,
      }),
      timeouts: new ClientTimeouts(),
      memory,
      statistics,
      inputs,
      stream: config.stream,
      limits: config.limits,
      permissions: config.permissions.usb,
      protocol: config.protocol,
      dataPlane: this.plane,
    };
  }

  /** A link in text mode. */
  connectText(peer = 'test'): TestLink {
    const [near, far] = socketpair();
    const session = new Session(this.plane.openSocketLink(near), this.state, peer, SILENT);
    return new TestLink(far, session.ended);
  }

  /** A link in binary mode. */
  async connect(peer?: string): Promise<TestLink> {
    const link = this.connectText(peer);
    link.send(new TextEncoder().encode('BINARY\r\n'));
    expect(new TextDecoder().decode(await link.receive(2))).toBe('0\n');
    return link;
  }

  /** The converter of the buffer that was opened last. */
  get converter(): FakeConverter {
    const converter = this.backend.converters.at(-1);
    if (converter === undefined) {
      throw new Error('no buffer has been opened');
    }
    return converter;
  }
}

export interface RequestFields {
  readonly id?: number;
  readonly dev?: number;
  readonly code?: number;
  readonly generation?: Generation;
}

/** The client's end of a link. */
export class TestLink {
  /** Settles when the bridge has given up the link and all that was made on it. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #received: Buffer[] = [];
  #length = 0;
  #wake: () => void = () => undefined;
  #closed = false;

  constructor(descriptor: FileDescriptor, ended: Promise<void>) {
    this.ended = ended;
    this.#socket = new Socket({ fd: descriptor.release(), readable: true, writable: true });
    this.#socket.on('data', (bytes) => {
      this.#received.push(bytes);
      this.#length += bytes.length;
      this.#wake();
    });
    const close = (): void => {
      this.#closed = true;
      this.#wake();
    };
    this.#socket.on('close', close);
    this.#socket.on('error', close);
    this.#socket.on('end', close);
    onTestFinished(() => this.close());
  }

  /** Bytes that have arrived and were not received. */
  get waiting(): number {
    return this.#length;
  }

  send(...pieces: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(pieces));
  }

  request(
    operation: Operation,
    { id = 0, dev = 0, code = 0, generation = 'G' }: RequestFields = {},
    ...rest: Uint8Array[]
  ): void {
    const op = opcodeOf(generation, operation);
    if (op === undefined) {
      throw new Error(`${generation} has no ${operation}`);
    }
    this.sendFrame({ clientId: id, op, dev, code }, ...rest);
  }

  sendFrame(header: FrameHeader, ...rest: Uint8Array[]): void {
    this.send(encodeFrameHeader(header), ...rest);
  }

  /** Sends a request and returns its response's header. */
  async ask(operation: Operation, fields: RequestFields = {}, ...rest: Uint8Array[]): Promise<FrameHeader> {
    this.request(operation, fields, ...rest);
    return await this.response();
  }

  async response(): Promise<FrameHeader> {
    return decodeFrameHeader(await this.receive(8));
  }

  async receive(bytes: number, ms = 5000): Promise<Buffer> {
    const deadline = Date.now() + ms;
    while (this.#length < bytes) {
      if (this.#closed) {
        throw new Error(`the link ended with ${this.#length} of ${bytes} bytes`);
      }
      const left = deadline - Date.now();
      if (left <= 0) {
        throw new Error(`${this.#length} of ${bytes} bytes arrived in ${ms} ms`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const all = Buffer.concat(this.#received);
    this.#received.splice(0, this.#received.length, all.subarray(bytes));
    this.#length -= bytes;
    return all.subarray(0, bytes);
  }

  /** Resolves when the bridge has closed the link. */
  async end(ms = 5000): Promise<void> {
    const deadline = Date.now() + ms;
    while (!this.#closed) {
      const left = deadline - Date.now();
      if (left <= 0) {
        throw new Error('the link is still there');
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /**
   * Shows that nothing but what was received so far has been sent: the answer to a NOP comes next. Everything before it
   * has been served.
   */
  async expectQuiet(): Promise<void> {
    const answer = await this.ask('NOP');
    expect(answer).toEqual({ clientId: 0, op: 0, dev: 0, code: 0 });
    expect(this.#length).toBe(0);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** OPEN_BUFFER with both channels. */
export async function openBuffer(link: TestLink, dev: number): Promise<void> {
  expect((await link.ask('OPEN_BUFFER', { dev }, Uint8Array.of(3, 0, 0, 0))).code).toBe(4);
  expect([...(await link.receive(4))]).toEqual([3, 0, 0, 0]);
}

export async function createBlock(link: TestLink, dev: number, index: number, bytes: number): Promise<void> {
  const answer = await link.ask('CREATE_BLOCK', { id: index + 1, dev, code: packCode(index, 0) }, encodeU64(bytes));
  expect(answer).toEqual({ clientId: index + 1, op: 0, dev: 0, code: 0 });
}

export function transfer(
  link: TestLink,
  dev: number,
  index: number,
  bytesUsed: number,
  samples: Uint8Array = new Uint8Array(0),
): void {
  link.request('TRANSFER_BLOCK', { id: index + 1, dev, code: packCode(index, 0) }, encodeU64(bytesUsed), samples);
}

/** Counts up from `from`, so that what is lost or doubled shows. */
export function ramp(bytes: number, from = 0): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (from + i) & 0xff);
}
