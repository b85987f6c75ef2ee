import { type AttributeDescription, type DeviceDescription, errnoName, IioError } from '@iio-bridge/protocol';
import type { AttributeRef } from '../context.js';
import { REGISTER_ATTRIBUTE } from '../registers.js';
import { type EmulatedAttribute, writtenValue } from './emulated-attribute.js';
import { RegisterFile } from './register-file.js';

/** What a document says of an attribute that could not be read: `ERROR:-22`. */
const ERROR_VALUE = /^ERROR:\s*-?(\d+)/;

/** Files that drivers offer for reading only. */
const READ_ONLY = /(?:^|_)available$|^(?:waiting_for_supplier|direction|name|label)$/;

/** What an attribute without a value holds; the rest are `0`. */
const DEFAULTS: ReadonlyMap<string, string> = new Map([
  ['scale', '1.000000'],
  ['sampling_frequency', '1000000'],
  ['watermark', '1'],
  ['label', ''],
]);

/** Holds a value: a write is read back. */
export class ValueAttribute implements EmulatedAttribute {
  readonly #path: string;
  readonly #readOnly: boolean;
  readonly #error: string | undefined;
  readonly #allowed: readonly string[] | undefined;
  #value: Uint8Array;

  /** `path` is for messages; `allowed`: the only values it takes. */
  constructor({ name, value }: AttributeDescription, path: string, allowed?: readonly string[]) {
    const [, errno] = ERROR_VALUE.exec(value ?? '') ?? [];
    this.#path = path;
    this.#readOnly = READ_ONLY.test(name);
    this.#error = errno === undefined || Number(errno) === 0 ? undefined : errnoName(Number(errno));
    this.#allowed = allowed;
    this.#value = new TextEncoder().encode(value ?? defaultValue(name));
  }

