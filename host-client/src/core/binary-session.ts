import { encodeU32, encodeU64, type Generation, IioError, type Operation, packCode } from '@iio-bridge/protocol';
import { BinaryCapture } from './binary-capture.js';
import { BinaryClient, type ClientOptions } from './binary-client.js';
import { BinaryEvents } from './binary-events.js';
import { BinaryPlayback } from './binary-playback.js';
import type { ControlLink } from './control-link.js';
import { requireProtocol } from './handshake.js';
import type { Transport } from './link.js';
import type {
  AttributeAddress,
  AttributeKind,
  Capture,
  CaptureSink,
  DeviceAddress,
  EventSource,
  Playback,
  PlaybackSink,
  Session,
  StreamPlan,
} from './session.js';

const OPERATIONS = {
  device: ['READ_ATTR', 'WRITE_ATTR'],
  debug: ['READ_DBG_ATTR', 'WRITE_DBG_ATTR'],
  channel: ['READ_CHN_ATTR', 'WRITE_CHN_ATTR'],
  buffer: ['READ_BUF_ATTR', 'WRITE_BUF_ATTR'],
  'device-event': ['READ_DEV_EVT_ATTR', 'WRITE_DEV_EVT_ATTR'],
  'channel-event': ['READ_CHN_EVT_ATTR', 'WRITE_CHN_EVT_ATTR'],
} as const satisfies Record<AttributeKind, readonly [Operation, Operation]>;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** What a server is, beyond its protocol. */
export interface ServerTraits {
  readonly generation: Generation;
  /** It is iio-bridge: it takes a header and its fixed-size payload in one transfer, and blocks that are not full. */
  readonly isBridge: boolean;
  readonly explain: boolean;
}

/** The binary protocol of libiio 1.0 and later. Owns the main link. */
export class BinarySession implements Session {
  readonly protocol = 'binary';
  readonly #transport: Transport;
  readonly #control: ControlLink;
  readonly #options: ClientOptions;
  readonly #traits: ServerTraits;

  constructor(transport: Transport, control: ControlLink, options: ClientOptions, traits: ServerTraits) {
    this.#transport = transport;
    this.#control = control;
    this.#traits = traits;
    this.#options = { ...options, generation: traits.generation, explain: traits.explain };
    control.adapt(traits);
  }

  get lost(): IioError | undefined {
    return this.#control.lost;
  }

  /** Generation C has none, and a server of C ends the link when it gets them; nothing tells it from D. */
  get hasRegisters(): boolean {
    return this.#traits.generation !== 'C';
  }

  async readAttribute(address: AttributeAddress): Promise<string> {
    const [operation] = OPERATIONS[address.kind];
    const { payload } = await this.#control.request({
      operation,
      device: address.device.index,
      code: codeOf(address),
      answer: 'payload',
      what: `read ${address.path}`,
    });
    const end = payload.indexOf(0);
    return decoder.decode(end < 0 ? payload : payload.subarray(0, end));
  }

  async writeAttribute(address: AttributeAddress, value: string): Promise<void> {
    const [, operation] = OPERATIONS[address.kind];
    // With the terminating NUL, which servers expect and count.
    const bytes = encoder.encode(`${value}\0`);
    await this.#control.request({
      operation,
      device: address.device.index,
      code: codeOf(address),
      payload: [encodeU64(bytes.length), bytes],
      answer: 'status',
      what: `write '${value}' to ${address.path}`,
    });
  }

  async readTrigger(device: DeviceAddress): Promise<number | undefined> {
    try {
      const what = `read the trigger of ${device.id}`;
      return (await this.#control.request({ operation: 'GETTRIG', device: device.index, answer: 'status', what })).code;
    } catch (error) {
      if (error instanceof IioError && error.code === 'ENODEV') {
        return undefined;
      }
      throw error;
    }
  }

  async writeTrigger(device: DeviceAddress, trigger: DeviceAddress | undefined): Promise<void> {
    const what = `set the trigger of ${device.id} to ${trigger?.id ?? 'none'}`;
    const code = trigger?.index ?? -1;
    await this.#control.request({ operation: 'SETTRIG', device: device.index, code, answer: 'status', what });
  }

  async readRegister(device: DeviceAddress, register: number): Promise<number> {
    const { payload } = await this.#control.request({
      operation: 'REG_READ',
      device: device.index,
      code: register | 0,
      answer: 'payload',
      what: `read register 0x${register.toString(16)} of ${device.id}`,
    });
    if (payload.length !== 4) {
      throw new IioError('EPROTO', `register 0x${register.toString(16)} of ${device.id}: ${payload.length} bytes came`);
    }
    return new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0, true);
  }

  async writeRegister(device: DeviceAddress, register: number, value: number): Promise<void> {
    await this.#control.request({
      operation: 'REG_WRITE',
      device: device.index,
      code: register | 0,
      payload: [encodeU32(value)],
      answer: 'status',
      what: `write 0x${value.toString(16)} to register 0x${register.toString(16)} of ${device.id}`,
    });
  }

  async openCapture(plan: StreamPlan, sink: CaptureSink): Promise<Capture> {
    return await BinaryCapture.open(await this.#bufferLink(plan), this.#control, this.#traits, plan, sink);
  }

  async openPlayback(plan: StreamPlan, cyclic: boolean, sink: PlaybackSink): Promise<Playback> {
    return await BinaryPlayback.open(await this.#bufferLink(plan), this.#control, this.#traits, plan, cyclic, sink);
  }

  openEvents(device: DeviceAddress): Promise<EventSource> {
    return BinaryEvents.open(this.#control, device);
  }

  async close(): Promise<void> {
    await this.#control.close();
  }

  async #bufferLink({ windowBytes }: StreamPlan): Promise<BinaryClient> {
    const link = await this.#transport.openLink('buffer');
    await requireProtocol('binary', link, this.#options);
    return await BinaryClient.start(link, { ...this.#options, ...(windowBytes === undefined ? {} : { windowBytes }) });
  }
}

function codeOf({ attributeIndex, channel, bufferIndex }: AttributeAddress): number {
  return packCode(attributeIndex, channel?.position ?? bufferIndex);
}
