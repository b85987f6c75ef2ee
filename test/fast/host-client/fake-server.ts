import {
  BINARY_HANDSHAKE,
  type ContextDescription,
  codeHigh,
  codeLow,
  contextToXml,
  decodeFrameHeader,
  decodeU64,
  EXPLAIN_OP,
  encodeFrameHeader,
  type FrameHeader,
  type Generation,
  LATEST_GENERATION,
  type Operation,
  operationOf,
  parseScanFormat,
  STREAM_OPTIONS_OP,
} from '@iio-bridge/protocol';
import type { LinkRole } from '../../../host-client/src/core/link.js';
import { type FakeLink, FakeTransport, type FakeTransportOptions, type LinkServer } from './fake-bus.js';

/** An ADC with four 16-bit channels whose sample set is a running 64-bit counter, as the lab's simulated device. */
export const CONTEXT: ContextDescription = {
  name: 'local',
  description: 'Linux fake',
  version: { major: 1, minor: 0, git: 'v1.0' },
  attributes: new Map([['hw_model', 'Fake']]),
  devices: [
    {
      id: 'iio:device10',
      name: 'other',
      channels: [],
      buffers: [],
      attributes: [{ name: 'b' }],
      debugAttributes: [],
      eventAttributes: [],
    },
    {
      id: 'iio:device2',
      name: 'adc',
      label: 'front end',
      channels: [0, 1, 2, 3].map((index) => ({
        id: `voltage${index}`,
        direction: 'in' as const,
        scanElement: { index, format: parseScanFormat('le:S16/16>>0') },
        attributes: [{ name: 'raw' }, { name: 'offset' }],
        eventAttributes: [],
      })),
      buffers: [{ index: 0, direction: 'in', attributes: [{ name: 'watermark' }], channels: [0, 1, 2, 3] }],
      attributes: [{ name: 'sampling_frequency' }, { name: 'Zero' }],
      debugAttributes: [{ name: 'direct_reg_access' }],
      eventAttributes: [],
    },
  ],
};

/** Device number of `iio:device2` on the wire: `iio:device10` sorts before it. */
export const ADC = 1;

export interface FakeServerOptions extends Omit<FakeTransportOptions, 'serve'> {
  readonly context?: ContextDescription;
  /** What PRINT answers, instead of the context's XML. */
  readonly document?: Uint8Array;
  /** Whose opcodes it knows; others break the test. */
  readonly generation?: Generation;
  /** Answer to BINARY; `undefined` stays silent. */
  readonly handshake?: string | undefined;
  /** Bytes left over from an earlier session, sent before the answer to BINARY. */
  readonly stale?: readonly Uint8Array[];
  /** Return true if the request was dealt with. */
  readonly intercept?: (request: FakeRequest) => boolean;
  /** No block is ever filled. */
  readonly noSamples?: boolean;
  /** Answers to send for the n-th block (from 0) before its samples: codes of failed dequeues or enqueues. */
  readonly blockFailures?: ReadonlyMap<number, number>;
  /** Blocks that go out before the answer to ENABLE. */
  readonly blocksBeforeEnabled?: number;
  /** Sends a block in another form than libiio's. */
  readonly answerBlock?: ((link: FakeLink, clientId: number, samples: Uint8Array) => void) | undefined;
  /** What EXPLAIN answers. */
  readonly explanation?: string;
  /** Bytes of the n-th block, if not what was asked for. */
  readonly blockBytes?: (block: number, asked: number) => number;
}

export interface FakeRequest {
  readonly link: FakeLink;
  readonly header: FrameHeader;
  readonly operation: Operation;
  readonly payload: Uint8Array;
  answer(code: number, payload?: Uint8Array): void;
}

/** A libiio 1.0 server with an ADC, on fake links. One transfer per item, as on USB. */
export class FakeServer {
  readonly transport: FakeTransport;
  /** Operations in the order of arrival, with the role of their link. */
  readonly log: string[] = [];
  streamOptions: unknown;
  readonly written = new Map<string, string>();
  /** Payloads of blocks for an output. */
  readonly blocksReceived: Uint8Array[] = [];
  readonly options: FakeServerOptions;
  /** Most transfers of blocks that were outstanding at a time. */
  mostQueued = 0;
  readonly #queue: { readonly request: FakeRequest; readonly bytes: number }[] = [];
  #enabled = false;
  #blocksSent = 0;
  #counter = 0n;

