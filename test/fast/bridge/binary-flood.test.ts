import {
  decodeFrameHeader,
  encodeFrameHeader,
  encodeU32,
  encodeU64,
  type Operation,
  opcodeOf,
  packCode,
} from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { openDescriptors } from '../dataplane/sockets.js';
import { pick, type Random, randomNumbers } from '../random.js';
import { ADC, createBlock, DAC, MONITOR, openBuffer, ramp, TestBridge, transfer } from './binary-harness.js';

const SEED = 0x1105_2026;
const BLOCK = 64;

interface Request {
  readonly operation: Operation;
  readonly id: number;
  readonly bytes: readonly Uint8Array[];
}

/** Answered in the default conversation; with a payload if true. */
const DEFAULT_ANSWERS: ReadonlyMap<Operation, boolean> = new Map<Operation, boolean>([
  ['PRINT', true],
  ['TIMEOUT', false],
  ['READ_ATTR', true],
  ['READ_DBG_ATTR', true],
  ['READ_BUF_ATTR', true],
  ['READ_CHN_ATTR', true],
  ['READ_DEV_EVT_ATTR', true],
  ['READ_CHN_EVT_ATTR', true],
  ['WRITE_ATTR', false],
  ['WRITE_DBG_ATTR', false],
  ['WRITE_BUF_ATTR', false],
  ['WRITE_CHN_ATTR', false],
  ['WRITE_DEV_EVT_ATTR', false],
  ['WRITE_CHN_EVT_ATTR', false],
  ['GETTRIG', false],
  ['SETTRIG', false],
  ['OPEN_BUFFER', true],
  ['CLOSE_BUFFER', false],
  ['ENABLE_BUFFER', false],
  ['DISABLE_BUFFER', false],
  ['FREE_EVSTREAM', false],
  ['REG_READ', true],
  ['REG_WRITE', false],
  ['REFRESH_FORMAT', true],
  ['NOP', false],
]);
/** Answered at once in a conversation of their own. */
const OWN_ANSWERS: readonly Operation[] = ['CREATE_BLOCK', 'FREE_BLOCK', 'CREATE_EVSTREAM'];
/** Answered when something happens, which may be never. */
const LATE_ANSWERS: readonly Operation[] = [
  'TRANSFER_BLOCK',
  'TRANSFER_BLOCK',
  'ENQUEUE_BLOCK_CYCLIC',
  'RETRY_DEQUEUE_BLOCK',
  'READ_EVENT',
];
const OPERATIONS: readonly Operation[] = [...DEFAULT_ANSWERS.keys(), ...OWN_ANSWERS, ...LATE_ANSWERS, ...LATE_ANSWERS];

/** A request with the payload that its operation implies, about things that may be there. */
function randomRequest(random: Random, id: number): Request {
  const operation = pick(random, OPERATIONS);
  const isStream = /BLOCK|BUFFER/.test(operation);
  const dev = isStream ? DAC : pick(random, [ADC, DAC, MONITOR, 200]);
  const code =
    operation === 'TIMEOUT'
      ? 1 + random(100)
      : packCode(random(3), operation === 'SETTRIG' ? 0 : random(2) * random(2));
  const length = pick(random, [0, 4, BLOCK, BLOCK, BLOCK + 4, random(40_000)]);
  const payload = (): Uint8Array[] => {
    switch (operation) {
      case 'OPEN_BUFFER':
        return [Uint8Array.of(random(4), 0, 0, 0)];
      case 'CREATE_BLOCK':
        return [encodeU64(pick(random, [0n, 4n, BigInt(BLOCK), 30_000n, 2n ** 63n]))];
      case 'REG_WRITE':
        return [encodeU32(random(2 ** 32))];
      case 'TRANSFER_BLOCK':
      case 'ENQUEUE_BLOCK_CYCLIC':
        return [encodeU64(length), ramp(length)];
      default:
        return operation.startsWith('WRITE_') ? [encodeU64(length), ramp(length)] : [];
    }
  };
  const op = opcodeOf('G', operation) ?? 0;
  // Samples follow only where the document has an output.
  const bufferCode = /TRANSFER|CYCLIC/.test(operation) ? packCode(random(3), 0) : code;
  return { operation, id, bytes: [encodeFrameHeader({ clientId: id, op, dev, code: bufferCode }), ...payload()] };
}

describe('a flood of requests', () => {
  it(`is answered once if it is well-formed, and leaves the link in step (seed ${SEED})`, {
    timeout: 60_000,
  }, async () => {
    const bridge = new TestBridge();
    const random = randomNumbers(SEED);
    for (let i = 0; i < 20; i++) {
      const link = await bridge.connect();
      const requests = Array.from({ length: 300 }, (_, n) => randomRequest(random, n + 1));
      link.send(...requests.flatMap(({ bytes }) => bytes), encodeFrameHeader({ clientId: 0, op: 32, dev: 0, code: 0 }));
      const expected = requests.filter(({ operation }) => DEFAULT_ANSWERS.has(operation));
      const own = new Map<number, number>();
      for (let answered = 0; answered <= expected.length; ) {
        const { clientId, op, code } = decodeFrameHeader(await link.receive(8));
        expect(op).toBe(0);
        if (clientId === 0) {
          const operation = expected[answered]?.operation ?? 'NOP';
          await link.receive(DEFAULT_ANSWERS.get(operation) === true ? Math.max(0, code) : 0);
          answered++;
        } else {
          own.set(clientId, (own.get(clientId) ?? 0) + 1);
        }
      }
      for (const { operation, id } of requests) {
        if (OWN_ANSWERS.includes(operation)) {
          expect(own.get(id), `${operation} ${id}`).toBeGreaterThan(0);
        }
      }
      const others = requests.length - expected.length;
      expect([...own.values()].reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(others);
      link.close();
      await link.ended;
    }
  });

  it('leaves no descriptor behind', async () => {
    const bridge = new TestBridge();
    const random = randomNumbers(SEED + 1);
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) {
      const link = await bridge.connect();
      await link.ask('CREATE_EVSTREAM', { id: 7, dev: MONITOR });
      await openBuffer(link, DAC);
      await createBlock(link, DAC, 0, BLOCK);
      await link.ask('ENABLE_BUFFER', { dev: DAC });
      transfer(link, DAC, 0, BLOCK, ramp(random(BLOCK)));
      link.close();
      await link.ended;
      bridge.converter.unplug();
      bridge.backend.eventEnds.pop()?.close();
    }
    await bridge.connect();
    expect(openDescriptors() - before).toBeLessThanOrEqual(2);
  });

  it('a truncated request holds up its own link only', async () => {
    const bridge = new TestBridge();
    const [link, other] = [await bridge.connect(), await bridge.connect()];
    link.send(encodeFrameHeader({ clientId: 0, op: 9, dev: 0, code: 0 }), encodeU64(100), ramp(50));
    await other.expectQuiet();
    link.close();
    await link.ended;
  });
});
