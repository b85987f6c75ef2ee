import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, type Readable } from 'node:stream';
import { IioError } from '@iio-bridge/protocol';
import { StreamRecord } from './guest-process.js';

/** Descriptor of the agent's channel in the process. */
export const CHANNEL_FD = 3;

const running = new Set<HostProcess>();

function discardAll(): void {
  for (const process of running) {
    process.discard();
  }
}

/**
 * The emulator or UML kernel that a guest runs in. Owns the process, which leads a group of its own, its pipes and a
 * temporary folder; {@link kill} ends the whole group, the end of the process does too, and so does the end of ours.
 */
export class HostProcess {
  readonly pid: number;
  /** What the kernel logs. */
  readonly console = new StreamRecord();
  /** What the emulator itself has to say; for UML also what it checks before its console is up. */
  readonly complaints = new StreamRecord();
  /** The byte stream to and from the agent. */
  readonly channel: Duplex;
  /** Resolves when the process has ended and its output has been read to the end. */
  readonly closed: Promise<void>;
  readonly #child: ChildProcess;
  readonly #folder: string;
  #ended = false;

  private constructor(argv: readonly string[], env: Readonly<Record<string, string>>, folder: string) {
    // A panicking UML kernel aborts: without the limit it leaves a core file of the size of the guest's memory.
    const child = spawn('/bin/sh', ['-c', 'ulimit -c 0; exec "$@"', 'lab', ...argv], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
    });
    const channel = child.stdio[CHANNEL_FD];
    if (child.pid === undefined || !(channel instanceof Duplex)) {
      throw new IioError('GUEST_BOOT', 'A lab machine needs /bin/sh, which could not be started');
    }
    this.pid = child.pid;
    this.channel = channel;
    this.#child = child;
    this.#folder = folder;
    if (running.size === 0) {
      process.on('exit', discardAll);
    }
    running.add(this);
    // The processes that UML runs its guest's processes in outlive a killed kernel, and hold its pipes open.
    child.once('exit', () => this.#killGroup());
    this.closed = new Promise((resolve) => {
      child.once('close', () => {
        this.#onClosed();
        resolve();
      });
    });
    keep(child.stdout, this.console);
    keep(child.stderr, this.complaints);
    channel.on('error', () => {
      // The other end went away: the process's end tells why.
    });
  }

  /** Starts the command that `argv` gives for the temporary folder, which is also its working directory. */
  static async start(
    argv: (folder: string) => readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<HostProcess> {
    const folder = await mkdtemp(join(tmpdir(), 'iio-bridge-lab-'));
    return new HostProcess(argv(folder), env, folder);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** How it ended: `code 1`, `SIGKILL`. */
  get end(): string {
    return this.#child.signalCode ?? `code ${this.#child.exitCode}`;
  }

  /** Ends it, if it has not ended, without waiting: {@link closed} tells when it is done. */
  kill(): void {
    if (!this.#ended) {
      this.#killGroup();
    }
  }

  /** The same, and removes its folder: for when nobody can wait any more. */
  discard(): void {
    this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #onClosed(): void {
    this.#ended = true;
    rmSync(this.#folder, { recursive: true, force: true });
    running.delete(this);
    if (running.size === 0) {
      process.off('exit', discardAll);
    }
  }

  #killGroup(): void {
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // The group is gone already.
    }
  }
}

function keep(stream: Readable | null, record: StreamRecord): void {
  stream?.on('data', (chunk: Buffer) => record.push(chunk));
  stream?.on('close', () => record.end());
}
