import { IioError } from '@iio-bridge/protocol';
import type { BinaryClient } from './binary-client.js';
import type { ControlLink } from './control-link.js';
import type { DeviceAddress, EventSource } from './session.js';

/** struct iio_event_data, include/uapi/linux/iio/events.h. */
const EVENT_BYTES = 16;

/** An event stream on the main link; it ends when that is opened anew. */
export class BinaryEvents implements EventSource {
  readonly #control: ControlLink;
  readonly #client: BinaryClient;
  readonly #device: DeviceAddress;
  readonly #id: number;
  #closing: Promise<void> | undefined;

  private constructor(control: ControlLink, device: DeviceAddress, id: number) {
    this.#control = control;
    this.#client = control.client;
    this.#device = device;
    this.#id = id;
  }

  static async open(control: ControlLink, device: DeviceAddress): Promise<BinaryEvents> {
    const id = control.takeEventId();
    const what = `open the events of ${device.id}`;
    await control.request({ operation: 'CREATE_EVSTREAM', clientId: id, device: device.index, answer: 'status', what });
    return new BinaryEvents(control, device, id);
  }

  async next(): Promise<Uint8Array> {
    const what = `read an event of ${this.#device.id}`;
    if (this.#closing !== undefined) {
      throw new IioError('ECANCELED', `${what}: closed`);
    }
    try {
      const { payload } = await this.#client.request({
        operation: 'READ_EVENT',
        clientId: this.#id,
        device: this.#device.index,
        answer: 'payload',
        what,
        timeoutMs: Number.POSITIVE_INFINITY,
      });
      if (payload.length !== EVENT_BYTES) {
        throw new IioError('EPROTO', `${what}: ${payload.length} bytes came instead of ${EVENT_BYTES}`);
      }
      return payload;
    } catch (error) {
      // The server ends a pending read with EINTR when the stream is freed.
      throw this.#closing === undefined ? error : new IioError('ECANCELED', `${what}: closed`, { cause: error });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#free();
    return this.#closing;
  }

  async #free(): Promise<void> {
    if (this.#client.failure !== undefined || this.#client !== this.#control.client) {
      return;
    }
    const what = `close the events of ${this.#device.id}`;
    const { index: device } = this.#device;
    await this.#control
      .request({ operation: 'FREE_EVSTREAM', device, code: this.#id, answer: 'status', what })
      .catch((error: unknown) => this.#client.logger.debug(() => `${what}: ${String(error)}`));
  }
}
