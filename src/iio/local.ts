import { readdirSync, statSync } from 'node:fs';
import { hostname, machine, release, type, version } from 'node:os';
import type { LocalContext } from './context.js';
import { type DiscoveryOptions, discoverContext } from './discovery.js';
import { realSysfs } from './sysfs-tree.js';

/**
 * Discovers this machine's IIO context.
 *
 * @throws IioError `ENOENT` if the kernel offers no IIO devices at all
 */
export function discoverLocalContext(options: Omit<DiscoveryOptions, 'host'> = {}): LocalContext {
  const host = {
    sysname: type(),
    nodename: hostname(),
    release: release(),
    version: version(),
    machine: machine(),
  };
  return discoverContext(realSysfs, { ...options, host });
}

/**
 * The devices there are, as text that differs once one of them has come, gone, or come again: a directory of sysfs that is
 * made anew has a new inode number. Costs a system call per device.
 */
export function localFingerprint(): string {
  return ['/sys/bus/iio/devices', '/sys/class/hwmon'].map(directoryFingerprint).join('\n');
}

function directoryFingerprint(directory: string): string {
  try {
    const names = readdirSync(directory).sort();
    return names.map((name) => `${name}=${statSync(`${directory}/${name}`, { throwIfNoEntry: false })?.ino}`).join(' ');
  } catch {
    // A kernel without the subsystem, or whose module has gone.
    return '';
  }
}
