import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ChannelDescription,
  ChannelMask,
  encodeSample,
  parseScanFormat,
  sampleLayout,
} from '@iio-bridge/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { datatypeOfLayout, formatDatatype, parseDatatype } from '../../../host-client/src/cli/sigmf/datatype.js';
import { dateTime } from '../../../host-client/src/cli/sigmf/metadata.js';
import { recordingFormat } from '../../../host-client/src/cli/sigmf/recording-format.js';
import { datasetOf, openRecordings, requireSameFormat } from '../../../host-client/src/cli/sigmf/recording-reader.js';
import {
  type Gap,
  type RecordingOptions,
  RecordingWriter,
  recordingPath,
} from '../../../host-client/src/cli/sigmf/recording-writer.js';
import { metadataSchema, parseMetadata } from '../../../host-client/src/cli/sigmf/schema.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sigmf-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

interface ChannelSpec {
  readonly id: string;
  readonly format: string;
  readonly name?: string;
}

function layoutOf(...specs: readonly ChannelSpec[]) {
  const channels = specs.map(
    ({ id, format, name }, index): ChannelDescription => ({
      id,
      direction: 'in',
      ...(name === undefined ? {} : { name }),
      scanElement: { index, format: parseScanFormat(format) },
      attributes: [],
      eventAttributes: [],
    }),
  );
  return sampleLayout(channels, ChannelMask.of(channels.length, channels.keys()));
}

function same(format: string, ...ids: readonly string[]) {
  return layoutOf(...ids.map((id) => ({ id, format })));
}

describe('the datatype of a layout', () => {
  it.each([
    ['le:S16/16>>0', 'ri16_le'],
    ['be:S16/16>>0', 'ri16_be'],
    ['le:U12/16>>0', 'ru16_le'],
    ['le:s8/8>>0', 'ri8'],
    ['be:u8/8>>0', 'ru8'],
    ['le:S24/32>>0', 'ri32_le'],
  ])('%s is stored as %s', (format, datatype) => {
    expect(recordingFormat(same(format, 'a', 'b', 'c'), 'auto')).toMatchObject({
      datatype,
      channels: 3,
      samples: 'stored',
    });
  });

  it.each([
    ['bits that are not part of the value', layoutOf({ id: 'a', format: 'le:s12/16>>0' })],
    ['a shift', layoutOf({ id: 'a', format: 'le:S12/16>>4' })],
    ['mixed widths', layoutOf({ id: 'a', format: 'le:S16/16>>0' }, { id: 'b', format: 'le:S32/32>>0' })],
    ['mixed byte orders', layoutOf({ id: 'a', format: 'le:S16/16>>0' }, { id: 'b', format: 'be:S16/16>>0' })],
    ['mixed signs', layoutOf({ id: 'a', format: 'le:S16/16>>0' }, { id: 'b', format: 'le:U16/16>>0' })],
    ['a width without datatype', layoutOf({ id: 'a', format: 'le:S64/64>>0' })],
  ])('%s: none', (_, layout) => {
    expect(datatypeOfLayout(layout)).toBeUndefined();
  });

  it('counts repeated elements as channels', () => {
    expect(recordingFormat(layoutOf({ id: 'a', format: 'le:S16/16X4>>0' }), 'auto')).toMatchObject({
      datatype: 'ri16_le',
      channels: 4,
      bytes: 8,
    });
  });

  it.each(['ri16_le', 'cf32_be', 'cu8', 'ri8', 'rf64_le', 'ru32_be'])('%s is read and written back', (text) => {
    expect(formatDatatype(parseDatatype(text))).toBe(text);
  });

  it.each(['ri16', 'ri8_le', 'ri64_le', 'rf16_le', 'xi16_le', 'ri16_me', ''])("'%s' is refused", (text) => {
    expect(() => parseDatatype(text)).toThrow(expect.objectContaining({ code: 'BAD_SIGMF' }));
  });
});

