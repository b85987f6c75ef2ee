import { constants } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { fromFsError, type Hints } from './errors.js';

/**
 * Writes one value into an existing file of sysfs or configfs with a single write(2). The file is neither created nor
 * truncated: a typo must fail instead of leaving a file behind.
 */
export async function writeValue(path: string, value: string, hints?: Hints): Promise<void> {
  try {
    await using file = await open(path, constants.O_WRONLY);
    await file.write(value);
  } catch (error) {
    throw fromFsError(error, `write ${JSON.stringify(value)} to ${path}`, hints);
  }
}

/** The content of a sysfs or configfs file without its trailing newline. */
export async function readValue(path: string, hints?: Hints): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).replace(/\n$/, '');
  } catch (error) {
    throw fromFsError(error, `read ${path}`, hints);
  }
}
