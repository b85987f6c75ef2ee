/**
 * What the host and the agent in the guest say to each other over one byte stream. A message is a frame: the magic
 * number, the length of the JSON head and the length of the body (all u32, little-endian), then both. `id` is chosen by
 * the host and names a process or a file operation until its last message.
 */

/** Requests of the host. */
export type AgentRequest =
  | {
      readonly type: 'spawn';
      readonly id: number;
      readonly argv: readonly string[];
      readonly env: Readonly<Record<string, string>>;
      readonly cwd: string;
    }
  /** The body goes to the process's standard input. */
  | { readonly type: 'input'; readonly id: number }
  | { readonly type: 'end-input'; readonly id: number }
  /** Sends a signal to the process group. */
  | { readonly type: 'kill'; readonly id: number; readonly signal: NodeJS.Signals }
  | { readonly type: 'read'; readonly id: number; readonly path: string }
  /** The body is written with one `write()`, as sysfs and `/dev/kmsg` want it. */
  | { readonly type: 'write'; readonly id: number; readonly path: string; readonly append: boolean }
  | { readonly type: 'ping' }
  | { readonly type: 'shutdown' };

/** Messages of the agent. */
export type AgentEvent =
  | { readonly type: 'ready'; readonly protocol: number }
  | { readonly type: 'started'; readonly id: number; readonly pid: number }
  | { readonly type: 'output'; readonly id: number; readonly stream: 'stdout' | 'stderr' }
  /** The process ended and its output is complete. */
  | { readonly type: 'exited'; readonly id: number; readonly code: number | null; readonly signal: string | null }
  | { readonly type: 'data'; readonly id: number; readonly last: boolean }
  | { readonly type: 'written'; readonly id: number }
  /** The operation failed; `code` is an errno name if the kernel gave one. */
  | { readonly type: 'failed'; readonly id: number; readonly code: string; readonly message: string }
  /** So many bytes of the channel have been read: see WindowedWriter. */
  | { readonly type: 'taken'; readonly bytes: number }
  | { readonly type: 'pong' };

/** Raised when a message changes: an agent compiled from other sources is refused at boot. */
export const AGENT_PROTOCOL = 1;

/** Largest body of one frame in bytes: small enough that a ping passes quickly between the frames of a long transfer. */
export const MAX_BODY = 64 * 1024;

const MAGIC = 0x4c_41_42_31;
const PREFIX = 12;
const MAX_HEAD = 4 * 1024 * 1024;

/** Cuts bytes into bodies. */
export function* bodiesOf(data: string | Uint8Array): Generator<Buffer> {
  const bytes =
    typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < bytes.length; at += MAX_BODY) {
    yield bytes.subarray(at, at + MAX_BODY);
  }
}

export interface AgentFrame<Message> {
  readonly message: Message;
  readonly body: Buffer;
}

const NOTHING = Buffer.alloc(0);

export function encodeFrame(message: AgentRequest | AgentEvent, body: Uint8Array = NOTHING): Buffer {
  const head = Buffer.from(JSON.stringify(message));
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32LE(MAGIC, 0);
  prefix.writeUInt32LE(head.length, 4);
  prefix.writeUInt32LE(body.length, 8);
  return Buffer.concat([prefix, head, body]);
}

/** Splits a byte stream into frames. Holds the bytes of the frame that is not complete yet. */
export class FrameDecoder<Message extends AgentRequest | AgentEvent> {
  readonly #chunks: Buffer[] = [];
  #held = 0;
  #wanted = PREFIX;

  /**
   * The frames that `chunk` completes.
   * @throws Error if the bytes are not frames: the stream cannot be used any more.
   */
  push(chunk: Buffer): AgentFrame<Message>[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    const frames: AgentFrame<Message>[] = [];
    if (this.#held < this.#wanted) {
      return frames;
    }
    let bytes = Buffer.concat(this.#chunks);
    this.#wanted = PREFIX;
    while (bytes.length >= PREFIX) {
      const headLength = bytes.readUInt32LE(4);
      const bodyLength = bytes.readUInt32LE(8);
      if (bytes.readUInt32LE(0) !== MAGIC || headLength > MAX_HEAD || bodyLength > MAX_BODY) {
        throw new Error(`not a frame: ${bytes.subarray(0, 32).toString('latin1')}`);
      }
      const end = PREFIX + headLength + bodyLength;
      if (bytes.length < end) {
        this.#wanted = end;
        break;
      }
      const head: Message = JSON.parse(bytes.toString('utf8', PREFIX, PREFIX + headLength));
      frames.push({ message: head, body: bytes.subarray(PREFIX + headLength, end) });
      bytes = bytes.subarray(end);
    }
    this.#chunks.length = 0;
    this.#chunks.push(bytes);
    this.#held = bytes.length;
    return frames;
  }
}
