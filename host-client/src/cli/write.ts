import { createReadStream } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import type { Command } from 'commander';
import { fileError } from './files.js';
import type { Interruption } from './interruption.js';
import { deviceForStream, openContext, usageError, withStreamOptions } from './options.js';
import { type PlaybackCommandOptions, runPlayback } from './playback.js';
import { expectedLayout } from './selection.js';

interface WriteCommandOptions extends PlaybackCommandOptions {
  readonly input?: string;
}

export function addWriteCommand(program: Command, interruption: Interruption): void {
  withStreamOptions(program.command('write'), 'write')
    .description('play raw samples from standard input or a file; channels default to all of the buffer')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', 'ids, names or labels')
    .option('-i, --input <file>', 'read from there')
    .option('-c, --cyclic', 'play the input again and again, as one block, until interrupted')
    .action((device: string, channels: string[], options: WriteCommandOptions) =>
      runWrite(device, channels, options, interruption),
    );
}

async function runWrite(
  name: string,
  channels: readonly string[],
  options: WriteCommandOptions,
  interruption: Interruption,
): Promise<void> {
  if (options.input === undefined && process.stdin.isTTY) {
    throw usageError('samples cannot be typed: redirect standard input or give -i FILE');
  }
  await using context = await openContext(options, interruption);
  const device = await deviceForStream(context, name, options);
  await runPlayback(device, input(options, interruption.signal), options, {
    channels,
    layout: expectedLayout(device, 'out', channels),
    signal: interruption.signal,
  });
}

async function* input({ input: path }: WriteCommandOptions, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const source = path === undefined ? process.stdin : createReadStream(path);
  try {
    for await (const chunk of addAbortSignal(signal, source)) {
      yield chunk;
    }
  } catch (error) {
    // What the signal ends is no failure of the input.
    if (!signal.aborted) {
      throw fileError(error, `read ${path ?? 'standard input'}`);
    }
  }
}
