/** The numbers of a block record that are summed up; without the objects of `decodeBlockRecord`. */
export interface RecordCounts {
  readonly lostSets: number;
  readonly exact: boolean;
}

const TWO_TO_32 = 2 ** 32;
const LOST_SETS_AT = 16;
const EPOCH_AT = 32;
const FLAGS_AT = 36;

/** Whether something is missing before the block, which is rare. */
export function tellsLoss(record: Uint8Array<ArrayBuffer>): boolean {
  for (let at = LOST_SETS_AT; at < EPOCH_AT; at++) {
    if (record[at] !== 0) {
      return true;
    }
  }
  return false;
}

/** Offsets: `encodeBlockRecord`. */
export function readCounts(record: Uint8Array<ArrayBuffer>): RecordCounts {
  return {
    lostSets: readU64(record, LOST_SETS_AT),
    exact: isExact(record),
  };
}

/** Without a loss: whether it is known that there was none. */
export function isExact(record: Uint8Array<ArrayBuffer>): boolean {
  return ((record[FLAGS_AT] ?? 0) & 1) !== 0;
}

function readU64(bytes: Uint8Array<ArrayBuffer>, at: number): number {
  return readU32(bytes, at) + readU32(bytes, at + 4) * TWO_TO_32;
}

function readU32(bytes: Uint8Array<ArrayBuffer>, at: number): number {
  const high = bytes[at + 3] ?? 0;
  return (((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16)) + high * 2 ** 24) >>> 0;
}
