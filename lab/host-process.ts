import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, type FSWatcher, openSync, readSync, rmSync, watch } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { IioError } from '@iio-bridge/protocol';
import { StreamRecord } from './guest-process.js';

/** Descriptor of the agent's channel in the process. */
export const CHANNEL_FD = 3;

const FOLDER_PREFIX = 'iio-bridge-lab-';

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
  readonly #consoleFile: ConsoleFile;
  #ended = false;

  private constructor(argv: readonly string[], env: Readonly<Record<string, string>>, folder: string) {
    const consoleFile = new ConsoleFile(join(folder, 'console'), this.console);
    // A panicking UML kernel aborts: without the limit it leaves a core file of the size of the guest's memory.
    const child = spawn('/bin/sh', ['-c', 'ulimit -c 0; exec "$@"', 'lab', ...argv], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', consoleFile.fd, 'pipe', 'pipe'],
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
    this.#consoleFile = consoleFile;
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
    child.stderr?.on('data', (chunk: Buffer) => this.complaints.push(chunk));
    child.stderr?.on('close', () => this.complaints.end());
    channel.on('error', () => {
      // The other end went away: the process's end tells why.
    });
  }

  /** Starts the command that `argv` gives for the temporary folder, which is also its working directory. */
  static async start(
    argv: (folder: string) => readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<HostProcess> {
    await removeOrphans();
    const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
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
    this.#consoleFile.end();
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

/** Removes the folders of processes that were killed before they could. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = name.startsWith(FOLDER_PREFIX) ? Number.parseInt(name.slice(FOLDER_PREFIX.length), 10) : Number.NaN;
    if (pid > 0 && !isAlive(pid)) {
      await rm(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, as somebody else's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/**
 * The console goes through a file, as UML drops what a full pipe does not take; and a socket, which is what Node gives a
 * child, is full after fewer than 300 lines. Owns the file's descriptor and its watch.
 */
class ConsoleFile {
  readonly fd: number;
  readonly #record: StreamRecord;
  readonly #buffer = Buffer.alloc(64 * 1024);
  readonly #watcher: FSWatcher;
  #read = 0;

  constructor(path: string, record: StreamRecord) {
    this.fd = openSync(path, 'a+');
    this.#record = record;
    this.#watcher = watch(path, () => this.#readOn());
  }

  /** Takes the rest; nobody writes any more. */
  end(): void {
    this.#watcher.close();
    this.#readOn();
    closeSync(this.fd);
    this.#record.end();
  }

  #readOn(): void {
    for (;;) {
      const length = readSync(this.fd, this.#buffer, 0, this.#buffer.length, this.#read);
      if (length === 0) {
        return;
      }
      this.#read += length;
      this.#record.push(Buffer.from(this.#buffer.subarray(0, length)));
    }
  }
}
