import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BLOCK_ANSWER_OP,
  type BlockRecord,
  type ContextDescription,
  encodeBlockRecord,
  encodeFrameHeader,
} from '@iio-bridge/protocol';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { gapBefore, startOf } from '../../../host-client/src/cli/block-facts.js';
import { type RecordCommandOptions, record } from '../../../host-client/src/cli/record.js';
import { parseMetadata } from '../../../host-client/src/cli/sigmf/schema.js';
import { Context } from '../../../host-client/src/core/context.js';
import { RxBlock } from '../../../host-client/src/core/rx-block.js';
import { CONTEXT, FakeServer } from './fake-server.js';

const BRIDGE: ContextDescription = {
  ...CONTEXT,
  attributes: new Map([
    ['iio-bridge', '1'],
    ['iio-bridge,extensions', 'stream-options'],
  ]),
};
const SETS = 100;
const RATE = 1000;
const START_NS = 1_700_000_000_000_000_000n;

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'iio-client-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Blocks of a tenth of a second; what was lost before each is in `lost`. */
function recordOf(block: number, lost: ReadonlyMap<number, Partial<BlockRecord>>): BlockRecord {
  const sets = [...lost].reduce((sum, [at, { lostSets = 0n }]) => sum + (at <= block ? lostSets : 0n), 0n);
  return {
    sequence: BigInt(block),
    capturedAtNs: START_NS + (BigInt((block + 1) * SETS) + sets) * 1_000_000n,
    lostSets: 0n,
    gapNs: 0n,
    epoch: 1,
    exact: false,
    dropped: false,
    ...lost.get(block),
  };
}

async function recorded(
  lost: ReadonlyMap<number, Partial<BlockRecord>> | undefined,
  more: Partial<RecordCommandOptions> = {},
) {
  let blocks = 0;
  const server = new FakeServer({
    ...(lost === undefined ? {} : { context: BRIDGE }),
    answerBlock:
      lost === undefined
        ? undefined
        : (link, clientId, samples) => {
            const header = encodeFrameHeader({ clientId, op: BLOCK_ANSWER_OP, dev: 0, code: samples.length });
            link.send(Buffer.concat([header, encodeBlockRecord(recordOf(blocks++, lost))]));
            link.send(samples);
          },
  });
  const context = await Context.connect(server.transport, { timeoutMs: 5000 });
  const options: RecordCommandOptions = {
    uri: 'fake:',
    timeout: 5000,
    bufferSize: SETS,
    samples: 10 * SETS,
    blocks: 4,
    rate: RATE,
    quadrature: 'auto',
    output: join(directory, 'gaps'),
    ...more,
  };
  const summary = await record(context, context.device('adc'), [], options, new AbortController().signal);
  await context.close();
  return summary;
}

async function metadataOf(name: string) {
  return parseMetadata(await readFile(join(directory, `${name}.sigmf-meta`), 'utf8'), name);
}

it('gaps that the server reports become capture segments and annotations, by its clock', async () => {
  const summary = await recorded(
    new Map([
      [3, { lostSets: 50n, gapNs: 50_000_000n, exact: true }],
      [7, { lostSets: 200n, gapNs: 200_000_000n, dropped: true }],
    ]),
  );
  expect(summary).toMatchObject({ samplesWritten: 1000, gaps: 2, lostSamples: 250 });
  const { captures, annotations } = await metadataOf('gaps');
  expect(captures).toEqual([
    { 'core:sample_start': 0, 'core:global_index': 0, 'core:datetime': '2023-11-14T22:13:20.000000000Z' },
    { 'core:sample_start': 300, 'core:global_index': 350, 'core:datetime': '2023-11-14T22:13:20.350000000Z' },
    { 'core:sample_start': 700, 'core:global_index': 950, 'core:datetime': '2023-11-14T22:13:20.950000000Z' },
  ]);
  expect(annotations).toMatchObject([
    {
      'core:sample_start': 300,
      'core:label': 'gap',
      'core:comment': '50 samples (50 ms) were lost before this one',
      'iio:lost_samples': 50,
      'iio:measured': true,
      'iio:dropped': false,
    },
    {
      'core:sample_start': 700,
      'core:comment': 'about 200 samples (200 ms) were lost before this one, some because the recorder was too slow',
      'iio:measured': false,
      'iio:dropped': true,
    },
  ]);
});

it('the part of a split recording in which a gap is has its annotation', async () => {
  await recorded(new Map([[7, { lostSets: 50n, gapNs: 50_000_000n }]]), { splitSize: 500 * 8 });
  const [first, second] = await Promise.all([metadataOf('gaps-0'), metadataOf('gaps-1')]);
  expect(first.annotations).toEqual([]);
  expect(second.annotations).toMatchObject([{ 'core:sample_start': 200 }]);
  expect(second.captures.map((capture) => capture['core:global_index'])).toEqual([500, 750]);
});

it('a server that does not report gaps leaves their number unknown', async () => {
  expect(await recorded(undefined)).toMatchObject({ samplesWritten: 1000, gaps: null, lostSamples: null });
  const { captures, annotations } = await metadataOf('gaps');
  expect(captures).toHaveLength(1);
  expect(annotations).toEqual([]);
});

it('an interruption of the stream is a gap of unknown length', () => {
  const owner = { layout: { bytes: 8, channels: [] }, calibrations: undefined, released: () => {} };
  const captured = { bytes: new Uint8Array(800), length: 800, record: undefined, recycle: () => {} };
  const block = new RxBlock(owner, 7, 2, captured);
  expect(gapBefore(block, 2)).toBeUndefined();
  expect(gapBefore(block, 1)).toEqual({ lostSets: undefined, gapNs: undefined, measured: false, dropped: false });
  const lateness = BigInt(Date.now()) * 1_000_000n - startOf(block, RATE) - 100_000_000n;
  expect(lateness).toBeGreaterThanOrEqual(0n);
  expect(lateness).toBeLessThan(5_000_000_000n);
});
