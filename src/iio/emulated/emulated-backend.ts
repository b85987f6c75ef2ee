import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type BufferDescription,
  ChannelMask,
  type ContextDescription,
  contextFromXml,
  type DeviceDescription,
  IioError,
  isTrigger,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import { fromFsError } from '../../sys/errors.js';
import type { FileDescriptor } from '../../sys/file-descriptor.js';
import type { Backend, BackendBuffer } from '../backend.js';
import type { AttributeRef } from '../context.js';
import { AttributeValues } from './attribute-values.js';
import { type Clock, systemClock } from './clock.js';
import { EmulatedBuffer, type Flow } from './emulated-buffer.js';
import { inProtocolOrder, withoutValues } from './emulated-description.js';
import { EventStream } from './event-stream.js';
import { FileSource } from './file-source.js';
import { type ElementSignal, GeneratedSource } from './generated-source.js';
import { Loopback } from './loopback.js';
import type { RegisterFile } from './register-file.js';
import { NOMINAL_HERTZ, type Rate, type SampleClock } from './sample-clock.js';
import type { SampleSource } from './sample-source.js';
import { ThresholdMonitor } from './threshold-monitor.js';
import { counter, counterLanes, sine } from './waveform.js';

/** What an input shows that has neither a sample file nor a wire. */
export type Signal = 'counter' | 'sine';

export interface EmulationOptions {
  /** Default `counter`. */
  readonly signal?: Signal;
  /** Ignore `sampling_frequency`: as fast as the other end. */
  readonly freeRunning?: boolean;
  /** Ids or names of an output and an input device: what buffer 0 of the one plays, buffer 0 of the other captures. */
  readonly loopback?: { readonly from: string; readonly to: string };
  /** Where sample files are; default: beside the document, or nowhere if the document is given as text. */
  readonly sampleDirectory?: string;
  /** Added to, and overriding, those of the document. */
  readonly contextAttributes?: ReadonlyMap<string, string>;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/** Device attribute that chooses the signal, and its values. */
const SIGNAL_ATTRIBUTE = 'test_signal';
const SIGNALS = ['counter', 'sine', 'file', 'loopback'];

const DEFAULT_SINE_HZ = 1000;

/**
 * Stands in for a machine with IIO devices: serves any context document, whose attributes hold the values that it gives
 * them, and converters in software behind its buffers. Owns the event streams; buffers belong to those who open them.
 *
 * A buffer keeps the rate of the device's attribute `sampling_frequency`, or of its channels' (without one, or with
 * `free_running` = 1, as fast as it is read or written). An input has, in this order: the signal that the device's attribute `test_signal` names;
 * the wire of {@link EmulationOptions.loopback}; the sample file `<name>_buf<index>.bin`, over and over;
 * {@link EmulationOptions.signal}.
 */
export class EmulatedBackend implements Backend, AsyncDisposable {
  readonly description: ContextDescription;
  readonly #options: EmulationOptions;
  readonly #clock: Clock;
  readonly #values: AttributeValues;
  readonly #loopback: { readonly from: number; readonly to: number; readonly wire: Loopback } | undefined;
  readonly #triggers = new Map<number, number>();
  /** `device/buffer`. */
  readonly #open = new Set<string>();
  readonly #events = new Map<number, EventStream>();

  private constructor(document: ContextDescription, options: EmulationOptions) {
    const attributes = new Map([...document.attributes, ...(options.contextAttributes ?? [])]);
    const ordered = inProtocolOrder({ ...document, attributes });
    this.description = withoutValues(ordered);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#values = new AttributeValues(ordered.devices, new Map([[SIGNAL_ATTRIBUTE, SIGNALS]]));
    if (options.loopback !== undefined) {
      const from = this.#findDevice(options.loopback.from, 'out');
      const to = this.#findDevice(options.loopback.to, 'in');
      this.#loopback = { from, to, wire: new Loopback() };
    }
  }

  /**
   * `source`: the path of an XML document, or the document itself.
   *
   * @throws {IioError} the errno of reading the file; `BAD_XML`; `EINVAL` if the loopback names no such devices.
   */
  static async open(source: string, options: EmulationOptions = {}): Promise<EmulatedBackend> {
    if (source.trimStart().startsWith('<')) {
      return new EmulatedBackend(contextFromXml(source.trimStart()), options);
    }
    let xml: string;
    try {
      xml = await readFile(source, 'utf8');
    } catch (error) {
      throw fromFsError(error, `read the context of ${source}`);
    }
    return new EmulatedBackend(contextFromXml(xml.trimStart()), { sampleDirectory: dirname(source), ...options });
  }

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    return this.#values.at(ref).read();
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    return this.#values.at(ref).write(value);
  }

