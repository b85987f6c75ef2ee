import { encodeFrameHeader, encodeU32, encodeU64, type Operation, opcodeOf, packCode } from '@iio-bridge/protocol';
import { pick, type Random, randomBytes } from '../random.js';
import { INPUTS, MONITOR, OUTPUTS, SLOW, SLOW_FOR_TEXT, TRIGGER } from './context.js';

/** Sizes that overflow something, somewhere. */
const HUGE = [2n ** 16n, 70_000n, 2n ** 20n, 2n ** 31n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n];
const CODES = [0, 1, -1, -2, -0x8000_0000, 0x7fff_ffff, packCode(1, 0), packCode(0x7fff, 0), packCode(0xffff, 0xffff)];

const OPERATIONS: readonly Operation[] = [
  'PRINT',
  'TIMEOUT',
  'READ_ATTR',
  'READ_DBG_ATTR',
  'READ_BUF_ATTR',
  'READ_CHN_ATTR',
  'READ_DEV_EVT_ATTR',
  'READ_CHN_EVT_ATTR',
  'WRITE_ATTR',
  'WRITE_DBG_ATTR',
  'WRITE_BUF_ATTR',
  'WRITE_CHN_ATTR',
  'WRITE_DEV_EVT_ATTR',
  'WRITE_CHN_EVT_ATTR',
  'GETTRIG',
  'SETTRIG',
  'OPEN_BUFFER',
  'CLOSE_BUFFER',
  'ENABLE_BUFFER',
  'DISABLE_BUFFER',
  'CREATE_BLOCK',
  'FREE_BLOCK',
  'TRANSFER_BLOCK',
  'ENQUEUE_BLOCK_CYCLIC',
  'RETRY_DEQUEUE_BLOCK',
  'CREATE_EVSTREAM',
  'FREE_EVSTREAM',
  'READ_EVENT',
  'REG_READ',
  'REG_WRITE',
  'REFRESH_FORMAT',
  'NOP',
];

/** A request as a client might send it, about things that may be there. */
export function wellFormed(random: Random): Uint8Array {
  const operation = pick(random, OPERATIONS);
  const op = opcodeOf('G', operation) ?? 0;
  const dev = pick(random, [...INPUTS, ...OUTPUTS, ...OUTPUTS, SLOW, SLOW_FOR_TEXT, MONITOR, TRIGGER, 200]);
  const clientId = pick(random, [0, 1, 2, 0xffff]);
  const code = operation === 'TIMEOUT' ? 1 + random(100) : packCode(random(4), random(4) === 0 ? 1 : 0);
  return Buffer.concat([encodeFrameHeader({ clientId, op, dev, code }), ...payload(random, operation, dev)]);
}

function payload(random: Random, operation: Operation, dev: number): Uint8Array[] {
  const length = pick(random, [0, 4, 8, 64, 64, random(300), random(8) === 0 ? random(80_000) : 16]);
  switch (operation) {
    case 'OPEN_BUFFER':
      return [Uint8Array.of(random(4), 0, 0, 0)];
    case 'CREATE_BLOCK':
      return [encodeU64(BigInt(pick(random, [64, 64, 64, 0, 1, 4096, 65_536, 2 ** 21])))];
    case 'REG_WRITE':
      return [encodeU32(random(2 ** 32))];
    case 'TRANSFER_BLOCK':
    case 'ENQUEUE_BLOCK_CYCLIC':
      return OUTPUTS.some((output) => output === dev)
        ? [encodeU64(length), randomBytes(random, length)]
        : [encodeU64(length)];
    default:
      return operation.startsWith('WRITE_') ? [encodeU64(length), randomBytes(random, length)] : [];
  }
}

/** A header of any opcode, with something behind it that may or may not belong to it. */
function anyFrame(random: Random): Uint8Array {
  const header = encodeFrameHeader({
    clientId: pick(random, [0, 1, 0xffff, random(0x10000)]),
    op: pick(random, [random(33), random(33), random(33), random(256)]),
    dev: pick(random, [...INPUTS, ...OUTPUTS, SLOW, MONITOR, random(256)]),
    code: pick(random, [...CODES, random(2 ** 32) | 0]),
  });
  const length = pick(random, [0, 1, 4, 8, 64, random(300)]);
  switch (random(6)) {
    case 0:
      return header.subarray(0, random(8));
    case 1:
      return Buffer.concat([header, encodeU64(pick(random, HUGE))]);
    case 2:
      return Buffer.concat([header, Uint8Array.of(3, 0, 0, 0)]);
    case 3:
      return Buffer.concat([header, encodeU64(length), randomBytes(random, random(length + 8))]);
    case 4:
      return Buffer.concat([header, encodeU64(length), randomBytes(random, length)]);
    default:
      return header;
  }
}

/** One case for a link in binary mode. */
export function binaryCase(random: Random): Uint8Array {
  switch (random(10)) {
    case 0:
      return randomBytes(random, random(64));
    case 1:
      return new TextEncoder().encode('BINARY\r\n');
    case 2:
    case 3:
      return anyFrame(random);
    case 4:
    case 5:
    case 6:
      return mutated(random, wellFormed(random));
    default:
      return wellFormed(random);
  }
}

/** The same with a byte or two changed, a part missing, doubled, or too much. */
export function mutated(random: Random, bytes: Uint8Array): Uint8Array {
  const copy = Buffer.from(bytes);
  const at = random(Math.max(1, copy.length));
  switch (random(7)) {
    case 0:
      return copy.subarray(0, at);
    case 1:
      return Buffer.concat([copy, randomBytes(random, 1 + random(16))]);
    case 2:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(random(at + 1))]);
    case 3:
      return Buffer.concat([copy.subarray(0, at), randomBytes(random, 1 + random(4)), copy.subarray(at)]);
    case 4:
      if (copy.length >= 16) {
        copy.writeBigUInt64LE(pick(random, HUGE), 8);
      }
      return copy;
    case 5:
      copy[at] = (copy[at] ?? 0) ^ (1 << random(8));
      return copy;
    default:
      copy[at] = pick(random, [0, 1, 0x7f, 0x80, 0xff, random(256)]);
      return copy;
  }
}
