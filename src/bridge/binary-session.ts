import {
  ChannelMask,
  codeHigh,
  codeLow,
  decodeFrameHeader,
  decodeU64,
  ERRNO,
  encodeFrameHeader,
  type FrameHeader,
  IioError,
  LATEST_GENERATION,
  type Operation,
  opcodeOf,
  operationOf,
  RESPONSE_OP,
} from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import type { AttributeRef } from '../iio/context.js';
import type { BridgeState } from './bridge-state.js';
import type { Logger } from './logger.js';
import { isHandshake } from './session.js';

/** What libiio's local backend waits for samples when a client does not say. */
const DEFAULT_TIMEOUT_MS = 1000;
/** TIMEOUT's value for "do not wait". */
const NON_BLOCKING = -0x8000_0000;

/** Beyond this a payload is not worth reading to its end: the link is given up instead. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;

const DEFAULT_CLIENT = 0;

/** A positive answer, or a negative errno; `payload` is a transfer of its own. */
interface Answer {
  readonly code: number;
  readonly payload?: Uint8Array;
  readonly clientId?: number;
  /** What is done once the answer is on its way. */
  readonly afterwards?: () => Promise<void>;
}

/**
 * The binary protocol on one link. Requests are executed in the order of their arrival, each is answered exactly once,
 * and the payload that its opcode implies is consumed whatever becomes of it. Block requests of a stream do not come
 * here: the data plane executes them.
 */
export class BinarySession {
  readonly #link: Link;
  readonly #state: BridgeState;
  readonly #owner: object;
  readonly #log: Logger;
  #timeoutMs = DEFAULT_TIMEOUT_MS;

  /** `owner`: whose buffers those are that are opened here. */
  constructor(link: Link, state: BridgeState, owner: object, log: Logger) {
    this.#link = link;
    this.#state = state;
    this.#owner = owner;
    this.#log = log;
  }

