import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { checkoutRoot } from '../lab/paths.js';
import type { StreamRun } from './configuration.js';

export type BaselineProgram = 'device' | 'bulk' | 'iiod-client' | 'libiio-client' | 'sink';

/** An option's value; `true` for one without a value, `undefined` for one that is left out. */
export type ProgramOptions = Readonly<Record<string, string | number | true | undefined>>;

function programArguments(options: ProgramOptions): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    if (value === undefined) {
      return [];
    }
    return value === true ? [`--${name}`] : [`--${name}`, String(value)];
  });
}

/** The command line of one of the C programs. */
export function baselineCommand(program: BaselineProgram, options: ProgramOptions): string[] {
  return [join(checkoutRoot(), 'dist/bench/baseline', program), ...programArguments(options)];
}

/** The command line of the program around our client, which has the options of the C programs. */
export function typescriptCommand(options: ProgramOptions, nodeOptions: readonly string[] = []): string[] {
  const program = join(checkoutRoot(), 'dist/bundle/bench-client.js');
  return [process.execPath, ...nodeOptions, program, ...programArguments(options)];
}

/** What tells any client program what to move. */
export function streamOptions({ direction, blockBytes, blocks, totalBytes, rate }: StreamRun): ProgramOptions {
  return {
    playback: direction === 'tx' ? true : undefined,
    'block-size': blockBytes,
    blocks,
    total: totalBytes,
    rate,
  };
}

/**
 * Compiles the C programs if they are not up to date.
 * @throws Error with the compiler's words.
 */
export function buildBaseline(): void {
  const root = checkoutRoot();
  const out = join(root, 'dist/bench/baseline');
  const { status, stdout, stderr } = spawnSync('make', ['-s', '-C', join(root, 'bench/baseline'), `OUT=${out}`], {
    encoding: 'utf8',
  });
  if (status !== 0) {
    throw new Error(`The baseline programs do not compile:\n${stdout}${stderr}`);
  }
}
