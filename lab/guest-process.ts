import { StringDecoder } from 'node:string_decoder';
import { IioError } from '@iio-bridge/protocol';
import { type AgentEvent, bodiesOf } from './agent-protocol.js';

/** How a process ended: with a code, or by a signal. */
export interface ExitStatus {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface WaitForLineOptions {
  /** Milliseconds of real time; by default 30 s on UML, and longer on slower machines. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * A process in a guest, leader of its own process group. Owns the record of its output; disposing kills the group with
 * SIGKILL and waits for its end.
 */
export interface GuestProcess extends AsyncDisposable {
  /** The pid in the guest. */
  readonly pid: number;
  /** Lines without their ends, each iteration from the first line on, until the process has ended. */
  readonly stdout: AsyncIterable<string>;
  readonly stderr: AsyncIterable<string>;
  /**
   * Settles when the process has ended and its output is closed, so also not before a background process that inherited
   * its output has ended. Rejects with the machine's error if the machine dies first.
   */
  readonly exited: Promise<ExitStatus>;
  /** Writes to the process's standard input. */
  write(data: string | Uint8Array): Promise<void>;
  endInput(): Promise<void>;
  /** Sends a signal to the process group; `SIGTERM` by default. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /**
   * The first line on either stream, from the process's start on, that matches.
   * @throws IioError `ETIMEDOUT`; `ECHILD` if the process ended without such a line: with its output.
   */
  waitForLine(pattern: RegExp, options?: WaitForLineOptions): Promise<RegExpExecArray>;
  /** What the process has written so far. */
  output(): { readonly stdout: string; readonly stderr: string };
}

/** Everything that a stream has carried, as bytes and as lines. Grows without limit. */
export class StreamRecord implements AsyncIterable<string> {
  readonly #chunks: Buffer[] = [];
  readonly #decoder = new StringDecoder('utf8');
  readonly #lines: string[] = [];
  readonly #listeners = new Set<() => void>();
  #partial = '';
  #ended = false;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    const pieces = (this.#partial + this.#decoder.write(chunk)).split('\n');
    this.#partial = pieces.pop() ?? '';
    this.#lines.push(...pieces.map((line) => line.replace(/\r$/, '')));
    this.#notify();
  }

  end(): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    const rest = this.#partial + this.#decoder.end();
    if (rest !== '') {
      this.#lines.push(rest);
    }
    this.#notify();
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  get ended(): boolean {
    return this.#ended;
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }

  /** Calls `listener` after each change until the returned function is called. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for (let next = 0; ; ) {
      const line = this.#lines[next];
      if (line !== undefined) {
        next += 1;
        yield line;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          const stop = this.listen(() => {
            stop();
            resolve();
          });
        });
      }
    }
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) {
      listener();
    }
  }
}

/** The first match in any of the records; rejects with what `ended` makes of it when all of them end without one. */
export function firstMatch(
  records: readonly StreamRecord[],
  pattern: RegExp,
  timeout: { readonly ms: number; readonly signal: AbortSignal | undefined },
  failure: (code: 'ETIMEDOUT' | 'ECHILD', what: string) => IioError,
): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    const stops: (() => void)[] = [];
    const finish = (settle: () => void) => {
      for (const stop of stops) {
        stop();
      }
      settle();
    };
    const next = records.map(() => 0);
    const look = () => {
      for (const [index, record] of records.entries()) {
        for (let at = next[index] ?? 0; at < record.lines.length; at += 1) {
          pattern.lastIndex = 0;
          const match = pattern.exec(record.lines[at] ?? '');
          if (match !== null) {
            return finish(() => resolve(match));
          }
        }
        next[index] = record.lines.length;
      }
      if (records.every((record) => record.ended)) {
        finish(() => reject(failure('ECHILD', `ended without a line that matches ${pattern}`)));
      }
    };
    const timer = setTimeout(
      () => finish(() => reject(failure('ETIMEDOUT', `gave no line that matches ${pattern} in ${timeout.ms} ms`))),
      timeout.ms,
    );
    const onAbort = () => finish(() => reject(timeout.signal?.reason));
    timeout.signal?.addEventListener('abort', onAbort);
    stops.push(
      () => clearTimeout(timer),
      () => timeout.signal?.removeEventListener('abort', onAbort),
      ...records.map((record) => record.listen(look)),
    );
    if (timeout.signal?.aborted === true) {
      onAbort();
    } else {
      look();
    }
  });
}