  /** Serves requests until the link ends. @throws {IioError} `ESHUTDOWN` when it does; `EPROTO` for what no client sends. */
  async run(): Promise<void> {
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
      const operation = operationOf(LATEST_GENERATION, header.op);
      if (operation === undefined) {
        throw new IioError('EPROTO', `a client sent opcode ${header.op}, which this protocol does not have`);
      }
      await this.#serve(operation, header);
    }
  }

  async #serve(operation: Operation, header: FrameHeader): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.#execute(operation, header);
    } catch (error) {
      if (!(error instanceof IioError) || error.code === 'ESHUTDOWN' || error.code === 'EPROTO') {
        throw error;
      }
      this.#log.debug({ operation, code: error.code }, error.message);
      answer = { code: -(error.errno ?? ERRNO.EIO), clientId: failureClient(operation, header) };
    }
    const { code, payload, clientId = DEFAULT_CLIENT } = answer;
    const response = encodeFrameHeader({ clientId, op: RESPONSE_OP, dev: 0, code });
    this.#link.send(...(payload === undefined || payload.byteLength === 0 ? [response] : [response, payload]));
    await answer.afterwards?.();
  }

  async #execute(operation: Operation, header: FrameHeader): Promise<Answer> {
    const { context, buffers } = this.#state;
    const { backend } = context;
    const { dev: device, code } = header;
    switch (operation) {
      case 'PRINT':
        return withPayload(context.xml);
      case 'TIMEOUT':
        return await this.#setTimeout(code);
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
        await buffers.close(device, codeLow(code));
        return { code: 0 };
      case 'ENABLE_BUFFER': {
        const buffer = await buffers.get(device, codeLow(code));
        await buffer.enable();
        return { code: 0, afterwards: () => buffer.start() };
      }
      case 'DISABLE_BUFFER':
        await (await buffers.get(device, codeLow(code))).disable();
        return { code: 0 };
      case 'CREATE_BLOCK':
        return await this.#createBlock(header);
      case 'FREE_BLOCK':
        await (await buffers.get(device, codeLow(code))).freeBlock(codeHigh(code));
        return { code: 0, clientId: header.clientId };
      case 'TRANSFER_BLOCK':
        return await this.#refuseTransfer(header);
      case 'RETRY_DEQUEUE_BLOCK':
        throw new IioError('EBADF', `there is no block ${codeHigh(code)} to wait for`);
      case 'ENQUEUE_BLOCK_CYCLIC':
        throw new IioError('EPROTO', 'a client sent a cyclic block, whose payload length cannot be known for an input');
      case 'READ_EVENT':
      case 'FREE_EVSTREAM':
        throw new IioError('EBADF', 'there is no such event stream');
      case 'CREATE_EVSTREAM':
      case 'REG_READ':
        throw new IioError('ENOSYS', `${operation} is not supported`);
      case 'REG_WRITE':
        await this.#link.read(4);
        throw new IioError('ENOSYS', `${operation} is not supported`);
      case 'REFRESH_FORMAT':
        return withPayload(context.format(device, codeLow(code)));
      case 'NOP':
        return { code: 0 };
    }
  }

  async #setTimeout(ms: number): Promise<Answer> {
    if (ms < -1 && ms !== NON_BLOCKING) {
      throw new IioError('EINVAL', `${ms} ms is no time-out`);
    }
    // 0 stands for the default on the wire, and for "for ever" in the data plane.
    this.#timeoutMs = ms === 0 ? DEFAULT_TIMEOUT_MS : ms === -1 ? 0 : ms === NON_BLOCKING ? 1 : ms;
    for await (const buffer of this.#state.buffers.ownedBy(this.#owner)) {
      buffer.setTimeout(this.#timeoutMs);
    }
    return { code: 0 };
  }

  async #writeAttribute(ref: AttributeRef): Promise<Answer> {
    const length = Number(decodeU64(await this.#link.read(8)));
    if (length > this.#state.limits.attributeBytes) {
      await this.#discard(length);
      throw new IioError(
        'EFBIG',
        `a value of ${length} bytes is above the limit of ${this.#state.limits.attributeBytes}`,
      );
    }
    const value = await this.#link.read(length);
    return { code: await this.#state.context.backend.writeAttribute(ref, value) };
  }

  async #openBuffer(device: number, bufferIndex: number): Promise<Answer> {
    const description = this.#state.context.backend.description.devices[device];
    if (description === undefined) {
      throw new IioError(
        'EPROTO',
        `a client opened a buffer of device ${device}, which does not exist, with a mask of unknown length`,
      );
    }
    const maskBytes = await this.#link.read(ChannelMask.empty(description.channels.length).wordCount * 4);
    const buffer = await this.#state.buffers.open(this.#owner, {
      backend: this.#state.context.backend,
      device: description,
      deviceIndex: device,
      bufferIndex,
      mask: ChannelMask.fromBytes(description.channels.length, maskBytes),
      link: this.#link,
      opcodes: BLOCK_OPCODES,
      timeoutMs: this.#timeoutMs,
      memory: this.#state.memory,
      log: this.#log.child({ device: description.id, buffer: bufferIndex }),
    });
    return withPayload(buffer.mask.toBytes());
  }

  async #createBlock(header: FrameHeader): Promise<Answer> {
    const size = Number(decodeU64(await this.#link.read(8)));
    const buffer = await this.#state.buffers.get(header.dev, codeLow(header.code));
    const index = codeHigh(header.code);
    if (index > 0x7fff) {
      throw new IioError('EINVAL', `block index ${index} is above 32767`);
    }
    await this.#reportLimits(buffer.createBlock(index, header.clientId, size));
    return { code: 0, clientId: header.clientId };
  }

  /** A transfer that the data plane did not recognise: no such buffer or block. */
  async #refuseTransfer(header: FrameHeader): Promise<Answer> {
    await this.#link.read(8);
    const device = this.#state.context.backend.description.devices[header.dev];
    const direction = device?.buffers.find((buffer) => buffer.index === codeLow(header.code))?.direction;
    if (direction !== 'in') {
      throw new IioError('EPROTO', 'a client sent samples for a buffer that is not open');
    }
    throw new IioError('EBADF', `there is no block ${codeHigh(header.code)}`);
  }

  /** A client that asks for too much is worth a line in the log. */
  async #reportLimits(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (error instanceof IioError) {
        this.#log.warn({ code: error.code }, error.message);
      }
      throw error;
    }
  }

  async #discard(bytes: number): Promise<void> {
    if (bytes > MAX_DISCARDED_BYTES) {
      throw new IioError('EPROTO', `a client announced a value of ${bytes} bytes`);
    }
    for (let left = bytes; left > 0; ) {
      const piece = Math.min(left, 32 * 1024);
      await this.#link.read(piece);
      left -= piece;
    }
  }
}

const BLOCK_OPCODES = {
  transfer: opcodeOf(LATEST_GENERATION, 'TRANSFER_BLOCK') ?? 0,
  retry: opcodeOf(LATEST_GENERATION, 'RETRY_DEQUEUE_BLOCK') ?? 0,
};

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

function withPayload(payload: Uint8Array): Answer {
  return { code: payload.byteLength, payload };
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
