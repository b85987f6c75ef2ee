import {
  type ChannelDescription,
  ChannelMask,
  type ContextDescription,
  IioError,
  isTrigger,
} from '@iio-bridge/protocol';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { openAttribute, readAttribute, writeAttribute } from './attributes.js';
import type { Backend, BackendBuffer } from './backend.js';
import { type BufferLengths, IioBuffer } from './buffer.js';
import type { AttributeRef, LocalContext } from './context.js';
import { openEventDescriptor } from './events.js';
import { REGISTER_ATTRIBUTE, readRegister, withRegisterFile, writeRegister } from './registers.js';

/** The devices of this machine, through sysfs and their nodes in /dev. Owns nothing. */
export class LocalBackend implements Backend {
  readonly #local: LocalContext;

  constructor(local: LocalContext) {
    this.#local = local;
  }

  get description(): ContextDescription {
    return this.#local.description;
  }

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    const path = this.#path(ref);
    return await this.#apart(ref, path, () => readAttribute(path));
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    const path = this.#path(ref);
    return await this.#apart(ref, path, () => writeAttribute(path, value));
  }

  async openAttribute(ref: AttributeRef): Promise<FileDescriptor> {
    return openAttribute(this.#path(ref));
  }

  async trigger(device: number): Promise<number> {
    const bytes = await readAttribute(this.#triggerPath(device));
    const name = new TextDecoder().decode(bytes.subarray(0, -1));
    if (name === '') {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no trigger`);
    }
    const index = this.description.devices.findIndex((other) => isTrigger(other) && other.name === name);
    if (index < 0) {
      throw new IioError('ENXIO', `trigger ${name} of ${this.#nameOf(device)} is not in the context`);
    }
    return index;
  }

  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    const path = this.#triggerPath(device);
    const chosen = trigger === undefined ? undefined : this.description.devices[trigger];
    if (trigger !== undefined && (chosen === undefined || !isTrigger(chosen))) {
      throw new IioError('EINVAL', `device ${trigger} is not a trigger`);
    }
    await writeAttribute(path, new TextEncoder().encode(`${chosen?.name ?? ''}\0`));
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    const description = this.description.devices[device];
    const positions = description?.buffers.find((buffer) => buffer.index === bufferIndex)?.channels;
    if (description === undefined || positions === undefined) {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no buffer ${bufferIndex}`);
    }
    const channels = channelsAt(description.channels, positions);
    const wanted = channels.filter(([position]) => mask.has(position)).map(([, channel]) => channel);
    if (wanted.length === 0) {
      throw new IioError('EINVAL', `the mask names no channel of buffer ${bufferIndex} of ${description.id}`);
    }
    const buffer = await IioBuffer.open({ device: description.id, index: bufferIndex, channels: wanted });
    const enabled = channels.filter(([, channel]) => buffer.isEnabled(channel)).map(([position]) => position);
    return new LocalBuffer(buffer, ChannelMask.of(description.channels.length, enabled));
  }

  async openEvents(device: number): Promise<FileDescriptor> {
    const node = this.#local.devices[device]?.characterDevice;
    if (node === undefined) {
      throw new IioError('ENODEV', `${this.#nameOf(device)} has no events`);
    }
    return openEventDescriptor(node);
  }

  async readRegister(device: number, address: number): Promise<number> {
    return await readRegister(this.#registerPath(device), address);
  }

  async writeRegister(device: number, address: number, value: number): Promise<void> {
    await writeRegister(this.#registerPath(device), address, value);
  }

  /** Whoever uses the registers' file by itself must not come between the two steps of {@link readRegister}. */
  async #apart<T>(ref: AttributeRef, path: string, work: () => Promise<T>): Promise<T> {
    return ref.kind === 'debug' && this.#debugName(ref) === REGISTER_ATTRIBUTE
      ? await withRegisterFile(path, work)
      : await work();
  }

  #debugName({ device, attribute }: AttributeRef): string | undefined {
    return this.description.devices[device]?.debugAttributes[attribute]?.name;
  }

  #registerPath(device: number): string {
    const description = this.description.devices[device];
    if (description === undefined) {
      throw new IioError('ENODEV', `there is no device ${device}`);
    }
    const attribute = description.debugAttributes.findIndex(({ name }) => name === REGISTER_ATTRIBUTE);
    const path = this.#local.devices[device]?.debugAttributePaths[attribute];
    if (path === undefined) {
      throw new IioError(
        'ENOENT',
        `${description.id} has no debug access to registers: mount debugfs, or ask the driver`,
      );
    }
    return path;
  }

  #path(ref: AttributeRef): string {
    const path = this.#local.attributePath(ref);
    if (path === undefined) {
      throw new IioError('EINVAL', `${this.#nameOf(ref.device)} has no ${ref.kind} attribute ${ref.attribute}`);
    }
    return path;
  }

  #triggerPath(device: number): string {
    const path = this.#local.devices[device]?.currentTriggerPath;
    if (path === undefined) {
      throw new IioError('ENOENT', `${this.#nameOf(device)} takes no trigger`);
    }
    return path;
  }

  #nameOf(device: number): string {
    return this.description.devices[device]?.id ?? `device ${device}`;
  }
}

/** A buffer of the kernel's: owns it. */
class LocalBuffer implements BackendBuffer {
  readonly mask: ChannelMask;
  readonly #buffer: IioBuffer;

  constructor(buffer: IioBuffer, mask: ChannelMask) {
    this.#buffer = buffer;
    this.mask = mask;
  }

  get fd(): number {
    return this.#buffer.fd;
  }

  enable(lengths: BufferLengths): Promise<void> {
    return this.#buffer.enable(lengths);
  }

  disable(): Promise<void> {
    return this.#buffer.disable();
  }

  close(): Promise<void> {
    return this.#buffer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function channelsAt(
  channels: readonly ChannelDescription[],
  positions: readonly number[],
): (readonly [number, ChannelDescription])[] {
  return positions.flatMap((position) => {
    const channel = channels[position];
    return channel === undefined ? [] : [[position, channel] as const];
  });
}