  constructor(options: FakeServerOptions = {}) {
    this.options = options;
    this.transport = new FakeTransport({ ...options, serve: (link, role) => this.#serve(link, role) });
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** Ends a link's session, as CLOSE_PIPE does. */
  #endSession(role: LinkRole): void {
    this.log.push(`${role}: closed`);
    if (role === 'buffer') {
      this.#queue.length = 0;
      this.#enabled = false;
    }
  }

  #serve(link: FakeLink, role: LinkRole): LinkServer {
    let binary = false;
    let extension: number | undefined;
    let pending: { header: FrameHeader; operation: Operation; parts: Uint8Array[] } | undefined;
    return {
      onClosed: () => this.#endSession(role),
      onTransfer: (bytes) => {
        if (!binary) {
          if (Buffer.compare(bytes, BINARY_HANDSHAKE) !== 0) {
            throw new Error(`handshake expected, got ${Buffer.from(bytes).toString('hex')}`);
          }
          for (const stale of this.options.stale ?? []) {
            link.send(stale);
          }
          const handshake = 'handshake' in this.options ? this.options.handshake : '0\n';
          if (handshake !== undefined) {
            link.send(Buffer.from(handshake));
          }
          binary = true;
          return;
        }
        if (Buffer.compare(bytes, BINARY_HANDSHAKE) === 0) {
          link.send(Buffer.from('0\r\n'));
          return;
        }
        if (extension === STREAM_OPTIONS_OP) {
          // The length, then the text.
          if (bytes.length > 4) {
            extension = undefined;
            this.streamOptions = JSON.parse(Buffer.from(bytes).toString());
            link.send(encodeFrameHeader({ clientId: 0, op: 0, dev: 0, code: 0 }));
          }
          return;
        }
        if (pending === undefined) {
          const header = decodeFrameHeader(bytes, 0);
          if (header.op === EXPLAIN_OP || header.op === STREAM_OPTIONS_OP) {
            if (header.op === STREAM_OPTIONS_OP) {
              extension = header.op;
            } else {
              const text = Buffer.from(this.options.explanation ?? '');
              link.send(encodeFrameHeader({ clientId: 0, op: 0, dev: 0, code: text.length }));
              sendChunks(link, text);
            }
            return;
          }
          const operation = operationOf(this.options.generation ?? LATEST_GENERATION, header.op);
          if (operation === undefined || (bytes.length !== 8 && operation !== 'TRANSFER_BLOCK')) {
            throw new Error(`header expected, got ${Buffer.from(bytes).toString('hex')}`);
          }
          pending = { header, operation, parts: bytes.length > 8 ? [bytes.slice(8)] : [] };
        } else {
          pending.parts.push(bytes);
        }
        const { header, operation, parts } = pending;
        const output = this.#isOutput(header.dev) && ['TRANSFER_BLOCK', 'ENQUEUE_BLOCK_CYCLIC'].includes(operation);
        if (parts.length < partsOf(operation) + (output ? 1 : 0)) {
          return;
        }
        pending = undefined;
        if (output) {
          this.blocksReceived.push(parts.at(-1) ?? new Uint8Array());
        }
        const payload = parts.at(-1) ?? new Uint8Array();
        const request: FakeRequest = {
          link,
          header,
          operation,
          payload,
          answer: (code, answer) => {
            if (!link.isClosed) {
              link.send(encodeFrameHeader({ clientId: answeredAs(operation, header), op: 0, dev: 0, code }));
              sendChunks(link, answer ?? new Uint8Array());
            }
          },
        };
        this.log.push(`${role}: ${operation}${detail(operation, header)}`);
        if (this.options.intercept?.(request) !== true) {
          this.#answer(request);
        }
      },
    };
  }

  #isOutput(device: number): boolean {
    const devices = (this.options.context ?? CONTEXT).devices;
    return device === ADC && devices.some(({ buffers }) => buffers[0]?.direction === 'out');
  }