describe('pairs of I and Q', () => {
  it.each([
    ['modifiers', same('le:S16/16>>0', 'voltage0_i', 'voltage0_q', 'voltage1_i', 'voltage1_q'), 2],
    [
      'labels',
      layoutOf(
        { id: 'voltage0', name: 'TX1_I', format: 'le:S16/16>>0' },
        { id: 'voltage1', name: 'TX1_Q', format: 'le:S16/16>>0' },
      ),
      1,
    ],
  ])('are found by their %s', (_, layout, channels) => {
    expect(recordingFormat(layout, 'auto')).toMatchObject({ datatype: 'ci16_le', channels });
    expect(recordingFormat(layout, 'none')).toMatchObject({ datatype: 'ri16_le', channels: channels * 2 });
  });

  it.each([
    ['two of different channels', same('le:S16/16>>0', 'voltage0_i', 'voltage1_q')],
    ['Q before I', same('le:S16/16>>0', 'voltage0_q', 'voltage0_i')],
    ['one alone', same('le:S16/16>>0', 'voltage0_i')],
    ['plain channels', same('le:S16/16>>0', 'voltage0', 'voltage1')],
  ])('%s are none', (_, layout) => {
    expect(recordingFormat(layout, 'auto').datatype).toBe('ri16_le');
  });

  it('are made of any channels on request, if they are an even number', () => {
    expect(recordingFormat(same('le:S16/16>>0', 'voltage0', 'voltage1'), 'pairs').datatype).toBe('ci16_le');
    expect(() => recordingFormat(same('le:S16/16>>0', 'a', 'b', 'c'), 'pairs')).toThrow(/3 values .* even number/);
  });
});

describe('layouts that SigMF cannot express', () => {
  it('are decoded into the narrowest integers that hold all channels', () => {
    const layout = layoutOf(
      { id: 'a', format: 'be:s12/16>>4' },
      { id: 'b', format: 'le:u16/16>>0' },
      { id: 'c', format: 'le:s24/32X2>>8' },
    );
    const format = recordingFormat(layout, 'auto');
    expect(format).toMatchObject({ datatype: 'ri32_le', channels: 4, bytes: 16, samples: 'decoded' });
    const sets = new Uint8Array(layout.bytes * 2);
    const view = new DataView(sets.buffer);
    const values = [
      [-2048, 65535, -(2 ** 23), 5],
      [2047, 0, 2 ** 23 - 1, -5],
    ];
    values.forEach(([a, b, c0, c1], set) => {
      const store = (channel: number, value: number | undefined, element = 0) => {
        const placed = layout.channels[channel];
        const stored = placed?.channel.scanElement?.format;
        if (placed !== undefined && stored !== undefined && value !== undefined) {
          encodeSample(view, set * layout.bytes + placed.offset, stored, value, element);
        }
      };
      store(0, a);
      store(1, b);
      store(2, c0, 0);
      store(2, c1, 1);
    });
    const encoded = format.encode(sets);
    expect(Array.from(new Int32Array(encoded.slice().buffer))).toEqual(values.flat());
  });

  it('keep unsigned values unsigned', () => {
    const layout = layoutOf({ id: 'a', format: 'be:u12/16>>4' }, { id: 'b', format: 'le:u8/8>>0' });
    expect(recordingFormat(layout, 'auto').datatype).toBe('ru16_le');
  });

  it('are refused where SigMF has no integers wide enough, with the channels that are in the way', () => {
    const layout = layoutOf({ id: 'voltage0', format: 'le:S16/16>>0' }, { id: 'timestamp', format: 'le:S64/64>>0' });
    expect(() => recordingFormat(layout, 'auto')).toThrow(/timestamp/);
  });
});

const GLOBAL = {
  'core:datatype': 'ri16_le',
  'core:version': '1.2.0',
  'core:num_channels': 2,
  'core:sample_rate': 1000,
  'core:recorder': 'test',
};

const GAP: Gap = { lostSets: 70, gapNs: 70_000_000n, measured: true, dropped: false };
const START_NS = 1_700_000_000_123_456_789n;

function writer(options: Partial<RecordingOptions> = {}) {
  return new RecordingWriter({
    path: join(directory, 'name'),
    global: GLOBAL,
    capture: {},
    setBytes: 4,
    setsPerPart: undefined,
    force: false,
    ...options,
  });
}

function sets(from: number, count: number): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: count }, (_, i) => from + i).buffer);
}

async function metadataOf(name: string) {
  return parseMetadata(await readFile(join(directory, `${name}.sigmf-meta`), 'utf8'), name);
}

