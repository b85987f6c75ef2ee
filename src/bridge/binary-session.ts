import {
  blockFailureCode,
  ChannelMask,
  codeHigh,
  codeLow,
  type DeviceDescription,
  decodeFrameHeader,
  decodeU32,
  decodeU64,
  ERRNO,
  EXPLAIN_OP,
  encodeFrameHeader,
  encodeU32,
  type FrameHeader,
  IioError,
  type Operation,
  opcodeOf,
  RESPONSE_OP,
  STREAM_OPTIONS_OP,
} from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import type { AttributeRef } from '../iio/context.js';
import type { BridgeState } from './bridge-state.js';
import type { BufferUser } from './buffers.js';
import type { Client } from './client.js';
import { EventStreams } from './event-streams.js';
import { isHandshake } from './handshake.js';
import { LimitError } from './limit-error.js';
import type { Logger } from './logger.js';
import type { BlockOpcodes, OpenBuffer } from './open-buffer.js';
import { Recognition, type Surroundings } from './recognition.js';
import { defaultSettings, parseStreamOptions, type StreamSettings } from './stream-options.js';
import { compressed } from './text/compressed-context.js';

/** What libiio's local backend waits for samples when a client does not say. */
const DEFAULT_TIMEOUT_MS = 1000;
/** TIMEOUT's value for "do not wait". */
const NON_BLOCKING = -0x8000_0000;

/** Beyond this a value is not worth reading to its end: the link is given up instead. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;

const DISCARD_PIECE_BYTES = 32 * 1024;

/** Far more than a client can want to say about a stream. Bytes. */
const MAX_OPTIONS_BYTES = 16 * 1024;

/** Indices from here on are negative in the code's upper half, which libiio shifts down with its sign. */
const MAX_BLOCK_INDEX = 0x7fff;

const DEFAULT_CLIENT = 0;

/** A positive answer, or a negative errno; `payload` is a transfer of its own. */
interface Answer {
  readonly code: number;
  readonly payload?: Uint8Array;
  readonly clientId?: number;
  /** What is done once the answer is on its way. */
  readonly afterwards?: () => Promise<void>;
}

export interface BinarySessionOptions {
  readonly state: BridgeState;
  readonly client: Client;
  /** Whose buffers those are that are opened here. */
  readonly owner: object;
  readonly log: Logger;
}

/**
 * The binary protocol on one link. Requests are executed in the order of their arrival, each is answered exactly once,
 * and the payload that its opcode implies is consumed whatever becomes of it. Block requests of an input do not come
 * here: the data plane executes them.
 *
 * Owns the event streams that are made on the link; its buffers are the caller's to close.
 */
export class BinarySession {
  readonly #link: Link;
  readonly #state: BridgeState;
  readonly #client: Client;
  readonly #user: BufferUser;
  readonly #log: Logger;
  readonly #recognition: Recognition;
  readonly #events: EventStreams;
  /** For the next opening of a buffer, by device and buffer index. */
  readonly #streamSettings = new Map<string, StreamSettings>();
  #timeoutMs = DEFAULT_TIMEOUT_MS;
  /** Why something was refused last. */
  #refusal = '';

  constructor(link: Link, { state, client, owner, log }: BinarySessionOptions) {
    this.#link = link;
    this.#state = state;
    this.#client = client;
    this.#user = { owner, client };
    this.#log = log;
    this.#recognition = new Recognition(state.protocol.generation, client);
    this.#events = new EventStreams(state.dataPlane);
  }

  /** Serves requests until the link ends. @throws {IioError} `ESHUTDOWN` when it does; `EPROTO` for what no client sends. */
  async run(): Promise<void> {
    try {
      for (;;) {
        const bytes = await this.#link.readFrame();
        if (isHandshake(bytes)) {
          this.#link.send(new TextEncoder().encode('0\r\n'));
          continue;
        }
        const header = decodeFrameHeader(bytes);
        if (header.op === RESPONSE_OP) {
          continue;
        }
        if (header.op === STREAM_OPTIONS_OP || header.op === EXPLAIN_OP) {
          await this.#serveExtension(header);
          continue;
        }
        const operation = this.#recognition.operation(header, this.#surroundings);
        if (operation === undefined) {
          throw new IioError('EPROTO', `a client sent opcode ${header.op}, which its protocol does not have`);
        }
        await this.#serve(operation, header);
      }
    } finally {
      await this.#events.close();
    }
  }

