import {
  type AttributeDescription,
  type BufferDescription,
  type ChannelDescription,
  compareByteOrder,
  type DeviceDescription,
  type Direction,
  IioError,
} from '@iio-bridge/protocol';
import { Attribute, type AttributeKind } from './attribute.js';
import type { ControlLink } from './control-link.js';
import { RxStream, type RxStreamEnvironment, type RxStreamOptions } from './rx-stream.js';

/** A channel of a device. */
export class Channel {
  /** In the device's channel list. */
  readonly position: number;
  readonly description: ChannelDescription;
  readonly attributes: ReadonlyMap<string, Attribute>;
  readonly #device: string;

  constructor(
    device: string,
    position: number,
    description: ChannelDescription,
    attributes: ReadonlyMap<string, Attribute>,
  ) {
    this.#device = device;
    this.position = position;
    this.description = description;
    this.attributes = attributes;
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
export class Device {
  /** Number of the device on the wire. */
  readonly index: number;
  readonly description: DeviceDescription;
  readonly channels: readonly Channel[];
  readonly buffers: readonly BufferInfo[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  readonly debugAttributes: ReadonlyMap<string, Attribute>;
  readonly #environment: RxStreamEnvironment;

  constructor(environment: RxStreamEnvironment, index: number, description: DeviceDescription) {
    const { control } = environment;
    this.#environment = environment;
    this.index = index;
    this.description = description;
    const id = description.id;
    const attributes = (kind: AttributeKind, list: readonly AttributeDescription[], path: string, subIndex = 0) =>
      attributeMap(control, kind, list, path, index, subIndex);
    this.attributes = attributes('device', description.attributes, id);
    this.debugAttributes = attributes('debug', description.debugAttributes, `${id}/debug`);
    this.channels = description.channels.map(
      (channel, position) =>
        new Channel(
          id,
          position,
          channel,
          attributes(
            'channel',
            channel.attributes,
            `${id}/${channel.direction === 'in' ? 'input' : 'output'}/${channel.id}`,
            position,
          ),
        ),
    );
    this.buffers = description.buffers.map(
      (buffer) =>
        new BufferInfo(
          id,
          buffer,
          attributes('buffer', buffer.attributes, `${id}/buffer${buffer.index}`, buffer.index),
        ),
    );
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
   *   buffer), the driver's errno, `ETIMEDOUT`, `DISCONNECTED`, `ECANCELED` (the signal)
   */
  createRxStream(options: RxStreamOptions): Promise<RxStream> {
    return RxStream.open(this.#environment, this, options);
  }
}

/** Numbers attributes by their rank in plain byte order, as both ends of the wire do. */
function attributeMap(
  control: ControlLink,
  kind: AttributeKind,
  list: readonly AttributeDescription[],
  path: string,
  deviceIndex: number,
  subIndex: number,
): ReadonlyMap<string, Attribute> {
  const sorted = list.toSorted((a, b) => compareByteOrder(a.name, b.name));
  return new Map(
    sorted.map(({ name }, attributeIndex) => [
      name,
      new Attribute(control, name, `${path}/${name}`, { kind, deviceIndex, subIndex, attributeIndex }),
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
