import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import {
  AGENT_PROTOCOL,
  type AgentEvent,
  type AgentFrame,
  type AgentRequest,
  bodiesOf,
  encodeFrame,
  FrameDecoder,
} from './agent-protocol.js';
import { firstMatch, type GuestProcess, processError, RemoteProcess } from './guest-process.js';
import { HostProcess } from './host-process.js';
import { classifyLine, logTail } from './kernel-log.js';
import type {
  BootFiles,
  KernelLogMark,
  Log,
  Machine,
  MachineKind,
  RunOptions,
  RunResult,
  SpawnOptions,
} from './machine.js';
import { checkoutRoot } from './paths.js';
import { WindowedWriter } from './windowed-writer.js';

/** How to start a machine: a command whose stdout is the kernel's console and whose descriptor 3 is the agent's channel. */
export interface Launch {
  readonly kind: MachineKind;
  readonly slowness: number;
  readonly modules: BootFiles['modules'];
  readonly bootTimeoutMs: number;
  /** What a boot takes at most where `slowness` is right. */
  readonly usualBootMs: number;
  readonly silenceMs: number;
  readonly log: Log;
  /** The command line, given a temporary folder of the machine's own. */
  readonly argv: (folder: string) => readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Bytes to the agent that may be on their way unconfirmed. */
  readonly window: number;
}

/** Kernel parameters that every guest gets: a complete console log, and a kernel that stops at its first Oops. */
const COMMON_KERNEL_ARGS = [
  'ignore_loglevel',
  'printk.time=1',
  'printk.devkmsg=on',
  'log_buf_len=1M',
  'oops=panic',
] as const;

function quote(value: string): string {
  if (value.includes('"')) {
    throw new IioError('EINVAL', `A kernel command line cannot carry the path ${value}: move the checkout elsewhere`);
  }
  return /\s/.test(value) ? `"${value}"` : value;
}

/** The kernel's command line from the common part on, with the hand-over to `guest/init.sh`. */
export function guestKernelArgs(kind: MachineKind, channel: string, extra: readonly string[]): readonly string[] {
  const root = checkoutRoot();
  const agent = join(root, 'dist/bundle/lab-agent.js');
  if (!existsSync(agent)) {
    throw new IioError('NOT_BUILT', `${agent} does not exist: run npm run build`);
  }
  const environment = {
    LAB_NODE: process.execPath,
    LAB_AGENT: agent,
    LAB_CHANNEL: channel,
    LAB_HOME: homedir(),
    LAB_HOST: `lab-${kind}`,
  };
  return [
    ...COMMON_KERNEL_ARGS,
    ...Object.entries(environment).map(([name, value]) => `${name}=${quote(value)}`),
    ...extra,
    // Through the shell, so that the script does not depend on its executable bit.
    'init=/bin/sh',
    '--',
    quote(join(root, 'lab/guest/init.sh')),
  ];
}

/** A request that has an answer. */
type Operation = Extract<AgentRequest, { readonly id: number }>;

interface Pending {
  onEvent(event: AgentEvent, body: Buffer): void;
  onFailure(error: Error): void;
}

/** Default of `MachineOptions.silenceMs`, before the machine's slowness. */
export const SILENCE_MS = 60_000;
/** Heartbeats without a byte from the agent after which a guest counts as hung. */
const SILENT_BEATS = 12;
/** The same once the kernel has reported a stall. */
const SILENT_BEATS_AFTER_STALL = 2;
const SHUTDOWN_MS = 3_000;
const PANIC_GRACE_MS = 3_000;
const RUN_TIMEOUT_MS = 120_000;
const LINE_TIMEOUT_MS = 90_000;
const LOG_TIMEOUT_MS = 90_000;
/** A line by which the host tells where in the log it is. */
const LOG_MARK = /lab: mark \d+$/;

