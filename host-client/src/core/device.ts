import {
  type AttributeDescription,
  type BufferDescription,
  type ChannelDescription,
  compareByteOrder,
  type DeviceDescription,
  type Direction,
  IioError,
} from '@iio-bridge/protocol';
import { Attribute } from './attribute.js';
import type { Connection } from './connection.js';
import { EventStream, type EventStreamOptions } from './event-stream.js';
import { RxStream, type RxStreamOptions, type StreamEnvironment } from './rx-stream.js';
import type { Calibration } from './samples.js';
import type { AttributeAddress, DeviceAddress } from './session.js';
import { TxStream, type TxStreamOptions } from './tx-stream.js';

/** What a device needs of its context. */
export interface DeviceEnvironment extends StreamEnvironment {
  /** All devices, for triggers. Called after the context was made. */
  devices(): readonly Device[];
}

/** The debug attribute through which the kernel gives access to registers. */
const REGISTER_ATTRIBUTE = 'direct_reg_access';

/** A channel of a device. */
export class Channel {
  /** In the device's channel list. */
  readonly position: number;
  readonly description: ChannelDescription;
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** Those that set thresholds and switch events on. */
  readonly eventAttributes: ReadonlyMap<string, Attribute>;
  readonly #device: string;

  constructor(
    device: string,
    position: number,
    description: ChannelDescription,
    attributes: ReadonlyMap<string, Attribute>,
    eventAttributes: ReadonlyMap<string, Attribute>,
  ) {
    this.#device = device;
    this.position = position;
    this.description = description;
    this.attributes = attributes;
    this.eventAttributes = eventAttributes;
  }

  get id(): string {
    return this.description.id;
  }