  /** A device takes a trigger if it has an input buffer and the document has triggers. */
  async trigger(device: number): Promise<number> {
    this.#requireTriggered(device);
    const trigger = this.#triggers.get(device);
    if (trigger === undefined) {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no trigger`);
    }
    return trigger;
  }

  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    this.#requireTriggered(device);
    if (trigger === undefined) {
      this.#triggers.delete(device);
      return;
    }
    const chosen = this.description.devices[trigger];
    if (chosen === undefined || !isTrigger(chosen)) {
      throw new IioError('EINVAL', `device ${trigger} is not a trigger`);
    }
    this.#triggers.set(device, trigger);
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    const description = this.description.devices[device];
    const buffer = description?.buffers.find(({ index }) => index === bufferIndex);
    if (description === undefined || buffer === undefined) {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no buffer ${bufferIndex}`);
    }
    const wanted = buffer.channels.filter((position) => mask.has(position));
    const enabled = ChannelMask.of(description.channels.length, wanted);
    const layout = sampleLayout(description.channels, enabled);
    if (layout.bytes === 0) {
      throw new IioError('EINVAL', `the mask names no channel of buffer ${bufferIndex} of ${description.id}`);
    }
    const name = `buffer ${bufferIndex} of ${description.id}`;
    const key = `${device}/${bufferIndex}`;
    if (this.#open.has(key)) {
      throw new IioError('EBUSY', `${name} is taken: another client has it open`);
    }
    const value = (attribute: string) => this.#values.bufferValue(device, bufferIndex, attribute);
    const opened = new EmulatedBuffer({
      name,
      direction: buffer.direction,
      mask: enabled,
      layout,
      clock: this.#clock,
      rate: () => this.#rateOf(device, buffer),
      start: (clock, maxSets) => this.#startFlow({ device, description, buffer, layout, clock, maxSets }),
      onLengths: ({ length, watermark }) => {
        setText(value('length'), String(length));
        setText(value('watermark'), String(watermark));
      },
      onEnabled: (isEnabled) => setText(value('enable'), isEnabled ? '1' : '0'),
      onClosed: () => this.#open.delete(key),
    });
    this.#open.add(key);
    return opened;
  }

  /** For one reader at a time, as the kernel has it. */
  async openEvents(device: number): Promise<FileDescriptor> {
    const description = this.description.devices[device];
    const hasEvents =
      description !== undefined &&
      (description.eventAttributes.length > 0 ||
        description.channels.some(({ eventAttributes }) => eventAttributes.length > 0));
    if (!hasEvents) {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no events`);
    }
    const previous = this.#events.get(device);
    if (previous?.isRead === true) {
      throw new IioError('EBUSY', `events of ${description.id} are taken: another client reads them`);
    }
    const { stream, descriptor } = EventStream.open(`events of ${description.id}`);
    this.#events.set(device, stream);
    await previous?.close();
    return descriptor;
  }

  /** Lets an event happen. Nobody may be reading: then it is lost. `timeNs`: ns since 1970, default now. */
  emitEvent(device: number, id: bigint, timeNs: bigint = this.#clock.realtime()): void {
    this.#events.get(device)?.emit(id, timeNs);
  }

  async readRegister(device: number, address: number): Promise<number> {
    return this.#registers(device).get(address);
  }

  async writeRegister(device: number, address: number, value: number): Promise<void> {
    this.#registers(device).set(address, value);
  }

  /** Ends the event streams. Buffers must have been closed. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#events.values(), (stream) => stream.close()));
    this.#events.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #startFlow(request: FlowRequest): Promise<Flow> {
    const { device, buffer, layout, clock, description } = request;
    if (buffer.direction === 'in') {
      const monitor = new ThresholdMonitor(device, layout, this.#values, clock, (id, time) =>
        this.emitEvent(device, id, time),
      );
      const source = await this.#openSource(request);
      return { direction: 'in', source, watch: (bytes, first) => monitor.check(bytes, first) };
    }
    const loopback = this.#loopback;
    if (loopback?.from !== device || buffer.index !== 0) {
      return { direction: 'out', play: async () => {} };
    }
    const numbers = channelNumbers(description, buffer, layout);
    return { direction: 'out', play: (bytes, signal) => loopback.wire.play(bytes, layout, numbers, signal) };
  }

  async #openSource(request: FlowRequest): Promise<SampleSource> {
    const { device, description, buffer, layout, clock, maxSets } = request;
    const chosen = this.#values.deviceValue(device, SIGNAL_ATTRIBUTE)?.text;
    const wire = this.#loopback?.to === device && buffer.index === 0 ? this.#loopback.wire : undefined;
    if (chosen === 'loopback' || (!SIGNALS.includes(chosen ?? '') && wire !== undefined)) {
      if (wire === undefined) {
        throw new IioError('EINVAL', `nothing is looped back to buffer ${buffer.index} of ${description.id}`);
      }
      return wire.connect(layout, channelNumbers(description, buffer, layout));
    }
    const directory = this.#options.sampleDirectory;
    if (directory !== undefined && (chosen === 'file' || !SIGNALS.includes(chosen ?? ''))) {
      const path = samplePath(directory, description, buffer);
      const all = ChannelMask.of(description.channels.length, buffer.channels);
      const file = await FileSource.open(path, sampleLayout(description.channels, all), layout, maxSets);
      if (file !== undefined) {
        return file;
      }
    }
    if (chosen === 'file') {
      throw new IioError('ENOENT', `there is no sample file for buffer ${buffer.index} of ${description.id}`);
    }
    const signal = chosen === 'sine' || chosen === 'counter' ? chosen : (this.#options.signal ?? 'counter');
    const waveform =
      signal === 'sine'
        ? sine(this.#sineHertz(device) / (this.#samplingFrequency(device, buffer) ?? NOMINAL_HERTZ))
        : counter;
    return new GeneratedSource({
      layout,
      signals: elementSignals(description, buffer, layout),
      waveform,
      clock,
      maxSets,
    });
  }

  #rateOf(device: number, buffer: BufferDescription): Rate {
    const isFree = this.#options.freeRunning === true || this.#values.deviceValue(device, 'free_running')?.text === '1';
    return { hertz: this.#samplingFrequency(device, buffer), pace: isFree ? 'free' : 'rate' };
  }

  #samplingFrequency(device: number, buffer: BufferDescription): number | undefined {
    const attribute =
      this.#values.deviceValue(device, 'sampling_frequency') ??
      buffer.channels
        .map((channel) => this.#values.channelValue(device, channel, 'sampling_frequency'))
        .find((value) => value !== undefined);
    const rate = Number(attribute?.text ?? Number.NaN);
    return rate > 0 ? rate : undefined;
  }

  #sineHertz(device: number): number {
    const hertz = Number(this.#values.deviceValue(device, 'sine_frequency')?.text ?? DEFAULT_SINE_HZ);
    return Number.isFinite(hertz) ? hertz : DEFAULT_SINE_HZ;
  }

  #registers(device: number): RegisterFile {
    if (this.description.devices[device] === undefined) {
      throw new IioError('ENODEV', `there is no device ${device}`);
    }
    const registers = this.#values.registers(device);
    if (registers === undefined) {
      throw new IioError('ENOENT', `${this.#nameOf(device)} offers no registers`);
    }
    return registers;
  }

  #requireTriggered(device: number): void {
    const takesOne = this.description.devices[device]?.buffers.some(({ direction }) => direction === 'in') ?? false;
    if (!takesOne || !this.description.devices.some(isTrigger)) {
      throw new IioError('ENOENT', `${this.#nameOf(device)} takes no trigger`);
    }
  }

  #findDevice(idOrName: string, direction: 'in' | 'out'): number {
    const found = this.description.devices.findIndex(
      ({ id, name, buffers }) =>
        (id === idOrName || name === idOrName) &&
        buffers.some((buffer) => buffer.index === 0 && buffer.direction === direction),
    );
    if (found < 0) {
      throw new IioError('EINVAL', `loopback: no device ${idOrName} has an ${direction}put buffer 0`);
    }
    return found;
  }

  #nameOf(device: number): string {
    return this.description.devices[device]?.id ?? `device ${device}`;
  }
}

