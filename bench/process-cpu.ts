import { createRequire } from 'node:module';
import { IioError } from '@iio-bridge/protocol';

/** MAKE_PROCESS_CPUCLOCK in include/linux/posix-timers_types.h: the complement of the pid above three bits of kind. */
const CPUCLOCK_SCHED = 2;

let clockGettime: ((clock: number, timespec: BigInt64Array) => number) | undefined;

function load(): (clock: number, timespec: BigInt64Array) => number {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  return koffi.load(null).func('int clock_gettime(int clock, void *timespec)');
}

/**
 * CPU time that all threads of a process have used, in seconds with the scheduler's resolution; /proc/PID/stat has ten
 * milliseconds. For 64-bit machines.
 * @throws IioError `ESRCH` if there is no such process.
 */
export function processCpuSeconds(pid: number): number {
  clockGettime ??= load();
  const timespec = new BigInt64Array(2);
  if (clockGettime((~pid << 3) | CPUCLOCK_SCHED, timespec) !== 0) {
    throw new IioError('ESRCH', `No CPU clock of process ${pid}: has it ended?`);
  }
  return Number(timespec[0]) + Number(timespec[1]) * 1e-9;
}