  get direction(): Direction {
    return this.description.direction;
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  attribute(name: string): Attribute {
    return find(this.attributes, name, 'attribute', `channel ${this.id} of ${this.#device}`);
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  eventAttribute(name: string): Attribute {
    return find(this.eventAttributes, name, 'event attribute', `channel ${this.id} of ${this.#device}`);
  }

  /**
   * Reads the attributes `scale` and `offset`. Where there is no such attribute, the document's scale or 1, and 0.
   * @throws IioError as {@link Attribute.read}; `EPROTO` if a value is no number
   */
  async calibration(): Promise<Calibration> {
    const scale = await readNumber(this.attributes.get('scale'));
    const offset = await readNumber(this.attributes.get('offset'));
    return { scale: scale ?? this.description.scanElement?.scale ?? 1, offset: offset ?? 0 };
  }
}

/** A buffer of a device: what a stream opens. */
export class BufferInfo {
  readonly description: BufferDescription;
  readonly attributes: ReadonlyMap<string, Attribute>;
  readonly #device: string;

  constructor(device: string, description: BufferDescription, attributes: ReadonlyMap<string, Attribute>) {
    this.#device = device;
    this.description = description;
    this.attributes = attributes;
  }

  get index(): number {
    return this.description.index;
  }

  get direction(): Direction {
    return this.description.direction;
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  attribute(name: string): Attribute {
    return find(this.attributes, name, 'attribute', `buffer ${this.index} of ${this.#device}`);
  }
}

/** A device of a context. */
export class Device implements DeviceAddress {
  /** Number of the device on the wire. */
  readonly index: number;
  readonly description: DeviceDescription;
  readonly channels: readonly Channel[];
  readonly buffers: readonly BufferInfo[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  readonly debugAttributes: ReadonlyMap<string, Attribute>;
  readonly eventAttributes: ReadonlyMap<string, Attribute>;
  readonly #environment: DeviceEnvironment;

  constructor(environment: DeviceEnvironment, index: number, description: DeviceDescription) {
    const { connection } = environment;
    this.#environment = environment;
    this.index = index;
    this.description = description;
    const { id } = description;
    const attributes = (list: readonly AttributeDescription[], address: Partial<AttributeAddress>, path: string) =>
      attributeMap(connection, list, { kind: 'device', device: this, bufferIndex: 0, ...address }, path);
    this.attributes = attributes(description.attributes, { kind: 'device' }, id);
    this.debugAttributes = attributes(description.debugAttributes, { kind: 'debug' }, `${id}/debug`);
    this.eventAttributes = attributes(description.eventAttributes, { kind: 'device-event' }, `${id}/events`);
    this.channels = description.channels.map((channel, position) => {
      const address = { position, id: channel.id, direction: channel.direction };
      const path = `${id}/${channel.direction === 'in' ? 'input' : 'output'}/${channel.id}`;
      return new Channel(
        id,
        position,
        channel,
        attributes(channel.attributes, { kind: 'channel', channel: address }, path),
        attributes(channel.eventAttributes, { kind: 'channel-event', channel: address }, `${path}/events`),
      );
    });
    this.buffers = description.buffers.map((buffer) => {
      const path = `${id}/buffer${buffer.index}`;
      const map = attributes(buffer.attributes, { kind: 'buffer', bufferIndex: buffer.index }, path);
      return new BufferInfo(id, buffer, map);
    });
  }

  get id(): string {
    return this.description.id;
  }

  get name(): string | undefined {
    return this.description.name;
  }

  get label(): string | undefined {
    return this.description.label;
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  attribute(name: string): Attribute {
    return find(this.attributes, name, 'attribute', this.id);
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  debugAttribute(name: string): Attribute {
    return find(this.debugAttributes, name, 'debug attribute', this.id);
  }

  /** @throws IioError `NO_ATTRIBUTE` */
  eventAttribute(name: string): Attribute {
    return find(this.eventAttributes, name, 'event attribute', this.id);
  }

  /**
   * By id, name or label. Without a direction, the first match.
   * @throws IioError `NO_CHANNEL` listing what there is
   */
  channel(id: string, direction?: Direction): Channel {
    const candidates = this.channels.filter((channel) => direction === undefined || channel.direction === direction);
    const found =
      candidates.find((channel) => channel.id === id) ??
      candidates.find(({ description: { name, label } }) => name === id || label === id);
    if (found === undefined) {
      const known = candidates.map((channel) => channel.id).join(', ') || 'none';
      throw new IioError('NO_CHANNEL', `${this.id} has no ${direction ?? ''}channel '${id}' (channels: ${known})`);
    }
    return found;
  }

  /** @throws IioError `NO_BUFFER` */
  buffer(index: number): BufferInfo {
    const found = this.buffers.find((buffer) => buffer.index === index);
    if (found === undefined) {
      throw new IioError('NO_BUFFER', `${this.id} has no buffer ${index}: it cannot stream samples through it`);
    }
    return found;
  }

  /**
   * Opens a buffer and starts capturing. See {@link RxStream}.
   * @throws IioError `NO_BUFFER`, `NO_CHANNEL`, `EINVAL` (options), `EBUSY` (all pipes in use, or another client has the
   *   buffer), `ENOSYS` (options that only iio-bridge fulfils), the driver's errno, `ETIMEDOUT`, `DISCONNECTED`,
   *   `ECANCELED` (the signal)
   */
  createRxStream(options: RxStreamOptions): Promise<RxStream> {
    return RxStream.open(this.#environment, this, options);
  }

  /**
   * Opens a buffer for output; the hardware starts with the first block that is sent. See {@link TxStream}.
   * @throws IioError as {@link createRxStream}
   */
  createTxStream(options: TxStreamOptions): Promise<TxStream> {
    return TxStream.open(this.#environment, this, options);
  }

  /**
   * Opens the device's events. See {@link EventStream}.
   * @throws IioError `EBUSY` (somebody else has them), `ENOSYS` (a server of libiio 0.x), the driver's errno, `ETIMEDOUT`,
   *   `DISCONNECTED`, `ECANCELED` (the signal)
   */
  openEvents(options: EventStreamOptions = {}): Promise<EventStream> {
    return EventStream.open(this.#environment, this, options);
  }

  /**
   * The trigger that starts this device's captures; `undefined` if none is assigned.
   * @throws IioError `ENOENT` if the device takes no trigger; `ETIMEDOUT`, `DISCONNECTED`
   */
  async getTrigger(): Promise<Device | undefined> {
    const found = await this.#environment.connection.perform((session) => session.readTrigger(this));
    if (found === undefined) {
      return undefined;
    }
    const devices = this.#environment.devices();
    const trigger = devices.find(({ index, id, name }) =>
      typeof found === 'number' ? index === found : id === found || name === found,
    );
    if (trigger === undefined) {
      throw new IioError('EPROTO', `${this.id}: the server names '${found}' as its trigger, which is no device`);
    }
    return trigger;
  }

  /**
   * @param trigger a device or its id or name; `undefined` assigns none
   * @throws IioError `NO_DEVICE`; `EINVAL` if that is no trigger, or not one for this device; `EBUSY` while it captures;
   *   `ENOENT`, `ETIMEDOUT`, `DISCONNECTED`
   */
  async setTrigger(trigger: Device | string | undefined): Promise<void> {
    const devices = this.#environment.devices();
    const device = typeof trigger === 'string' ? devices.find(({ id, name }) => [id, name].includes(trigger)) : trigger;
    if (trigger !== undefined && device === undefined) {
      throw new IioError('NO_DEVICE', `there is no trigger '${String(trigger)}' for ${this.id}`);
    }
    await this.#environment.connection.perform((session) => session.writeTrigger(this, device));
  }

  /**
   * Reads a register of the device, by the protocol's own operation where the server has it, otherwise through
   * `direct_reg_access`.
   * @throws IioError `EACCES`, `ENOENT`, `ENOSYS`: the server, or the driver, gives no access; `ETIMEDOUT`, `DISCONNECTED`
   */
  async readRegister(register: number): Promise<number> {
    requireU32('a register number', register);
    return await this.#environment.connection.perform(async (session) => {
      if (session.hasRegisters) {
        return await session.readRegister(this, register);
      }
      const attribute = this.#registerAttribute();
      await attribute.write(`0x${register.toString(16)}`);
      const text = (await attribute.read()).trim();
      const value = Number(text);
      if (text === '' || !Number.isInteger(value)) {
        throw new IioError('EPROTO', `register 0x${register.toString(16)} of ${this.id}: '${text}' is no value`);
      }
      return value >>> 0;
    });
  }

  /** @throws IioError as {@link readRegister} */
  async writeRegister(register: number, value: number): Promise<void> {
    requireU32('a register number', register);
    requireU32('a register value', value);
    await this.#environment.connection.perform(async (session) => {
      if (session.hasRegisters) {
        await session.writeRegister(this, register, value);
      } else {
        await this.#registerAttribute().write(`0x${register.toString(16)} 0x${value.toString(16)}`);
      }
    });
  }

  #registerAttribute(): Attribute {
    const attribute = this.debugAttributes.get(REGISTER_ATTRIBUTE);
    if (attribute === undefined) {
      throw new IioError('ENOSYS', `${this.id}: neither the server nor the driver gives access to registers`);
    }
    return attribute;
  }
}

/** Numbers attributes by their rank in plain byte order, as both ends of the wire do. */
function attributeMap(
  connection: Connection,
  list: readonly AttributeDescription[],
  address: Omit<AttributeAddress, 'attributeIndex' | 'name' | 'path'>,
  path: string,
): ReadonlyMap<string, Attribute> {
  const sorted = list.toSorted((a, b) => compareByteOrder(a.name, b.name));
  return new Map(
    sorted.map(({ name }, attributeIndex) => [
      name,
      new Attribute(connection, { ...address, attributeIndex, name, path: `${path}/${name}` }),
    ]),
  );
}

function find(attributes: ReadonlyMap<string, Attribute>, name: string, what: string, owner: string): Attribute {
  const found = attributes.get(name);
  if (found === undefined) {
    const known = [...attributes.keys()].join(', ') || 'none';
    throw new IioError('NO_ATTRIBUTE', `${owner} has no ${what} '${name}' (there: ${known})`);
  }
  return found;
}

async function readNumber(attribute: Attribute | undefined): Promise<number | undefined> {
  if (attribute === undefined) {
    return undefined;
  }
  const text = (await attribute.read()).trim();
  const value = Number(text);
  if (text === '' || !Number.isFinite(value)) {
    throw new IioError('EPROTO', `${attribute.path}: '${text.slice(0, 40)}' is no number`);
  }
  return value;
}

function requireU32(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new IioError('EINVAL', `${name} must be a whole number from 0 to 0xffffffff, not ${value}`);
  }
}
