import { describe, expect, it } from 'vitest';
import {
  BLOCK_ANSWER_OP,
  BLOCK_RECORD_BYTES,
  type BlockRecord,
  decodeBlockRecord,
  EXPLAIN_OP,
  encodeBlockRecord,
  GENERATIONS,
  opcodeCount,
  STREAM_OPTIONS_OP,
} from '../../../protocol/src/index.js';

const RECORD: BlockRecord = {
  sequence: 0x0102030405060708n,
  capturedAtNs: 1_764_000_000_123_456_789n,
  lostSets: 1001n,
  gapNs: 1_001_000n,
  epoch: 7,
  exact: true,
  dropped: false,
};

describe('block records', () => {
  it('have the layout of docs/EXTENSIONS.md', () => {
    const bytes = encodeBlockRecord(RECORD);
    const view = new DataView(bytes.buffer);
    expect(bytes.byteLength).toBe(BLOCK_RECORD_BYTES);
    expect(bytes[0]).toBe(8);
    expect(view.getBigUint64(16, true)).toBe(1001n);
    expect([view.getUint32(32, true), view.getUint32(36, true)]).toEqual([7, 1]);
  });

  it.each([RECORD, { ...RECORD, exact: false, dropped: true }])('survive the wire, at any offset', (record) => {
    const padded = new Uint8Array(BLOCK_RECORD_BYTES + 3);
    padded.set(encodeBlockRecord(record), 3);
    expect(decodeBlockRecord(padded, 3)).toEqual(record);
    expect(() => decodeBlockRecord(padded, 4)).toThrow(RangeError);
  });
});

it('the opcodes are above those of every generation of libiio', () => {
  for (const op of [STREAM_OPTIONS_OP, EXPLAIN_OP, BLOCK_ANSWER_OP]) {
    expect(Math.max(...GENERATIONS.map(opcodeCount))).toBeLessThan(op);
  }
});