describe('a recording', () => {
  it('is a dataset and valid metadata, in which a gap begins a capture segment and is an annotation', async () => {
    const recording = writer({ capture: { 'core:frequency': 2.4e9 } });
    await recording.write({ bytes: sets(0, 100), startNs: START_NS });
    await recording.write({ bytes: sets(100, 50) });
    await recording.write({ bytes: sets(220, 30), startNs: START_NS + 220_000_000n, gap: GAP });
    await recording.close();
    expect(recording.parts).toEqual([join(directory, 'name')]);
    expect(await readFile(join(directory, 'name.sigmf-data'))).toEqual(Buffer.concat([sets(0, 150), sets(220, 30)]));
    expect(await metadataOf('name')).toEqual({
      global: GLOBAL,
      captures: [
        {
          'core:sample_start': 0,
          'core:global_index': 0,
          'core:datetime': '2023-11-14T22:13:20.123456789Z',
          'core:frequency': 2.4e9,
        },
        {
          'core:sample_start': 150,
          'core:global_index': 220,
          'core:datetime': '2023-11-14T22:13:20.343456789Z',
          'core:frequency': 2.4e9,
        },
      ],
      annotations: [
        {
          'core:sample_start': 150,
          'core:sample_count': 0,
          'core:label': 'gap',
          'core:comment': '70 samples (70 ms) were lost before this one',
          'core:generator': 'test',
          'iio:lost_samples': 70,
          'iio:measured': true,
          'iio:gap_ns': 70_000_000,
          'iio:dropped': false,
        },
      ],
    });
    expect((await readdir(directory)).toSorted()).toEqual(['name.sigmf-data', 'name.sigmf-meta']);
  });

  it('says what is not known of a gap by saying nothing', async () => {
    const recording = writer();
    await recording.write({ bytes: sets(0, 10) });
    await recording.write({
      bytes: sets(0, 10),
      gap: { lostSets: undefined, gapNs: undefined, measured: false, dropped: true },
    });
    await recording.close();
    const { annotations } = await metadataOf('name');
    expect(annotations).toHaveLength(1);
    expect(annotations[0]).not.toHaveProperty('iio:lost_samples');
    expect(annotations[0]).not.toHaveProperty('iio:gap_ns');
    expect(annotations[0]).toMatchObject({
      'core:comment': 'samples were lost before this one, some because the recorder was too slow',
      'iio:dropped': true,
    });
  });

  it('is split at sample sets, and the parts tell where they were in the stream', async () => {
    const recording = writer({ setsPerPart: 64 });
    await recording.write({ bytes: sets(0, 100), startNs: START_NS });
    await recording.write({ bytes: sets(170, 100), startNs: START_NS + 170_000_000n, gap: GAP });
    await recording.close();
    const data = await Promise.all([0, 1, 2, 3].map((part) => readFile(join(directory, `name-${part}.sigmf-data`))));
    expect(data.map(({ length }) => length / 4)).toEqual([64, 64, 64, 8]);
    expect(Buffer.concat(data)).toEqual(Buffer.concat([sets(0, 100), sets(170, 100)]));
    const metadata = await Promise.all([0, 1, 2, 3].map((part) => metadataOf(`name-${part}`)));
    expect(metadata.map(({ global }) => global['iio:part'])).toEqual([0, 1, 2, 3]);
    expect(
      metadata.map(({ captures }) =>
        captures.map((capture) => [
          capture['core:sample_start'],
          capture['core:global_index'],
          capture['core:datetime'],
        ]),
      ),
    ).toEqual([
      [[0, 0, dateTime(START_NS)]],
      [
        [0, 64, dateTime(START_NS + 64_000_000n)],
        [36, 170, dateTime(START_NS + 170_000_000n)],
      ],
      [[0, 198, dateTime(START_NS + 198_000_000n)]],
      [[0, 262, dateTime(START_NS + 262_000_000n)]],
    ]);
    expect(metadata.map(({ annotations }) => annotations.map((annotation) => annotation['core:sample_start']))).toEqual(
      [[], [36], [], []],
    );
    expect((await openRecordings(join(directory, 'name'))).map((part) => part.sets)).toEqual([64, 64, 64, 8]);
  });

  it('has valid metadata while it is being written, and without a sample', async () => {
    const recording = writer();
    await recording.write({ bytes: sets(0, 10) });
    expect(await metadataOf('name')).toEqual({
      global: GLOBAL,
      captures: [{ 'core:sample_start': 0, 'core:global_index': 0 }],
      annotations: [],
    });
    await recording.close();
    const empty = writer({ path: join(directory, 'empty') });
    await empty.open();
    expect(await metadataOf('empty')).toEqual({ global: GLOBAL, captures: [], annotations: [] });
    await empty.close();
    expect((await openRecordings(join(directory, 'empty'))).map((part) => part.sets)).toEqual([0]);
  });

  it('is not written over, unless that is asked for', async () => {
    const first = writer();
    await first.write({ bytes: sets(0, 10) });
    await first.close();
    await expect(writer().write({ bytes: sets(1, 1) })).rejects.toMatchObject({
      code: 'EEXIST',
      message: expect.stringContaining('--force'),
    });
    const second = writer({ force: true });
    await second.write({ bytes: sets(5, 1) });
    await second.close();
    expect((await stat(join(directory, 'name.sigmf-data'))).size).toBe(4);
  });

  it('fails in words where the directory does not exist', async () => {
    await expect(writer({ path: join(directory, 'no', 'name') }).write({ bytes: sets(0, 1) })).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/cannot create .*name\.sigmf-data: there is no such/),
    });
  });
});

