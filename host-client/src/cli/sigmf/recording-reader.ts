import { access, open, readFile, stat } from 'node:fs/promises';
import { IioError, type SampleLayout } from '@iio-bridge/protocol';
import { onFile } from '../files.js';
import { datatypeOfLayout, formatDatatype, parseDatatype } from './datatype.js';
import { DATA_EXTENSION, META_EXTENSION, recordingPath } from './recording-writer.js';
import type { Metadata } from './schema.js';

/** A recording on disk whose metadata has been checked. */
export interface Recording {
  readonly path: string;
  readonly metadata: Metadata;
  /** Sample sets in the dataset. */
  readonly sets: number;
  /** Of a sample set. */
  readonly setBytes: number;
}

/**
 * A recording, or all parts of one that was split: `name` if that is one, otherwise `name-0`, `name-1`, …
 * @throws IioError `ENOENT`, `BAD_SIGMF`
 */
export async function openRecordings(name: string): Promise<readonly Recording[]> {
  const path = recordingPath(name);
  if ((await exists(path + META_EXTENSION)) || !(await exists(`${path}-0${META_EXTENSION}`))) {
    return [await openRecording(path)];
  }
  const parts: Recording[] = [];
  while (await exists(`${path}-${parts.length}${META_EXTENSION}`)) {
    parts.push(await openRecording(`${path}-${parts.length}`));
  }
  return parts;
}

async function openRecording(path: string): Promise<Recording> {
  const origin = path + META_EXTENSION;
  // Only this needs zod, which takes a good part of the program's time to start.
  const { parseMetadata } = await import('./schema.js');
  const metadata = parseMetadata(await onFile(`read ${origin}`, () => readFile(origin, 'utf8')), origin);
  const { global, captures } = metadata;
  if (global['core:dataset'] !== undefined || captures.some((capture) => (capture['core:header_bytes'] ?? 0) > 0)) {
    throw new IioError('BAD_SIGMF', `${origin} describes a non-conforming dataset, which cannot be played`);
  }
  const { bits, complex } = parseDatatype(global['core:datatype']);
  const setBytes = (bits / 8) * (complex ? 2 : 1) * (global['core:num_channels'] ?? 1);
  const { size } = await onFile(`read ${path}${DATA_EXTENSION}`, () => stat(path + DATA_EXTENSION));
  if (size % setBytes !== 0) {
    throw new IioError(
      'BAD_SIGMF',
      `${path}${DATA_EXTENSION} has ${size} bytes, which are no whole sample sets of ${setBytes}: was it cut off?`,
    );
  }
  return { path, metadata, sets: size / setBytes, setBytes };
}

/**
 * Checks that the dataset is, byte for byte, what an output with this layout plays.
 * @throws IioError `EINVAL` saying what is different
 */
export function requireSameFormat({ path, metadata }: Recording, layout: SampleLayout, device: string): void {
  const wanted = datatypeOfLayout(layout);
  const ids = layout.channels.map(({ channel }) => channel.id).join(', ');
  if (wanted === undefined) {
    throw new IioError(
      'EINVAL',
      `${device} stores ${ids} in a form that no SigMF datatype has: play raw samples with write`,
    );
  }
  const recorded = parseDatatype(metadata.global['core:datatype']);
  const values = (recorded.complex ? 2 : 1) * (metadata.global['core:num_channels'] ?? 1);
  const type = formatDatatype({ ...recorded, complex: false });
  const wantedType = formatDatatype(wanted.datatype);
  if (type !== wantedType) {
    throw new IioError('EINVAL', `${path} holds ${type} values, but ${device} plays ${wantedType}: convert it first`);
  }
  if (values !== wanted.values) {
    throw new IioError(
      'EINVAL',
      `${path} has ${values} values per sample, but ${wanted.values} channels of ${device} would play it (${ids}): ` +
        `name ${values} channels`,
    );
  }
}

/** The dataset from its first to its last byte, in chunks that the next step overwrites. */
export async function* datasetOf({ path }: Recording, chunkBytes: number): AsyncGenerator<Uint8Array> {
  const name = path + DATA_EXTENSION;
  const file = await onFile(`read ${name}`, () => open(name));
  try {
    const chunk = new Uint8Array(chunkBytes);
    for (;;) {
      const { bytesRead } = await onFile(`read ${name}`, () => file.read(chunk));
      if (bytesRead === 0) {
        return;
      }
      yield chunk.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
