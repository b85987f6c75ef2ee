import {
  type ContextDescription,
  compareByteOrder,
  contextFromXml,
  generationFromXml,
  IioError,
} from '@iio-bridge/protocol';
import { decompress } from 'fzstd';
import type { ClientOptions } from './binary-client.js';
import { ControlLink } from './control-link.js';
import { withDeadline } from './deadline.js';
import { Device } from './device.js';
import type { Transport } from './link.js';
import { type Logger, silentLogger } from './logger.js';
import type { RxStream } from './rx-stream.js';

/** Milliseconds. What libiio uses on USB and network. */
export const DEFAULT_TIMEOUT_MS = 5000;

export interface ContextOptions {
  /** Milliseconds that a request, or the wait for a block, may take; `Infinity` waits for ever. Default 5000. */
  readonly timeoutMs?: number;
  readonly logger?: Logger;
  /** Aborts the opening; later aborts have no effect. */
  readonly signal?: AbortSignal;
}

/**
 * An IIO context on the other end of a transport. Owns the transport, the main link and every stream opened through it;
 * `close()` ends them all. After an unplug every operation rejects with `DISCONNECTED`.
 */
export class Context implements AsyncDisposable {
  readonly description: ContextDescription;
  readonly devices: readonly Device[];
  /** The server's context attributes, and those that the transport adds (`uri`, `usb,serial`...). */
  readonly attributes: ReadonlyMap<string, string>;
  readonly #transport: Transport;
  readonly #control: ControlLink;
  readonly #streams: Set<RxStream>;
  #closing: Promise<void> | undefined;

  private constructor(
    transport: Transport,
    control: ControlLink,
    description: ContextDescription,
    client: ClientOptions,
  ) {
    this.#transport = transport;
    this.#control = control;
    this.#streams = new Set();
    this.description = description;
    this.attributes = new Map([...description.attributes, ['uri', transport.uri], ...transport.attributes]);
    const coalesce = this.attributes.has('iio-bridge');
    const environment = { transport, control, client: { ...client, coalesce }, streams: this.#streams };
    this.devices = description.devices
      .toSorted((a, b) => compareByteOrder(a.id, b.id))
      .map((device, index) => new Device(environment, index, device));
  }

  /**
   * Opens the main link and reads the context document; reads no attribute. Closes the transport if that fails.
   * @throws IioError `TEXT_ONLY`, `BAD_XML`, `ETIMEDOUT`, `DISCONNECTED`, `ECANCELED` (the signal)
   */
  static async connect(transport: Transport, options: ContextOptions = {}): Promise<Context> {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS, logger = silentLogger } = options;
    const client: ClientOptions = { timeoutMs, logger };
    let control: ControlLink | undefined;
    const opening = async (): Promise<Context> => {
      control = await ControlLink.open(transport, client);
      const { payload } = await control.request({
        operation: 'PRINT',
        answer: 'payload',
        what: `read the description of ${transport.uri}`,
      });
      const xml = decodeDocument(payload, transport.uri);
      const generation = generationFromXml(xml);
      control.generation = generation;
      return new Context(transport, control, contextFromXml(xml), { ...client, generation });
    };
    try {
      return await withDeadline(opening(), { signal, what: `open ${transport.uri}` });
    } catch (error) {
      await control?.close();
      await transport.close();
      throw error;
    }
  }

  /** The URI that finds this very context again. */
  get uri(): string {
    return this.#transport.uri;
  }

  /**
   * By id, name or label.
   * @throws IioError `NO_DEVICE` listing what there is
   */
  device(key: string): Device {
    const found =
      this.devices.find((device) => device.id === key) ??
      this.devices.find((device) => device.name === key) ??
      this.devices.find((device) => device.label === key);
    if (found === undefined) {
      const known = this.devices.map(({ id, name }) => (name === undefined ? id : `${id} (${name})`)).join(', ');
      throw new IioError('NO_DEVICE', `${this.uri} has no device '${key}' (devices: ${known || 'none'})`);
    }
    return found;
  }

  /** Closes the streams, the links and the transport. Never rejects because the other end is gone. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await Promise.all([...this.#streams].map((stream) => stream.close()));
      await this.#control.close();
      await this.#transport.close();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function decodeDocument(payload: Uint8Array, uri: string): string {
  const decoder = new TextDecoder();
  const isXml = decoder.decode(payload.subarray(0, 5)) === '<?xml';
  try {
    const end = isXml ? payload.indexOf(0) : -1;
    return decoder.decode(isXml ? payload.subarray(0, end < 0 ? payload.length : end) : decompress(payload));
  } catch (error) {
    throw new IioError('BAD_XML', `${uri}: the description is neither XML nor a zstd frame`, { cause: error });
  }
}