/** How a {@link RemoteProcess} reaches the agent. Each rejects when the machine is dead. */
export interface ProcessControl {
  input(body: Buffer): Promise<void>;
  endInput(): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** See {@link GuestProcess}. Hears of its process through {@link onEvent} and {@link onFailure}. */
export class RemoteProcess implements GuestProcess {
  readonly stdout = new StreamRecord();
  readonly stderr = new StreamRecord();
  /** Resolves when it runs; rejects if it could not be started. */
  readonly started: Promise<void>;
  readonly exited: Promise<ExitStatus>;
  readonly #name: string;
  readonly #lineTimeoutMs: number;
  readonly #control: ProcessControl;
  #pid = 0;
  #over = false;
  #failure: Error | undefined;
  #onStarted: () => void = () => {};
  #onExited: (status: ExitStatus) => void = () => {};
  #onFailed: (error: Error) => void = () => {};

  constructor(name: string, lineTimeoutMs: number, control: ProcessControl) {
    this.#name = name;
    this.#lineTimeoutMs = lineTimeoutMs;
    this.#control = control;
    this.exited = new Promise((resolve, reject) => {
      this.#onExited = resolve;
      this.#onFailed = reject;
    });
    this.started = new Promise((resolve, reject) => {
      this.#onStarted = resolve;
      this.exited.catch(reject);
    });
    // Whoever awaits it sees the rejection; one who does not need to know must not crash for it.
    this.started.catch(() => {});
  }

  get pid(): number {
    return this.#pid;
  }

  onEvent(event: AgentEvent, body: Buffer): void {
    switch (event.type) {
      case 'started':
        this.#pid = event.pid;
        this.#onStarted();
        break;
      case 'output':
        this[event.stream].push(body);
        break;
      case 'exited':
        this.#end();
        this.#onExited({ code: event.code, signal: event.signal });
        break;
      case 'failed':
        this.onFailure(new IioError(event.code, `${this.#name}: ${event.message}`));
        break;
    }
  }

  onFailure(error: Error): void {
    this.#failure = error;
    this.#end();
    this.#onFailed(error);
  }

  async write(data: string | Uint8Array): Promise<void> {
    for (const body of bodiesOf(data)) {
      await this.#control.input(body);
    }
  }

  endInput(): Promise<void> {
    return this.#control.endInput();
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return this.#control.kill(signal);
  }

  async waitForLine(pattern: RegExp, options: WaitForLineOptions = {}): Promise<RegExpExecArray> {
    const timeout = { ms: options.timeoutMs ?? this.#lineTimeoutMs, signal: options.signal };
    try {
      return await firstMatch([this.stdout, this.stderr], pattern, timeout, (code, what) =>
        processError(code, this.#name, what, this.output()),
      );
    } catch (error) {
      throw this.#failure ?? error;
    }
  }

  output(): { readonly stdout: string; readonly stderr: string } {
    return { stdout: this.stdout.text(), stderr: this.stderr.text() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#over) {
      return;
    }
    try {
      await this.kill('SIGKILL');
      await this.exited;
    } catch {
      // The machine died, and the process with it.
    }
  }

  #end(): void {
    this.#over = true;
    this.stdout.end();
    this.stderr.end();
  }
}

/** The last lines of a process's output, for an error message. */
export function outputTail(stdout: string, stderr: string): string {
  const tail = (name: string, text: string) =>
    text === '' ? '' : `\n--- ${name} ---\n${text.trimEnd().split('\n').slice(-30).join('\n').slice(-8192)}`;
  return tail('stdout', stdout) + tail('stderr', stderr);
}

/** A failed operation on a process, with the output that it had given. */
export function processError(
  code: string,
  name: string,
  what: string,
  output: { readonly stdout: string; readonly stderr: string },
): IioError {
  return new IioError(code, `${name}: ${what}${outputTail(output.stdout, output.stderr)}`);
}
