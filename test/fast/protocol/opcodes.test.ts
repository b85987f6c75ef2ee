import { describe, expect, it } from 'vitest';
import {
  type Generation,
  generationFromXml,
  LATEST_GENERATION,
  type Operation,
  opcodeCount,
  opcodeOf,
  operationOf,
} from '../../../protocol/src/index.js';

/** Columns C, D, E, F, G of the protocol's table; `-` where the generation lacks the operation. */
const TABLE = `
  PRINT                 1  1  1  1  1
  TIMEOUT               2  2  2  2  2
  READ_ATTR             3  3  3  3  3
  READ_DBG_ATTR         4  4  4  4  4
  READ_BUF_ATTR         5  5  5  5  5
  READ_CHN_ATTR         6  6  6  6  6
  READ_DEV_EVT_ATTR     -  -  7  7  7
  READ_CHN_EVT_ATTR     -  -  8  8  8
  WRITE_ATTR            7  7  9  9  9
  WRITE_DBG_ATTR        8  8  10 10 10
  WRITE_BUF_ATTR        9  9  11 11 11
  WRITE_CHN_ATTR        10 10 12 12 12
  WRITE_DEV_EVT_ATTR    -  -  13 13 13
  WRITE_CHN_EVT_ATTR    -  -  14 14 14
  GETTRIG               11 11 15 15 15
  SETTRIG               12 12 16 16 16
  OPEN_BUFFER           13 13 17 17 17
  CLOSE_BUFFER          14 14 18 18 18
  ENABLE_BUFFER         15 15 19 19 19
  DISABLE_BUFFER        16 16 20 20 20
  CREATE_BLOCK          17 17 21 21 21
  FREE_BLOCK            18 18 22 22 22
  TRANSFER_BLOCK        19 19 23 23 23
  ENQUEUE_BLOCK_CYCLIC  20 20 24 24 24
  RETRY_DEQUEUE_BLOCK   21 21 25 25 25
  CREATE_EVSTREAM       22 22 26 26 26
  FREE_EVSTREAM         23 23 27 27 27
  READ_EVENT            24 24 28 28 28
  REG_READ              -  25 29 29 29
  REG_WRITE             -  26 30 30 30
  REFRESH_FORMAT        -  -  -  -  31
  NOP                   -  -  -  31 32
`;

const GENERATIONS: readonly Generation[] = ['C', 'D', 'E', 'F', 'G'];
const ROWS = TABLE.trim()
  .split('\n')
  .map((line) => line.trim().split(/\s+/));

describe('opcode numbers', () => {
  it.each(ROWS)('%s', (name, ...columns) => {
    const operation = name as Operation;
    GENERATIONS.forEach((generation, i) => {
      const expected = columns[i] === '-' ? undefined : Number(columns[i]);
      expect(opcodeOf(generation, operation)).toBe(expected);
      if (expected !== undefined) expect(operationOf(generation, expected)).toBe(operation);
    });
  });

  it('number every opcode below the count and none from it on', () => {
    expect(GENERATIONS.map(opcodeCount)).toEqual([25, 27, 31, 32, 33]);
    for (const generation of GENERATIONS) {
      const count = opcodeCount(generation);
      const numbered = Array.from({ length: 256 }, (_, op) => op).filter((op) => operationOf(generation, op));
      expect(numbered).toEqual(Array.from({ length: count - 1 }, (_, i) => i + 1));
    }
  });

  it('the latest generation is G', () => {
    expect(LATEST_GENERATION).toBe('G');
  });
});

describe('generation of a server', () => {
  it.each([
    ['<?xml version="1.0"?><!DOCTYPE context [<!ELEMENT event-attribute EMPTY>]><context/>', 'G'],
    ['<?xml version="1.0"?><!DOCTYPE context [<!ELEMENT attribute EMPTY>]><context/>', 'C'],
    ['<?xml version="1.0"?><context><device><event-attribute name="a"/></device></context>', 'G'],
    ['<?xml version="1.0"?><context><device><attribute name="event-attribute"/></device></context>', 'C'],
    ['<?xml version="1.0"?><context name="&lt;!ELEMENT event-attribute"/>', 'C'],
  ])('%s is %s', (xml, generation) => {
    expect(generationFromXml(xml)).toBe(generation);
  });
});