  get text(): string {
    return new TextDecoder().decode(this.#value);
  }

  /** As the device itself does it: nothing is refused. */
  set text(value: string) {
    this.#value = new TextEncoder().encode(value);
  }

  read(): Uint8Array {
    if (this.#error !== undefined) {
      throw new IioError(this.#error, `read ${this.#path}: ${this.#error}, as the document has it`);
    }
    const bytes = new Uint8Array(this.#value.byteLength + 1);
    bytes.set(this.#value);
    return bytes;
  }

  write(bytes: Uint8Array): number {
    if (this.#readOnly) {
      throw new IioError('EACCES', `write ${this.#path}: it can only be read`);
    }
    const value = writtenValue(bytes, this.#path);
    if (this.#allowed !== undefined && !this.#allowed.includes(new TextDecoder().decode(value))) {
      throw new IioError('EINVAL', `write ${this.#path}: takes ${this.#allowed.join(', ')}`);
    }
    this.#value = value;
    return bytes.byteLength;
  }
}

function defaultValue(name: string): string {
  return DEFAULTS.get(name) ?? (name.endsWith('_available') && name !== 'data_available' ? '' : '0');
}

interface DeviceValues {
  readonly attributes: readonly EmulatedAttribute[];
  readonly debug: readonly EmulatedAttribute[];
  readonly events: readonly EmulatedAttribute[];
  readonly channels: readonly { readonly attributes: EmulatedAttribute[]; readonly events: EmulatedAttribute[] }[];
  readonly buffers: ReadonlyMap<number, readonly EmulatedAttribute[]>;
  readonly registers: RegisterFile | undefined;
}

/** The attributes of all devices, as their document has them. */
export class AttributeValues {
  readonly #descriptions: readonly DeviceDescription[];
  readonly #devices: readonly DeviceValues[];

  /** `allowed`: values that device attributes of a name are limited to. */
  constructor(devices: readonly DeviceDescription[], allowed: ReadonlyMap<string, readonly string[]>) {
    this.#descriptions = devices;
    this.#devices = devices.map((device) => makeDevice(device, allowed));
  }

  /** @throws {IioError} `EINVAL` if there is none. */
  at(ref: AttributeRef): EmulatedAttribute {
    const attribute = this.#list(ref)?.[ref.attribute];
    if (attribute === undefined) {
      const device = this.#descriptions[ref.device]?.id ?? `device ${ref.device}`;
      throw new IioError('EINVAL', `${device} has no ${ref.kind} attribute ${ref.attribute}`);
    }
    return attribute;
  }

  registers(device: number): RegisterFile | undefined {
    return this.#devices[device]?.registers;
  }

  deviceValue(device: number, name: string): ValueAttribute | undefined {
    return named(this.#descriptions[device]?.attributes, this.#devices[device]?.attributes, name);
  }

  channelValue(device: number, channel: number, name: string): ValueAttribute | undefined {
    const description = this.#descriptions[device]?.channels[channel];
    return named(description?.attributes, this.#devices[device]?.channels[channel]?.attributes, name);
  }

  channelEventValue(device: number, channel: number, name: string): ValueAttribute | undefined {
    const description = this.#descriptions[device]?.channels[channel];
    return named(description?.eventAttributes, this.#devices[device]?.channels[channel]?.events, name);
  }

  bufferValue(device: number, buffer: number, name: string): ValueAttribute | undefined {
    const description = this.#descriptions[device]?.buffers.find(({ index }) => index === buffer);
    return named(description?.attributes, this.#devices[device]?.buffers.get(buffer), name);
  }

  #list(ref: AttributeRef): readonly EmulatedAttribute[] | undefined {
    const device = this.#devices[ref.device];
    switch (ref.kind) {
      case 'device':
        return device?.attributes;
      case 'debug':
        return device?.debug;
      case 'event':
        return device?.events;
      case 'channel':
        return device?.channels[ref.sub]?.attributes;
      case 'channel-event':
        return device?.channels[ref.sub]?.events;
      case 'buffer':
        return device?.buffers.get(ref.sub);
    }
  }
}

function named(
  descriptions: readonly AttributeDescription[] | undefined,
  attributes: readonly EmulatedAttribute[] | undefined,
  name: string,
): ValueAttribute | undefined {
  const attribute = attributes?.[descriptions?.findIndex((description) => description.name === name) ?? -1];
  return attribute instanceof ValueAttribute ? attribute : undefined;
}

function makeDevice(device: DeviceDescription, allowed: ReadonlyMap<string, readonly string[]>): DeviceValues {
  // Attributes of several channels that live in one file have one value.
  const files = new Map<string, ValueAttribute>();
  const inFile = (attribute: AttributeDescription, owner: string) => {
    const key = attribute.filename ?? `${owner}/${attribute.name}`;
    const value = files.get(key) ?? new ValueAttribute(attribute, `${device.id}/${key}`);
    files.set(key, value);
    return value;
  };
  const alone = (directory: string) => (attribute: AttributeDescription) =>
    new ValueAttribute(attribute, `${directory}/${attribute.name}`);

  const hasRegisters = device.debugAttributes.some(({ name }) => name === REGISTER_ATTRIBUTE);
  const registers = hasRegisters ? new RegisterFile(`${device.id} ${REGISTER_ATTRIBUTE}`) : undefined;
  return {
    attributes: device.attributes.map(
      (attribute) => new ValueAttribute(attribute, `${device.id}/${attribute.name}`, allowed.get(attribute.name)),
    ),
    debug: device.debugAttributes.map((attribute) =>
      attribute.name === REGISTER_ATTRIBUTE && registers !== undefined
        ? registers
        : alone(`debug/${device.id}`)(attribute),
    ),
    events: device.eventAttributes.map(alone(`${device.id}/events`)),
    channels: device.channels.map((channel) => {
      const owner = `${channel.direction}_${channel.id}`;
      return {
        attributes: channel.attributes.map((attribute) => inFile(attribute, owner)),
        events: channel.eventAttributes.map((attribute) => inFile(attribute, `events/${owner}`)),
      };
    }),
    buffers: new Map(
      device.buffers.map(({ index, attributes }) => [index, attributes.map(alone(`${device.id}/buffer${index}`))]),
    ),
    registers,
  };
}
