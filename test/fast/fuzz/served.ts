import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../dist/bundle/iio-bridge.js', import.meta.url));

/** From the end of its connections to that of the process. */
const LAST_WORDS_MS = 2000;

export interface ServedOptions {
  readonly context: string;
  /** What the configuration file says, beside what stands there for every server. */
  readonly config?: object;
  /** Of V8's heap: a leak of objects ends the process instead of going unnoticed. */
  readonly heapMib?: number;
}

/** `iio-bridge serve` in a process of its own, emulating a context. */
export class ServedProcess {
  readonly port: number;
  /** Log records of the level `error`. */
  readonly errors: string[] = [];
  /** Log records of the level `warn`, counted. */
  warnings = 0;
  readonly #child: ChildProcess;
  readonly #directory: string;
  #stderr = '';

  private constructor(child: ChildProcess, directory: string, port: number) {
    this.#child = child;
    this.#directory = directory;
    this.port = port;
  }

  static async start({ context, config = {}, heapMib = 192 }: ServedOptions): Promise<ServedProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
    const contextFile = join(directory, 'context.xml');
    const configFile = join(directory, 'config.json');
    writeFileSync(contextFile, context);
    writeFileSync(configFile, JSON.stringify(config));
    const args = [`--max-old-space-size=${heapMib}`, MAIN, 'serve', '--no-usb', '--tcp', '127.0.0.1:0'];
    const child = spawn(process.execPath, [...args, '--emulate', contextFile, '--config-file', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    const lines = createInterface({ input: child.stdout });
    const ready = new Promise<number>((resolve, reject) => {
      child.once('exit', () => reject(new Error(`the server did not start: ${stderr}`)));
      lines.on('line', (line) => {
        const record: { msg?: string; tcp?: { port: number }[] } = JSON.parse(line);
        if (record.msg === 'ready') {
          resolve(record.tcp?.[0]?.port ?? 0);
        }
      });
    });
    const served = new ServedProcess(child, directory, await ready);
    lines.removeAllListeners('line');
    lines.on('line', (line) => served.#log(line));
    child.stderr.on('data', (text) => {
      served.#stderr += text;
    });
    return served;
  }

  /** @throws what ended the process, if something has. */
  checkAlive(): void {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) {
      throw new Error(`the server has ended with ${signalCode ?? exitCode}: ${this.#stderr}`);
    }
  }

  /** For a client whose link has ended: rejects with what ended the process, or with `error` if it lives on. */
  async explain(error: unknown): Promise<never> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await Promise.race([once(this.#child, 'exit'), delay(LAST_WORDS_MS)]);
    }
    this.checkAlive();
    throw error;
  }

  get openDescriptors(): readonly string[] {
    const directory = `/proc/${this.#child.pid}/fd`;
    return readdirSync(directory)
      .map((fd) => {
        try {
          return readlinkSync(join(directory, fd)).replace(/\[\d+\]/, '');
        } catch {
          return 'gone';
        }
      })
      .toSorted();
  }

  /** MiB: now, and the most there has been. */
  get memory(): { readonly resident: number; readonly peak: number } {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    const kib = (field: string) => Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN);
    return { resident: kib('VmRSS') / 1024, peak: kib('VmHWM') / 1024 };
  }

  /** Ends it as an administrator does. Returns its exit code. */
  async stop(): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await exited;
    }
    rmSync(this.#directory, { recursive: true, force: true });
    return this.#child.exitCode;
  }

  #log(line: string): void {
    if (line.includes('"level":50')) {
      this.errors.push(line);
    } else if (line.includes('"level":40')) {
      this.warnings++;
    }
  }
}
