import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IioError } from '@iio-bridge/protocol';

/** The checkout's root folder, whether this runs compiled (`dist/lab`) or from its source (under vitest). */
export function checkoutRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package-lock.json'))) {
    const parent = dirname(folder);
    if (parent === folder) {
      throw new IioError(
        'NO_CHECKOUT',
        'The lab runs from a checkout of the repository only: package-lock.json not found',
      );
    }
    folder = parent;
  }
  return folder;
}

/** Where the lab keeps what it builds and finds out: `$XDG_CACHE_HOME/iio-bridge/lab`. */
export function labCacheFolder(): string {
  const { XDG_CACHE_HOME: base } = process.env;
  return join(base !== undefined && base !== '' ? base : join(homedir(), '.cache'), 'iio-bridge', 'lab');
}
