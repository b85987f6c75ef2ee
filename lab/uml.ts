import { readFile, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { guestKernelArgs, type Launch, SILENCE_MS } from './guest.js';
import { CHANNEL_FD } from './host-process.js';
import type { BootFiles, MachineOptions } from './machine.js';
import { patience } from './patience.js';

const DEFAULT_MEMORY_MIB = 1024;

/** How to start User-Mode Linux: an ordinary process, with the host's root read-only through hostfs. */
export async function umlLaunch(kernel: BootFiles, options: MachineOptions): Promise<Launch> {
  const memoryMiB = options.memoryMiB ?? DEFAULT_MEMORY_MIB;
  const processor = await nextProcessor();
  const slowness = patience();
  return {
    kind: 'uml',
    slowness,
    modules: kernel.modules,
    bootTimeoutMs: 90_000 * slowness,
    usualBootMs: 1000,
    silenceMs: options.silenceMs ?? SILENCE_MS * slowness,
    log: options.log ?? (() => {}),
    env: { TMPDIR: await memoryFolder(memoryMiB) },
    // Half of what its tty holds before it throttles: see WindowedWriter.
    window: 2048,
    argv: (folder) => [
      'taskset',
      '--cpu-list',
      processor,
      kernel.kernel,
      `mem=${memoryMiB}M`,
      // Its management socket would otherwise stay in ~/.uml when it is killed.
      `uml_dir=${folder}`,
      'noreboot',
      'con=null',
      'con0=null,fd:1',
      'ssl=null',
      `ssl0=fd:${CHANNEL_FD}`,
      'root=/dev/root',
      'rootfstype=hostfs',
      'rootflags=/',
      'ro',
      ...guestKernelArgs('uml', '/dev/ttyS0', options.kernelArgs ?? []),
    ],
  };
}

// Runs side by side begin with different ones.
let machinesStarted = process.pid;

/**
 * The processor of the next machine. A guest's system call goes from one host process to another and back; across
 * processors that takes several times as long, so each guest gets one of those that we may use, in turn.
 */
async function nextProcessor(): Promise<string> {
  const status = await readFile('/proc/self/status', 'utf8');
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '0';
  const allowed = list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  machinesStarted += 1;
  return String(allowed[machinesStarted % allowed.length] ?? 0);
}

/**
 * Where UML keeps the guest's memory: an unlinked file that it maps executable. /dev/shm, unless a container gave it only
 * a few megabytes (the guest would die of SIGBUS) or mounted it `noexec`.
 */
async function memoryFolder(memoryMiB: number): Promise<string> {
  const shm = '/dev/shm';
  try {
    const { bavail, bsize } = await statfs(shm);
    const mount = (await readFile('/proc/self/mounts', 'utf8'))
      .split('\n')
      .findLast((line) => line.split(' ')[1] === shm);
    const noexec = mount?.split(' ')[3]?.split(',').includes('noexec') ?? false;
    return bavail * bsize >= memoryMiB * 1024 * 1024 && !noexec ? shm : tmpdir();
  } catch {
    return tmpdir();
  }
}
