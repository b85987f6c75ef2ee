import { encodeU64, packCode } from '@iio-bridge/protocol';
import { expect, it, onTestFinished, vi } from 'vitest';
import { pick, type Random, randomNumbers } from '../random.js';
import { CONTEXT, SLOW, UNSPEAKABLE } from './context.js';
import { ClientLink } from './links.js';
import { ServedProcess } from './served.js';
import { CASE_OF, STATES } from './states.js';
import { SteadyClient } from './steady.js';

/** `npm run test:fuzz` has a million cases. */
const { FUZZ_CASES = '8000', FUZZ_SEED = '285548582' } = process.env;
/** Frames and lines in all. */
const CASES = Number(FUZZ_CASES);
const SEED = Number(FUZZ_SEED);

const LINKS_AT_ONCE = 8;
const MAX_CASES_PER_LINK = 40;
/** After so many everything is checked. */
const CASES_PER_BATCH = Math.min(10_000, Math.ceil(CASES / 4));
/** For a link whose client has finished to work off what it was sent. It may wait for samples that never come. */
const FINISH_MS = 100;

const MIB = 1024 * 1024;
const BLOCKS_MIB = 8;
/** Of the server in all: Node.js itself, its heap, the blocks, and what waits for clients that do not read. */
const RESIDENT_MIB = 400;

const LIMITS = { totalBytes: BLOCKS_MIB * MIB, blockBytes: MIB, links: 64, blocks: 16, attributeBytes: 65_536 };
/** Blocks of the steady clients, in bytes: four of 4 KiB each. */
const STEADY_BYTES = 8 * 4096;

interface Tally {
  cases: number;
  links: number;
  readonly reached: Map<string, number>;
}

function speakable(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte) => (byte === UNSPEAKABLE ? 0 : byte));
}

const STATE_NAMES = Object.keys(STATES);

/** One link: brought into a state, sent cases, and left in one way or another. */
async function abuse(port: number, random: Random, tally: Tally, name: string): Promise<void> {
  const link = await ClientLink.connect(port);
  const state = STATES[name];
  tally.links++;
  try {
    await state?.reach(link, random);
    tally.reached.set(name, (tally.reached.get(name) ?? 0) + 1);
  } catch {
    // Another link has the device. It is fuzzed all the same.
  }
  link.ignore();
  if (random(16) === 0) {
    link.stall();
  }
  const cases = 1 + random(MAX_CASES_PER_LINK);
  const make = CASE_OF[state?.protocol ?? 'text'];
  for (let i = 0; i < cases; i++) {
    link.send(speakable(make(random)));
  }
  tally.cases += cases;
  const ending = random(8);
  if (ending === 0) {
    link.destroy(pick(random, ['destroy', 'reset']));
  } else if (!(await link.finish(FINISH_MS))) {
    // What the server has no room to read keeps it from seeing that the client has finished, but not a reset.
    link.destroy('reset');
  }
}

/** A client that has just come can do everything, and all memory is there again. */
async function checkFreshClient(port: number): Promise<void> {
  const text = await ClientLink.connect(port);
  text.send(new TextEncoder().encode('VERSION\r\nEXIT\r\n'));
  expect(await text.receiveLine()).toBe('1.0.v1.0   \n');
  text.destroy('destroy');

  const link = await ClientLink.connect(port);
  await link.goBinary();
  await link.receive(await link.ask('PRINT', 0, 0));
  expect(await link.ask('OPEN_BUFFER', SLOW, 0, 0, Uint8Array.of(3, 0, 0, 0))).toBe(4);
  await link.receive(4);
  const create = (index: number, bytes: number) =>
    link.ask('CREATE_BLOCK', SLOW, packCode(index, 0), index + 1, encodeU64(bytes));
  for (let i = 0; i < BLOCKS_MIB - 1; i++) {
    expect(await create(i, MIB)).toBe(0);
  }
  expect(await create(BLOCKS_MIB, MIB - STEADY_BYTES)).toBe(0);
  expect(await create(BLOCKS_MIB + 1, 4096)).toBe(-12);
  expect(await link.ask('CLOSE_BUFFER', SLOW, 0)).toBe(0);
  await link.finish(1000);
}

it.each(['auto', 'G'] as const)(
  `${CASES / 2} cases of nonsense on links in every state harm nobody else (generation %s, seed ${SEED})`,
  { timeout: 60_000 + CASES * 10 },
  async (generation) => {
    const served = await ServedProcess.start({
      context: CONTEXT,
      config: {
        protocol: { generation },
        limits: LIMITS,
        permissions: { tcp: { debugAttributes: true, registers: true } },
      },
    });
    onTestFinished(async () => void (await served.stop()));
    const { port } = served;
    const steady = [await SteadyClient.binary(port), await SteadyClient.text(port)];
    const failing = Promise.race(steady.map(({ streaming }) => streaming)).catch((error) => served.explain(error));
    const descriptors = served.openDescriptors;
    const allLinksGone = () => vi.waitFor(() => expect(served.openDescriptors).toEqual(descriptors), 10_000);
    const tally: Tally = { cases: 0, links: 0, reached: new Map() };
    const started = performance.now();
    for (let batch = 0; tally.cases < CASES / 2; batch++) {
      const before = steady.map(({ sets }) => sets);
      const end = Math.min(tally.cases + CASES_PER_BATCH, CASES / 2);
      const workers = Array.from({ length: LINKS_AT_ONCE }, async (_, worker) => {
        const random = randomNumbers(SEED + 1000 * batch + worker);
        while (tally.cases < end) {
          await abuse(port, random, tally, STATE_NAMES[tally.links % STATE_NAMES.length] ?? '');
        }
      });
      await Promise.race([Promise.all(workers), failing]);
      served.checkAlive();
      expect(served.errors).toEqual([]);
      await allLinksGone();
      await checkFreshClient(port);
      await vi.waitFor(() => expect(steady.every(({ sets }, i) => sets > (before[i] ?? 0))).toBe(true), 10_000);
      expect(served.memory.peak).toBeLessThan(RESIDENT_MIB);
    }
    // Those whose device was always another link's: now there is no other.
    const random = randomNumbers(SEED);
    for (const name of STATE_NAMES.filter((state) => !tally.reached.has(state))) {
      await allLinksGone();
      await abuse(port, random, tally, name);
    }
    await allLinksGone();
    const seconds = (performance.now() - started) / 1000;
    await Promise.all(steady.map((client) => client.stop()));
    expect([...tally.reached.keys()].toSorted()).toEqual(STATE_NAMES.toSorted());
    const { resident, peak } = served.memory;
    const waits = steady.map(({ longestWait }) => longestWait.toFixed(0)).join(' and ');
    console.info(
      `generation ${generation}, seed ${SEED}: ${tally.cases} cases on ${tally.links} links in ${seconds.toFixed(1)} s; ` +
        `${served.warnings} warnings; resident ${resident.toFixed(0)} MiB, at most ${peak.toFixed(0)}; ` +
        `longest wait of the clients that stream: ${waits} ms`,
    );
    expect(await served.stop()).toBe(0);
  },
);
