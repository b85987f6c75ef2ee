/**
 * The binary protocol's opcode numbers. They changed over time because entries were inserted in the middle, and nothing
 * on the wire negotiates them; a generation names one numbering.
 *
 * C: 2024-01, D: 2026-04, E: 2026-06-12, F: 2026-06-24, G: 2026-07-31.
 */
export const GENERATIONS = ['C', 'D', 'E', 'F', 'G'] as const;

export type Generation = (typeof GENERATIONS)[number];

/** The numbering of current libiio, and ours unless the other end is known to be older. */
export const LATEST_GENERATION = 'G' satisfies Generation;

/** In numeric order; opcode 0 marks a response and is no operation. */
const TABLE = [
  ['PRINT', 'C'],
  ['TIMEOUT', 'C'],
  ['READ_ATTR', 'C'],
  ['READ_DBG_ATTR', 'C'],
  ['READ_BUF_ATTR', 'C'],
  ['READ_CHN_ATTR', 'C'],
  ['READ_DEV_EVT_ATTR', 'E'],
  ['READ_CHN_EVT_ATTR', 'E'],
  ['WRITE_ATTR', 'C'],
  ['WRITE_DBG_ATTR', 'C'],
  ['WRITE_BUF_ATTR', 'C'],
  ['WRITE_CHN_ATTR', 'C'],
  ['WRITE_DEV_EVT_ATTR', 'E'],
  ['WRITE_CHN_EVT_ATTR', 'E'],
  ['GETTRIG', 'C'],
  ['SETTRIG', 'C'],
  ['OPEN_BUFFER', 'C'],
  ['CLOSE_BUFFER', 'C'],
  ['ENABLE_BUFFER', 'C'],
  ['DISABLE_BUFFER', 'C'],
  ['CREATE_BLOCK', 'C'],
  ['FREE_BLOCK', 'C'],
  ['TRANSFER_BLOCK', 'C'],
  ['ENQUEUE_BLOCK_CYCLIC', 'C'],
  ['RETRY_DEQUEUE_BLOCK', 'C'],
  ['CREATE_EVSTREAM', 'C'],
  ['FREE_EVSTREAM', 'C'],
  ['READ_EVENT', 'C'],
  ['REG_READ', 'D'],
  ['REG_WRITE', 'D'],
  ['REFRESH_FORMAT', 'G'],
  ['NOP', 'F'],
] as const satisfies readonly (readonly [string, Generation])[];

export type Operation = (typeof TABLE)[number][0];

interface Numbering {
  readonly operations: readonly Operation[];
  readonly opcodes: ReadonlyMap<Operation, number>;
}

const NUMBERINGS: ReadonlyMap<Generation, Numbering> = new Map(
  GENERATIONS.map((generation) => {
    const operations = TABLE.filter(([, since]) => since <= generation).map(([operation]) => operation);
    return [generation, { operations, opcodes: new Map(operations.map((operation, i) => [operation, i + 1])) }];
  }),
);

/** The number of an operation, or `undefined` where the generation lacks it. */
export function opcodeOf(generation: Generation, operation: Operation): number | undefined {
  return NUMBERINGS.get(generation)?.opcodes.get(operation);
}

/** The operation behind a request's opcode; `undefined` for 0 (a response) and for numbers the generation lacks. */
export function operationOf(generation: Generation, op: number): Operation | undefined {
  return NUMBERINGS.get(generation)?.operations[op - 1];
}

/** Number of opcodes, the response's 0 included: a libiio server drops the link on an `op` that is not below it. */
export function opcodeCount(generation: Generation): number {
  return (NUMBERINGS.get(generation)?.operations.length ?? 0) + 1;
}

/**
 * The best guess at a server's generation from its context XML: since E the DTD, where there is one, declares
 * `event-attribute`, and the document has such elements. Nothing in it tells E, F and G apart (E lacks NOP, E and F lack
 * REFRESH_FORMAT), nor C and D (C lacks REG_*).
 */
export function generationFromXml(xml: string): Generation {
  return /<(?:!ELEMENT\s+)?event-attribute\b/.test(xml) ? 'G' : 'C';
}
