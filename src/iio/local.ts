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
