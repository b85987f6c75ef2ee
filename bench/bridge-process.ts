import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { IioError } from '@iio-bridge/protocol';
import { checkoutRoot } from '../lab/paths.js';

export type BridgeMode = 'auto' | 'copy';

/** One line of the bridge's log. */
export interface LogRecord {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const PINO_WARN = 40;

/**
 * `iio-bridge serve` as a child process. Owns the process and the record of its log; disposing ends it with SIGTERM, and
 * with SIGKILL if that does nothing.
 */
export class BridgeProcess implements AsyncDisposable {
  readonly #process: ChildProcessByStdio<null, Readable, null>;
  readonly #ended: Promise<number | null>;
  readonly #records: LogRecord[] = [];
  readonly #listeners = new Set<() => void>();

  private constructor(child: ChildProcessByStdio<null, Readable, null>) {
    this.#process = child;
    const reading = this.#readLog();
    this.#ended = once(child, 'exit').then(async () => {
      await reading;
      this.#notify();
      return child.exitCode;
    });
  }

  /**
   * Starts the bridge, with options of `serve`, and waits until it is ready: its gadget bound, its ports open.
   * @throws IioError `BRIDGE` with the end of its log if it does not come up.
   */
  static async start(...options: readonly string[]): Promise<BridgeProcess> {
    const program = join(checkoutRoot(), 'dist/bundle/iio-bridge.js');
    const child = spawn(process.execPath, [program, 'serve', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    const bridge = new BridgeProcess(child);
    try {
      await bridge.waitForReady();
    } catch (error) {
      await bridge[Symbol.asyncDispose]();
      throw error;
    }
    return bridge;
  }

  /** The record of the start. */
  async waitForReady(): Promise<LogRecord> {
    return await this.waitForRecord((record) => record.msg === 'ready', READY_TIMEOUT_MS);
  }

  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) {
      throw new IioError('BRIDGE', 'The bridge has not started');
    }
    return pid;
  }

  /** Warnings and errors so far. */
  get complaints(): readonly LogRecord[] {
    return this.#records.filter((record) => record.level >= PINO_WARN);
  }

  /**
   * The first record that matches, from the start on.
   * @throws IioError `BRIDGE` if the process ends first or `timeoutMs` pass.
   */
  async waitForRecord(matches: (record: LogRecord) => boolean, timeoutMs: number): Promise<LogRecord> {
    const giveUp = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const found = this.#records.find(matches);
      if (found !== undefined) {
        return found;
      }
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
        throw this.#failure(`ended with ${this.#process.exitCode ?? this.#process.signalCode}`);
      }
      if (giveUp.aborted) {
        throw this.#failure(`did not log what was expected within ${timeoutMs} ms`);
      }
      await this.#change(giveUp);
    }
  }

  /** Ends the bridge with SIGTERM. Resolves with its exit code and how long that took, in ms. */
  async stop(): Promise<{ readonly code: number | null; readonly milliseconds: number }> {
    const startedAt = performance.now();
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_TIMEOUT_MS);
    const code = await this.#ended;
    clearTimeout(timer);
    return { code, milliseconds: performance.now() - startedAt };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #readLog(): Promise<void> {
    for await (const line of createInterface({ input: this.#process.stdout })) {
      const record = parseRecord(line);
      if (record === undefined) {
        process.stderr.write(`${line}\n`);
      } else {
        this.#records.push(record);
        this.#notify();
      }
    }
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) {
      listener();
    }
  }

  #change(giveUp: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        this.#listeners.delete(finish);
        giveUp.removeEventListener('abort', finish);
        resolve();
      };
      this.#listeners.add(finish);
      giveUp.addEventListener('abort', finish);
    });
  }

  #failure(what: string): IioError {
    const log = this.#records.slice(-20).map((record) => JSON.stringify(record));
    return new IioError('BRIDGE', [`The bridge ${what}. The end of its log:`, ...log].join('\n'));
  }
}

function parseRecord(line: string): LogRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isLogRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isLogRecord(value: unknown): value is LogRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'level' in value &&
    typeof value.level === 'number' &&
    'msg' in value &&
    typeof value.msg === 'string'
  );
}
