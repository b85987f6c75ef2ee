/** Size of the header that starts every request and every response of the binary protocol. */
export const FRAME_HEADER_BYTES = 8;

/** The `op` of a response. */
export const RESPONSE_OP = 0;

/** `BINARY\r\n`: the text command that switches a link to the binary protocol (answer: `0\n`). */
export const BINARY_HANDSHAKE: Uint8Array = Uint8Array.of(0x42, 0x49, 0x4e, 0x41, 0x52, 0x59, 0x0d, 0x0a);

/** Little-endian on the wire: u16, u8, u8, i32. */
export interface FrameHeader {
  /** Conversation that the host chose; 0 is the default one, blocks use block index + 1. */
  readonly clientId: number;
  /** Opcode of the link's generation; {@link RESPONSE_OP} in a response. */
  readonly op: number;
  /** Position of the device in the context; meaningless in responses and in PRINT, TIMEOUT and NOP. */
  readonly dev: number;
  /** Argument of a request (signed 32 bits, see {@link packCode}); status or payload length of a response. */
  readonly code: number;
}

/** Fields are truncated to their width, as C would. */
export function encodeFrameHeader(header: FrameHeader): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, header.clientId, true);
  view.setUint8(2, header.op);
  view.setUint8(3, header.dev);
  view.setInt32(4, header.code, true);
  return bytes;
}

/** @throws RangeError if fewer than {@link FRAME_HEADER_BYTES} bytes follow `offset` */
export function decodeFrameHeader(bytes: Uint8Array, offset = 0): FrameHeader {
  const view = viewOf(bytes, offset, FRAME_HEADER_BYTES);
  return {
    clientId: view.getUint16(0, true),
    op: view.getUint8(2),
    dev: view.getUint8(3),
    code: view.getInt32(4, true),
  };
}

/** `high << 16 | low` as a signed 32-bit number: attribute and sub-index, or block and buffer index. */
export function packCode(high: number, low: number): number {
  return ((high & 0xffff) << 16) | (low & 0xffff);
}

/** Upper half of a code, 0 … 65535. */
export function codeHigh(code: number): number {
  return code >>> 16;
}

/** Lower half of a code, 0 … 65535. */
export function codeLow(code: number): number {
  return code & 0xffff;
}

/** Which half of a transfer failed: an enqueue failure leaves the block idle, a dequeue failure leaves it enqueued. */
export interface BlockFailure {
  readonly stage: 'enqueue' | 'dequeue';
  /** Positive errno number. */
  readonly errno: number;
}

/** The response code of a failed block transfer: enqueue errors are shifted into the upper half. */
export function blockFailureCode(failure: BlockFailure): number {
  return failure.stage === 'enqueue' ? -failure.errno << 16 : -failure.errno;
}

/** The inverse of {@link blockFailureCode}; `undefined` for a code that is no error. */
export function blockFailureOf(code: number): BlockFailure | undefined {
  if (code >= 0) return undefined;
  return codeLow(code) === 0 ? { stage: 'enqueue', errno: -(code >> 16) } : { stage: 'dequeue', errno: -code };
}

export function encodeU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function decodeU32(bytes: Uint8Array, offset = 0): number {
  return viewOf(bytes, offset, 4).getUint32(0, true);
}

export function encodeU64(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

export function decodeU64(bytes: Uint8Array, offset = 0): bigint {
  return viewOf(bytes, offset, 8).getBigUint64(0, true);
}

function viewOf(bytes: Uint8Array, offset: number, length: number): DataView {
  if (offset < 0 || offset + length > bytes.byteLength) {
    throw new RangeError(`${length} bytes wanted at offset ${offset} of ${bytes.byteLength}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, length);
}