interface FlowRequest {
  readonly device: number;
  readonly description: DeviceDescription;
  readonly buffer: BufferDescription;
  readonly layout: SampleLayout;
  readonly clock: SampleClock;
  readonly maxSets: number;
}

function setText(attribute: { text: string } | undefined, text: string): void {
  if (attribute !== undefined) {
    attribute.text = text;
  }
}

/** A name from a document must not lead out of the directory. */
function samplePath(directory: string, device: DeviceDescription, buffer: BufferDescription): string {
  return join(directory, `${(device.name ?? device.id).replaceAll(/[/\0]/g, '_')}_buf${buffer.index}.bin`);
}

/** The positions of a buffer's channels without the time stamp, by scan index. */
function valueChannels(device: DeviceDescription, buffer: BufferDescription): number[] {
  return buffer.channels.filter((position) => device.channels[position]?.id !== 'timestamp');
}

/** For each channel of the layout its number among the buffer's; -1 for the time stamp. */
function channelNumbers(device: DeviceDescription, buffer: BufferDescription, layout: SampleLayout): number[] {
  const positions = valueChannels(device, buffer);
  return layout.channels.map(({ position }) => positions.indexOf(position));
}

function elementSignals(device: DeviceDescription, buffer: BufferDescription, layout: SampleLayout): ElementSignal[] {
  const positions = valueChannels(device, buffer);
  const formats = positions.flatMap((position) => device.channels[position]?.scanElement?.format ?? []);
  const lanes = counterLanes(formats);
  return layout.channels.map(({ position }) => {
    const number = positions.indexOf(position);
    const format = formats[number];
    return format === undefined ? 'time-stamp' : { number, format, lane: lanes[number] ?? 0 };
  });
}
