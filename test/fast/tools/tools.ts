import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { parseConfig } from '../../../src/bridge/config.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { Service } from '../../../src/bridge/service.js';
import { writeContext } from './context.js';

/** Whether they can be run; a warning says which cannot. */
export function areInstalled(...tools: readonly string[]): boolean {
  const missing = tools.filter((tool) => spawnSync(tool, ['-h']).error !== undefined);
  if (missing.length > 0) {
    console.warn(`skipped: ${missing.join(', ')} not found; install Debian's libiio-utils`);
  }
  return missing.length === 0;
}

export interface Run {
  readonly status: number | null;
  readonly out: Buffer;
  readonly err: string;
}

export interface RunOptions {
  readonly input?: Uint8Array;
  /** Ends it by SIGTERM when it settles. */
  readonly until?: Promise<unknown>;
}

export async function run(program: string, args: readonly string[], { input, until }: RunOptions = {}): Promise<Run> {
  const child = spawn(program, args);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.on('data', (piece: Buffer) => err.push(piece));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? new Uint8Array(0));
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('close', resolve);
    child.on('error', reject);
  });
  const stop = until?.then(() => child.kill('SIGTERM'));
  const status = await exited;
  await stop;
  return { status, out: Buffer.concat(out), err: Buffer.concat(err).toString() };
}

/** The bridge, in this process, over TCP, with the devices of {@link writeContext} and a wire from the DAC to the ADC. */
export class ToolBench {
  readonly errors: unknown[] = [];
  #service: Service | undefined;
  #context = '';
  #opened = 0;
  #wake: () => void = () => undefined;
  /** So that nobody else has iiod's port there. */
  readonly #ownAddress = `127.30.${(process.pid >> 8) & 0xff}.${process.pid & 0xff}`;

  /** Runs for all tests of a file. */
  static forAll(): ToolBench {
    const bench = new ToolBench();
    beforeAll(() => bench.#start());
    afterAll(async () => {
      await bench.#service?.stop();
      rmSync(dirname(bench.#context), { recursive: true });
      expect(bench.errors).toEqual([]);
    });
    return bench;
  }

  get port(): number {
    return this.#service?.endpoints[0]?.port ?? 0;
  }

  get uri(): string {
    return `ip:127.0.0.1:${this.port}`;
  }

  /** The same with iiod's own port, for what does not keep another. */
  get uriWithoutPort(): string {
    return `ip:${this.#ownAddress}`;
  }

  tool(name: string, args: readonly string[], options?: RunOptions): Promise<Run> {
    return run(name, ['-u', this.uri, ...args], options);
  }

  /** What a tool writes to standard output; it must succeed. */
  async output(name: string, args: readonly string[], options?: RunOptions): Promise<Buffer> {
    const { status, out, err } = await this.tool(name, args, options);
    expect([status, err]).toEqual([0, '']);
    return out;
  }

  /** Text clients that have opened a buffer so far. */
  get opened(): number {
    return this.#opened;
  }

  /** Waits until there have been so many. */
  async whenOpened(count: number): Promise<void> {
    while (this.#opened < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async #start(): Promise<void> {
    this.#context = writeContext();
    const config = parseConfig(
      {
        usb: { enabled: false },
        tcp: { listen: ['127.0.0.1:0', `${this.#ownAddress}:30431`] },
        emulate: { context: this.#context, loopback: { from: 'emu-dac', to: 'emu-adc' } },
        permissions: { tcp: { debugAttributes: true, registers: true } },
      },
      'the tests',
    );
    const log: Logger = {
      debug: () => undefined,
      info: (_, message) => {
        if (message === 'a text client opened a buffer') {
          this.#opened++;
          this.#wake();
        }
      },
      warn: () => undefined,
      error: (fields, message) => void this.errors.push([message, fields]),
      child: () => log,
    };
    this.#service = await Service.start(config, { log });
  }
}

/** Of this process, the bridge's. */
export function resources(): { readonly descriptors: number; readonly residentMib: number } {
  const kib = /^VmRSS:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return { descriptors: readdirSync('/proc/self/fd').length, residentMib: Number(kib) / 1024 };
}
