import { createRequire } from 'node:module';
import { IioError } from '@iio-bridge/protocol';

/** include/uapi/linux/time.h */
const CLOCK_REALTIME = 0;

/** MAKE_PROCESS_CPUCLOCK in include/linux/posix-timers_types.h: the complement of the pid above three bits of kind. */
const CPUCLOCK_SCHED = 2;

let clockGettime: ((clock: number, timespec: BigInt64Array) => number) | undefined;

function load(): (clock: number, timespec: BigInt64Array) => number {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  return koffi.load(null).func('int clock_gettime(int clock, void *timespec)');
}

/** For 64-bit machines. */
function readClock(clock: number): BigInt64Array | undefined {
  clockGettime ??= load();
  const timespec = new BigInt64Array(2);
  return clockGettime(clock, timespec) === 0 ? timespec : undefined;
}

/**
 * CPU time that all threads of a process have used, in seconds with the scheduler's resolution; /proc/PID/stat has ten
 * milliseconds.
 * @throws IioError `ESRCH` if there is no such process.
 */
export function processCpuSeconds(pid: number): number {
  const time = readClock((~pid << 3) | CPUCLOCK_SCHED);
  if (time === undefined) {
    throw new IioError('ESRCH', `No CPU clock of process ${pid}: has it ended?`);
  }
  return Number(time[0]) + Number(time[1]) * 1e-9;
}

/** The clock of the converters' timestamps; `Date.now()` has milliseconds only. */
export function realtimeNs(): bigint {
  const time = readClock(CLOCK_REALTIME);
  return (time?.[0] ?? 0n) * 1_000_000_000n + (time?.[1] ?? 0n);
}