  get #surroundings(): Surroundings {
    return {
      description: this.#client.context.backend.description,
      bufferFamily: (device, buffer) => {
        const id = this.#device(device)?.id;
        return id === undefined ? undefined : this.#state.buffers.peek(id, buffer)?.family;
      },
      hasEventStream: (clientId) => this.#events.has(clientId),
    };
  }

  #device(index: number): DeviceDescription | undefined {
    return this.#client.context.backend.description.devices[index];
  }

  async #serve(operation: Operation, header: FrameHeader): Promise<void> {
    let answer: Answer | undefined;
    try {
      answer = await this.#execute(operation, header);
    } catch (error) {
      if (!(error instanceof IioError) || error.code === 'ESHUTDOWN' || error.code === 'EPROTO') {
        throw error;
      }
      this.#refuse(operation, header, error);
    }
    if (answer !== undefined) {
      this.#respond(answer);
      await answer.afterwards?.();
    }
  }

  #respond({ code, payload, clientId = DEFAULT_CLIENT }: Answer): void {
    const response = encodeFrameHeader({ clientId, op: RESPONSE_OP, dev: 0, code });
    this.#link.send(...(payload === undefined || payload.byteLength === 0 ? [response] : [response, payload]));
  }

  async #serveExtension(header: FrameHeader): Promise<void> {
    if (header.op === EXPLAIN_OP) {
      this.#respond(withPayload(new TextEncoder().encode(this.#refusal)));
      return;
    }
    const length = decodeU32(await this.#link.read(4));
    try {
      if (length > MAX_OPTIONS_BYTES) {
        await this.#discard(length, MAX_DISCARDED_BYTES);
        throw new IioError('EINVAL', `stream options of ${length} bytes are above the limit of ${MAX_OPTIONS_BYTES}`);
      }
      this.#setStreamOptions(header.dev, codeLow(header.code), await this.#link.read(length));
      this.#respond({ code: 0 });
    } catch (error) {
      if (!(error instanceof IioError) || error.code === 'ESHUTDOWN' || error.code === 'EPROTO') {
        throw error;
      }
      this.#note(error);
      this.#respond({ code: -errnoOf(error) });
    }
  }

  /** @throws {IioError} `EINVAL`; `ENODEV` without such a buffer. */
  #setStreamOptions(deviceIndex: number, bufferIndex: number, json: Uint8Array): void {
    const device = this.#device(deviceIndex);
    const buffer = device?.buffers.find(({ index }) => index === bufferIndex);
    if (device === undefined || buffer === undefined) {
      throw new IioError('ENODEV', `stream options: device ${deviceIndex} has no buffer ${bufferIndex}`);
    }
    const isOutput = buffer.direction === 'out';
    const settings = parseStreamOptions(json, isOutput ? {} : this.#state.stream);
    if (isOutput && (settings.ring !== undefined || settings.share)) {
      throw new IioError(
        'EINVAL',
        `stream options: buffer ${bufferIndex} of ${device.id} is an output: no ring, no share`,
      );
    }
    this.#streamSettings.set(settingsKey(deviceIndex, bufferIndex), settings);
  }

  #note(error: IioError): void {
    this.#refusal = error.message;
    this.#log[error instanceof LimitError ? 'warn' : 'debug']({ code: error.code }, error.message);
  }

  #refuse(operation: Operation, header: FrameHeader, error: IioError): void {
    this.#note(error);
    this.#respond({ code: -errnoOf(error), clientId: failureClient(operation, header) });
  }

  /** Undefined: somebody else answers, now or later. */
  async #execute(operation: Operation, header: FrameHeader): Promise<Answer | undefined> {
    const { buffers } = this.#state;
    const { backend } = this.#client.context;
    const { dev: device, code, clientId } = header;
    switch (operation) {
      case 'PRINT':
        return withPayload(await smallest(this.#client.renew().xml));
      case 'TIMEOUT':
        return this.#setTimeout(code);
      case 'READ_ATTR':
      case 'READ_DBG_ATTR':
      case 'READ_BUF_ATTR':
      case 'READ_CHN_ATTR':
      case 'READ_DEV_EVT_ATTR':
      case 'READ_CHN_EVT_ATTR':
        return withPayload(await backend.readAttribute(attributeRef(operation, device, code)));
      case 'WRITE_ATTR':
      case 'WRITE_DBG_ATTR':
      case 'WRITE_BUF_ATTR':
      case 'WRITE_CHN_ATTR':
      case 'WRITE_DEV_EVT_ATTR':
      case 'WRITE_CHN_EVT_ATTR':
        return await this.#writeAttribute(attributeRef(operation, device, code));
      case 'GETTRIG':
        return { code: await backend.trigger(device) };
      case 'SETTRIG':
        await backend.setTrigger(device, code === -1 ? undefined : code);
        return { code: 0 };
      case 'OPEN_BUFFER':
        return await this.#openBuffer(device, codeLow(code));
      case 'CLOSE_BUFFER':
        await buffers.close(this.#deviceId(device), codeLow(code), this.#user);
        return { code: 0 };
      case 'ENABLE_BUFFER': {
        const buffer = await this.#buffer(header);
        await buffer.enable();
        return { code: 0, afterwards: () => startUnlessClosed(buffer) };
      }
      case 'DISABLE_BUFFER':
        await (await this.#buffer(header)).disable();
        return { code: 0 };
      case 'CREATE_BLOCK':
        return await this.#createBlock(header);
      case 'FREE_BLOCK':
        await (await this.#buffer(header)).freeBlock(codeHigh(code));
        return { code: 0, clientId };
      case 'TRANSFER_BLOCK':
        return await this.#transfer(header, false);
      case 'ENQUEUE_BLOCK_CYCLIC':
        return await this.#transfer(header, true);
      case 'RETRY_DEQUEUE_BLOCK':
        (await this.#buffer(header)).retry(codeHigh(code));
        return undefined;
      case 'CREATE_EVSTREAM':
        await this.#events.create(clientId, backend, device);
        return { code: 0, clientId };
      case 'FREE_EVSTREAM':
        await this.#events.free(code, device);
        return { code: 0 };
      case 'READ_EVENT':
        this.#readEvent(header);
        return undefined;
      case 'REG_READ':
        return withPayload(encodeU32(await backend.readRegister(device, code >>> 0)));
      case 'REG_WRITE':
        await backend.writeRegister(device, code >>> 0, decodeU32(await this.#link.read(4)));
        return { code: 0 };
      case 'REFRESH_FORMAT':
        return withPayload(this.#client.context.format(device, codeLow(code)));
      case 'NOP':
        return { code: 0 };
    }
  }

  #setTimeout(ms: number): Answer {
    if (ms < -1 && ms !== NON_BLOCKING) {
      throw new IioError('EINVAL', `${ms} ms is no time-out`);
    }
    // 0 stands for the default on the wire, and for "for ever" in the data plane.
    this.#timeoutMs = ms === 0 ? DEFAULT_TIMEOUT_MS : ms === -1 ? 0 : ms === NON_BLOCKING ? 1 : ms;
    for (const buffer of this.#state.buffers.ownedBy(this.#user.owner)) {
      buffer.setTimeout(this.#timeoutMs);
    }
    return { code: 0 };
  }

  async #writeAttribute(ref: AttributeRef): Promise<Answer> {
    const length = Number(decodeU64(await this.#link.read(8)));
    const limit = this.#state.limits.attributeBytes;
    if (length > limit) {
      await this.#discard(length, MAX_DISCARDED_BYTES);
      throw new LimitError('EFBIG', `a value of ${length} bytes is above the limit of ${limit}`);
    }
    const value = await this.#link.read(length);
    return { code: await this.#client.context.backend.writeAttribute(ref, value) };
  }

  async #openBuffer(deviceIndex: number, bufferIndex: number): Promise<Answer> {
    const device = this.#device(deviceIndex);
    if (device === undefined) {
      throw new IioError(
        'EPROTO',
        `a client opened a buffer of device ${deviceIndex}, which does not exist, with a mask of unknown length`,
      );
    }
    const maskBytes = await this.#link.read(ChannelMask.empty(device.channels.length).wordCount * 4);
    const key = settingsKey(deviceIndex, bufferIndex);
    const stream = this.#streamSettings.get(key) ?? defaultSettings(this.#state.stream);
    this.#streamSettings.delete(key);
    const buffer = await this.#state.buffers.open(this.#user, {
      backend: this.#client.context.backend,
      device,
      deviceIndex,
      bufferIndex,
      mask: ChannelMask.fromBytes(device.channels.length, maskBytes),
      link: this.#link,
      family: this.#recognition.family,
      opcodes: this.#blockOpcodes(),
      timeoutMs: this.#timeoutMs,
      memory: this.#state.memory,
      statistics: this.#state.statistics,
      samples: this.#state.dataPlane,
      inputs: this.#state.inputs,
      stream,
      log: this.#log.child({ device: device.id, buffer: bufferIndex }),
    });
    return withPayload(buffer.mask.toBytes());
  }

  #blockOpcodes(): BlockOpcodes {
    const { generation } = this.#recognition;
    return {
      transfer: opcodeOf(generation, 'TRANSFER_BLOCK') ?? RESPONSE_OP,
      retry: opcodeOf(generation, 'RETRY_DEQUEUE_BLOCK') ?? RESPONSE_OP,
    };
  }

  async #createBlock(header: FrameHeader): Promise<Answer> {
    const size = Number(decodeU64(await this.#link.read(8)));
    const buffer = await this.#buffer(header);
    const index = codeHigh(header.code);
    if (index > MAX_BLOCK_INDEX) {
      throw new IioError('EINVAL', `block index ${index} is above ${MAX_BLOCK_INDEX}`);
    }
    await buffer.createBlock(index, header.clientId, size);
    return { code: 0, clientId: header.clientId };
  }

  /** Whether samples follow the request depends on the buffer's direction, which the document says if nothing else does. */
  async #transfer(header: FrameHeader, cyclic: boolean): Promise<Answer | undefined> {
    const bytesUsed = Number(decodeU64(await this.#link.read(8)));
    const index = codeLow(header.code);
    const description = this.#device(header.dev)?.buffers.find((buffer) => buffer.index === index);
    if (description === undefined) {
      throw new IioError('EPROTO', 'a client sent a block for a buffer that does not exist, and of unknown direction');
    }
    if (bytesUsed === 0) {
      throw new IioError('EINVAL', 'a block of 0 bytes cannot be transferred');
    }
    const discard = async (): Promise<void> => {
      if (description.direction === 'out') {
        await this.#discard(bytesUsed, this.#state.memory.maxPayloadBytes);
      }
    };
    try {
      const buffer = this.#state.buffers.peek(this.#deviceId(header.dev), index, this.#user);
      if (buffer === undefined) {
        await discard();
        throw new IioError('EBADF', `buffer ${index} of ${this.#deviceId(header.dev)} is not open`);
      }
      await buffer.transfer({ block: codeHigh(header.code), bytesUsed, cyclic, link: this.#link, discard });
      return undefined;
    } catch (error) {
      if (!(error instanceof IioError) || error.code === 'ESHUTDOWN' || error.code === 'EPROTO') {
        throw error;
      }
      this.#note(error);
      return { code: blockFailureCode({ stage: 'enqueue', errno: errnoOf(error) }), clientId: header.clientId };
    }
  }

  /** Other requests are served in the meantime. */
  #readEvent(header: FrameHeader): void {
    const { clientId, dev: device, code } = header;
    this.#events.read(clientId, device, code === 0).then(
      (payload) => this.#respond({ ...withPayload(payload), clientId }),
      (error: unknown) => {
        const known = error instanceof IioError ? error : new IioError('EIO', String(error), { cause: error });
        this.#refuse('READ_EVENT', header, known);
      },
    );
  }

  async #buffer({ dev, code }: FrameHeader): Promise<OpenBuffer> {
    return await this.#state.buffers.get(this.#deviceId(dev), codeLow(code), this.#user);
  }

  /** @throws {IioError} `EBADF`: no buffer of a device that does not exist is open. */
  #deviceId(index: number): string {
    const device = this.#device(index);
    if (device === undefined) {
      throw new IioError('EBADF', `there is no device ${index}`);
    }
    return device.id;
  }

  async #discard(bytes: number, limit: number): Promise<void> {
    if (bytes > limit) {
      throw new IioError('EPROTO', `a client announced a payload of ${bytes} bytes`);
    }
    for (let left = bytes; left > 0; ) {
      const piece = Math.min(left, DISCARD_PIECE_BYTES);
      await this.#link.read(piece);
      left -= piece;
    }
  }
}

type AttributeOperation = Extract<Operation, `READ_${string}ATTR` | `WRITE_${string}ATTR`>;

/** Attributes are numbered by position: the upper half of the code, with a channel or buffer in the lower half. */
function attributeRef(operation: AttributeOperation, device: number, code: number): AttributeRef {
  const attribute = codeHigh(code);
  const sub = codeLow(code);
  switch (operation) {
    case 'READ_ATTR':
    case 'WRITE_ATTR':
      return { kind: 'device', device, attribute };
    case 'READ_DBG_ATTR':
    case 'WRITE_DBG_ATTR':
      return { kind: 'debug', device, attribute };
    case 'READ_BUF_ATTR':
    case 'WRITE_BUF_ATTR':
      return { kind: 'buffer', device, sub, attribute };
    case 'READ_CHN_ATTR':
    case 'WRITE_CHN_ATTR':
      return { kind: 'channel', device, sub, attribute };
    case 'READ_DEV_EVT_ATTR':
    case 'WRITE_DEV_EVT_ATTR':
      return { kind: 'event', device, attribute };
    case 'READ_CHN_EVT_ATTR':
    case 'WRITE_CHN_EVT_ATTR':
      return { kind: 'channel-event', device, sub, attribute };
  }
}

function settingsKey(device: number, buffer: number): string {
  return `${device}:${buffer}`;
}

function withPayload(payload: Uint8Array): Answer {
  return { code: payload.byteLength, payload };
}

/** Clients tell a zstd frame from raw XML; libiio's make room for 64 KiB of either. */
async function smallest(document: Uint8Array): Promise<Uint8Array> {
  const frame = await compressed(document);
  return frame.byteLength < document.byteLength ? frame : document;
}

/** Another link may close the buffer between the answer to ENABLE_BUFFER and what follows. */
async function startUnlessClosed(buffer: OpenBuffer): Promise<void> {
  try {
    await buffer.start();
  } catch (error) {
    if (!(error instanceof IioError && error.code === 'EBADF')) {
      throw error;
    }
  }
}

function errnoOf(error: IioError): number {
  return error.errno ?? ERRNO.EIO;
}

/** Conversations about blocks and event streams have ids of their own; everything else shares the default one. */
function failureClient(operation: Operation, header: FrameHeader): number {
  switch (operation) {
    case 'CREATE_BLOCK':
    case 'FREE_BLOCK':
    case 'TRANSFER_BLOCK':
    case 'ENQUEUE_BLOCK_CYCLIC':
    case 'RETRY_DEQUEUE_BLOCK':
    case 'CREATE_EVSTREAM':
    case 'READ_EVENT':
      return header.clientId;
    default:
      return DEFAULT_CLIENT;
  }
}
