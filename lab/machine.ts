import { ensureLab, LAB_MACHINES, type LabKernel, type LabMachine, type LabModule } from './build.js';
import { Guest } from './guest.js';
import type { ExitStatus, GuestProcess } from './guest-process.js';
import { bootQemu } from './qemu.js';
import { umlLaunch } from './uml.js';

/** `uml` and `qemu` run the same sources; `qemu-debug` is QEMU with KASAN, lockdep and the other checkers. */
export type MachineKind = LabMachine;

export const MACHINE_KINDS: readonly MachineKind[] = LAB_MACHINES;

export type Log = (line: string) => void;

export interface SpawnOptions {
  /** Added to the guest's own environment; the host's is not passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory; `/` by default. */
  readonly cwd?: string;
  /** Sees the output as it comes, undecoded. */
  readonly onOutput?: (stream: 'stdout' | 'stderr', chunk: Buffer) => void;
}

export interface RunOptions extends SpawnOptions {
  /** Milliseconds of real time; by default 2 min on UML, and longer on slower machines. */
  readonly timeoutMs?: number;
  /** Standard input; empty by default. */
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

export interface RunResult extends ExitStatus {
  readonly stdout: string;
  readonly stderr: string;
}

/** A place in a machine's kernel log. */
export type KernelLogMark = number & { readonly __mark: 'kernel-log' };

/**
 * A running guest. Its root is the host's file system, with what the guest changes kept in the guest's memory, so any
 * path of the host (the checkout, the node program) is valid in it, and nothing that runs in it changes the host.
 *
 * Owns the emulator's or the UML kernel's processes, their pipes and a temporary folder. Disposing it powers the guest
 * off, ends what does not end by itself with SIGKILL within seconds, and removes the folder.
 *
 * When the guest dies (a panic, an unexpected end, silence) every pending and later operation rejects with the same
 * `IioError`, whose message ends with the last lines of the kernel log; `code` is `GUEST_PANIC`, `GUEST_EXITED` or
 * `GUEST_HUNG`. After disposal it is `GUEST_CLOSED`.
 */
export interface Machine extends AsyncDisposable {
  readonly kind: MachineKind;
  /** How much slower than UML on a quick host this machine may be, its boot included: 1 or more, to multiply time-outs with. */
  readonly slowness: number;
  /** The lab's kernel modules, name to `.ko` file. */
  readonly modules: Readonly<Record<LabModule, string>>;
  /** The error that ended the guest, if it is dead. */
  readonly failure: Error | undefined;
  /**
   * Runs a command to its end: a string through `/bin/sh -c`, an array as it is. A code other than 0 is a result.
   * @throws IioError the errno's name if the program cannot be started (`ENOENT`); `ETIMEDOUT` with its output so far.
   */
  run(command: string | readonly string[], options?: RunOptions): Promise<RunResult>;
  /**
   * Like {@link run}, for the output only.
   * @throws IioError `ECHILD` with the output if the command does not end with code 0.
   */
  output(command: string | readonly string[], options?: RunOptions): Promise<string>;
  spawn(command: string | readonly string[], options?: SpawnOptions): Promise<GuestProcess>;
  /** @throws IioError the errno's name, e.g. `ENOENT`. */
  readFile(path: string): Promise<Buffer>;
  /** Replaces or creates the file. Up to 64 KiB are one `write()`, as sysfs and configfs files want it. */
  writeFile(path: string, data: string | Uint8Array): Promise<void>;
  /** Everything that the kernel has logged, at every level, up to this call; also when the guest is dead. */
  kernelLog(): Promise<string>;
  /** The present end of the kernel log. */
  kernelLogMark(): Promise<KernelLogMark>;
  /** What the kernel has logged since; also when the guest is dead. */
  kernelLogSince(mark: KernelLogMark): Promise<string>;
  /** Powers the guest off, as disposing does. */
  shutdown(): Promise<void>;
}

/** What a boot needs of a {@link LabKernel}. */
export type BootFiles = Pick<LabKernel, 'kernel' | 'modules'>;

export interface MachineOptions {
  /** The guest's memory in MiB, in which what it writes to files also lives. */
  readonly memoryMiB?: number;
  /** Processors of a QEMU guest; UML has one. */
  readonly cpus?: number;
  /** Hears what is built and started; by default only a build is told of, on stderr. */
  readonly log?: Log;
  /**
   * Milliseconds without a sign of life, while an operation is pending, after which the guest counts as hung; a sixth of it
   * once the kernel has reported a stall. By default 60 s on UML, and longer on slower machines.
   */
  readonly silenceMs?: number;
  /** More parameters for the kernel's command line. */
  readonly kernelArgs?: readonly string[];
  /** A kernel other than the lab's own. */
  readonly kernel?: BootFiles;
}

/**
 * Builds the kernel if the cache lacks it, boots it and waits for the agent in the guest.
 * @throws IioError `GUEST_BOOT` with the console's output if the guest does not come up.
 */
export async function startMachine(kind: MachineKind, options: MachineOptions = {}): Promise<Machine> {
  const { log } = options;
  const kernel = options.kernel ?? (await ensureLab(kind, log === undefined ? {} : { log }));
  return kind === 'uml' ? await Guest.boot(await umlLaunch(kernel, options)) : await bootQemu(kind, kernel, options);
}