/** See {@link Machine} for what it owns and what disposing does. */
export class Guest implements Machine {
  readonly kind: MachineKind;
  readonly modules: BootFiles['modules'];
  readonly #launch: Launch;
  readonly #host: HostProcess;
  readonly #writer: WindowedWriter;
  readonly #pending = new Map<number, Pending>();
  readonly #decoder = new FrameDecoder<AgentEvent>();
  #slowness: number;
  #nextId = 1;
  #failure: Error | undefined;
  #shutdown: Promise<void> | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #silentBeats = 0;
  #stalled = false;
  #ready: { resolve(): void; reject(error: Error): void } | undefined;

  private constructor(launch: Launch, host: HostProcess) {
    this.kind = launch.kind;
    this.#slowness = launch.slowness;
    this.modules = launch.modules;
    this.#launch = launch;
    this.#host = host;
    this.#writer = new WindowedWriter(host.channel, launch.window);
    void host.closed.then(() => this.#onClosed());
    host.console.listen(this.#watchConsole());
    host.channel.on('data', (chunk: Buffer) => this.#onData(chunk));
  }

  /** @throws IioError `GUEST_BOOT` */
  static async boot(launch: Launch): Promise<Guest> {
    const guest = new Guest(launch, await HostProcess.start(launch.argv, launch.env));
    launch.log(`booting the ${launch.kind} machine (process ${guest.#host.pid})`);
    const { bootTimeoutMs, usualBootMs } = launch;
    const startedAt = performance.now();
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        guest.#ready = { resolve, reject };
        timer = setTimeout(() => reject(new Error(`no agent after ${bootTimeoutMs} ms`)), bootTimeoutMs);
      });
    } catch (cause) {
      guest.#host.kill();
      await guest.#host.closed;
      // The rest of the message is the log, which follows anyway.
      const [why = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n', 1);
      throw new IioError('GUEST_BOOT', guest.#withLog(`did not boot: ${why}`), { cause });
    } finally {
      clearTimeout(timer);
      guest.#ready = undefined;
    }
    guest.#slowness *= Math.max(1, (performance.now() - startedAt) / usualBootMs);
    return guest;
  }

  get slowness(): number {
    return this.#slowness;
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  async run(command: string | readonly string[], options: RunOptions = {}): Promise<RunResult> {
    options.signal?.throwIfAborted();
    const { timeoutMs = RUN_TIMEOUT_MS * this.slowness, signal, input = '' } = options;
    const child = await this.spawn(command, options);
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const interrupted = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(processError('ETIMEDOUT', describe(command), `still running after ${timeoutMs} ms`, child.output()));
      }, timeoutMs);
      onAbort = () => reject(signal?.reason);
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted === true) {
        onAbort();
      }
    });
    try {
      const finished = async () => {
        await child.write(input);
        await child.endInput();
        return await child.exited;
      };
      const status = await Promise.race([finished(), interrupted]);
      return { ...status, ...child.output() };
    } catch (error) {
      if (this.#failure === undefined) {
        await child.kill('SIGKILL');
      }
      throw error;
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) {
        signal?.removeEventListener('abort', onAbort);
      }
    }
  }

  async output(command: string | readonly string[], options?: RunOptions): Promise<string> {
    const result = await this.run(command, options);
    if (result.code !== 0) {
      const end = result.signal === null ? `code ${result.code}` : result.signal;
      throw processError('ECHILD', describe(command), `ended with ${end}`, result);
    }
    return result.stdout;
  }

  async spawn(command: string | readonly string[], options: SpawnOptions = {}): Promise<GuestProcess> {
    const { env = {}, cwd = '/', onOutput } = options;
    const argv = typeof command === 'string' ? ['/bin/sh', '-c', command] : command;
    const id = this.#newId();
    const child = new RemoteProcess(describe(command), LINE_TIMEOUT_MS * this.slowness, {
      input: (body) => this.#write({ type: 'input', id }, body),
      endInput: () => this.#write({ type: 'end-input', id }),
      kill: (signal) => this.#write({ type: 'kill', id, signal }),
    });
    const onEvent = (event: AgentEvent, body: Buffer) => {
      if (event.type === 'output') {
        onOutput?.(event.stream, body);
      } else if (event.type !== 'started') {
        this.#forget(id);
      }
      child.onEvent(event, body);
    };
    this.#start({ type: 'spawn', id, argv, env, cwd }, { onEvent, onFailure: (error) => child.onFailure(error) });
    await child.started;
    return child;
  }

  readFile(path: string): Promise<Buffer> {
    const chunks: Buffer[] = [];
    return this.#operation(
      `read ${path}`,
      (id) => ({ type: 'read', id, path }),
      undefined,
      (event, body) => {
        if (event.type === 'data') {
          chunks.push(body);
          return event.last ? Buffer.concat(chunks) : undefined;
        }
        return undefined;
      },
    );
  }

  async writeFile(path: string, data: string | Uint8Array): Promise<void> {
    let append = false;
    for (const body of bodiesOf(data)) {
      await this.#writeOnce(path, body, append);
      append = true;
    }
    if (!append) {
      await this.#writeOnce(path, Buffer.alloc(0), false);
    }
  }

  async kernelLog(): Promise<string> {
    await this.#syncLog();
    return this.#host.console.text();
  }

  async kernelLogMark(): Promise<KernelLogMark> {
    const end = await this.#syncLog();
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    return end as KernelLogMark;
  }

  async kernelLogSince(mark: KernelLogMark): Promise<string> {
    const end = await this.#syncLog();
    const lines = this.#host.console.lines.slice(mark, end - 1);
    return lines.filter((line) => !LOG_MARK.test(line)).join('\n');
  }

  shutdown(): Promise<void> {
    this.#shutdown ??= this.#powerOff();
    return this.#shutdown;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  async #powerOff(): Promise<void> {
    this.#fail(new IioError('GUEST_CLOSED', `${this.kind} machine: it has been shut down`));
    if (!this.#host.ended) {
      void this.#writer.write(encodeFrame({ type: 'shutdown' }));
      const late = setTimeout(() => this.#host.kill(), SHUTDOWN_MS);
      await this.#host.closed;
      clearTimeout(late);
    }
  }

  /** Makes sure that the console shows everything logged so far; the number of lines up to there. */
  async #syncLog(): Promise<number> {
    if (this.#failure === undefined) {
      const text = `lab: mark ${this.#newId()}`;
      try {
        await this.#writeOnce('/dev/kmsg', Buffer.from(`${text}\n`), true);
        await firstMatch(
          [this.#host.console],
          new RegExp(`${text}$`),
          { ms: LOG_TIMEOUT_MS * this.slowness, signal: undefined },
          (code, what) => new IioError(code, `${this.kind} machine: the console ${what}`),
        );
        return this.#host.console.lines.findLastIndex((line) => line.endsWith(text)) + 1;
      } catch (error) {
        if (this.#failure === undefined) {
          throw error;
        }
      }
    }
    await this.#host.closed;
    return this.#host.console.lines.length + 1;
  }

  #writeOnce(path: string, body: Buffer, append: boolean): Promise<void> {
    return this.#operation(
      `write ${path}`,
      (id) => ({ type: 'write', id, path, append }),
      body,
      (event) => (event.type === 'written' ? true : undefined),
    ).then(() => {});
  }

  /** One request; `result` gives its answer when the last event has come. */
  #operation<T>(
    what: string,
    request: (id: number) => Operation,
    body: Buffer | undefined,
    result: (event: AgentEvent, body: Buffer) => T | undefined,
  ): Promise<T> {
    const id = this.#newId();
    return new Promise((resolve, reject) => {
      const onEvent = (event: AgentEvent, bytes: Buffer) => {
        if (event.type === 'failed') {
          this.#forget(id);
          reject(new IioError(event.code, `${what} in the ${this.kind} machine: ${event.message}`));
          return;
        }
        const value = result(event, bytes);
        if (value !== undefined) {
          this.#forget(id);
          resolve(value);
        }
      };
      this.#start(request(id), { onEvent, onFailure: reject }, body);
    });
  }

  #newId(): number {
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  #start(request: Operation, pending: Pending, body?: Buffer): void {
    if (this.#failure !== undefined) {
      pending.onFailure(this.#failure);
      return;
    }
    this.#pending.set(request.id, pending);
    if (this.#heartbeat === undefined) {
      this.#silentBeats = 0;
      this.#heartbeat = setInterval(() => this.#beat(), this.#launch.silenceMs / SILENT_BEATS);
    }
    void this.#writer.write(encodeFrame(request, body));
  }

  #forget(id: number): void {
    this.#pending.delete(id);
    if (this.#pending.size === 0) {
      clearInterval(this.#heartbeat);
      this.#heartbeat = undefined;
    }
  }

  /** Sends a message without an answer; resolves when the channel has taken it. */
  async #write(request: AgentRequest, body?: Buffer): Promise<void> {
    if (this.#failure === undefined) {
      await this.#writer.write(encodeFrame(request, body));
    }
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
  }

  /** Counts beats and not time, so that a host process that was itself held up does not blame the guest. */
  #beat(): void {
    if (this.#silentBeats >= (this.#stalled ? SILENT_BEATS_AFTER_STALL : SILENT_BEATS)) {
      const silence = (this.#silentBeats * this.#launch.silenceMs) / SILENT_BEATS / 1000;
      this.#die('GUEST_HUNG', `the guest has not answered for ${silence} s`);
      return;
    }
    this.#silentBeats += 1;
    void this.#writer.write(encodeFrame({ type: 'ping' }));
  }

  #onData(chunk: Buffer): void {
    this.#silentBeats = 0;
    let frames: readonly AgentFrame<AgentEvent>[];
    try {
      frames = this.#decoder.push(chunk);
    } catch (error) {
      this.#die('GUEST_HUNG', `the agent's channel is garbled: ${error instanceof Error ? error.message : error}`);
      return;
    }
    for (const { message, body } of frames) {
      if (message.type === 'ready') {
        if (message.protocol === AGENT_PROTOCOL) {
          this.#ready?.resolve();
        } else {
          this.#ready?.reject(new Error('the compiled agent is not of these sources: run npm run build'));
        }
      } else if (message.type === 'taken') {
        this.#writer.confirm(message.bytes);
      } else if ('id' in message) {
        this.#pending.get(message.id)?.onEvent(message, body);
      }
    }
  }

  #watchConsole(): () => void {
    let seen = 0;
    return () => {
      for (; seen < this.#host.console.lines.length; seen += 1) {
        const kind = classifyLine(this.#host.console.lines[seen] ?? '');
        if (kind === 'panic') {
          // The rest of the report follows; most machines then end by themselves.
          setTimeout(() => this.#die('GUEST_PANIC', 'the kernel panicked'), PANIC_GRACE_MS).unref();
        } else if (kind === 'stall') {
          this.#stalled = true;
        }
      }
    };
  }

  #onClosed(): void {
    const panicked = this.#host.console.lines.some((line) => classifyLine(line) === 'panic');
    const what = panicked ? 'the kernel panicked' : `its process ended unexpectedly (${this.#host.end})`;
    this.#fail(new IioError(panicked ? 'GUEST_PANIC' : 'GUEST_EXITED', this.#withLog(what)));
  }

  #die(code: string, what: string): void {
    this.#fail(new IioError(code, this.#withLog(what)));
    this.#host.kill();
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) {
      return;
    }
    this.#failure = error;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    this.#ready?.reject(error);
    this.#writer.abandon();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { onFailure } of pending) {
      onFailure(error);
    }
  }

  #withLog(what: string): string {
    const complaints = this.#host.complaints.text().trim();
    return [
      `${this.#launch.kind} machine: ${what}`,
      ...(complaints === '' ? [] : ['--- the machine itself ---', logTail(complaints, 20)]),
      '--- end of the kernel log ---',
      logTail(this.#host.console.text()),
    ].join('\n');
  }
}

function describe(command: string | readonly string[]): string {
  const text = typeof command === 'string' ? command : command.join(' ');
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