  #answer(request: FakeRequest): void {
    const { operation, header, payload } = request;
    switch (operation) {
      case 'PRINT': {
        const document = this.options.document ?? Buffer.from(contextToXml(this.options.context ?? CONTEXT));
        request.answer(document.length, document);
        break;
      }
      case 'READ_ATTR':
      case 'READ_DBG_ATTR':
      case 'READ_BUF_ATTR':
      case 'READ_CHN_ATTR': {
        const key = `${operation.slice(5)} ${header.dev} ${codeHigh(header.code)} ${codeLow(header.code)}`;
        const value = Buffer.from(`${this.written.get(key) ?? key}\0`);
        request.answer(value.length, value);
        break;
      }
      case 'WRITE_ATTR':
      case 'WRITE_DBG_ATTR':
      case 'WRITE_BUF_ATTR':
      case 'WRITE_CHN_ATTR': {
        const key = `${operation.slice(6)} ${header.dev} ${codeHigh(header.code)} ${codeLow(header.code)}`;
        this.written.set(key, Buffer.from(payload).toString().replace(/\0$/, ''));
        request.answer(payload.length);
        break;
      }
      case 'OPEN_BUFFER':
        this.#counter = 0n;
        this.#blocksSent = 0;
        request.answer(payload.length, payload);
        break;
      case 'TRANSFER_BLOCK':
        this.#queue.push({ request, bytes: Number(decodeU64(payload, 0)) });
        this.mostQueued = Math.max(this.mostQueued, this.#queue.length);
        this.#produce();
        break;
      case 'RETRY_DEQUEUE_BLOCK':
        this.#sendBlock(request, this.#retrying);
        break;
      case 'ENABLE_BUFFER':
        this.#enabled = true;
        for (let early = 0; early < (this.options.blocksBeforeEnabled ?? 0); early++) {
          this.#produceOne();
        }
        request.answer(0);
        this.#produce();
        break;
      default:
        request.answer(0);
    }
  }

  #produce(): void {
    while (this.#enabled && this.options.noSamples !== true && this.#queue.length > 0) {
      this.#produceOne();
    }
  }

  #retrying = 0;

  #produceOne(): void {
    const next = this.#queue.shift();
    if (next === undefined) {
      return;
    }
    const failure = this.options.blockFailures?.get(this.#blocksSent);
    if (failure === undefined) {
      this.#sendBlock(next.request, next.bytes);
    } else {
      this.#blocksSent++;
      this.#retrying = next.bytes;
      next.request.answer(failure);
    }
  }

  #sendBlock(request: FakeRequest, asked: number): void {
    const bytes = this.options.blockBytes?.(this.#blocksSent, asked) ?? asked;
    this.#blocksSent++;
    const samples = new BigUint64Array(Math.ceil(bytes / 8));
    for (let i = 0; i < samples.length; i++) {
      samples[i] = this.#counter++;
    }
    const { answerBlock } = this.options;
    if (answerBlock === undefined) {
      request.answer(bytes, new Uint8Array(samples.buffer));
    } else {
      answerBlock(request.link, request.header.clientId, new Uint8Array(samples.buffer));
    }
  }
}

/** Transfers after the header. */
function partsOf(operation: Operation): number {
  if (operation.startsWith('WRITE_')) {
    return 2;
  }
  return ['OPEN_BUFFER', 'CREATE_BLOCK', 'TRANSFER_BLOCK', 'ENQUEUE_BLOCK_CYCLIC', 'REG_WRITE'].includes(operation)
    ? 1
    : 0;
}

function answeredAs(operation: Operation, header: FrameHeader): number {
  const echoed = operation.endsWith('_BLOCK') || operation === 'ENQUEUE_BLOCK_CYCLIC';
  return echoed ? header.clientId : 0;
}

function detail(operation: Operation, header: FrameHeader): string {
  return operation.endsWith('_BLOCK') || operation === 'ENQUEUE_BLOCK_CYCLIC'
    ? ` ${codeHigh(header.code)} id ${header.clientId}`
    : '';
}

function sendChunks(link: FakeLink, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 1024 * 1024) {
    link.send(bytes.subarray(at, at + 1024 * 1024));
  }
}
