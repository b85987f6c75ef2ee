import type { AttributeDescription, ChannelMask, ContextDescription, DeviceDescription } from '@iio-bridge/protocol';
import { IioError } from '@iio-bridge/protocol';
import type { Backend, BackendBuffer } from '../iio/backend.js';
import type { AttributeRef } from '../iio/context.js';
import { REGISTER_ATTRIBUTE } from '../iio/registers.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { Permissions } from './config.js';
import { patternOf } from './glob.js';
import type { Logger } from './logger.js';

/** In libiio's hands: what it reads a register with is an attribute that it writes the address to. */
const REGISTER_SELECTION = /^\s*\S+[\s\0]*$/;

/**
 * A backend as the clients of one kind of link may use it. What they may not do fails with `EACCES`, and is logged the
 * first time. Owns nothing: the backend stays the caller's.
 */
export class PermissionedBackend implements Backend {
  readonly #backend: Backend;
  readonly #permissions: Permissions;
  readonly #writable: readonly RegExp[] | undefined;
  readonly #log: Logger;
  readonly #logged = new Set<string>();

  constructor(backend: Backend, permissions: Permissions, log: Logger) {
    this.#backend = backend;
    this.#permissions = permissions;
    this.#writable = permissions.writable?.map(patternOf);
    this.#log = log;
  }

  get description(): ContextDescription {
    return this.#backend.description;
  }

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    this.#checkDebug(ref);
    return await this.#backend.readAttribute(ref);
  }

  async openAttribute(ref: AttributeRef): Promise<FileDescriptor | undefined> {
    return await this.#backend.openAttribute?.(ref);
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    this.#checkDebug(ref);
    const isSelection = this.#isRegister(ref) && REGISTER_SELECTION.test(new TextDecoder('latin1').decode(value));
    if (!isSelection) {
      this.#checkWrite(ref);
    }
    return await this.#backend.writeAttribute(ref, value);
  }

  async trigger(device: number): Promise<number> {
    return await this.#backend.trigger(device);
  }

  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    this.#checkWriteOf(device, 'trigger/current_trigger');
    await this.#backend.setTrigger(device, trigger);
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    const description = this.description.devices[device];
    const direction = description?.buffers.find((buffer) => buffer.index === bufferIndex)?.direction;
    if (this.#permissions.readOnly && direction === 'out') {
      this.#refuse(`${description?.id}/buffer${bufferIndex}`, 'output buffers are not open to clients of this link');
    }
    return await this.#backend.openBuffer(device, bufferIndex, mask);
  }

  async openEvents(device: number): Promise<FileDescriptor> {
    return await this.#backend.openEvents(device);
  }

  async readRegister(device: number, address: number): Promise<number> {
    this.#checkRegisters(device);
    return await this.#backend.readRegister(device, address);
  }

  async writeRegister(device: number, address: number, value: number): Promise<void> {
    this.#checkRegisters(device);
    this.#checkWriteOf(device, `debug/${REGISTER_ATTRIBUTE}`);
    await this.#backend.writeRegister(device, address, value);
  }

  #isRegister(ref: AttributeRef): boolean {
    return (
      ref.kind === 'debug' &&
      this.description.devices[ref.device]?.debugAttributes[ref.attribute]?.name === REGISTER_ATTRIBUTE
    );
  }

  #checkDebug(ref: AttributeRef): void {
    if (this.#isRegister(ref)) {
      this.#checkRegisters(ref.device);
    } else if (ref.kind === 'debug' && !this.#permissions.debugAttributes) {
      this.#refuse(this.#nameOf(ref), 'debug attributes are not open to clients of this link');
    }
  }

  #checkRegisters(device: number): void {
    if (!this.#permissions.registers) {
      const name = `${this.description.devices[device]?.id ?? device}/debug/${REGISTER_ATTRIBUTE}`;
      this.#refuse(name, 'registers are not open to clients of this link');
    }
  }

  /** An attribute that the document lacks is for the backend to refuse. */
  #checkWrite(ref: AttributeRef): void {
    const file = fileOf(this.description.devices[ref.device], ref);
    if (file !== undefined) {
      this.#checkWriteOf(ref.device, file);
    }
  }

  #checkWriteOf(deviceIndex: number, file: string): void {
    const device = this.description.devices[deviceIndex];
    if (device === undefined) {
      return;
    }
    if (this.#permissions.readOnly) {
      this.#refuse(`${device.id}/${file}`, 'clients of this link may only read');
    }
    const names = [device.id, ...(device.name === undefined ? [] : [device.name])];
    const isAllowed = names.some((name) => this.#writable?.some((pattern) => pattern.test(`${name}/${file}`)));
    if (this.#writable !== undefined && !isAllowed) {
      this.#refuse(`${device.id}/${file}`, 'it is not on the list of what clients of this link may write');
    }
  }

  #nameOf(ref: AttributeRef): string {
    const device = this.description.devices[ref.device];
    return `${device?.id ?? ref.device}/${fileOf(device, ref) ?? ref.attribute}`;
  }

  #refuse(object: string, reason: string): never {
    const error = new IioError('EACCES', `${object} is refused: ${reason}`);
    if (!this.#logged.has(error.message)) {
      this.#logged.add(error.message);
      this.#log.warn({ code: error.code }, error.message);
    }
    throw error;
  }
}

/** An attribute's file, as it is called below the device's directory in sysfs; debug attributes are below `debug/`. */
function fileOf(device: DeviceDescription | undefined, ref: AttributeRef): string | undefined {
  switch (ref.kind) {
    case 'device':
      return fileName(device?.attributes[ref.attribute]);
    case 'debug':
      return fileName(device?.debugAttributes[ref.attribute], 'debug/');
    case 'event':
      return fileName(device?.eventAttributes[ref.attribute], 'events/');
    case 'channel': {
      const channel = device?.channels[ref.sub];
      return fileName(channel?.attributes[ref.attribute], '', `${channel?.direction}_${channel?.id}_`);
    }
    case 'channel-event': {
      const channel = device?.channels[ref.sub];
      return fileName(channel?.eventAttributes[ref.attribute], 'events/', `${channel?.direction}_${channel?.id}_`);
    }
    case 'buffer': {
      const buffer = device?.buffers.find(({ index }) => index === ref.sub);
      return fileName(buffer?.attributes[ref.attribute], `buffer${ref.sub}/`);
    }
  }
}

function fileName(attribute: AttributeDescription | undefined, folder = '', stem = ''): string | undefined {
  return attribute === undefined ? undefined : `${folder}${attribute.filename ?? `${stem}${attribute.name}`}`;
}
