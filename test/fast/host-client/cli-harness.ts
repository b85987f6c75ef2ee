import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';

const BRIDGE = fileURLToPath(new URL('../../../dist/bundle/iio-bridge.js', import.meta.url));
const CLIENT = fileURLToPath(new URL('../../../dist/bundle/iio-client.js', import.meta.url));

/** Test data; processes start slowly on a machine that is busy with other tests. */
export const PROCESS_TIMEOUT_MS = 60_000;

export function fixture(name: string): string {
  return fileURLToPath(new URL(`../../fixtures/emulated/${name}`, import.meta.url));
}

/** A directory for the tests of a file. */
export function useDirectory(): (name: string) => string {
  const directory = mkdtempSync(join(tmpdir(), 'iio-client-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return (name) => join(directory, name);
}

export interface BridgeOptions {
  readonly context?: string;
  readonly args?: readonly string[];
  /** Members of the configuration file beside the command line. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** `iio-bridge serve` with an emulated context on a free port of loopback, for all tests of a file. @returns its URI */
export function useBridge({ context = 'converters.xml', args = [], config }: BridgeOptions = {}): () => string {
  let child: ChildProcess | undefined;
  let uri = '';
  const path = useDirectory();
  beforeAll(async () => {
    const configArgs = config === undefined ? [] : ['--config-file', path('bridge.json')];
    if (config !== undefined) {
      writeFileSync(path('bridge.json'), JSON.stringify(config));
    }
    const words = ['serve', '--no-usb', '--tcp', '127.0.0.1:0', '--emulate', fixture(context), ...configArgs, ...args];
    const bridge = spawn(process.execPath, [BRIDGE, ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
    child = bridge;
    for await (const line of createInterface({ input: bridge.stdout })) {
      const record: { readonly msg?: string; readonly tcp?: readonly { readonly port: number }[] } = JSON.parse(line);
      if (record.msg === 'ready') {
        uri = `ip:127.0.0.1:${record.tcp?.[0]?.port}`;
        break;
      }
    }
    bridge.stdout.resume();
  }, PROCESS_TIMEOUT_MS);
  afterAll(async () => {
    if (child?.exitCode === null) {
      child.kill();
      await once(child, 'close');
    }
  });
  return () => uri;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly bytes: Buffer;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once standard output has so many lines, or the program has ended. */
  lines(count: number): Promise<readonly string[]>;
}

/** Starts `iio-client`, with `input` as its standard input. */
export function start(words: readonly string[], input: Uint8Array | undefined = undefined): Running {
  const child = spawn(process.execPath, [CLIENT, ...words], {
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk));
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  const ended = once(child, 'close').then(([code]): Ended => {
    const bytes = Buffer.concat(output);
    return { code, bytes, stdout: String(bytes), stderr: String(Buffer.concat(errors)) };
  });
  const linesSoFar = () => String(Buffer.concat(output)).split('\n').slice(0, -1);
  return {
    child,
    ended,
    async lines(count) {
      while (linesSoFar().length < count && child.exitCode === null) {
        await Promise.race([once(child.stdout ?? child, 'data'), ended]);
      }
      return linesSoFar();
    },
  };
}

export function run(...words: readonly string[]): Promise<Ended> {
  return start(words).ended;
}

/** The JSON that a successful run prints. */
export async function runJson(...words: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await run(...words, '--json');
  if (code !== 0) {
    throw new Error(`iio-client ${words.join(' ')} ended with ${code}: ${stderr}`);
  }
  return JSON.parse(stdout);
}