describe('the rules of SigMF', () => {
  const valid = { global: { 'core:datatype': 'ri16_le', 'core:version': '1.2.0' }, captures: [], annotations: [] };

  it.each([
    ['no datatype', { ...valid, global: { 'core:version': '1.2.0' } }],
    ['an unknown datatype', { ...valid, global: { ...valid.global, 'core:datatype': 'int16' } }],
    ['a version that is none', { ...valid, global: { ...valid.global, 'core:version': 'v1' } }],
    ['a rate below 1 Hz', { ...valid, global: { ...valid.global, 'core:sample_rate': 0.5 } }],
    ['captures out of order', { ...valid, captures: [{ 'core:sample_start': 5 }, { 'core:sample_start': 4 }] }],
    ['annotations out of order', { ...valid, annotations: [{ 'core:sample_start': 5 }, { 'core:sample_start': 4 }] }],
    ['a capture without start', { ...valid, captures: [{}] }],
    ['local time', { ...valid, captures: [{ 'core:sample_start': 0, 'core:datetime': '2023-11-14T22:13:20+01:00' }] }],
    ['one edge', { ...valid, annotations: [{ 'core:sample_start': 0, 'core:freq_lower_edge': 1 }] }],
    ['an extension without version', { ...valid, global: { ...valid.global, 'core:extensions': [{ name: 'x' }] } }],
    ['a fourth top-level member', { ...valid, more: {} }],
    ['no annotations', { global: valid.global, captures: [] }],
  ])('%s is refused', (_, document) => {
    expect(metadataSchema.safeParse(valid).success).toBe(true);
    expect(metadataSchema.safeParse(document).success).toBe(false);
    expect(() => parseMetadata(JSON.stringify(document), 'x.sigmf-meta')).toThrow(
      /^x\.sigmf-meta is no SigMF metadata:\n/,
    );
  });
});

describe('playing a recording', () => {
  async function recorded(global: Record<string, unknown> = {}) {
    const recording = writer({ global: { ...GLOBAL, ...global } });
    await recording.write({ bytes: sets(0, 1000) });
    await recording.close();
    const [opened] = await openRecordings(join(directory, 'name'));
    if (opened === undefined) {
      throw new Error('no recording');
    }
    return opened;
  }

  it('reads what was written, by any of its names', async () => {
    const opened = await recorded();
    const read: Uint8Array[] = [];
    for await (const chunk of datasetOf(opened, 768)) {
      read.push(chunk.slice());
    }
    expect(Buffer.concat(read)).toEqual(Buffer.from(sets(0, 1000)));
    expect(['name', 'name.sigmf-data', 'name.sigmf-meta'].map(recordingPath)).toEqual(['name', 'name', 'name']);
  });

  it('accepts the layout that was recorded, also when it was recorded as I and Q', async () => {
    const layout = same('le:S16/16>>0', 'voltage0', 'voltage1');
    requireSameFormat(await recorded(), layout, 'dac');
    await rm(join(directory, 'name.sigmf-data'));
    requireSameFormat(await recorded({ 'core:datatype': 'ci16_le', 'core:num_channels': 1 }), layout, 'dac');
  });

  it.each([
    ['another type', same('be:S16/16>>0', 'a', 'b'), /holds ri16_le values, but dac plays ri16_be/],
    ['another number of channels', same('le:S16/16>>0', 'a'), /2 values per sample, but 1 channels .*name 2 channels/],
    ['a form without datatype', same('le:s12/16>>4', 'a', 'b'), /no SigMF datatype has/],
  ])('refuses %s', async (_, layout, message) => {
    const opened = await recorded();
    expect(() => requireSameFormat(opened, layout, 'dac')).toThrow(message);
  });

  it('refuses a dataset that was cut off, or is not there, or is no conforming one', async () => {
    await recorded();
    await truncate(join(directory, 'name.sigmf-data'), 7);
    await expect(openRecordings(join(directory, 'name'))).rejects.toThrow(
      /7 bytes, which are no whole sample sets of 4/,
    );
    await rm(join(directory, 'name.sigmf-data'));
    await expect(openRecordings(join(directory, 'name'))).rejects.toMatchObject({ code: 'ENOENT' });
    const metadata = { ...(await metadataOf('name')), global: { ...GLOBAL, 'core:dataset': 'other.bin' } };
    await writeFile(join(directory, 'name.sigmf-meta'), JSON.stringify(metadata));
    await expect(openRecordings(join(directory, 'name'))).rejects.toThrow(/non-conforming/);
    await expect(openRecordings(join(directory, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
