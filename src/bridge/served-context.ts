import { contextToXml, formatScanFormat, IioError } from '@iio-bridge/protocol';
import type { Backend } from '../iio/backend.js';

/** A backend as clients see it: with the document that numbers its parts. */
export class ServedContext {
  readonly backend: Backend;
  /** The document as it is sent: UTF-8. */
  readonly xml: Uint8Array;

  constructor(backend: Backend) {
    this.backend = backend;
    this.xml = new TextEncoder().encode(contextToXml(backend.description));
  }

  /**
   * The format of a scan element. Clients name the channel by its scan index or by its position; where the two disagree
   * the scan index counts.
   *
   * @throws {IioError} `ENODEV`, `EINVAL`.
   */
  format(device: number, channel: number): Uint8Array {
    const description = this.backend.description.devices[device];
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
}
