import { contextToXml, formatScanFormat, IioError } from '@iio-bridge/protocol';
import { readAttribute, writeAttribute } from '../iio/attributes.js';
import type { AttributeRef, LocalContext } from '../iio/context.js';

/** The machine's context as clients see it: the document, and the attributes, triggers and formats behind it. */
export class ContextServer {
  readonly local: LocalContext;
  /** The document as it is sent: UTF-8. */
  readonly xml: Uint8Array;

  constructor(local: LocalContext) {
    this.local = local;
    this.xml = new TextEncoder().encode(contextToXml(local.description));
  }

  /** The value with its final NUL. @throws {IioError} `EINVAL` if the document has no such attribute; the driver's errno. */
  async read(ref: AttributeRef): Promise<Uint8Array> {
    return await readAttribute(this.#path(ref));
  }

  /** Returns the number of bytes that the driver took. @throws {IioError} as {@link read}. */
  async write(ref: AttributeRef, value: Uint8Array): Promise<number> {
    return await writeAttribute(this.#path(ref), value);
  }

  /**
   * The position of the trigger that `device` is set to.
   *
   * @throws {IioError} `ENOENT` if it takes none, `ENODEV` if none is set, `ENXIO` if it is not in this document.
   */
  async trigger(device: number): Promise<number> {
    const bytes = await readAttribute(this.#triggerPath(device));
    const name = new TextDecoder().decode(bytes.subarray(0, -1));
    if (name === '') {
      throw new IioError('ENODEV', `${this.#deviceName(device)} has no trigger`);
    }
    const index = this.local.description.devices.findIndex((other) => isTrigger(other) && other.name === name);
    if (index < 0) {
      throw new IioError('ENXIO', `trigger ${name} of ${this.#deviceName(device)} is not in the context`);
    }
    return index;
  }

  /** @throws {IioError} `ENOENT` if the device takes no trigger, `EINVAL` if `trigger` is none. */
  async setTrigger(device: number, trigger: number | undefined): Promise<void> {
    const path = this.#triggerPath(device);
    const chosen = trigger === undefined ? undefined : this.local.description.devices[trigger];
    if (trigger !== undefined && (chosen === undefined || !isTrigger(chosen))) {
      throw new IioError('EINVAL', `device ${trigger} is not a trigger`);
    }
    await writeAttribute(path, new TextEncoder().encode(`${chosen?.name ?? ''}\0`));
  }

  /**
   * The format of a scan element. Clients name the channel by its scan index or by its position; where the two disagree
   * the scan index counts.
   *
   * @throws {IioError} `ENODEV`, `EINVAL`.
   */
  format(device: number, channel: number): Uint8Array {
    const description = this.local.description.devices[device];
    if (description === undefined) {
      throw new IioError('ENODEV', `there is no device ${device}`);
    }
    const scanElement =
      description.channels.find((candidate) => candidate.scanElement?.index === channel)?.scanElement ??
      description.channels[channel]?.scanElement;
    if (scanElement === undefined) {
      throw new IioError('EINVAL', `${description.id} has no scan element ${channel}`);
    }
    return new TextEncoder().encode(formatScanFormat(scanElement.format));
  }

  #path(ref: AttributeRef): string {
    const path = this.local.attributePath(ref);
    if (path === undefined) {
      throw new IioError('EINVAL', `${this.#deviceName(ref.device)} has no ${ref.kind} attribute ${ref.attribute}`);
    }
    return path;
  }

  #triggerPath(device: number): string {
    const path = this.local.devices[device]?.currentTriggerPath;
    if (path === undefined) {
      throw new IioError('ENOENT', `${this.#deviceName(device)} takes no trigger`);
    }
    return path;
  }

  #deviceName(device: number): string {
    return this.local.description.devices[device]?.id ?? `device ${device}`;
  }
}

/** A device is a trigger if its id says so and it has a name but no channels. */
function isTrigger(device: {
  readonly id: string;
  readonly name?: string;
  readonly channels: readonly unknown[];
}): boolean {
  return device.id.startsWith('trigger') && device.name !== undefined && device.channels.length === 0;
}
