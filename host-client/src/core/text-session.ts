import { IioError } from '@iio-bridge/protocol';
import type { Link, Transport } from './link.js';
import type {
  AttributeAddress,
  Capture,
  CaptureSink,
  DeviceAddress,
  EventSource,
  Playback,
  PlaybackSink,
  Session,
  StreamPlan,
} from './session.js';
import { TextCapture } from './text-capture.js';
import { TextClient, type TextOptions } from './text-client.js';
import { TextPlayback } from './text-playback.js';

/** Values end at 64 KiB on the server. Bytes. */
const MAX_VALUE_BYTES = 128 * 1024;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** The text protocol of libiio 0.x. Owns the main link, and replaces it after a time-out; only a lost device is final. */
export class TextSession implements Session {
  readonly protocol = 'text';
  readonly hasRegisters = false;
  readonly #transport: Transport;
  readonly #options: TextOptions;
  #client: TextClient;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;
  #lost: IioError | undefined;

  private constructor(transport: Transport, options: TextOptions, client: TextClient) {
    this.#transport = transport;
    this.#options = options;
    this.#client = client;
  }

  static async start(transport: Transport, link: Link, options: TextOptions): Promise<TextSession> {
    return new TextSession(transport, options, await TextClient.start(link, options));
  }

  get lost(): IioError | undefined {
    const { failure } = this.#client;
    return this.#lost ?? (failure?.code === 'DISCONNECTED' ? failure : undefined);
  }

  /** The context document: compressed, or XML where the server knows no compression. */
  readDocument(what: string, limit: number): Promise<Uint8Array> {
    return this.#perform(async (client) => {
      try {
        return await client.blob('ZPRINT', what, limit);
      } catch (error) {
        if (client.failure !== undefined) {
          throw error;
        }
        return await client.blob('PRINT', what, limit);
      }
    });
  }

  async readAttribute(address: AttributeAddress): Promise<string> {
    const value = await this.#perform((client) =>
      client.blob(`READ ${words(address)}`, `read ${address.path}`, MAX_VALUE_BYTES),
    );
    const end = value.indexOf(0);
    return decoder.decode(end < 0 ? value : value.subarray(0, end));
  }

  async writeAttribute(address: AttributeAddress, value: string): Promise<void> {
    const bytes = encoder.encode(`${value}\0`);
    await this.#perform((client) =>
      client.status(`WRITE ${words(address)} ${bytes.length}`, `write '${value}' to ${address.path}`, bytes),
    );
  }

  async readTrigger(device: DeviceAddress): Promise<string | undefined> {
    try {
      const what = `read the trigger of ${device.id}`;
      const name = await this.#perform((client) => client.blob(`GETTRIG ${device.id}`, what, MAX_VALUE_BYTES));
      return decoder.decode(name).replace(/[\0\n].*$/s, '') || undefined;
    } catch (error) {
      // iiod 0.2x reads a file that is empty then, and takes that for an error; later ones have an errno for it.
      if (error instanceof IioError && (error.code === 'ENODEV' || error.code === 'EIO')) {
        return undefined;
      }
      throw error;
    }
  }

  async writeTrigger(device: DeviceAddress, trigger: DeviceAddress | undefined): Promise<void> {
    const what = `set the trigger of ${device.id} to ${trigger?.id ?? 'none'}`;
    const command = trigger === undefined ? `SETTRIG ${device.id}` : `SETTRIG ${device.id} ${trigger.id}`;
    await this.#perform((client) => client.status(command, what));
  }

  readRegister(device: DeviceAddress): Promise<never> {
    return Promise.reject(unsupported(`registers of ${device.id}`));
  }

  writeRegister(device: DeviceAddress): Promise<never> {
    return Promise.reject(unsupported(`registers of ${device.id}`));
  }

  async openCapture(plan: StreamPlan, sink: CaptureSink): Promise<Capture> {
    return await TextCapture.open(await this.#bufferClient(plan), plan, sink);
  }

  async openPlayback(plan: StreamPlan, cyclic: boolean, sink: PlaybackSink): Promise<Playback> {
    return await TextPlayback.open(await this.#bufferClient(plan), plan, cyclic, sink);
  }

  openEvents(device: DeviceAddress): Promise<EventSource> {
    return Promise.reject(unsupported(`events of ${device.id}`));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#client.close();
  }

  async #bufferClient({ bufferIndex, what }: StreamPlan): Promise<TextClient> {
    if (bufferIndex !== 0) {
      throw unsupported(what);
    }
    return await TextClient.start(await this.#transport.openLink('buffer'), this.#options);
  }

  async #perform<T>(work: (client: TextClient) => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      const { failure } = this.#client;
      if (failure !== undefined && failure.code !== 'DISCONNECTED' && !this.#closed) {
        this.#options.logger.debug(() => `${this.#client.name}: opening it anew, ${failure.message}`);
        await this.#client.close();
        this.#client = await TextClient.start(await this.#transport.openLink('main'), this.#options);
      }
      return await work(this.#client);
    });
    this.#queue = turn.catch((error: unknown) => {
      if (error instanceof IioError && error.code === 'DISCONNECTED') {
        this.#lost ??= error;
      }
    });
    return await turn;
  }
}

function words({ kind, device, channel, name, path }: AttributeAddress): string {
  for (const word of [device.id, name, channel?.id ?? '']) {
    if (/\s/.test(word)) {
      throw new IioError('EINVAL', `${path}: a name with a blank cannot be said in the text protocol`);
    }
  }
  switch (kind) {
    case 'device':
      return `${device.id} ${name}`;
    case 'debug':
      return `${device.id} DEBUG ${name}`;
    case 'buffer':
      return `${device.id} BUFFER ${name}`;
    case 'channel':
      return `${device.id} ${channel?.direction === 'out' ? 'OUTPUT' : 'INPUT'} ${channel?.id} ${name}`;
    default:
      throw unsupported(path);
  }
}

function unsupported(what: string): IioError {
  return new IioError('ENOSYS', `${what}: the server speaks libiio 0.x's text protocol, which has no words for this`);
}
