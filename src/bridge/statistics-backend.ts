import {
  type BufferDescription,
  type ChannelMask,
  type ContextDescription,
  IioError,
  sortByName,
} from '@iio-bridge/protocol';
import type { Backend, BackendBuffer } from '../iio/backend.js';
import type { AttributeRef } from '../iio/context.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { type BufferStatistics, FIGURE_ATTRIBUTES, showFigure } from './buffer-statistics.js';

/** An attribute of a buffer: ours by name, the driver's by its position there. */
type Place = { readonly ours: string } | { readonly theirs: number };

/**
 * A backend whose buffers have the figures of {@link BufferStatistics} among their attributes. A driver's attribute of the
 * same name comes first. Owns nothing: the backend stays the caller's.
 */
export class StatisticsBackend implements Backend {
  readonly description: ContextDescription;
  readonly #backend: Backend;
  readonly #statistics: BufferStatistics;
  /** By device position, then by buffer index. */
  readonly #places: readonly ReadonlyMap<number, readonly Place[]>[];

  constructor(backend: Backend, statistics: BufferStatistics) {
    this.#backend = backend;
    this.#statistics = statistics;
    const { devices } = backend.description;
    const entries = devices.map(
      ({ buffers }) => new Map(buffers.map((buffer) => [buffer.index, attributesOf(buffer)])),
    );
    this.#places = entries.map(
      (buffers) => new Map([...buffers].map(([index, attributes]) => [index, attributes.map(({ place }) => place)])),
    );
    this.description = {
      ...backend.description,
      devices: devices.map((device, position) => ({
        ...device,
        buffers: device.buffers.map((buffer) => ({
          ...buffer,
          attributes: (entries[position]?.get(buffer.index) ?? []).map(({ place: _, ...attribute }) => attribute),
        })),
      })),
    };
  }

  async readAttribute(ref: AttributeRef): Promise<Uint8Array> {
    const place = this.#place(ref);
    if (ref.kind !== 'buffer' || place === undefined) {
      return await this.#backend.readAttribute(ref);
    }
    if ('theirs' in place) {
      return await this.#backend.readAttribute({ ...ref, attribute: place.theirs });
    }
    const device = this.description.devices[ref.device];
    const direction = device?.buffers.find(({ index }) => index === ref.sub)?.direction ?? 'in';
    const figures = await this.#statistics.figures(device?.id ?? '', ref.sub, direction);
    return new TextEncoder().encode(`${showFigure(figures, place.ours) ?? ''}\0`);
  }

  async writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number> {
    const place = this.#place(ref);
    if (place === undefined) {
      return await this.#backend.writeAttribute(ref, value);
    }
    if ('theirs' in place) {
      return await this.#backend.writeAttribute({ ...ref, attribute: place.theirs }, value);
    }
    throw new IioError('EACCES', `${place.ours} is a figure of the bridge's, which cannot be written`);
  }

  async openAttribute(ref: AttributeRef): Promise<FileDescriptor | undefined> {
    const place = this.#place(ref);
    if (place === undefined) {
      return await this.#backend.openAttribute?.(ref);
    }
    return 'ours' in place ? undefined : await this.#backend.openAttribute?.({ ...ref, attribute: place.theirs });
  }

  async trigger(device: number): Promise<number> {
    return await this.#backend.trigger(device);
  }

  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    await this.#backend.setTrigger(device, trigger);
  }

  async openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer> {
    return await this.#backend.openBuffer(device, bufferIndex, mask);
  }

  async openEvents(device: number): Promise<FileDescriptor> {
    return await this.#backend.openEvents(device);
  }

  async readRegister(device: number, address: number): Promise<number> {
    return await this.#backend.readRegister(device, address);
  }

  async writeRegister(device: number, address: number, value: number): Promise<void> {
    await this.#backend.writeRegister(device, address, value);
  }

  /** Undefined for attributes of other kinds, and of buffers or positions that do not exist: the backend refuses those. */
  #place(ref: AttributeRef): Place | undefined {
    if (ref.kind !== 'buffer') {
      return undefined;
    }
    const places = this.#places[ref.device]?.get(ref.sub);
    if (places === undefined) {
      return undefined;
    }
    const place = places[ref.attribute];
    if (place === undefined) {
      throw new IioError('EINVAL', `buffer ${ref.sub} of device ${ref.device} has no attribute ${ref.attribute}`);
    }
    return place;
  }
}

function attributesOf({ attributes, direction }: BufferDescription) {
  const theirs = attributes.map((attribute, position) => ({ ...attribute, place: { theirs: position } as Place }));
  const ours = FIGURE_ATTRIBUTES[direction]
    .filter((name) => !attributes.some((attribute) => attribute.name === name))
    .map((name) => ({ name, place: { ours: name } as Place }));
  return sortByName([...theirs, ...ours]);
}
