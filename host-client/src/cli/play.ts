import { IioError } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Interruption } from './interruption.js';
import { collect, deviceForStream, openContext, warn, withStreamOptions } from './options.js';
import { type PlaybackCommandOptions, runPlayback } from './playback.js';
import { samplingFrequency } from './sampling.js';
import { expectedLayout } from './selection.js';
import { datasetOf, openRecordings, type Recording, requireSameFormat } from './sigmf/recording-reader.js';

/** What is read from a dataset at a time, rounded to whole sample sets. */
const CHUNK_BYTES = 1024 * 1024;

interface PlayCommandOptions extends PlaybackCommandOptions {
  readonly input: readonly string[];
}

export function addPlayCommand(program: Command, interruption: Interruption): void {
  withStreamOptions(program.command('play'), 'play')
    .description('play SigMF recordings, whose datatype and number of channels must be those of the device')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', 'ids, names or labels; default: all of the buffer')
    .requiredOption('-i, --input <name>', 'a recording, or one that was split; repeatable', collect)
    .option('-c, --cyclic', 'play it again and again, as one block, until interrupted')
    .action((device: string, channels: string[], options: PlayCommandOptions) =>
      runPlay(device, channels, options, interruption),
    );
}

async function runPlay(
  name: string,
  channels: readonly string[],
  options: PlayCommandOptions,
  interruption: Interruption,
): Promise<void> {
  const recordings = (await Promise.all(options.input.map(openRecordings))).flat();
  await using context = await openContext(options, interruption);
  const device = await deviceForStream(context, name, options);
  const layout = expectedLayout(device, 'out', channels);
  for (const recording of recordings) {
    requireSameFormat(recording, layout, device.name ?? device.id);
  }
  compareRates(recordings, await samplingFrequency(device, layout), device.name ?? device.id);
  await runPlayback(device, datasets(recordings, interruption.signal), options, {
    channels,
    layout,
    signal: interruption.signal,
  });
}

/** Another rate is no error: it may be what is wanted. But the user should know. */
function compareRates(recordings: readonly Recording[], rate: number | undefined, device: string): void {
  const [first, ...others] = recordings.map(({ metadata }) => metadata.global['core:sample_rate']);
  const different = others.findIndex((other) => other !== first);
  if (different >= 0) {
    const message = `${recordings[0]?.path} has ${first} samples per second, and ${recordings[different + 1]?.path} ${others[different]}`;
    throw new IioError('EINVAL', `${message}: play them one after the other`);
  }
  if (rate !== undefined && first !== undefined && rate !== first) {
    warn(
      `recorded with ${first} samples per second, played with ${rate}; ` +
        `'iio-client attr ${device} sampling_frequency ${first}' may change that`,
    );
  }
}

async function* datasets(recordings: readonly Recording[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (const recording of recordings) {
    const chunkBytes = Math.ceil(CHUNK_BYTES / recording.setBytes) * recording.setBytes;
    for await (const chunk of datasetOf(recording, chunkBytes)) {
      if (signal.aborted) {
        return;
      }
      yield chunk;
    }
  }
}
